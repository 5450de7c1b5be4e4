//! Starting a workflow by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::failure::{Failure, Sent};
use crate::core::Core;
use crate::forge::{ForgeError, RepoName};
use crate::ids::WishId;
use crate::intake::dispatch::{Refused, Wanted, wish};
use crate::intake::internal::{Wish, submit};

/// A workflow to start.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dispatch {
    /// The forge's name, where several have a repository of that name.
    forge: Option<String>,
    repo: RepoName,
    workflow: String,
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    #[serde(default)]
    inputs: BTreeMap<String, String>,
}

/// Starts a workflow. Answers 202 with the delivery that does it and the commit, 400 for what does not exist or does not fit.
pub(super) async fn dispatch(State(core): State<Arc<Core>>, Sent(asked): Sent<Dispatch>) -> Result<Response, Failure> {
    let Dispatch { forge, repo, workflow, git_ref, inputs } = asked;
    let wish = wish(&core, Wanted { forge, repo, workflow, git_ref, inputs }).await?;
    let key = submit(&core, WishId::random().to_string(), &wish).await?;
    let (sha, workflow) = match wish {
        Wish::Start { asked, sha, .. } => (sha, asked.workflow),
        Wish::Approval { .. } | Wish::Rerun { .. } => (None, None),
    };
    let answer = json!({ "delivery": key.id, "sha": sha, "workflow": workflow });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Wrong(text) => match text.split_once("\n  hint: ") {
                Some((error, hint)) => Self::bad_request(error).hint(hint),
                None => Self::bad_request(text),
            },
            Refused::Forge(ForgeError::NotFound { .. }) => {
                Self::new(StatusCode::NOT_FOUND, "the forge has no such repository")
                    .hint("or the credential may not read it")
            }
            Refused::Forge(error) => {
                tracing::warn!(%error, "a workflow could not be started by hand");
                Self::new(StatusCode::BAD_GATEWAY, "the forge could not be asked").hint("the service's log says why")
            }
        }
    }
}
