//! What runners say of the state of their jobs.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::state::{self, JobState, Shared, refusal};

pub async fn update(State(shared): State<Arc<Shared>>, Path(id): Path<u64>, Json(told): Json<Value>) -> Response {
    shared.change(|state| {
        let status = match apply(state, id, &told, shared.options.accepts_first) {
            Ok(status) => status,
            Err(refused) => return refused,
        };
        let job_status = state.job(id).map_or("", |job| job.state.as_str());
        let interval = shared.options.update_interval.to_string();
        let headers = [("job-status", job_status.to_owned()), ("x-gitlab-trace-update-interval", interval)];
        (status, headers, status.as_u16().to_string()).into_response()
    })
}

fn apply(state: &mut state::State, id: u64, told: &Value, accepts_first: u32) -> Result<StatusCode, Response> {
    let word = told["state"].as_str().unwrap_or_default();
    if let Some(job) = state.job(id)
        && job.finals > 0
        && job.state != JobState::Canceled
        && matches!(word, "success" | "failed")
        && job.state.as_str() != word
    {
        state.violate(format!("job {id}: `{word}` after another final state"));
    }
    let job = state.authenticated(id, told["token"].as_str())?;
    job.heard_at = Instant::now();
    match (job.state, word) {
        (JobState::WaitingForRunner, "pending") => job.keep_alives += 1,
        (JobState::WaitingForRunner, "running") => {
            job.keep_alives += 1;
            job.state = JobState::Running;
        }
        (JobState::Running | JobState::Canceling, "running") => job.keep_alives += 1,
        (JobState::Running | JobState::Canceling, "success" | "failed") => {
            return Ok(end(state, id, word, told, accepts_first));
        }
        (JobState::Running | JobState::WaitingForRunner, "pending" | "success" | "failed") => {
            return Err(refusal(StatusCode::BAD_REQUEST, "400 Bad request", None));
        }
        _ => {
            state.violate(format!("job {id}: the state `{word}`"));
            return Err(refusal(StatusCode::BAD_REQUEST, "400 Bad request", None));
        }
    }
    Ok(StatusCode::OK)
}

/// A final state, which counts if the trace is whole.
fn end(state: &mut state::State, id: u64, word: &str, told: &Value, accepts_first: u32) -> StatusCode {
    if word == "failed" && told["failure_reason"].as_str().is_none_or(str::is_empty) {
        state.violate(format!("job {id}: failed without a reason"));
    }
    let Some(job) = state.job_mut(id) else { return StatusCode::NOT_FOUND };
    if job.accepted < accepts_first {
        job.accepted += 1;
        return StatusCode::ACCEPTED;
    }
    let checksum = told["output"]["checksum"].as_str();
    if let Some(checksum) = checksum {
        let is_whole = checksum == format!("crc32:{:08x}", crc32fast::hash(&job.trace))
            && told["output"]["bytesize"].as_u64() == Some(job.trace.len() as u64);
        if !is_whole {
            job.mismatches += 1;
            job.may_begin_anew = true;
            return StatusCode::PRECONDITION_FAILED;
        }
    }
    job.finals += 1;
    job.failure_reason = told["failure_reason"].as_str().map(str::to_owned);
    job.exit_code = told["exit_code"].as_i64();
    job.state = match (job.state, word) {
        (JobState::Canceling, _) => JobState::Canceled,
        (_, "success") => JobState::Success,
        _ => JobState::Failed,
    };
    if checksum.is_none() {
        state.violate(format!("job {id}: ended without a checksum"));
    }
    StatusCode::OK
}
