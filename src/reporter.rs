//! Makes the forge show what the store says.
//!
//! Reports are levels: the newest version is sent, older ones are skipped, and sending one twice changes nothing. A call
//! that fails is tried again with back-off for as long as its report is kept; the job it speaks of has long ended.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock;
use crate::core::Core;
use crate::forge::{ForgeError, ReportPlace, ReportState, backoff, github};
use crate::ids::ReportId;
use crate::lifecycle::Step;
use crate::metrics::labels::ReportResult;
use crate::store::{Run, StoreError, StoredReport};

/// Calls under way at a time.
const PARALLEL: usize = 8;

/// A look without a wake-up, in case one was lost.
const IDLE_LOOK: Duration = Duration::from_secs(15);

/// The first and the longest wait after the forge refused the credential: until somebody changes a permission.
const REFUSED_WAIT: Duration = Duration::from_secs(5 * 60);
const LONGEST_REFUSED_WAIT: Duration = Duration::from_secs(60 * 60);

/// How long the forge may take for the last reports when the service ends, and when it shall end in a hurry. What it did not
/// take is sent after the next start.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
const HURRIED_FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// How long a report that could not even be read or marked in the store is left alone: it is still due.
const STORE_PAUSE: Duration = Duration::from_secs(1);

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

/// Whose budget of calls a report is taken from: a forge's, or that of an installation at it.
type Payer = (String, Option<u64>);

/// What the calls under way tell each other.
#[derive(Debug, Default)]
struct Traffic {
    in_flight: Mutex<HashSet<ReportId>>,
    /// Until when (milliseconds since the epoch) nothing is sent at the expense of a budget of calls.
    pauses: Mutex<HashMap<Payer, i64>>,
}

impl Traffic {
    /// Whether the report was not under way yet.
    fn begin(&self, id: &ReportId) -> bool {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone())
    }

    fn end(&self, id: &ReportId) {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn pause(&self, payer: Payer, until: i64) {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pauses.entry(payer).or_insert(until);
        *known = until.max(*known);
    }

    /// The pauses that are not over.
    fn pauses(&self, now: i64) -> Vec<(Payer, i64)> {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.retain(|_, until| *until > now);
        pauses.iter().map(|(payer, until)| (payer.clone(), *until)).collect()
    }
}

/// Sends reports until the service stops; then sends what is due once more, within a few seconds.
pub async fn run(core: Arc<Core>) {
    match core.store.revive_abandoned_reports(clock::now_ms()).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "reports that the forge did not take are sent once more"),
        Err(error) => tracing::error!(%error, "the abandoned reports cannot be revived"),
    }
    let traffic = Arc::new(Traffic::default());
    let mut calls = JoinSet::new();
    while !core.stop.is_cancelled() {
        while calls.try_join_next().is_some() {}
        start_due(&core, &traffic, &mut calls).await;
        tokio::select! {
            () = core.wake.reports.notified() => {}
            _ = calls.join_next(), if !calls.is_empty() => {}
            () = tokio::time::sleep(next_look(&core).await) => {}
            () = core.stop.cancelled() => {}
        }
    }
    let hurried = async {
        core.shutdown.hurry.cancelled().await;
        tokio::time::sleep(HURRIED_FLUSH_LIMIT).await;
    };
    tokio::select! {
        () = flush(&core, &traffic, &mut calls) => return,
        () = tokio::time::sleep(FLUSH_LIMIT) => {}
        () = hurried => {}
    }
    tracing::warn!("the forge does not answer; what it was not told is sent after the next start");
}

async fn flush(core: &Arc<Core>, traffic: &Arc<Traffic>, calls: &mut JoinSet<()>) {
    loop {
        start_due(core, traffic, calls).await;
        if calls.join_next().await.is_none() {
            return;
        }
    }
}

async fn next_look(core: &Core) -> Duration {
    let due = core.store.next_report_due().await.ok().flatten();
    let wait = due.map_or(IDLE_LOOK, |due| Duration::from_millis(u64::try_from(due - clock::now_ms()).unwrap_or(0)));
    // Never at once again: what is due now is under way, or there was no place for it.
    wait.clamp(Duration::from_millis(50), IDLE_LOOK)
}

async fn start_due(core: &Arc<Core>, traffic: &Arc<Traffic>, calls: &mut JoinSet<()>) {
    let due = due_reports(core, traffic).await.unwrap_or_else(|error| {
        tracing::error!(%error, "the due reports cannot be read");
        Vec::new()
    });
    for report in due {
        let id = report.desired.id.clone();
        if calls.len() >= PARALLEL || !traffic.begin(&id) {
            continue;
        }
        let (core, traffic) = (Arc::clone(core), Arc::clone(traffic));
        calls.spawn(async move {
            if let Err(error) = send(&core, &traffic, report).await {
                tracing::error!(report = %id, %error, "a report's progress could not be stored");
                tokio::time::sleep(STORE_PAUSE).await;
            }
            traffic.end(&id);
            core.sent.0.send_modify(|count| *count += 1);
        });
    }
}

