//! Jobs: a list, one with everything that happened to it, and asking for one's end.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::egress::{self, SummaryView};
use super::failure::{Asked, Failure};
use super::{find, limit, word};
use crate::core::Core;
use crate::forge::{Conclusion, RepoName};
use crate::store::{JobFilter, JobState, ListedJob, Reason};
use crate::workflow::commands::Annotation;

/// What a job's outcome says when its end was asked for here.
const CANCELLED_BY_OPERATOR: &str = "Cancelled by the operator";

/// Which jobs are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    repo: Option<RepoName>,
    /// A commit or its beginning.
    sha: Option<String>,
    state: Option<String>,
    #[serde(default)]
    unfinished: bool,
    conclusion: Option<String>,
    profile: Option<String>,
    workflow: Option<String>,
    limit: Option<u32>,
}

/// A job as the API tells of it.
#[derive(Debug, Serialize)]
pub(super) struct JobView {
    id: String,
    run: String,
    run_number: u64,
    repo: String,
    sha: String,
    event: String,
    workflow: String,
    name: String,
    profile: Option<String>,
    state: JobState,
    attempt: u32,
    vm: Option<String>,
    conclusion: Option<Conclusion>,
    reason: Option<Reason>,
    detail: Option<String>,
    log_url: String,
    created_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(super) struct JobWithEvents {
    #[serde(flatten)]
    job: JobView,
    events: Vec<EventView>,
    /// What its steps said of the code.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation>,
    /// Absent of a job without any connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    egress: Option<SummaryView>,
}

#[derive(Debug, Serialize)]
struct EventView {
    attempt: u32,
    at_us: i64,
    kind: String,
    detail: String,
}

/// `GET /v1/jobs`
pub(super) async fn list(
    State(core): State<Arc<Core>>, Asked(wanted): Asked<Wanted>,
) -> Result<Json<Vec<JobView>>, Failure> {
    let sha = match &wanted.sha {
        None => None,
        Some(text) => match find::commit(&core.store, text).await? {
            None => return Ok(Json(Vec::new())),
            found => found,
        },
    };
    let state = |text: &String| word("state of a job", text, "waiting, queued, leased, running, finished");
    let conclusion = |text: &String| word("conclusion", text, "success, failure, error, timed_out, cancelled, skipped");
    let filter = JobFilter {
        repo: wanted.repo,
        sha,
        state: wanted.state.as_ref().map(state).transpose()?,
        is_unfinished: wanted.unfinished,
        conclusion: wanted.conclusion.as_ref().map(conclusion).transpose()?,
        profile: wanted.profile,
        workflow: wanted.workflow,
    };
    let jobs = core.store.recent_jobs(limit(wanted.limit), &filter).await?;
    Ok(Json(jobs.into_iter().map(|job| view(&core, job)).collect()))
}

/// `GET /v1/jobs/{id}`
pub(super) async fn show(
    State(core): State<Arc<Core>>, Path(id): Path<String>,
) -> Result<Json<JobWithEvents>, Failure> {
    let id = find::job(&core.store, &id).await?;
    let (job, run) = find::job_and_run(&core.store, &id).await?;
    let events = core.store.events(&id).await?;
    let egress = egress::summary(&core.store.egress(&id).await?);
    let events = events
        .into_iter()
        .map(|event| EventView { attempt: event.attempt, at_us: event.at_us, kind: event.kind, detail: event.detail })
        .collect();
    let report = core.store.get_report(&job.report).await?;
    let annotations = report.map(|report| report.desired.annotations).unwrap_or_default();
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
    Ok(Json(JobWithEvents { job: view(&core, listed), events, annotations, egress }))
}

/// `POST /v1/jobs/{id}/cancel`: asks for a job's end. It is stored; the scheduler carries it out.
pub(super) async fn cancel(
    State(core): State<Arc<Core>>, Path(id): Path<String>,
) -> Result<(StatusCode, Json<serde_json::Value>), Failure> {
    let id = find::job(&core.store, &id).await?;
    let state = core.store.request_cancel(&id, CANCELLED_BY_OPERATOR).await?;
    if state == JobState::Finished {
        return Err(Failure::new(StatusCode::CONFLICT, format!("job `{id}` has ended already")));
    }
    core.wake.scheduler.notify_one();
    Ok((StatusCode::ACCEPTED, Json(serde_json::json!({ "job": id, "state": state }))))
}

fn view(core: &Core, job: ListedJob) -> JobView {
    let (conclusion, reason, detail) = job
        .outcome
        .map_or((None, None, None), |outcome| (Some(outcome.conclusion), outcome.reason, Some(outcome.detail)));
    JobView {
        log_url: core.log_url(&job.log_token),
        id: job.id.to_string(),
        run: job.run.to_string(),
        run_number: job.run_number,
        repo: job.repo.to_string(),
        sha: job.sha.to_string(),
        event: job.event,
        workflow: job.workflow_name,
        name: job.name,
        profile: job.profile,
        state: job.state,
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
