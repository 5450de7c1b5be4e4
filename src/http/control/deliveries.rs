//! Deliveries: what arrived, what became of it, and processing one again.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::about_delivery::{About, abouts, outcome, started};
use super::failure::{Asked, Failure};
use super::{limit, word};
use crate::clock;
use crate::core::Core;
use crate::store::{Delivery, DeliveryFilter, DeliveryKey, DeliveryState, Reopened, StoreError};

/// Which deliveries are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    state: Option<String>,
    event: Option<String>,
    /// What the id begins with.
    id: Option<String>,
    limit: Option<u32>,
}

/// A delivery as the API tells of it.
#[derive(Debug, Serialize)]
pub(super) struct DeliveryView {
    forge: String,
    id: String,
    event: String,
    state: DeliveryState,
    /// Where it happened: absent if the payload does not say, or is too large to be looked into.
    repo: Option<String>,
    /// `#12` of a pull request, the name of a branch or tag, or a shortened commit; absent likewise.
    subject: Option<String>,
    /// What came of it, in words for people; absent if nothing did.
    outcome: Option<String>,
    /// Why it failed, was ignored or is invalid, or why the last try failed.
    detail: String,
    /// Tries that failed.
    tries: u32,
    received_at: i64,
    /// Only of one that waits for its next try.
    next_try_at: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(super) struct DeliveryWithRuns {
    #[serde(flatten)]
    delivery: DeliveryView,
    runs: Vec<RunView>,
}

#[derive(Debug, Serialize)]
struct RunView {
    id: String,
    number: u64,
    repo: String,
    sha: String,
    workflow: String,
}

/// `GET /v1/deliveries`: latest first.
pub(super) async fn list(
    State(core): State<Arc<Core>>, Asked(wanted): Asked<Wanted>,
) -> Result<Json<Vec<DeliveryView>>, Failure> {
    let state = |text: &String| word("state of a delivery", text, "received, processed, ignored, failed, invalid");
    let filter = DeliveryFilter {
        state: wanted.state.as_ref().map(state).transpose()?,
        event: wanted.event,
        id_prefix: wanted.id,
    };
    let deliveries = core.store.recent_deliveries(limit(wanted.limit), &filter).await?;
    Ok(Json(views(&core, deliveries).await?))
}

async fn views(core: &Core, deliveries: Vec<Delivery>) -> Result<Vec<DeliveryView>, StoreError> {
    let (abouts, started) = (abouts(core, &deliveries).await?, started(core, &deliveries).await?);
    let view = |(delivery, about): (Delivery, About)| {
        let outcome = started.get(&delivery.key).map(outcome);
        view(delivery, about, outcome)
    };
    Ok(deliveries.into_iter().zip(abouts).map(view).collect())
}

/// `GET /v1/deliveries/{forge}/{id}`
pub(super) async fn show(
    State(core): State<Arc<Core>>, Path((forge, id)): Path<(String, String)>,
) -> Result<Json<DeliveryWithRuns>, Failure> {
    let key = DeliveryKey { forge, id };
    let delivery = core.store.delivery(&key).await?.ok_or_else(|| unknown(&key))?;
    let runs = core.store.runs_of_delivery(&key).await?.into_iter().map(|run| RunView {
        id: run.id.to_string(),
        number: run.number,
        repo: run.access.repo.to_string(),
        sha: run.sha.to_string(),
        workflow: run.workflow_name,
    });
    let delivery = views(&core, vec![delivery]).await?.pop().ok_or_else(|| unknown(&key))?;
    Ok(Json(DeliveryWithRuns { delivery, runs: runs.collect() }))
}

/// `POST /v1/deliveries/{forge}/{id}/redeliver`: processes a delivery again that started nothing.
pub(super) async fn redeliver(
    State(core): State<Arc<Core>>, Path((forge, id)): Path<(String, String)>,
) -> Result<(StatusCode, Json<serde_json::Value>), Failure> {
    let key = DeliveryKey { forge, id };
    match core.store.reopen_delivery(&key, clock::now_ms()).await {
        Ok(Reopened::Due) => {
            core.wake.deliveries.notify_one();
            Ok((StatusCode::ACCEPTED, Json(json!({ "delivery": key.id }))))
        }
        Ok(Reopened::Not(state)) => Err(refused(&key, state)),
        Err(StoreError::NotFound { .. }) => Err(unknown(&key)),
        Err(error) => Err(error.into()),
    }
}

fn refused(key: &DeliveryKey, state: DeliveryState) -> Failure {
    let failure = Failure::new(StatusCode::CONFLICT, format!("delivery `{key}` is {state} and stays so"));
    match state {
        DeliveryState::Invalid => failure.hint("its body is not what the forge documents: that does not change"),
        DeliveryState::Processed | DeliveryState::Received | DeliveryState::Ignored | DeliveryState::Failed => {
            failure.hint("its runs exist already; `dayfly rerun JOB` runs one of their jobs again")
        }
    }
}

fn unknown(key: &DeliveryKey) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, format!("there is no delivery `{key}`")).hint("`dayfly deliveries` lists them")
}

fn view(delivery: Delivery, about: About, outcome: Option<String>) -> DeliveryView {
    let waits = delivery.state == DeliveryState::Received && delivery.tries > 0;
    DeliveryView {
        forge: delivery.key.forge,
        id: delivery.key.id,
        event: delivery.event,
        state: delivery.state,
        repo: about.repo.map(|repo| repo.to_string()),
        subject: about.subject,
        outcome,
        detail: delivery.detail,
        tries: delivery.tries,
        received_at: delivery.received_at,
        next_try_at: waits.then_some(delivery.next_try_at),
    }
}
