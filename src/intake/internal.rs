//! What is asked for on the control socket, as deliveries: durable before it is answered, and tried again like any other.
//!
//! Their forge is Dayfly itself. The public listener stores deliveries of real forges only, so that none of these can come
//! from there.

use serde::{Deserialize, Serialize};

use super::IntakeError;
use crate::clock;
use crate::core::Core;
use crate::forge::CommitSha;
use crate::ids::{JobId, RunId};
use crate::store::{Accepted, DeliveryKey, HeldPullRequest, NewDelivery, StoreError};
use crate::webhook::Dispatch;

/// The name of the forge in the store.
pub const FORGE: &str = "dayfly";

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Wish {
    /// To run a commit of a fork's pull request.
    Approval { pull_request: HeldPullRequest, sha: CommitSha },
    /// To run a run again, or one of its jobs with those that need it.
    Rerun {
        run: RunId,
        job: Option<JobId>,
        /// The name of a person at the forge.
        person: Option<String>,
    },
    /// To start workflows, at this commit or else at that of the ref.
    Start {
        asked: Box<Dispatch>,
        sha: Option<CommitSha>,
        /// What `github.event` will be.
        payload: serde_json::Value,
    },
}

impl Wish {
    fn event(&self) -> &'static str {
        match self {
            Self::Approval { .. } => "approval",
            Self::Rerun { .. } => "rerun",
            Self::Start { .. } => "start",
        }
    }

    /// Reads a stored one.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, IntakeError> {
        serde_json::from_slice(payload).map_err(|error| IntakeError::Payload(error.to_string()))
    }
}

/// Stores a wish under an id that is its own, and wakes whoever processes it.
pub async fn submit(core: &Core, id: String, wish: &Wish) -> Result<DeliveryKey, StoreError> {
    let key = DeliveryKey { forge: FORGE.to_owned(), id };
    let delivery = NewDelivery {
        key: key.clone(),
        event: wish.event().to_owned(),
        received_at: clock::now_ms(),
        payload: serde_json::to_vec(wish).expect("a wish has text keys and cannot fail to serialize"),
    };
    match core.store.accept_delivery(delivery).await? {
        Accepted::New | Accepted::Again => core.wake.deliveries.notify_one(),
        Accepted::Duplicate => {}
    }
    Ok(key)
}
