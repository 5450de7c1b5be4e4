//! Commit statuses: one per job and commit, those of one commit and ref in one pipeline.
//!
//! GitLab makes the pipeline for the first status that it gets. Two that come at once would each get one, so those of one commit
//! are sent one after the other, and name the pipeline as soon as it is known. A status that has ended is not changed by another
//! one, but followed by it: so none is sent twice of which it is known that it arrived.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::client::Call;
use super::{GitLab, note, presentation};
use crate::forge::{CommitSha, Earlier, ExternalIds, ForgeError, RepoName, Report};

/// Largest accepted answer, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// Commits whose pipelines are remembered. Beyond it those are forgotten that nothing is sent for.
const MAX_REMEMBERED: usize = 1024;

/// How GitLab answers a status that its own way of states does not allow: it is in that state, or went on from it.
const NO_TRANSITION: &str = "Cannot transition status";

/// How older versions answer a state that they do not know.
const UNKNOWN_STATE: &str = "state does not have a valid value";

/// The pipelines of one commit, by ref.
type ByRef = HashMap<String, u64>;

/// What is known of one commit; who holds it has the turn.
type Lane = Arc<tokio::sync::Mutex<ByRef>>;

/// What is remembered of the pipelines of commits, and whose turn it is at each.
#[derive(Debug, Default)]
pub(super) struct Pipelines(Mutex<HashMap<(RepoName, CommitSha), Lane>>);

impl Pipelines {
    fn of(&self, report: &Report) -> Lane {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        Arc::clone(known.entry((report.access.repo.clone(), report.sha.clone())).or_default())
    }
}

#[derive(Debug, Deserialize)]
struct Status {
    #[serde(default)]
    status: String,
    #[serde(default)]
    target_url: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    pipeline_id: Option<u64>,
}

/// Makes GitLab show the report.
pub(super) async fn publish(
    gitlab: &GitLab, report: &Report, known: &ExternalIds, earlier: Earlier,
) -> Result<ExternalIds, ForgeError> {
    let mut ids = known.clone();
    let body = presentation::status(report);
    let words = Value::Object(body.clone()).to_string();
    if earlier == Earlier::Uncertain || ids.last_status.as_ref() != Some(&words) {
        ids.pipeline = set_status(gitlab, report, body, known.pipeline, earlier).await?;
        ids.last_status = Some(words);
    }
    match note::keep(gitlab, report, &mut ids, earlier).await {
        Err(error) if error.is_retryable() => Err(error),
        // A discussion that is locked, say: the status is there all the same, and must not be sent again for it.
        Err(error) => {
            tracing::warn!(repo = %report.access.repo, sha = %report.sha, %error, "the merge request gets no note");
            Ok(ids)
        }
        Ok(()) => Ok(ids),
    }
}

/// Sets the status, when it is its turn. Gives the pipeline that it is in.
async fn set_status(
    gitlab: &GitLab, report: &Report, body: Map<String, Value>, pipeline: Option<u64>, earlier: Earlier,
) -> Result<Option<u64>, ForgeError> {
    let lane = gitlab.pipelines.of(report);
    let mut pipelines = lane.lock().await;
    let git_ref = report.place.git_ref.clone().unwrap_or_default();
    let pipeline = pipeline.or_else(|| pipelines.get(&git_ref).copied());
    if earlier == Earlier::Uncertain
        && let Some(shown) = shown(gitlab, report, &body).await?
    {
        return Ok(shown.pipeline_id.or(pipeline));
    }
    let set = match send(gitlab, report, &body, pipeline).await {
        // The pipeline was deleted; if it is the commit that is gone, this says so again.
        Err(ForgeError::NotFound { .. }) if pipeline.is_some() => send(gitlab, report, &body, None).await,
        Err(ForgeError::Permanent { detail, .. }) if detail.contains(UNKNOWN_STATE) && body["state"] == "skipped" => {
            let mut body = body;
            body.insert("state".to_owned(), "success".into());
            send(gitlab, report, &body, pipeline).await
        }
        set => set,
    };
    match set {
        Ok(set) => {
            if let Some(id) = set.pipeline_id {
                pipelines.insert(git_ref, id);
            }
            Ok(set.pipeline_id.or(pipeline))
        }
        Err(ForgeError::Permanent { detail, .. }) if detail.contains(NO_TRANSITION) => Ok(pipeline),
        Err(error) => Err(error),
    }
}

async fn send(
    gitlab: &GitLab, report: &Report, body: &Map<String, Value>, pipeline: Option<u64>,
) -> Result<Status, ForgeError> {
    let mut body = body.clone();
    if let Some(pipeline) = pipeline {
        body.insert("pipeline_id".to_owned(), pipeline.into());
    }
    let what = format!("setting the status of `{}` at {}", report.context, report.sha.short());
    let url = gitlab.client.of_project(&report.access.repo, ["statuses", report.sha.as_str()]);
    let body = Some(Value::Object(body));
    gitlab.client.ask(&Call { what, method: Method::POST, url, body, limit: MAX_ANSWER }).await
}

/// The status as GitLab has it, if it says just what is to be said.
async fn shown(gitlab: &GitLab, report: &Report, body: &Map<String, Value>) -> Result<Option<Status>, ForgeError> {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let mut url =
        gitlab.client.of_project(&report.access.repo, ["repository", "commits", report.sha.as_str(), "statuses"]);
    url.query_pairs_mut().append_pair("name", text("name").unwrap_or_default());
    if let Some(git_ref) = text("ref") {
        url.query_pairs_mut().append_pair("ref", git_ref);
    }
    let what = format!("looking for the status of `{}` at {}", report.context, report.sha.short());
    let known: Vec<Status> = gitlab.client.ask(&Call::get(what, url, MAX_ANSWER)).await?;
    let is_it = |status: &Status| {
        Some(status.status.as_str()) == text("state")
            && status.target_url.as_deref() == text("target_url")
            && status.description.as_deref() == text("description")
    };
    Ok(known.into_iter().find(is_it))
}