/// What is due, apart from installations that are paused. Theirs is postponed in the store: it must not stand before the
/// reports of others.
async fn due_reports(core: &Core, traffic: &Traffic) -> Result<Vec<StoredReport>, StoreError> {
    let now = clock::now_ms();
    for ((forge, installation), until) in traffic.pauses(now) {
        core.store.postpone_reports(&forge, installation, until).await?;
    }
    core.store.due_reports(now, 2 * PARALLEL as u32).await
}

async fn send(core: &Core, traffic: &Traffic, stored: StoredReport) -> Result<(), StoreError> {
    let id = stored.desired.id.clone();
    let mut report = stored.desired.clone();
    // In this order: a log that grows from here on asks for another version.
    core.store.report_sending(&id).await?;
    let is_last = matches!(report.state, ReportState::Finished(_));
    if is_last {
        core.lifecycle.reached(Step::LastReportNoted).await;
    }
    report.log = log_tail(core, &stored).await;
    report.place = place(core, &stored).await?;
    let published = async { core.forges.of(&stored.forge)?.publish(&report, &stored.external, stored.earlier()).await };
    match published.await {
        Ok(external) => {
            core.lifecycle.reached(if is_last { Step::LastReportTaken } else { Step::FirstReportTaken }).await;
            core.metrics.reports.sent(ReportResult::Sent);
            core.store.report_sent(&id, stored.version, &external, clock::now_ms()).await?;
            if is_last {
                core.lifecycle.reached(Step::LastReportSent).await;
            }
            if is_last
                && let Some(job) = &stored.job
                && let Some(job) = core.store.job(job).await?
            {
                core.timeline.record(&job.id, job.attempt, "status_posted", "");
            }
            Ok(())
        }
        Err(error) => match wait_after(&error, stored.tries, clock::jitter()) {
            Some(wait) => {
                core.metrics.reports.sent(ReportResult::Postponed);
                tracing::warn!(report = %id, %error, wait_s = wait.as_secs(), "a report will be sent again");
                let next_try_at = clock::now_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
                if matches!(error, ForgeError::RateLimited { .. }) {
                    traffic.pause((stored.forge.clone(), report.access.installation), next_try_at);
                }
                core.store.report_failed(&id, next_try_at).await
            }
            None => {
                core.metrics.reports.sent(ReportResult::Abandoned);
                tracing::error!(report = %id, context = report.context, %error, "the forge will not take a report");
                core.store.report_abandoned(&id, stored.version, &error.to_string()).await
            }
        },
    }
}

/// When to send a report again that failed `tried` times before; `None`: the forge will never take it. A refusal is not the
/// end: a credential can be put right for as long as the report is kept.
fn wait_after(error: &ForgeError, tried: u32, jitter: f64) -> Option<Duration> {
    match error {
        ForgeError::RateLimited { wait, .. } => Some(*wait),
        ForgeError::Transient { .. } => Some(backoff(tried, jitter)),
        ForgeError::Refused { .. } => {
            Some(REFUSED_WAIT.saturating_mul(2u32.saturating_pow(tried)).min(LONGEST_REFUSED_WAIT))
        }
        ForgeError::NotFound { .. } | ForgeError::Permanent { .. } => None,
    }
}

/// Where the report belongs; GitHub asks for the commit only.
async fn place(core: &Core, stored: &StoredReport) -> Result<ReportPlace, StoreError> {
    match stored.forge.as_str() {
        github::NAME => Ok(ReportPlace::default()),
        _ => Ok(core.store.run(&stored.run).await?.map_or_else(ReportPlace::default, |run| place_of(&run))),
    }
}

fn place_of(run: &Run) -> ReportPlace {
    let pull = run.origin.pull_request;
    let at = |name: &str| run.context[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let git_ref = match pull {
        // Its branch is in another project, and may be called like one of this.
        Some(pull) if pull.is_fork => Some(format!("refs/merge-requests/{}/head", pull.number)),
        Some(_) => at("head_ref"),
        None => at("ref_name"),
    };
    ReportPlace { git_ref, pull_request: pull.map(|pull| pull.number) }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_tried_again_for_ever_and_what_is_gone_is_not() {
        let refused = ForgeError::Refused { what: "a".to_owned(), detail: "403".to_owned() };
        let minutes = [0, 1, 2, 3, 4, 1000].map(|tried| wait_after(&refused, tried, 0.5).unwrap().as_secs() / 60);
        assert_eq!(minutes, [5, 10, 20, 40, 60, 60]);
        assert_eq!(wait_after(&ForgeError::NotFound { what: "a".to_owned() }, 0, 0.5), None);
    }

    #[test]
    fn a_pause_is_of_one_installation_of_one_forge_and_only_grows() {
        let traffic = Traffic::default();
        let (one, all, other) = [("github", Some(1)), ("github", None), ("gitlab", None)]
            .map(|(forge, installation)| (forge.to_owned(), installation))
            .into();
        traffic.pause(Payer::clone(&one), 500);
        traffic.pause(Payer::clone(&one), 200);
        traffic.pause(Payer::clone(&all), 300);
        traffic.pause(Payer::clone(&other), 290);
        let mut pauses = traffic.pauses(250);
        pauses.sort();
        assert_eq!(pauses, [(all, 300), (one.clone(), 500), (other, 290)]);
        assert_eq!(traffic.pauses(300), [(one, 500)]);
    }
}
