//! What the operator asks for that takes the forge's help: approvals and re-runs.
//!
//! Each becomes a durable delivery before it is answered, and is processed like one of a forge: what became of it is told with
//! the deliveries.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::failure::{Failure, Sent};
use super::find;
use crate::core::Core;
use crate::forge::{CommitSha, RepoName};
use crate::ids::WishId;
use crate::intake::internal::{Wish, submit};
use crate::store::{HeldPullRequest, JobState};

fn nothing_held() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "nothing is held at this commit")
        .hint("give the full id of a commit whose status says `Held`; it may have been approved")
}

fn ambiguous() -> Failure {
    Failure::new(StatusCode::CONFLICT, "several repositories have this commit held").hint("say which one: `repo`")
}

fn unfinished() -> Failure {
    Failure::new(StatusCode::CONFLICT, "the job has not finished").hint("cancel it first, or wait")
}

/// A commit to approve.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approve {
    /// Needed only where several repositories have the commit.
    repo: Option<RepoName>,
    sha: CommitSha,
}

/// Approves what is held at a commit. Answers 202 with the delivery that does it, 404 when nothing is held there.
pub(super) async fn approve(State(core): State<Arc<Core>>, Sent(asked): Sent<Approve>) -> Result<Response, Failure> {
    let held = core.store.held_at(&asked.sha).await?;
    let pull_request = chosen(held, asked.repo.as_ref())?;
    accepted(&core, &Wish::Approval { pull_request, sha: asked.sha }).await
}

/// The newest that is held in the repository, or in the only one.
fn chosen(held: Vec<HeldPullRequest>, repo: Option<&RepoName>) -> Result<HeldPullRequest, Failure> {
    let is_asked_for =
        |held: &HeldPullRequest| repo.is_none_or(|repo| repo.as_str().eq_ignore_ascii_case(held.access.repo.as_str()));
    let mut held = held.into_iter().filter(is_asked_for);
    let newest = held.next().ok_or_else(nothing_held)?;
    if held.any(|other| other.access.repo != newest.access.repo) {
        return Err(ambiguous());
    }
    Ok(newest)
}

/// Runs a job again, with those that need it. Answers 202 with the delivery that does it, 409 while the job is not finished.
pub(super) async fn rerun(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Result<Response, Failure> {
    let id = find::job(&core.store, &id).await?;
    let (job, _) = find::job_and_run(&core.store, &id).await?;
    if job.state != JobState::Finished {
        return Err(unfinished());
    }
    accepted(&core, &Wish::Rerun { run: job.run, job: Some(id), person: None }).await
}

async fn accepted(core: &Core, wish: &Wish) -> Result<Response, Failure> {
    let key = submit(core, WishId::random().to_string(), wish).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"delivery": key.id}))).into_response())
}
