//! `GET /metrics`: what Prometheus reads.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::clock;
use crate::core::Core;
use crate::upkeep::Activity;
use crate::vm::usage::{self, Usage};

/// The text format's media type.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The route.
pub fn routes(core: Arc<Core>) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(core)
}

async fn scrape(State(core): State<Arc<Core>>) -> Response {
    match core.store.counts().await {
        Ok(counts) => core.metrics.note_counts(&counts, clock::now_ms()),
        Err(error) => {
            tracing::error!(%error, "the store cannot be read for the metrics");
            core.metrics.store.unreadable();
        }
    }
    match usage_of_all(&core).await {
        Ok(usage) => core.metrics.vms.take(usage),
        Err(error) => tracing::error!(%error, "the memory of the VMs cannot be read"),
    }
    let at_upkeep: Vec<Activity> = core.desk.occupants().into_iter().map(|occupant| occupant.activity).collect();
    core.metrics.upkeep.occupies(&at_upkeep);
    let budgets: Vec<_> = core.forges.iter().flat_map(|(_, forge)| forge.budgets()).collect();
    if let Some((_, scarcest)) = budgets.iter().min_by_key(|(_, budget)| budget.remaining) {
        core.metrics.forge.budget(scarcest.remaining, scarcest.limit);
    }
    match core.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written down");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn usage_of_all(core: &Core) -> io::Result<Usage> {
    let homes = core.engine.homes().clone();
    let by_vm = tokio::task::spawn_blocking(move || usage::by_vm(&homes)).await.map_err(io::Error::other)??;
    let mut all = Usage::default();
    by_vm.into_values().for_each(|usage| all += usage);
    Ok(all)
}
