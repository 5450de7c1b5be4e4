//! A job's log as its driver writes it. A log that cannot be written (a full disk, say) does not end the job: it is said
//! once, in the service's log and in the outcome.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::core::Core;
use crate::ids::ReportId;
use crate::log::{LogError, LogWriter, Stream};
use crate::metrics::labels::LogSource;

/// How often the forge's copy of a growing log is renewed. Each time costs a call of the forge's budget.
const LIVE_UPDATE: Duration = Duration::from_secs(10);

/// The first renewal comes sooner: somebody is looking.
const FIRST_LIVE_UPDATE: Duration = Duration::from_secs(2);

/// The log of one attempt.
#[derive(Debug)]
pub(super) struct Journal {
    core: Arc<Core>,
    report: ReportId,
    writer: Option<LogWriter>,
    failure: Option<LogError>,
    next_live_update: Instant,
    is_ahead_of_forge: bool,
}

impl Journal {
    pub(super) fn new(core: Arc<Core>, report: ReportId, writer: LogWriter) -> Self {
        let next_live_update = Instant::now() + FIRST_LIVE_UPDATE;
        Self { core, report, writer: Some(writer), failure: None, next_live_update, is_ahead_of_forge: false }
    }

    /// A line of Dayfly's own.
    pub(super) async fn say(&mut self, step: u16, text: &str) {
        self.write(step, Stream::Service, format!("{}\n", text.trim_end()).as_bytes()).await;
    }

    /// What the guest printed.
    pub(super) async fn write(&mut self, step: u16, stream: Stream, bytes: &[u8]) {
        let Some(writer) = &mut self.writer else { return };
        self.is_ahead_of_forge = true;
        self.core.metrics.jobs.logged(LogSource::of(stream), bytes.len());
        if let Err(error) = writer.append(step, stream, clock::now_ms(), bytes).await {
            tracing::error!(report = %self.report, %error, "a job's log cannot be written");
            self.failure = Some(error);
            self.writer = None;
        }
    }

    /// When [`Journal::update_forge`] is due, if there is something to tell.
    pub(super) fn live_update_due(&self) -> Option<Instant> {
        self.is_ahead_of_forge.then_some(self.next_live_update)
    }

    /// Has the forge's copy of the log renewed.
    pub(super) async fn update_forge(&mut self) {
        self.is_ahead_of_forge = false;
        self.next_live_update = Instant::now() + LIVE_UPDATE;
        match self.core.store.refresh_report(&self.report, clock::now_ms()).await {
            Ok(()) => self.core.wake.reports.notify_one(),
            Err(error) => tracing::warn!(report = %self.report, %error, "a live update could not be asked for"),
        }
    }

    /// Ends the log. Gives why it is incomplete, if it is.
    pub(super) async fn finish(mut self) -> Option<LogError> {
        let Some(writer) = self.writer.take() else { return self.failure };
        match writer.finish(clock::now_ms()).await {
            Ok(size) => self.core.metrics.jobs.log_cut(size.cut),
            Err(error) => {
                tracing::error!(report = %self.report, %error, "a job's log cannot be finished");
                self.failure = Some(error);
            }
        }
        self.failure
    }
}
