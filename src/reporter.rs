//! Makes the forge show what the store says.
//!
//! Reports are levels: the newest version is sent, older ones are skipped, and sending one twice changes nothing. A call
//! that fails is tried again with back-off for as long as its report is kept; the job it speaks of has long ended.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock;
use crate::core::Core;
use crate::forge::{ForgeError, ReportState, backoff};
use crate::ids::ReportId;
use crate::store::{StoreError, StoredReport};

/// Calls under way at a time.
const PARALLEL: usize = 8;

/// A look without a wake-up, in case one was lost.
const IDLE_LOOK: Duration = Duration::from_secs(15);

/// Bytes of a log's end that a report carries. The forge's module cuts again, to the forge's own limit.
const LOG_TAIL: usize = 64 * 1024;

/// Tells those who wait that some report was sent.
#[derive(Debug, Default)]
pub struct Sent(watch::Sender<u64>);

impl Sent {
    /// Waits until the forge shows the report's newest version, at most for `limit`. Gives whether it does.
    pub async fn wait_for(&self, core: &Core, report: &ReportId, limit: Duration) -> bool {
        let mut changes = self.0.subscribe();
        let shown = async {
            loop {
                changes.mark_unchanged();
                match core.store.get_report(report).await {
                    Ok(Some(stored)) if stored.sent_version >= stored.version => return true,
                    Ok(Some(_)) => {}
                    _ => return false,
                }
                if changes.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(limit, shown).await.unwrap_or(false)
    }
}

/// Sends reports until the service stops; then sends what is due once more.
pub async fn run(core: Arc<Core>) {
    let in_flight = Arc::new(Mutex::new(HashSet::new()));
    let mut calls = JoinSet::new();
    loop {
        while calls.try_join_next().is_some() {}
        start_due(&core, &in_flight, &mut calls).await;
        let stopping = core.stop.is_cancelled();
        if stopping && calls.is_empty() {
            return;
        }
        tokio::select! {
            () = core.wake.reports.notified() => {}
            _ = calls.join_next(), if !calls.is_empty() => {}
            () = tokio::time::sleep(next_look(&core).await), if !stopping => {}
            () = core.stop.cancelled(), if !stopping => {}
        }
    }
}

async fn next_look(core: &Core) -> Duration {
    let due = core.store.next_report_due().await.ok().flatten();
    let wait = due.map_or(IDLE_LOOK, |due| Duration::from_millis(u64::try_from(due - clock::now_ms()).unwrap_or(0)));
    // Never at once again: what is due now is under way, or there was no place for it.
    wait.clamp(Duration::from_millis(50), IDLE_LOOK)
}

async fn start_due(core: &Arc<Core>, in_flight: &Arc<Mutex<HashSet<ReportId>>>, calls: &mut JoinSet<()>) {
    let due = core.store.due_reports(clock::now_ms(), 2 * PARALLEL as u32).await.unwrap_or_else(|error| {
        tracing::error!(%error, "the due reports cannot be read");
        Vec::new()
    });
    for report in due {
        let id = report.desired.id.clone();
        if calls.len() >= PARALLEL || !in_flight.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone()) {
            continue;
        }
        let (core, in_flight) = (Arc::clone(core), Arc::clone(in_flight));
        calls.spawn(async move {
            if let Err(error) = send(&core, report).await {
                tracing::error!(report = %id, %error, "a report's progress could not be stored");
            }
            in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            core.sent.0.send_modify(|count| *count += 1);
        });
    }
}

async fn send(core: &Core, stored: StoredReport) -> Result<(), StoreError> {
    let id = stored.desired.id.clone();
    let mut report = stored.desired.clone();
    report.log = log_tail(core, &stored).await;
    core.store.report_sending(&id).await?;
    match core.forge.publish(&report, &stored.external, stored.earlier()).await {
        Ok(external) => {
            core.store.report_sent(&id, stored.version, &external).await?;
            if let (Some(job), ReportState::Finished(_)) = (&stored.job, report.state)
                && let Some(job) = core.store.job(job).await?
            {
                core.timeline.record(&job.id, job.attempt, "status_posted", "");
            }
            Ok(())
        }
        Err(error) if error.is_retryable() => {
            let wait = match &error {
                ForgeError::RateLimited { wait, .. } => *wait,
                _ => backoff(stored.tries, clock::jitter()),
            };
            tracing::warn!(report = %id, %error, wait_s = wait.as_secs(), "a report will be sent again");
            let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            core.store.report_failed(&id, clock::now_ms().saturating_add(wait_ms)).await
        }
        Err(error) => {
            tracing::error!(report = %id, context = report.context, %error, "the forge will not take a report");
            core.store.report_abandoned(&id, stored.version, &error.to_string()).await
        }
    }
}

/// A report without its log says less, but says it.
async fn log_tail(core: &Core, stored: &StoredReport) -> String {
    let Some(job) = &stored.job else { return String::new() };
    let tail = async {
        let job = core.store.job(job).await.ok().flatten()?;
        let reader = core.logs.reader(&job.id, job.attempt).await.ok().flatten()?;
        reader.tail(LOG_TAIL).await.ok()
    };
    tail.await.unwrap_or_default()
}
