//! A job's log as its driver writes it. A log that cannot be written (a full disk, say) does not end the job: it is said
//! once, in the service's log and in the outcome.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::driver::Lease;
use super::sharing::Part;
use super::steps::Witness;
use super::verdict::StepLine;
use crate::clock;
use crate::core::Core;
use crate::ids::{JobId, ReportId};
use crate::lifecycle::Step;
use crate::log::{LogError, LogWriter, Stream};
use crate::metrics::labels::LogSource;
use crate::workflow::contexts;

/// How often the forge's copy of a growing log is renewed. Each time costs a call of the forge's budget.
const LIVE_UPDATE: Duration = Duration::from_secs(10);

/// The first renewal comes sooner: somebody is looking.
const FIRST_LIVE_UPDATE: Duration = Duration::from_secs(2);

/// The log of one attempt.
#[derive(Debug)]
pub(super) struct Journal {
    core: Arc<Core>,
    job: JobId,
    attempt: u32,
    report: ReportId,
    /// When the webhook came, until the first step begins; absent where more than Dayfly delays that.
    webhook_at: Option<i64>,
    writer: Option<LogWriter>,
    failure: Option<LogError>,
    next_live_update: Instant,
    is_ahead_of_forge: bool,
}

impl Journal {
    pub(super) fn new(core: Arc<Core>, lease: &Lease, writer: LogWriter) -> Self {
        let Lease { job, run, .. } = lease;
        let has_waited_for_others =
            !job.needs.is_empty() || run.origin.concurrency.is_some() || matches!(lease.part, Part::Follow(_));
        let is_delayed_by_dayfly_alone = job.attempt == 1 && !has_waited_for_others;
        Self {
            core,
            job: job.id.clone(),
            attempt: job.attempt,
            report: job.report.clone(),
            webhook_at: is_delayed_by_dayfly_alone.then_some(run.origin.arrived_at),
            writer: Some(writer),
            failure: None,
            next_live_update: Instant::now() + FIRST_LIVE_UPDATE,
            is_ahead_of_forge: false,
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

impl Witness for Journal {
    async fn write(&mut self, step: u16, stream: Stream, bytes: &[u8]) {
        let Some(writer) = &mut self.writer else { return };
        self.is_ahead_of_forge = true;
        self.core.metrics.jobs.logged(LogSource::of(stream), bytes.len());
        if let Err(error) = writer.append(step, stream, clock::now_ms(), bytes).await {
            tracing::error!(report = %self.report, %error, "a job's log cannot be written");
            self.failure = Some(error);
            self.writer = None;
        }
        match stream {
            Stream::Heading => self.core.lifecycle.reached(Step::StepBegun).await,
            Stream::Stdout | Stream::Stderr => self.core.lifecycle.reached(Step::StepSpoke).await,
            Stream::Service => {}
        }
    }

    fn step_started(&mut self, index: usize, name: &str) {
        if let Some(webhook_at) = self.webhook_at.take() {
            self.core.metrics.jobs.first_step(clock::since_ms(webhook_at, clock::now_ms()));
        }
        self.core.timeline.record(&self.job, self.attempt, "step_started", &format!("{} {name}", index + 1));
    }

    fn step_ended(&mut self, line: &StepLine) {
        let report = &line.report;
        self.core.metrics.jobs.step(report.conclusion.into(), line.took);
        if report.outcome != contexts::Outcome::Skipped {
            let detail = format!("{} {}", report.index + 1, report.conclusion.as_str());
            self.core.timeline.record(&self.job, self.attempt, "step_finished", &detail);
        }
    }

    fn update_due(&self) -> Option<Instant> {
        self.is_ahead_of_forge.then_some(self.next_live_update)
    }

    /// Has the forge's copy of the log renewed.
    async fn update(&mut self) {
        self.is_ahead_of_forge = false;
        self.next_live_update = Instant::now() + LIVE_UPDATE;
        match self.core.store.refresh_report(&self.report, clock::now_ms()).await {
            Ok(()) => self.core.wake.reports.notify_one(),
            Err(error) => tracing::warn!(report = %self.report, %error, "a live update could not be asked for"),
        }
    }
}
