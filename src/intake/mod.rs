//! From stored deliveries to runs.
//!
//! A delivery is processed after it was answered, as often as it takes: everything until the transaction that creates its
//! runs only reads. A crash or a forge that does not answer costs time, never a job, and never makes one twice.

mod context;
mod runs;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::core::Core;
use crate::forge::{ForgeError, backoff};
use crate::policy::{Verdict, judge};
use crate::store::{Delivery, DeliveryKey, DeliveryState, StoreError};
use crate::webhook::{EventName, parse_github};

/// Deliveries looked at in one round.
const BATCH: u32 = 64;

/// How often a delivery is tried before it counts as failed. With the back-off this is more than a day.
const MAX_TRIES: u32 = 300;

/// A look without a wake-up, in case one was lost.
const IDLE_LOOK: Duration = Duration::from_secs(30);

/// Why a delivery could not be processed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the stored payload does not read any more: {0}")]
    Payload(String),
}

impl IntakeError {
    fn retry_after(&self, tried: u32) -> Option<Duration> {
        match self {
            Self::Forge(ForgeError::RateLimited { wait, .. }) => Some(*wait),
            Self::Forge(error) if error.is_retryable() => Some(backoff(tried, clock::jitter())),
            Self::Store(StoreError::Database { .. }) => Some(backoff(tried, clock::jitter())),
            _ => None,
        }
    }
}

/// Processes deliveries until the service stops.
pub async fn run(core: Arc<Core>) {
    let mut waiting: HashMap<DeliveryKey, (u32, Instant)> = HashMap::new();
    loop {
        let pending = core.store.unprocessed_deliveries(BATCH).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the deliveries cannot be read");
            Vec::new()
        });
        waiting.retain(|key, _| pending.iter().any(|delivery| delivery.key == *key));
        for delivery in pending {
            let (tried, due) = waiting.get(&delivery.key).copied().unwrap_or((0, Instant::now()));
            if due > Instant::now() {
                continue;
            }
            match attend(&core, &delivery, tried).await {
                Some(wait) => {
                    waiting.insert(delivery.key, (tried + 1, Instant::now() + wait));
                }
                None => {
                    waiting.remove(&delivery.key);
                }
            }
        }
        let next = waiting.values().map(|(_, due)| *due).min().unwrap_or_else(|| Instant::now() + IDLE_LOOK);
        tokio::select! {
            () = core.wake.deliveries.notified() => {}
            () = tokio::time::sleep_until(next.min(Instant::now() + IDLE_LOOK)) => {}
            () = core.stop.cancelled() => return,
        }
    }
}

/// Processes one delivery. Gives the time after which to try again, if that may help.
async fn attend(core: &Core, delivery: &Delivery, tried: u32) -> Option<Duration> {
    let error = match process(core, delivery).await {
        Ok(()) => return None,
        Err(error) => error,
    };
    match error.retry_after(tried).filter(|_| tried < MAX_TRIES) {
        Some(wait) => {
            tracing::warn!(delivery = %delivery.key, %error, wait_s = wait.as_secs(), "processing a delivery will be tried again");
            Some(wait)
        }
        None => {
            tracing::error!(delivery = %delivery.key, %error, "a delivery cannot be processed");
            finish(core, &delivery.key, DeliveryState::Failed, &error.to_string()).await;
            None
        }
    }
}

async fn process(core: &Core, delivery: &Delivery) -> Result<(), IntakeError> {
    let payload = core.store.delivery_payload(&delivery.key).await?;
    let name = EventName::parse(&delivery.event).map_err(IntakeError::Payload)?;
    let event = parse_github(&name, &payload).map_err(|error| IntakeError::Payload(error.to_string()))?;
    let runs = match judge(&event) {
        Verdict::Ignore(why) => {
            finish(core, &delivery.key, DeliveryState::Ignored, &why).await;
            return Ok(());
        }
        Verdict::Hold(request, why) => match core.config.repository(&request.access.repo) {
            Some(_) => vec![runs::held(core, &request, &why)],
            None => Vec::new(),
        },
        Verdict::Start(request) => match core.config.repository(&request.access.repo) {
            Some(settings) => runs::planned(core, &request, &settings, &payload, delivery.received_at).await?,
            None => Vec::new(),
        },
    };
    if runs.is_empty() {
        let why = "no workflow of the commit asks for this event, or the repository is not configured";
        finish(core, &delivery.key, DeliveryState::Ignored, why).await;
        return Ok(());
    }
    let created = core.store.create_runs(&delivery.key, runs, DeliveryState::Processed, clock::now_ms()).await?;
    for run in &created {
        for job in core.store.jobs_of_run(run).await? {
            core.timeline.record_at(
                &job.id,
                job.attempt,
                delivery.received_at * 1000,
                "delivery_accepted",
                &delivery.key.id,
            );
        }
    }
    core.wake.scheduler.notify_one();
    core.wake.reports.notify_one();
    Ok(())
}

async fn finish(core: &Core, key: &DeliveryKey, state: DeliveryState, why: &str) {
    if let Err(error) = core.store.finish_delivery(key, state, why, clock::now_ms()).await {
        tracing::error!(delivery = %key, %error, "a delivery's end could not be stored");
    }
}
