//! What the App's webhook was sent, how that went, and sending it again.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Forge;
use super::credentials::{Caller, require_app_jwt};
use super::server::ApiError;
use super::state::Shared;

/// One attempt to bring an event.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub id: u64,
    /// What all attempts of one delivery share.
    pub guid: String,
    pub event: String,
    pub payload: Value,
    pub at: SystemTime,
    pub is_redelivery: bool,
    /// 0 when nobody answered.
    pub status_code: u16,
}

impl Forge {
    /// Lets the next `count` attempts get lost on their way.
    pub fn lose_deliveries(&self, count: usize) {
        self.shared.state().lost_deliveries = count;
    }

    /// All attempts so far, oldest first.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.shared.state().attempts.clone()
    }

    /// Waits until an attempt is as expected; after `deadline` tells which there were instead.
    pub async fn wait_for_attempt(
        &self, expected: impl Fn(&Attempt) -> bool, deadline: Duration,
    ) -> Result<Attempt, String> {
        let found = self.wait_for(|state| state.attempts.iter().rev().find(|one| expected(one)).cloned(), deadline);
        found.await.ok_or_else(|| format!("within {deadline:?} there were {:#?}", self.attempts()))
    }

    /// Remembers an attempt and how it went.
    pub(super) fn record_attempt(
        &self, event: &str, payload: &Value, guid: &str, is_redelivery: bool, status_code: u16,
    ) {
        let mut state = self.shared.state();
        let id = state.next_id();
        let (guid, event, payload) = (guid.to_owned(), event.to_owned(), payload.clone());
        let at = SystemTime::now();
        state.attempts.push(Attempt { id, guid, event, payload, at, is_redelivery, status_code });
        drop(state);
        self.shared.changed.send_replace(());
    }
}

#[derive(Debug, Deserialize)]
pub struct ListFilter {
    #[serde(default = "default_per_page")]
    per_page: usize,
    cursor: Option<String>,
}

fn default_per_page() -> usize {
    30
}

/// `GET /app/hook/deliveries`: newest first, in pages that lead to each other by a cursor.
pub async fn list(
    State(shared): State<Arc<Shared>>, Query(asked): Query<ListFilter>, headers: HeaderMap,
) -> Result<Response, ApiError> {
    require_app_jwt(&shared, &headers)?;
    page(&shared, &asked)
}

/// `GET /repos/OWNER/NAME/hooks`: the one webhook, which a person may look at.
pub async fn hooks(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    require_person(&shared, &headers)?;
    let webhook = shared.state().webhook.clone();
    let shown = webhook.map(|webhook| {
        let config = json!({"url": webhook.url, "content_type": "json"});
        json!({"type": "Repository", "id": 1, "name": "web", "active": true, "events": ["push"], "config": config})
    });
    Ok(Json(shown.into_iter().collect()))
}

/// `GET /repos/OWNER/NAME/hooks/ID/deliveries`
pub async fn list_of_hook(
    State(shared): State<Arc<Shared>>, Query(asked): Query<ListFilter>, headers: HeaderMap,
) -> Result<Response, ApiError> {
    require_person(&shared, &headers)?;
    page(&shared, &asked)
}

fn require_person(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<(), ApiError> {
    match Caller::of_request(shared, headers)? {
        Caller::Person => Ok(()),
        Caller::Installation(_) => Err(ApiError::not_found()),
    }
}

fn page(shared: &Arc<Shared>, asked: &ListFilter) -> Result<Response, ApiError> {
    let invalid = || ApiError::invalid("The cursor is not valid");
    let from: Option<u64> = match &asked.cursor {
        Some(cursor) => Some(cursor.strip_prefix("v1_").and_then(|id| id.parse().ok()).ok_or_else(invalid)?),
        None => None,
    };
    let per_page = asked.per_page.clamp(1, 100);
    let state = shared.state();
    let mut rest = state.attempts.iter().rev().filter(|attempt| from.is_none_or(|from| attempt.id <= from));
    let page: Vec<Value> = rest.by_ref().take(per_page).map(|attempt| shown(shared, attempt)).collect();
    let next = rest.next().map(|next| {
        let address = format!("{}/app/hook/deliveries?per_page={per_page}&cursor=v1_{}", shared.api_url(), next.id);
        [("link", format!("<{address}>; rel=\"next\""))]
    });
    Ok(match next {
        Some(link) => (link, Json(page)).into_response(),
        None => Json(page).into_response(),
    })
}

fn shown(shared: &Shared, attempt: &Attempt) -> Value {
    let delivered_at = Timestamp::try_from(attempt.at).map(|at| at.to_string()).unwrap_or_default();
    let status = match attempt.status_code {
        0 => "failed to connect to host".to_owned(),
        200..300 => "OK".to_owned(),
        other => format!("Invalid HTTP Response: {other}"),
    };
    json!({
        "id": attempt.id, "guid": attempt.guid, "delivered_at": delivered_at, "redelivery": attempt.is_redelivery,
        "duration": 0.03, "status": status, "status_code": attempt.status_code, "event": attempt.event,
        "action": attempt.payload["action"], "installation_id": shared.options.installation,
        "repository_id": attempt.payload["repository"]["id"], "throttled_at": null,
    })
}

/// `POST /app/hook/deliveries/ID/attempts`: answers at once, and sends the same delivery again after that.
pub async fn attempt_again(
    State(shared): State<Arc<Shared>>, Path(id): Path<u64>, headers: HeaderMap,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    require_app_jwt(&shared, &headers)?;
    again(shared, id)
}

/// `POST /repos/OWNER/NAME/hooks/ID/deliveries/ID/attempts`
pub async fn attempt_again_of_hook(
    State(shared): State<Arc<Shared>>, Path((_, _, _, id)): Path<(String, String, u64, u64)>, headers: HeaderMap,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    require_person(&shared, &headers)?;
    again(shared, id)
}

fn again(shared: Arc<Shared>, id: u64) -> Result<(StatusCode, Json<Value>), ApiError> {
    let found = shared.state().attempts.iter().find(|attempt| attempt.id == id).cloned();
    let Attempt { event, payload, guid, .. } = found.ok_or_else(ApiError::not_found)?;
    let forge = Forge { shared };
    // How it went is recorded with the attempt, where whoever cares will look.
    tokio::spawn(async move { forge.redeliver(&event, &payload, &guid).await.ok() });
    Ok((StatusCode::ACCEPTED, Json(json!({}))))
}
