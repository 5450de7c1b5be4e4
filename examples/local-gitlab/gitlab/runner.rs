//! Runners show themselves and ask for jobs.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::state::{self, JobState, Shared, refusal};

const LAST_UPDATE: HeaderName = HeaderName::from_static("x-gitlab-last-update");

pub async fn verify(State(shared): State<Arc<Shared>>, Json(asked): Json<Value>) -> Response {
    let token = asked["token"].as_str().unwrap_or_default();
    if !shared.state().runners.iter().any(|one| one == token) {
        return refusal(StatusCode::FORBIDDEN, "403 Forbidden", None);
    }
    Json(json!({"id": 1, "token": token, "token_expires_at": null})).into_response()
}

pub async fn request_job(State(shared): State<Arc<Shared>>, Json(asked): Json<Value>) -> Response {
    let token = asked["token"].as_str().unwrap_or_default().to_owned();
    if !shared.state().runners.contains(&token) {
        shared.change(|state| state.violate("a job was asked for with a token of no runner"));
        return refusal(StatusCode::FORBIDDEN, "403 Forbidden", None);
    }
    if asked["system_id"].as_str().is_none_or(str::is_empty) {
        shared.change(|state| state.violate("a job was asked for without a `system_id`"));
    }
    let mut changes = shared.changed.subscribe();
    let deadline = tokio::time::Instant::now() + shared.options.long_poll;
    loop {
        let update = last_update(&shared);
        if let Some(answer) = give_out(&shared, &asked) {
            return (StatusCode::CREATED, [(LAST_UPDATE, update)], Json(answer)).into_response();
        }
        let is_news = asked["last_update"].as_str() != update.to_str().ok();
        let changed = changes.changed();
        if is_news || tokio::time::timeout_at(deadline, changed).await.is_err() {
            return (StatusCode::NO_CONTENT, [(LAST_UPDATE, update)]).into_response();
        }
    }
}

/// What the runner echoes: the number of jobs so far.
fn last_update(shared: &Shared) -> HeaderValue {
    let number = shared.state().jobs.len();
    HeaderValue::from_str(&format!("update-{number}")).expect("digits are good in a header")
}

/// The oldest job that waits. It is the runner's at once unless both sides want it acknowledged.
fn give_out(shared: &Shared, asked: &Value) -> Option<Value> {
    let offers = asked["info"]["features"]["two_phase_job_commit"].as_bool().unwrap_or(false);
    shared.state().take_back(shared.options.ack_timeout);
    let is_waiting = |state: &state::State| state.jobs.iter().any(|job| job.state == JobState::Pending);
    if !is_waiting(&shared.state()) {
        return None;
    }
    shared.change(|state| {
        let job = state.jobs.iter_mut().find(|job| job.state == JobState::Pending)?;
        let waits = offers && shared.options.two_phase;
        job.state = if waits { JobState::WaitingForRunner } else { JobState::Running };
        job.heard_at = Instant::now();
        Some(job.description.clone())
    })
}
