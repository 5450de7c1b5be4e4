//! What Dayfly serves over HTTP.
//!
//! The public listener has webhooks, health and log pages under unguessable addresses, and nothing that lists or changes
//! anything. That is on the control socket, which only its owner can open.

mod artifacts;
pub mod control;
mod feed;
pub mod log_page;
pub mod metrics;
pub mod webhook;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::core::Core;

/// The routes of the public listener. The metrics, which name nothing and nobody, are among them unless they have a
/// listener of their own.
pub fn public(core: &Arc<Core>) -> Router {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .merge(webhook::routes_of(core))
        .merge(log_page::routes(core.store.clone(), core.logs.clone(), core.depot.clone()));
    let settings = &core.config.metrics;
    if settings.enabled && settings.listen.is_none() { routes.merge(metrics::routes(Arc::clone(core))) } else { routes }
}
