//! Gathers what the answers of [`crate::why`] are made from.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;

use super::failure::Failure;
use super::find;
use crate::clock;
use crate::core::Core;
use crate::engine::Readiness;
use crate::job::driver::shape_of;
use crate::scheduler;
use crate::store::{Job, JobState, Run, StoreError};
use crate::why::{Answer, CommitQuestion, JobQuestion, Outlook, RunFacts, about_commit, about_job};
use crate::workflow::plan::JobSpec;
use crate::workflow::setting::Setting;

/// Runs and deliveries of a commit that are told of.
const MAX_OF_COMMIT: u32 = 20;

#[derive(Debug, Serialize)]
pub(super) struct AboutJob {
    job: String,
    #[serde(flatten)]
    answer: Answer,
}

#[derive(Debug, Serialize)]
pub(super) struct AboutCommit {
    sha: String,
    #[serde(flatten)]
    answer: Answer,
}

/// `GET /v1/jobs/{id}/why`
pub(super) async fn job(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Result<Json<AboutJob>, Failure> {
    let id = find::job(&core.store, &id).await?;
    let (job, run) = find::job_and_run(&core.store, &id).await?;
    let profile = job.profile.as_deref().and_then(|name| core.config.profile(name));
    let events = core.store.events(&id).await?;
    let report = core.store.get_report(&job.report).await?;
    let siblings = core.store.jobs_of_run(&run.id).await?;
    let question = JobQuestion {
        now: clock::now_ms(),
        outlook: outlook(&core, &job).await?,
        image: profile.map_or(Readiness::Unknown, |profile| core.engine.readiness(&profile.image, shape_of(profile))),
        own_limit: own_limit(&job),
        profile,
        attempts: core.config.limits.attempts,
        job: &job,
        run: &run,
        siblings: &siblings,
        events: &events,
        report: report.as_ref(),
    };
    Ok(Json(AboutJob { job: id.to_string(), answer: about_job(&question) }))
}

async fn outlook(core: &Core, job: &Job) -> Result<Option<Outlook>, StoreError> {
    if !matches!(job.state, JobState::Waiting | JobState::Queued) {
        return Ok(None);
    }
    let (snapshot, plan) = scheduler::prospect(core).await?;
    Ok(Outlook::of(&job.id, &snapshot, &plan))
}

/// The job's `timeout-minutes`, unless it is an expression.
fn own_limit(job: &Job) -> Option<Duration> {
    match serde_json::from_value::<JobSpec>(job.spec.clone()).ok()?.job.timeout_minutes.clone()? {
        Setting::Fixed(minutes) => Duration::try_from_secs_f64(minutes * 60.0).ok(),
        Setting::Computed(_) => None,
    }
}

/// `GET /v1/commits/{sha}/why`
pub(super) async fn commit(
    State(core): State<Arc<Core>>, Path(text): Path<String>,
) -> Result<Json<AboutCommit>, Failure> {
    let mut runs = Vec::new();
    let known = find::commit(&core.store, &text).await?;
    if let Some(sha) = &known {
        for run in core.store.runs_of_commit(sha, MAX_OF_COMMIT).await? {
            runs.push(facts(&core, run).await?);
        }
    }
    let sha = known.map_or(text, |sha| sha.to_string());
    // Payloads quote commit ids.
    let deliveries = core.store.fruitless_deliveries_with(&format!("\"{sha}"), MAX_OF_COMMIT).await?;
    let question = CommitQuestion { now: clock::now_ms(), sha: &sha, runs: &runs, deliveries: &deliveries };
    let answer = about_commit(&question);
    Ok(Json(AboutCommit { sha, answer }))
}

async fn facts(core: &Core, run: Run) -> Result<RunFacts, StoreError> {
    let jobs = core.store.jobs_of_run(&run.id).await?;
    let reports = core.store.reports_of_run(&run.id).await?;
    Ok(RunFacts { report: reports.into_iter().find(|report| report.job.is_none()), jobs, run })
}
