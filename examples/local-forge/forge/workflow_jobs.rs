//! Jobs of GitHub's own workflows: a queue from which any runner with their labels takes them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Forge;
use super::apps::Page;
use super::credentials::Caller;
use super::server::ApiError;
use super::state::{Shared, repository_json};

/// A job that somebody queues.
#[derive(Debug, Clone)]
pub struct NewWorkflowJob<'a> {
    pub repository: &'a str,
    pub name: &'a str,
    pub labels: &'a [&'a str],
    /// What the runner does, in shell.
    pub script: &'a str,
    pub sha: &'a str,
    pub is_of_fork: bool,
    /// Nobody is told how it goes on.
    pub is_silent: bool,
}

/// A job, each in a run of its own.
#[derive(Debug, Clone)]
pub struct WorkflowJob {
    pub id: u64,
    pub run: u64,
    pub repository: String,
    pub name: String,
    pub labels: Vec<String>,
    pub script: String,
    pub sha: String,
    pub is_of_fork: bool,
    pub is_silent: bool,
    /// `queued`, `in_progress` or `completed`.
    pub status: &'static str,
    pub conclusion: Option<String>,
    pub runner: Option<String>,
}

impl Forge {
    /// Queues a job. Its event is for the caller to deliver, or not.
    pub fn queue_workflow_job(&self, new: &NewWorkflowJob<'_>) -> u64 {
        let mut state = self.shared.state();
        let (id, run) = (state.next_id(), state.next_id());
        state.workflow_jobs.push(WorkflowJob {
            id,
            run,
            repository: new.repository.to_owned(),
            name: new.name.to_owned(),
            labels: new.labels.iter().map(|&label| label.to_owned()).collect(),
            script: new.script.to_owned(),
            sha: new.sha.to_owned(),
            is_of_fork: new.is_of_fork,
            is_silent: new.is_silent,
            status: "queued",
            conclusion: None,
            runner: None,
        });
        drop(state);
        self.shared.changed.send_replace(());
        id
    }

    /// Another runner than any that was minted takes the job and does it. Nobody is told.
    pub fn steal_workflow_job(&self, id: u64) {
        self.shared.change_workflow_job(id, |job| {
            (job.status, job.conclusion) = ("completed", Some("success".to_owned()));
            job.runner = Some("someone-else".to_owned());
        });
    }

    pub fn workflow_job(&self, id: u64) -> Option<WorkflowJob> {
        self.shared.state().workflow_jobs.iter().find(|job| job.id == id).cloned()
    }

    /// `workflow_job`: `queued`, `in_progress` or `completed`.
    pub fn workflow_job_payload(&self, id: u64, action: &str) -> Value {
        let state = self.shared.state();
        let job = state.workflow_jobs.iter().find(|job| job.id == id).expect("it was queued");
        let mut shown = job_json(job);
        if action == "queued" {
            shown["runner_name"] = Value::Null;
            shown["conclusion"] = Value::Null;
        }
        let owner = job.repository.split_once('/').map_or("", |(owner, _)| owner);
        json!({
            "action": action, "workflow_job": shown,
            "repository": state.repository(&job.repository).map(|found| found.to_json()),
            "organization": {"login": owner, "id": 1},
            "sender": {"login": "octocat", "id": 583_231, "type": "User"},
            "installation": {"id": self.installation(), "node_id": "MDIzOkludGVncmF0aW9u"},
        })
    }
}

impl Shared {
    pub fn change_workflow_job(&self, id: u64, change: impl FnOnce(&mut WorkflowJob)) {
        let mut state = self.state();
        state.workflow_jobs.iter_mut().find(|job| job.id == id).map(change);
        drop(state);
        self.changed.send_replace(());
    }
}

fn job_json(job: &WorkflowJob) -> Value {
    json!({
        "id": job.id, "run_id": job.run, "run_attempt": 1, "name": job.name, "head_sha": job.sha, "status": job.status,
        "conclusion": job.conclusion, "labels": job.labels, "runner_id": null,
        "runner_name": job.runner, "workflow_name": "CI", "steps": [],
    })
}

fn run_json(shared: &Shared, job: &WorkflowJob) -> Value {
    let state = shared.state();
    let repository = state.repository(&job.repository).map(|found| found.to_json()).unwrap_or_default();
    let head = if job.is_of_fork { repository_json(9_999_999, "stranger/hello", true) } else { repository.clone() };
    json!({
        "id": job.run, "name": "CI", "head_sha": job.sha, "status": job.status, "conclusion": job.conclusion,
        "event": "pull_request", "run_attempt": 1, "repository": repository, "head_repository": head,
    })
}

fn jobs_of(shared: &Shared, headers: &HeaderMap, repository: &str) -> Result<Vec<WorkflowJob>, ApiError> {
    Caller::of_request(shared, headers)?.require(repository, "actions", "read")?;
    Ok(shared.state().workflow_jobs.iter().filter(|job| job.repository == repository).cloned().collect())
}

#[derive(Debug, Deserialize)]
pub struct RunFilter {
    status: Option<String>,
}

/// `GET /repos/OWNER/NAME/actions/runs`
pub async fn list_runs(
    State(shared): State<Arc<Shared>>, Path((owner, name)): Path<(String, String)>, Query(filter): Query<RunFilter>,
    Query(page): Query<Page>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let jobs = jobs_of(&shared, &headers, &format!("{owner}/{name}"))?;
    let wanted = jobs.iter().rev().filter(|job| filter.status.as_deref().is_none_or(|status| job.status == status));
    let runs: Vec<Value> = page.of(wanted.map(|job| run_json(&shared, job)));
    Ok(Json(json!({"total_count": runs.len(), "workflow_runs": runs})))
}

/// `GET /repos/OWNER/NAME/actions/runs/ID`
pub async fn show_run(
    State(shared): State<Arc<Shared>>, Path((owner, name, id)): Path<(String, String, u64)>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let jobs = jobs_of(&shared, &headers, &format!("{owner}/{name}"))?;
    let job = jobs.iter().find(|job| job.run == id).ok_or_else(ApiError::not_found)?;
    Ok(Json(run_json(&shared, job)))
}

/// `GET /repos/OWNER/NAME/actions/runs/ID/jobs`
pub async fn list_jobs(
    State(shared): State<Arc<Shared>>, Path((owner, name, id)): Path<(String, String, u64)>, Query(page): Query<Page>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let jobs = jobs_of(&shared, &headers, &format!("{owner}/{name}"))?;
    let jobs: Vec<Value> = page.of(jobs.iter().filter(|job| job.run == id).map(job_json));
    Ok(Json(json!({"total_count": jobs.len(), "jobs": jobs})))
}

/// `GET /repos/OWNER/NAME/actions/jobs/ID`
pub async fn show_job(
    State(shared): State<Arc<Shared>>, Path((owner, name, id)): Path<(String, String, u64)>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let jobs = jobs_of(&shared, &headers, &format!("{owner}/{name}"))?;
    jobs.iter().find(|job| job.id == id).map(|job| Json(job_json(job))).ok_or_else(ApiError::not_found)
}
