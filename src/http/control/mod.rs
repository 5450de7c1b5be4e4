//! The control API: HTTP over the Unix socket that only the service's user can open.
//!
//! Keys are in snake case and keep their meaning; times are milliseconds since the epoch where no unit is in the name. What is
//! refused is `{"error", "hint"}`. A job's id may be shortened to any beginning that no other job has.

mod about_delivery;
mod actions;
mod artifacts;
mod deliveries;
mod dispatch;
mod egress;
mod failure;
mod find;
mod jobs;
mod log;
mod prepared;
mod runners;
mod vms;
mod why;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};

use self::failure::Failure;
use crate::core::Core;

/// Things that a list has at most.
const MAX_LISTED: u32 = 500;

/// The routes of the control socket.
pub fn routes(core: Arc<Core>) -> Router {
    let is_measured = core.config.metrics.enabled;
    let metrics = if is_measured { super::metrics::routes(Arc::clone(&core)) } else { Router::new() };
    Router::new()
        .route("/v1/jobs", get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/rerun", post(actions::rerun))
        .route("/v1/approvals", post(actions::approve))
        .route("/v1/dispatches", post(dispatch::dispatch))
        .route("/v1/jobs/{id}/log", get(log::log))
        .route("/v1/jobs/{id}/why", get(why::job))
        .route("/v1/jobs/{id}/egress", get(egress::show))
        .route("/v1/jobs/{id}/artifacts", get(artifacts::list))
        .route("/v1/jobs/{id}/artifacts/{name}", get(artifacts::download))
        .route("/v1/jobs/{id}/artifacts/{name}/remove", post(artifacts::remove))
        .route("/v1/commits/{sha}/why", get(why::commit))
        .route("/v1/vms", get(vms::list))
        .route("/v1/runners", get(runners::list))
        .route("/v1/prepared", get(prepared::list))
        .route("/v1/prepared/gc", post(prepared::gc))
        .route("/v1/prepared/{hash}", get(prepared::show))
        .route("/v1/prepared/{hash}/log", get(prepared::log))
        .route("/v1/prepared/{hash}/remove", post(prepared::remove))
        .route("/v1/deliveries", get(deliveries::list))
        .route("/v1/deliveries/{forge}/{id}", get(deliveries::show))
        .route("/v1/deliveries/{forge}/{id}/redeliver", post(deliveries::redeliver))
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "there is no such thing in this API"))
        .with_state(core)
        .merge(metrics)
}

/// How many things a list shall have.
fn limit(wanted: Option<u32>) -> u32 {
    wanted.unwrap_or(MAX_LISTED).clamp(1, MAX_LISTED)
}

/// A word among those of a kind of state or conclusion.
fn word<T: serde::de::DeserializeOwned>(what: &str, text: &str, known: &str) -> Result<T, Failure> {
    serde_json::from_value(text.into()).map_err(|_| {
        let error = format!("{} is no {what}", crate::document::reader::quoted(text));
        Failure::bad_request(error).hint(format!("one of {known}"))
    })
}
