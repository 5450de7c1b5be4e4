//! Commit statuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::credentials::Caller;
use super::server::ApiError;
use super::state::{Shared, Status, WriteKind};

const STATES: [&str; 4] = ["error", "failure", "pending", "success"];
const MAX_DESCRIPTION: usize = 140;
const MAX_PER_CONTEXT: usize = 1000;

#[derive(Debug, Serialize, Deserialize)]
pub struct NewStatus {
    state: String,
    context: Option<String>,
    description: Option<String>,
    target_url: Option<String>,
}

impl NewStatus {
    fn validate(&self) -> Result<(), ApiError> {
        if !STATES.contains(&self.state.as_str()) {
            return Err(ApiError::invalid("State is not included in the list"));
        }
        if self.description.as_ref().is_some_and(|text| text.chars().count() > MAX_DESCRIPTION) {
            return Err(ApiError::invalid("Description is too long (maximum is 140 characters)"));
        }
        if self.target_url.as_ref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            return Err(ApiError::invalid("Target url must use http(s) scheme"));
        }
        Ok(())
    }
}

/// `POST /repos/OWNER/NAME/statuses/SHA`
pub async fn create(
    State(shared): State<Arc<Shared>>, Path((owner, name, sha)): Path<(String, String, String)>, headers: HeaderMap,
    Json(new): Json<NewStatus>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "statuses", "write")?;
    new.validate()?;
    require_commit(&shared, &repository, &sha).await?;
    let context = new.context.clone().unwrap_or_else(|| "default".to_owned());

    let mut state = shared.state();
    let earlier = state.statuses.iter().filter(|status| status.sha == sha && status.context == context).count();
    if earlier >= MAX_PER_CONTEXT {
        return Err(ApiError::invalid("This SHA and context has reached the maximum number of statuses."));
    }
    let body = serde_json::to_value(&new).expect("it came from JSON");
    let status = Status {
        id: state.next_id(),
        repository: repository.clone(),
        sha: sha.clone(),
        context,
        state: new.state,
        description: new.description,
        target_url: new.target_url,
        created_at: SystemTime::now(),
    };
    let answer = status_json(&status);
    state.statuses.push(status);
    state.record(WriteKind::Status, &repository, &sha, body);
    drop(state);
    shared.changed.send_replace(());
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Only commits of the repository can be written on.
pub async fn require_commit(shared: &Shared, repository: &str, sha: &str) -> Result<(), ApiError> {
    let bare = shared.bare(repository).map_err(|_| ApiError::not_found())?;
    let found = bare.resolve(sha).await.map_err(|error| ApiError::internal(&error))?;
    if found.as_deref() == Some(sha) {
        Ok(())
    } else {
        Err(ApiError::invalid(&format!("No commit found for SHA: {sha}")))
    }
}

/// `GET /repos/OWNER/NAME/commits/SHA/statuses`: newest first.
pub async fn list(
    State(shared): State<Arc<Shared>>, Path((owner, name, sha)): Path<(String, String, String)>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "statuses", "read")?;
    let state = shared.state();
    let found = state.statuses.iter().rev().filter(|status| status.repository == repository && status.sha == sha);
    Ok(Json(found.map(status_json).collect()))
}

/// `GET /repos/OWNER/NAME/commits/SHA/status`: the newest of each context, and what they say together.
pub async fn combined(
    State(shared): State<Arc<Shared>>, Path((owner, name, sha)): Path<(String, String, String)>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "statuses", "read")?;
    let state = shared.state();
    let mut newest = BTreeMap::new();
    for status in state.statuses.iter().filter(|status| status.repository == repository && status.sha == sha) {
        newest.insert(&status.context, status);
    }
    let has = |word: &str| newest.values().any(|status| status.state == word);
    let together = match () {
        () if has("error") || has("failure") => "failure",
        () if has("pending") || newest.is_empty() => "pending",
        () => "success",
    };
    let statuses: Vec<Value> = newest.values().map(|status| status_json(status)).collect();
    Ok(Json(json!({"state": together, "sha": sha, "total_count": statuses.len(), "statuses": statuses})))
}

fn status_json(status: &Status) -> Value {
    let created_at = Timestamp::try_from(status.created_at).map(|at| at.to_string()).unwrap_or_default();
    json!({
        "id": status.id, "state": status.state, "context": status.context, "description": status.description,
        "target_url": status.target_url, "created_at": created_at, "updated_at": created_at,
    })
}
