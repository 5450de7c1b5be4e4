//! The control API: HTTP over the Unix socket that only the service's user can open.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::forge::{CommitSha, RepoName};
use crate::ids::JobId;
use crate::store::{JobFilter, JobState, ListedJob, StoreError};

/// Jobs that a list has at most.
const MAX_LISTED: u32 = 500;

/// The routes of the control socket.
pub fn routes(core: Arc<Core>) -> Router {
    Router::new()
        .route("/v1/jobs", get(list))
        .route("/v1/jobs/{id}", get(show))
        .route("/v1/jobs/{id}/cancel", post(cancel))
        .with_state(core)
}

/// Which jobs are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    repo: Option<RepoName>,
    sha: Option<CommitSha>,
}

/// A job as the API tells of it. Times are milliseconds since the epoch.
#[derive(Debug, Serialize)]
struct JobView {
    id: String,
    run: String,
    repo: String,
    sha: String,
    event: String,
    workflow: String,
    name: String,
    profile: Option<String>,
    state: String,
    attempt: u32,
    vm: Option<String>,
    conclusion: Option<crate::forge::Conclusion>,
    reason: Option<crate::store::Reason>,
    detail: Option<String>,
    log_url: String,
    created_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
}

#[derive(Debug, Serialize)]
struct JobWithEvents {
    #[serde(flatten)]
    job: JobView,
    events: Vec<EventView>,
}

#[derive(Debug, Serialize)]
struct EventView {
    attempt: u32,
    at_us: i64,
    kind: String,
    detail: String,
}

/// The cause of a failure goes to the log; the client learns that there was one.
struct Failure(StatusCode, &'static str);

const UNKNOWN: Failure = Failure(StatusCode::NOT_FOUND, "there is no such job");

impl axum::response::IntoResponse for Failure {
    fn into_response(self) -> axum::response::Response {
        (self.0, format!("{}\n", self.1)).into_response()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the control API cannot read the store");
        Self(StatusCode::INTERNAL_SERVER_ERROR, "the store cannot be read; the service's log says why")
    }
}

async fn list(State(core): State<Arc<Core>>, Query(wanted): Query<Wanted>) -> Result<Json<Vec<JobView>>, Failure> {
    let filter = JobFilter { repo: wanted.repo, sha: wanted.sha, state: None };
    let jobs = core.store.recent_jobs(MAX_LISTED, &filter).await?;
    Ok(Json(jobs.into_iter().map(|job| view(&core, job)).collect()))
}

async fn show(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Result<Json<JobWithEvents>, Failure> {
    let id: JobId = id.parse().map_err(|_| UNKNOWN)?;
    let job = core.store.job(&id).await?.ok_or(UNKNOWN)?;
    let run = core.store.run(&job.run).await?.ok_or(UNKNOWN)?;
    let events = core.store.events(&id).await?;
    let events = events
        .into_iter()
        .map(|event| EventView { attempt: event.attempt, at_us: event.at_us, kind: event.kind, detail: event.detail })
        .collect();
    let listed = ListedJob {
        id: job.id,
        run: job.run,
        repo: run.access.repo,
        sha: run.sha,
        event: run.event,
        workflow_name: run.workflow_name,
        run_number: run.number,
        name: job.name,
        profile: job.profile,
        state: job.state,
        attempt: job.attempt,
        vm: job.vm,
        outcome: job.outcome,
        log_token: job.log_token,
        created_at: job.created_at,
        started_at: job.started_at,
        finished_at: job.finished_at,
    };
    Ok(Json(JobWithEvents { job: view(&core, listed), events }))
}

/// Asks for a job's end. It is stored; the scheduler carries it out.
async fn cancel(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    let id: JobId = id.parse().map_err(|_| UNKNOWN)?;
    match core.store.request_cancel(&id).await {
        Ok(JobState::Finished) => Err(Failure(StatusCode::CONFLICT, "the job has ended already")),
        Ok(_) => {
            core.wake.scheduler.notify_one();
            Ok(StatusCode::ACCEPTED)
        }
        Err(StoreError::NotFound { .. }) => Err(UNKNOWN),
        Err(error) => Err(error.into()),
    }
}

fn view(core: &Core, job: ListedJob) -> JobView {
    let (conclusion, reason, detail) = job
        .outcome
        .map_or((None, None, None), |outcome| (Some(outcome.conclusion), outcome.reason, Some(outcome.detail)));
    JobView {
        log_url: core.log_url(&job.log_token),
        id: job.id.to_string(),
        run: job.run.to_string(),
        repo: job.repo.to_string(),
        sha: job.sha.to_string(),
        event: job.event,
        workflow: job.workflow_name,
        name: job.name,
        profile: job.profile,
        state: job.state.to_string(),
        attempt: job.attempt,
        vm: job.vm.map(|vm| vm.to_string()),
        conclusion,
        reason,
        detail,
        created_at: job.created_at,
        started_at: job.started_at,
        finished_at: job.finished_at,
    }
}
