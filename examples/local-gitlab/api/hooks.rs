//! The webhooks of a project and what became of their deliveries.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::Api;
use super::state::{Refusal, Shared};
use super::webhook::Attempt;

type Answer<T> = Result<T, Refusal>;

/// The number of the one webhook.
const HOOK: u64 = 3;

/// Events of one page, at most.
const PER_PAGE: usize = 20;

fn authorize(shared: &Shared, named: &str, headers: &HeaderMap) -> Answer<()> {
    shared.project(named, headers)?;
    if shared.state().hides_webhooks {
        return Err(Refusal(StatusCode::FORBIDDEN, "403 Forbidden".to_owned()));
    }
    Ok(())
}

/// `GET /projects/ID/hooks`
pub async fn list(
    State(shared): State<Arc<Shared>>, Path(named): Path<String>, headers: HeaderMap,
) -> Answer<Json<Value>> {
    authorize(&shared, &named, &headers)?;
    let webhook = shared.state().webhook.clone();
    Ok(Json(webhook.map(|webhook| json!({"id": HOOK, "url": webhook.url, "push_events": true})).into_iter().collect()))
}

/// `GET /projects/ID/hooks/ID/events`: newest first, those of a kind of status.
pub async fn events(
    State(shared): State<Arc<Shared>>, Path((named, hook)): Path<(String, u64)>,
    Query(asked): Query<HashMap<String, String>>, headers: HeaderMap,
) -> Answer<Json<Value>> {
    authorize(&shared, &named, &headers)?;
    let number = |name: &str, usual| asked.get(name).map_or(Some(usual), |text| text.parse::<usize>().ok());
    let (page, per_page) =
        (number("page", 1), number("per_page", PER_PAGE).filter(|count| (1..=PER_PAGE).contains(count)));
    let kinds = ["successful", "client_failure", "server_failure"];
    let kind = asked.get("status").and_then(|asked| kinds.into_iter().find(|kind| kind == asked));
    let (Some(page), Some(per_page), Some(kind), HOOK) = (page, per_page, kind, hook) else {
        return Err(Refusal(StatusCode::BAD_REQUEST, "status does not have a valid value".to_owned()));
    };
    let is_of_kind = |attempt: &&Attempt| match attempt.status {
        Some(200..=299) => kind == "successful",
        Some(400..=499) => kind == "client_failure",
        Some(500..=599) | None => kind == "server_failure",
        Some(_) => false,
    };
    let state = shared.state();
    let found = state.attempts.iter().rev().filter(is_of_kind).skip((page - 1) * per_page).take(per_page);
    Ok(Json(found.map(shown).collect()))
}

fn shown(attempt: &Attempt) -> Value {
    let status = attempt.status.map_or_else(|| "internal error".to_owned(), |status| status.to_string());
    json!({
        "id": attempt.id, "url": "[FILTERED]", "trigger": "push_hooks", "request_data": attempt.payload,
        "request_headers": {
            "Content-Type": "application/json", "Idempotency-Key": attempt.key, "X-Gitlab-Event": attempt.event,
            "X-Gitlab-Token": "[REDACTED]",
        },
        "response_headers": {}, "response_body": "", "execution_duration": 0.1, "response_status": status,
    })
}

/// `POST /projects/ID/hooks/ID/events/ID/resend`: sends the same delivery again before it answers.
pub async fn resend(
    State(shared): State<Arc<Shared>>, Path((named, _, id)): Path<(String, u64, u64)>, headers: HeaderMap,
) -> Answer<(StatusCode, Json<Value>)> {
    authorize(&shared, &named, &headers)?;
    let found = shared.state().attempts.iter().find(|attempt| attempt.id == id).cloned();
    let Attempt { key, event, payload, .. } = found.ok_or_else(|| Refusal::not_found("Event"))?;
    let status = Api { shared }.deliver_as(&key, &event, &payload).await.unwrap_or_default();
    Ok((StatusCode::CREATED, Json(json!({"response_status": status}))))
}
