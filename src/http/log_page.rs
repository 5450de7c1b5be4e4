//! The log of a job, for whoever has its address: as a page that follows it live, as plain text, and as a stream of events.
//!
//! The address holds an unguessable token and is the only permission. So the page loads nothing from elsewhere and sends no
//! referrer, nothing is cached, and a wrong token gets the same answer whatever is wrong with it.
//!
//! - `GET /logs/{token}`: the page.
//! - `GET /logs/{token}.txt`: the log so far, as plain text.
//! - `GET /logs/{token}/events`: see the module `events`.

mod events;
mod html;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

use crate::ids::LogToken;
use crate::log::{LogError, LogStore};
use crate::store::{Job, Run, Store, StoreError};

/// Clients that may follow logs at the same time, over all jobs. Further ones are asked to come back.
pub const MAX_FOLLOWERS: usize = 256;

/// What the handlers work with.
#[derive(Debug, Clone)]
struct LogPages {
    store: Store,
    logs: LogStore,
    followers: Arc<Semaphore>,
}

/// The routes under `/logs`.
pub fn routes(store: Store, logs: LogStore) -> Router {
    let pages = LogPages { store, logs, followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)) };
    Router::new()
        .route("/logs/{name}", get(page_or_text))
        .route("/logs/{token}/events", get(events::follow))
        .layer(map_response(protect))
        .with_state(pages)
}

/// Why there is nothing to show.
#[derive(Debug)]
enum PageError {
    NotFound,
    TooManyFollowers,
    /// The cause is for the operator, not for whoever asked.
    Unavailable(String),
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<LogError> for PageError {
    fn from(error: LogError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        const RETRY_AFTER: (&str, &str) = ("retry-after", "10");
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "There is no such log.\n").into_response(),
            Self::TooManyFollowers => {
                (StatusCode::SERVICE_UNAVAILABLE, [RETRY_AFTER], "Too many clients follow logs at the moment.\n")
                    .into_response()
            }
            Self::Unavailable(cause) => {
                tracing::error!(%cause, "a log page failed");
                (StatusCode::SERVICE_UNAVAILABLE, [RETRY_AFTER], "The log cannot be read at the moment.\n")
                    .into_response()
            }
        }
    }
}

impl LogPages {
    /// The job behind the token of an address.
    async fn job(&self, token: &str) -> Result<Job, PageError> {
        let token: LogToken = token.parse().map_err(|_| PageError::NotFound)?;
        self.store.job_by_log_token(&token).await?.ok_or(PageError::NotFound)
    }

    async fn run(&self, job: &Job) -> Result<Run, PageError> {
        self.store.run(&job.run).await?.ok_or(PageError::NotFound)
    }
}

async fn page_or_text(State(pages): State<LogPages>, Path(name): Path<String>) -> Result<Response, PageError> {
    match name.strip_suffix(".txt") {
        Some(token) => text(&pages, token).await,
        None => {
            let job = pages.job(&name).await?;
            let run = pages.run(&job).await?;
            let report = pages.store.get_report(&job.report).await?;
            let annotations = report.map(|report| report.desired.annotations).unwrap_or_default();
            Ok(Html(html::page(&job, &run, &annotations)).into_response())
        }
    }
}

async fn text(pages: &LogPages, token: &str) -> Result<Response, PageError> {
    let job = pages.job(token).await?;
    let body = match pages.logs.reader(&job.id, job.attempt).await? {
        Some(log) => Body::from_stream(log.text(0)),
        None => Body::empty(),
    };
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

/// Adds the headers that keep an address secret and a page harmless to every answer.
async fn protect(mut response: Response) -> Response {
    const FIXED: [(HeaderName, &str); 4] = [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    let headers = response.headers_mut();
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(CONTENT_SECURITY_POLICY, html::CONTENT_POLICY.clone());
    response
}
