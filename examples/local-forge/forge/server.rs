//! The routes, and how a refusal looks.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, patch, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::credentials::Caller;
use super::state::Shared;
use super::{
    apps, checks, contents, credentials, deliveries, faults, git_http, limits, people, pulls, renames, runners,
    statuses, transcript, workflow_jobs,
};

/// Largest body of a request, in bytes: a fetch that already has much tells so.
pub const MAX_BODY: usize = 16 * 1024 * 1024;

pub fn router(shared: Arc<Shared>) -> Router {
    let api = Router::new()
        .route("/app", get(apps::app))
        .route("/app/installations", get(apps::installations))
        .route("/app/installations/{id}/access_tokens", post(credentials::mint))
        .route("/app/hook/deliveries", get(deliveries::list))
        .route("/app/hook/deliveries/{id}/attempts", post(deliveries::attempt_again))
        .route("/repos/{owner}/{name}/hooks", get(deliveries::hooks))
        .route("/repos/{owner}/{name}/hooks/{hook}/deliveries", get(deliveries::list_of_hook))
        .route("/repos/{owner}/{name}/hooks/{hook}/deliveries/{id}/attempts", post(deliveries::attempt_again_of_hook))
        .route("/installation/repositories", get(apps::repositories))
        .route("/user", get(apps::user))
        .route("/repos/{owner}/{name}", get(repository))
        .route("/repos/{owner}/{name}/installation", get(credentials::find_installation))
        .route("/repos/{owner}/{name}/collaborators/{user}/permission", get(people::permission))
        .route("/repos/{owner}/{name}/pulls", get(pulls::list))
        .route("/repos/{owner}/{name}/pulls/{number}", get(pulls::show))
        .route("/repos/{owner}/{name}/contents", get(contents::show_root))
        .route("/repos/{owner}/{name}/contents/{*path}", get(contents::show))
        .route("/repos/{owner}/{name}/statuses/{sha}", post(statuses::create))
        .route("/repos/{owner}/{name}/commits/{sha}", get(contents::show_commit))
        .route("/repos/{owner}/{name}/commits/{sha}/statuses", get(statuses::list))
        .route("/repos/{owner}/{name}/commits/{sha}/status", get(statuses::combined))
        .route("/repos/{owner}/{name}/commits/{sha}/check-runs", get(checks::list))
        .route("/repos/{owner}/{name}/actions/runs", get(workflow_jobs::list_runs))
        .route("/repos/{owner}/{name}/actions/runs/{id}", get(workflow_jobs::show_run))
        .route("/repos/{owner}/{name}/actions/runs/{id}/jobs", get(workflow_jobs::list_jobs))
        .route("/repos/{owner}/{name}/actions/jobs/{id}", get(workflow_jobs::show_job))
        .route("/repos/{owner}/{name}/actions/runners", get(runners::list_of_repository))
        .route("/repos/{owner}/{name}/actions/runners/generate-jitconfig", post(runners::mint_for_repository))
        .route("/repos/{owner}/{name}/actions/runners/{id}", delete(runners::remove_of_repository))
        .route("/repos/{owner}/{name}/actions/runners/downloads", get(runners::downloads_of_repository))
        .route("/{kind}/{name}/actions/runners/downloads", get(runners::downloads_of_group))
        .route("/{kind}/{name}/actions/runners", get(runners::list_of_group))
        .route("/{kind}/{name}/actions/runners/generate-jitconfig", post(runners::mint_for_group))
        .route("/{kind}/{name}/actions/runners/{id}", delete(runners::remove_of_group))
        .route("/repos/{owner}/{name}/check-runs", post(checks::create))
        .route("/repos/{owner}/{name}/check-runs/{id}", patch(checks::update).get(checks::show))
        .fallback(|| async { ApiError::not_found() })
        .layer(from_fn_with_state(Arc::clone(&shared), limits::apply))
        .layer(from_fn(require_user_agent))
        .layer(from_fn_with_state(Arc::clone(&shared), renames::redirect))
        .with_state(Arc::clone(&shared));
    let by_number = any(renames::by_number).with_state((Arc::clone(&shared), api.clone()));
    let api = api.route("/repositories/{id}", by_number.clone()).route("/repositories/{id}/{*rest}", by_number);
    let api = api.layer(from_fn_with_state(Arc::clone(&shared), transcript::record));
    Router::new()
        .nest("/api/v3", api.with_state(()))
        .route("/{owner}/{name}/info/refs", get(git_http::info_refs))
        .route("/{owner}/{name}/git-upload-pack", post(git_http::upload_pack))
        .route("/_runner/sessions", post(runners::begin_session))
        .route("/_runner/message", get(runners::next_message))
        .route("/_runner/complete", post(runners::complete))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(Arc::clone(&shared), faults::apply))
        .with_state(shared)
}

/// A refusal in GitHub's form.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    pub fn new(status: StatusCode, message: &str) -> Self {
        Self { status, message: message.to_owned() }
    }

    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found")
    }

    /// The request is understood and wrong.
    pub fn invalid(message: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub fn internal(error: &std::io::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"message": self.message, "documentation_url": "https://docs.github.com/rest"});
        (self.status, Json(body)).into_response()
    }
}

/// GitHub answers nobody who does not say what they are.
async fn require_user_agent(request: Request, next: Next) -> Response {
    if request.headers().contains_key("user-agent") {
        next.run(request).await
    } else {
        ApiError::new(StatusCode::FORBIDDEN, "Request forbidden by administrative rules: no User-Agent").into_response()
    }
}

async fn repository(
    State(shared): State<Arc<Shared>>, Path((owner, name)): Path<(String, String)>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let full_name = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&full_name, "metadata", "read")?;
    let state = shared.state();
    state.repository(&full_name).map(|found| Json(found.to_json())).ok_or_else(ApiError::not_found)
}
