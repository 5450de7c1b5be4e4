//! Who is asking, and where the App is installed.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::credentials::{Caller, installed_permissions, require_app_jwt};
use super::server::ApiError;
use super::state::Shared;

/// The account that the plain token belongs to.
const TOKEN_OWNER: &str = "ci-account";

/// What the App is told of.
pub const EVENTS: [&str; 7] =
    ["check_run", "check_suite", "issue_comment", "merge_group", "pull_request", "push", "workflow_job"];

fn events(shared: &Shared) -> Vec<&'static str> {
    EVENTS.into_iter().filter(|event| !shared.options.lacks.contains(event)).collect()
}

/// A page of a list, as GitHub counts: from 1, of at most 100.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Page {
    #[serde(default = "first")]
    page: usize,
    #[serde(default = "default_per_page")]
    per_page: usize,
}

fn first() -> usize {
    1
}

fn default_per_page() -> usize {
    30
}

impl Page {
    /// The part of a list that is asked for.
    pub fn of<T>(self, list: impl Iterator<Item = T>) -> Vec<T> {
        let per_page = self.per_page.clamp(1, 100);
        list.skip((self.page.max(1) - 1) * per_page).take(per_page).collect()
    }
}

/// `GET /app`
pub async fn app(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    require_app_jwt(&shared, &headers)?;
    Ok(Json(json!({
        "id": shared.options.app_id, "slug": "dayfly", "name": "Dayfly", "owner": {"login": "demo", "type": "User"},
        "permissions": installed_permissions(&shared), "events": events(&shared), "installations_count": 1,
    })))
}

/// `GET /app/installations`
pub async fn installations(
    State(shared): State<Arc<Shared>>, Query(page): Query<Page>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    require_app_jwt(&shared, &headers)?;
    let only = json!({
        "id": shared.options.installation, "app_id": shared.options.app_id, "account": {"login": "demo"},
        "repository_selection": "all", "permissions": installed_permissions(&shared), "events": events(&shared), "suspended_at": null,
    });
    Ok(Json(page.of([only].into_iter()).into()))
}

/// `GET /installation/repositories`
pub async fn repositories(
    State(shared): State<Arc<Shared>>, Query(page): Query<Page>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let caller = Caller::of_request(&shared, &headers)?;
    if matches!(caller, Caller::Person) {
        let message = "You must authenticate with an installation access token in order to list repositories.";
        return Err(ApiError::new(StatusCode::FORBIDDEN, message));
    }
    let state = shared.state();
    let is_within = |name: &str| caller.require(name, "metadata", "read").is_ok();
    let all: Vec<Value> =
        state.repositories.iter().filter(|found| is_within(&found.name)).map(|found| found.to_json()).collect();
    Ok(Json(json!({"total_count": all.len(), "repositories": page.of(all.into_iter())})))
}

/// `GET /user`
pub async fn user(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Response, ApiError> {
    match Caller::of_request(&shared, &headers)? {
        Caller::Person => {
            let account = json!({"login": TOKEN_OWNER, "id": 4242, "type": "User"});
            Ok(([("x-oauth-scopes", "repo, workflow")], Json(account)).into_response())
        }
        Caller::Installation(_) => Err(ApiError::new(StatusCode::FORBIDDEN, "Resource not accessible by integration")),
    }
}
