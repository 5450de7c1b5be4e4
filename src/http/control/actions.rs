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
use crate::intake::internal::{FORGE, Wish, submit};
use crate::intake::unfinished_repetition;
use crate::store::{DeliveryState, HeldPullRequest, JobState};

/// Held commits that a refusal names.
const MAX_NAMED: u32 = 5;

/// Wishes that a second one of the same kind is looked for among.
const MAX_WISHES: u32 = 500;

/// Nothing is held at a commit, or not in the repository that was named: says where something is.
fn nothing_held(repo: Option<&RepoName>, at_commit: &[HeldPullRequest], anywhere: &[(RepoName, CommitSha)]) -> Failure {
    let refused = |error: String| Failure::new(StatusCode::NOT_FOUND, error);
    if let (Some(repo), Some(elsewhere)) = (repo, at_commit.first()) {
        let elsewhere = &elsewhere.access.repo;
        return refused(format!("nothing is held at this commit in `{repo}`"))
            .hint(format!("it is held in `{elsewhere}`: --repo {elsewhere}"));
    }
    let named: Vec<String> = anywhere.iter().map(|(repo, sha)| format!("`{sha}` of `{repo}`")).collect();
    let hint = match named.is_empty() {
        true => "nothing is held anywhere: it may have been approved, or pushed to".to_owned(),
        false => format!("it may have been approved, or pushed to; held are {}", named.join(", ")),
    };
    refused("nothing is held at this commit".to_owned()).hint(hint)
}

fn ambiguous() -> Failure {
    Failure::new(StatusCode::CONFLICT, "several repositories have this commit held")
        .hint("say which one: `repo`, or `forge`")
}

fn unfinished() -> Failure {
    Failure::new(StatusCode::CONFLICT, "the job has not finished").hint("cancel it first, or wait")
}

/// A commit to approve.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approve {
    /// Needed only where several forges have a repository of that name, with the commit.
    forge: Option<String>,
    /// Needed only where several repositories have the commit.
    repo: Option<RepoName>,
    sha: CommitSha,
}

/// Approves what is held at a commit. Answers 202 with the delivery that does it, 404 when nothing is held there.
pub(super) async fn approve(State(core): State<Arc<Core>>, Sent(asked): Sent<Approve>) -> Result<Response, Failure> {
    let mut held = core.store.held_at(&asked.sha).await?;
    held.retain(|held| asked.forge.as_ref().is_none_or(|forge| held.forge == *forge));
    let Some(pull_request) = chosen(&held, asked.repo.as_ref())? else {
        return Err(nothing_held(asked.repo.as_ref(), &held, &core.store.held_commits(MAX_NAMED).await?));
    };
    accepted(&core, &Wish::Approval { pull_request, sha: asked.sha }).await
}

/// The newest that is held in the repository, or in the only one.
fn chosen(held: &[HeldPullRequest], repo: Option<&RepoName>) -> Result<Option<HeldPullRequest>, Failure> {
    let is_asked_for =
        |held: &&HeldPullRequest| repo.is_none_or(|repo| repo.as_str().eq_ignore_ascii_case(held.access.repo.as_str()));
    let mut held = held.iter().filter(is_asked_for);
    let Some(newest) = held.next() else { return Ok(None) };
    if held.any(|other| (&other.forge, &other.access.repo) != (&newest.forge, &newest.access.repo)) {
        return Err(ambiguous());
    }
    Ok(Some(newest.clone()))
}

/// Runs a job again, with those that need it. Answers 202 with the delivery that does it, 409 while the job is not finished.
pub(super) async fn rerun(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Result<Response, Failure> {
    let id = find::job(&core.store, &id).await?;
    let (job, _) = find::job_and_run(&core.store, &id).await?;
    if job.state != JobState::Finished {
        return Err(unfinished());
    }
    let attempts = core.store.attempts(&job.run).await?;
    if let Some(newer) = unfinished_repetition(&attempts, &id) {
        let error = format!("job `{id}` is being run again already, as `{newer}`");
        return Err(Failure::new(StatusCode::CONFLICT, error).hint(format!("`dayfly why {newer}` tells what it is at")));
    }
    let wish = Wish::Rerun { run: job.run, job: Some(id.clone()), person: None };
    if is_asked_for(&core, &wish).await? {
        let error = format!("a re-run of job `{id}` is asked for already and waits for the forge");
        return Err(Failure::new(StatusCode::CONFLICT, error).hint("`dayfly deliveries --state received` shows it"));
    }
    accepted(&core, &wish).await
}

/// Whether the same was asked for before and has not been processed.
async fn is_asked_for(core: &Core, wish: &Wish) -> Result<bool, Failure> {
    for delivery in core.store.deliveries_in(DeliveryState::Received, MAX_WISHES).await? {
        if delivery.key.forge == FORGE
            && Wish::parse(&core.store.delivery_payload(&delivery.key).await?).is_ok_and(|known| known == *wish)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn accepted(core: &Core, wish: &Wish) -> Result<Response, Failure> {
    let key = submit(core, WishId::random().to_string(), wish).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"delivery": key.id}))).into_response())
}
