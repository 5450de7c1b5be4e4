//! What the service does with the world: webhooks, its store, calls to the forge, reports.

use std::time::Duration;

use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use super::buckets::{BATCH, CALL, QUICK, START};
use super::family::{Counters, Maker, Times};
use super::labels::{
    EventKind, ForgeCall, ForgeKind, ForgeResult, JobEnd, Processed, Received, ReportResult, SweepEnd,
};

/// Webhooks.
#[derive(Debug, Clone)]
pub struct DeliveryMetrics {
    received: Counters<(EventKind, Received)>,
    answer_seconds: Histogram,
    processed: Counters<Processed>,
    processing_seconds: Histogram,
    pub(super) pending: IntGauge,
    pub(super) oldest_pending_seconds: IntGauge,
}

impl DeliveryMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            received: maker.counters(
                "deliveries_total",
                "Webhook deliveries answered, by the kind of event and what became of them.",
            ),
            answer_seconds: maker.histogram(
                "delivery_answer_seconds",
                "Time from a delivery's headers to its answer; one that is accepted is durable by then.",
                QUICK,
            ),
            processed: maker
                .counters("deliveries_processed_total", "Stored deliveries looked into, by what came of it."),
            processing_seconds: maker.histogram(
                "delivery_processing_seconds",
                "Time from the arrival of a delivery until its runs are stored, or it is known that it has none.",
                START,
            ),
            pending: maker.gauge("deliveries_pending", "Deliveries that are stored and not processed yet."),
            oldest_pending_seconds: maker
                .gauge("deliveries_oldest_pending_seconds", "Age of the oldest pending delivery; 0 without any."),
        }
    }

    /// A delivery was answered.
    pub fn answered(&self, event: EventKind, result: Received, took: Duration) {
        self.received.inc((event, result));
        self.answer_seconds.observe(took.as_secs_f64());
    }

    /// A stored delivery was looked into, so long after it came.
    pub fn processed(&self, result: Processed, since_arrival: Duration) {
        self.processed.inc(result);
        if matches!(result, Processed::Runs | Processed::Ignored) {
            self.processing_seconds.observe(since_arrival.as_secs_f64());
        }
    }
}

/// The database.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    write_seconds: Histogram,
    batch_writes: Histogram,
    write_failures: IntCounter,
    jobs_finished: Counters<JobEnd>,
    pub(super) readable: IntGauge,
}

impl StoreMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            write_seconds: maker.histogram(
                "store_write_seconds",
                "Time of a write to the store, waiting included, until it is durable or refused.",
                QUICK,
            ),
            batch_writes: maker.histogram("store_batch_writes", "Writes that shared one commit to the disk.", BATCH),
            write_failures: maker.counter("store_commit_failures_total", "Commits to the store that failed."),
            jobs_finished: maker.counters("jobs_finished_total", "Jobs that ended, by conclusion and reason."),
            readable: maker.gauge("store_up", "Whether the store could be read for this scrape."),
        }
    }

    /// A write was answered.
    pub fn written(&self, took: Duration) {
        self.write_seconds.observe(took.as_secs_f64());
    }

    /// So many writes were committed together, or not.
    pub fn committed(&self, writes: usize, succeeded: bool) {
        self.batch_writes.observe(writes as f64);
        if !succeeded {
            self.write_failures.inc();
        }
    }

    /// The outcome of a job was stored, for the first time.
    pub fn job_finished(&self, end: JobEnd) {
        self.jobs_finished.inc(end);
    }

    /// The store could not be read for a scrape: what is counted in it stands still.
    pub fn unreadable(&self) {
        self.readable.set(0);
    }
}

impl Default for StoreMetrics {
    /// Metrics that nobody reads.
    fn default() -> Self {
        Self::new(&Maker::default())
    }
}

/// Calls to the forge.
#[derive(Debug, Clone)]
pub struct ForgeMetrics {
    calls: Counters<(ForgeCall, ForgeResult)>,
    seconds: Times<ForgeCall>,
    budget_remaining: Gauge,
    budget: Gauge,
}

impl ForgeMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            calls: maker.counters("forge_calls_total", "Calls to the forge, by what was asked and how it ended."),
            seconds: maker.times("forge_call_seconds", "Time of a call to the forge, by what was asked.", CALL),
            budget_remaining: maker.unknown_gauge(
                "forge_rate_limit_remaining",
                "Calls left in the forge's rate limit, of the credential that has the fewest; NaN until it has said so.",
            ),
            budget: maker
                .unknown_gauge("forge_rate_limit", "The forge's rate limit of that credential; NaN until it has said so."),
        }
    }

    /// A call ended.
    pub fn called(&self, call: ForgeCall, result: ForgeResult, took: Duration) {
        self.calls.inc((call, result));
        self.seconds.observe(call, took);
    }

    /// What the forge last said about the credential that has the fewest calls left.
    pub fn budget(&self, remaining: u64, limit: u64) {
        self.budget_remaining.set(remaining as f64);
        self.budget.set(limit as f64);
    }
}

/// Looks for webhooks that never came.
#[derive(Debug, Clone)]
pub struct SweepMetrics {
    ended: Counters<(ForgeKind, SweepEnd)>,
    redeliveries: Counters<ForgeKind>,
    pull_requests: Counters<ForgeKind>,
    pushes: Counters<ForgeKind>,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy)]
pub struct Swept {
    /// Deliveries that were asked for again.
    pub redeliveries: u64,
    /// Pull requests that were brought.
    pub pull_requests: u64,
    /// Heads of default branches that were brought.
    pub pushes: u64,
}

impl SweepMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            ended: maker.counters("sweeps_total", "Looks for lost webhooks, by how they ended."),
            redeliveries: maker
                .counters("sweep_redeliveries_total", "Failed deliveries that the forge was asked for again."),
            pull_requests: maker
                .counters("sweep_pull_requests_total", "Pull requests whose event was lost and was made up for."),
            pushes: maker
                .counters("sweep_pushes_total", "Heads of default branches whose push was lost and was made up for."),
        }
    }

    /// A sweep of a forge ended.
    pub fn ended(&self, forge: ForgeKind, end: SweepEnd, swept: Swept) {
        self.ended.inc((forge, end));
        self.redeliveries.add(forge, swept.redeliveries);
        self.pull_requests.add(forge, swept.pull_requests);
        self.pushes.add(forge, swept.pushes);
    }
}

/// What the forge shall show.
#[derive(Debug, Clone)]
pub struct ReportMetrics {
    sends: Counters<ReportResult>,
    pub(super) waiting: IntGauge,
    pub(super) retrying: IntGauge,
}

impl ReportMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            sends: maker.counters("report_sends_total", "Reports sent to the forge (check runs, statuses), by result."),
            waiting: maker.gauge("reports_waiting", "Reports whose newest version the forge does not show yet."),
            retrying: maker
                .gauge("reports_retrying", "Those of them that failed at least once since they were last sent."),
        }
    }

    /// A report was sent, or not.
    pub fn sent(&self, result: ReportResult) {
        self.sends.inc(result);
    }
}
