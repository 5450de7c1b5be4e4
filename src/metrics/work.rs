//! The work itself: jobs with their steps and logs, the machines under them, what those are restored from.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntGauge};

use super::buckets::{MACHINE, START, WORK};
use super::family::{Counters, Gauges, Label, Maker, Times};
use super::labels::{
    CacheFound, CacheMade, CellStart, LogSource, Made, MemoryKind, RestoreStage, StepResult, WaitKind,
};
use crate::store::{JobState, VmState};
use crate::vm::machine::Timings;
use crate::vm::usage::Usage;

/// Jobs, their steps and their logs.
#[derive(Debug, Clone)]
pub struct JobMetrics {
    pub(super) unfinished: Gauges<JobState>,
    waiting: Gauges<WaitKind>,
    queue_seconds: HistogramVec,
    requeued: IntCounter,
    seconds: Histogram,
    first_step_seconds: Histogram,
    cells: Counters<CellStart>,
    steps: Counters<StepResult>,
    step_seconds: Histogram,
    flaky_tests: IntCounter,
    log_bytes: Counters<LogSource>,
    log_cut_bytes: IntCounter,
}

impl JobMetrics {
    pub(super) fn new(maker: &Maker, profiles: &[&str]) -> Self {
        Self {
            unfinished: maker.gauges("jobs_unfinished", "Jobs that have not ended, by state."),
            waiting: maker.gauges("jobs_waiting", "Jobs that do not move, by what they wait for; as last planned."),
            queue_seconds: maker.by_profile(
                "job_queue_seconds",
                "Time that a job that could start waited for capacity.",
                WORK,
                profiles,
            ),
            requeued: maker.counter("jobs_requeued_total", "Attempts of jobs that lost their VM and were queued again."),
            seconds: maker.histogram("job_seconds", "Time of an attempt in its VM, from the start of the job to its end.", WORK),
            first_step_seconds: maker.histogram(
                "webhook_to_first_step_seconds",
                "Time from the arrival of a webhook to the first step of a job that needs no other; first attempts only.",
                START,
            ),
            cells: maker.counters(
                "matrix_cells_total",
                "Cells of matrices whose first steps could run once for all of them, by where they began.",
            ),
            steps: maker.counters("steps_total", "Steps of jobs, by result."),
            step_seconds: maker.histogram("step_seconds", "Time of a step that ran.", WORK),
            flaky_tests: maker.counter(
                "flaky_tests_total",
                "Tests of which it became known that they failed in one attempt and passed in another of the same commit.",
            ),
            log_bytes: maker.counters("log_bytes_total", "Bytes written to job logs, by who wrote them."),
            log_cut_bytes: maker
                .counter("log_cut_bytes_total", "Bytes of job logs that were cut to keep logs within their limit."),
        }
    }

    /// What the jobs that do not move wait for, one entry for each.
    pub fn wait(&self, reasons: &[WaitKind]) {
        for kind in WaitKind::all() {
            self.waiting.set(kind, reasons.iter().filter(|reason| **reason == kind).count() as u64);
        }
    }

    /// A job got its VM after so long in the queue.
    pub fn leased(&self, profile: &str, waited: Duration) {
        self.queue_seconds.with_label_values(&[profile]).observe(waited.as_secs_f64());
    }

    /// A job lost its VM and waits for another.
    pub fn requeued(&self) {
        self.requeued.inc();
    }

    /// An attempt is over, so long after it began.
    pub fn ran(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }

    /// The first step begins, so long after the webhook came.
    pub fn first_step(&self, since_webhook: Duration) {
        self.first_step_seconds.observe(since_webhook.as_secs_f64());
    }

    /// A cell of a matrix with common steps begins.
    pub fn cell_began(&self, start: CellStart) {
        self.cells.inc(start);
    }

    /// A step ended, or was skipped.
    pub fn step(&self, result: StepResult, took: Duration) {
        self.steps.inc(result);
        if result != StepResult::Skipped {
            self.step_seconds.observe(took.as_secs_f64());
        }
    }

    /// So many more tests turned out to be flaky.
    pub fn flaky(&self, tests: usize) {
        self.flaky_tests.inc_by(tests as u64);
    }

    /// Something was written to a job's log.
    pub fn logged(&self, source: LogSource, bytes: usize) {
        self.log_bytes.add(source, bytes as u64);
    }

    /// So much of a log that is complete was cut.
    pub fn log_cut(&self, bytes: u64) {
        self.log_cut_bytes.inc_by(bytes);
    }
}

/// Machines.
#[derive(Debug, Clone)]
pub struct VmMetrics {
    pub(super) states: Gauges<VmState>,
    memory_bytes: Gauges<MemoryKind>,
    restore_seconds: Times<RestoreStage>,
    agent_ready_seconds: Histogram,
    create_failures: IntCounter,
    lifetime_seconds: Histogram,
    teardown_seconds: Histogram,
    teardown_failures: IntCounter,
    leaks: IntCounter,
    leaks_left: IntGauge,
}

impl VmMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            states: maker.gauges("vms", "VMs of which something may exist, by state."),
            memory_bytes: maker.gauges(
                "vm_memory_bytes",
                "Memory that all monitors together take of the host, those of pools included; shared pages count once.",
            ),
            restore_seconds: maker.times(
                "vm_restore_seconds",
                "Time of each stage of a VM's restore; the stages follow one another.",
                MACHINE,
            ),
            agent_ready_seconds: maker.histogram(
                "vm_agent_ready_seconds",
                "Time from the beginning of a restore until the VM takes its first command.",
                MACHINE,
            ),
            create_failures: maker.counter("vm_create_failures_total", "VMs that could not be made."),
            lifetime_seconds: maker
                .histogram("vm_lifetime_seconds", "Time from the lease of a VM until its absence was verified.", WORK),
            teardown_seconds: maker.histogram(
                "vm_teardown_seconds",
                "Time from the order to destroy a VM until its absence was verified.",
                MACHINE,
            ),
            teardown_failures: maker
                .counter("vm_teardown_failures_total", "Tries to destroy a VM that failed or took too long."),
            leaks: maker.counter(
                "vm_leaks_total",
                "Abandoned VMs that the periodic look found and destroyed. Those of a killed service, found at its next start, \
                 do not count.",
            ),
            leaks_left: maker.gauge("vm_leaks_left", "Abandoned VMs that the last look could not destroy."),
        }
    }

    /// What all monitors take of the host's memory now.
    pub fn take(&self, usage: Usage) {
        self.memory_bytes.set(MemoryKind::Private, usage.private);
        self.memory_bytes.set(MemoryKind::Shared, usage.shared);
    }

    /// A VM is ready.
    pub fn restored(&self, timings: &Timings) {
        let Timings { prepared, started, loaded, answered, identified } = *timings;
        let mut begin = Duration::ZERO;
        for (stage, end) in [
            (RestoreStage::Disk, prepared),
            (RestoreStage::Monitor, started),
            (RestoreStage::State, loaded),
            (RestoreStage::Agent, answered),
            (RestoreStage::Identity, identified),
        ] {
            self.restore_seconds.observe(stage, end.saturating_sub(begin));
            begin = end;
        }
        self.agent_ready_seconds.observe(identified.as_secs_f64());
    }

    /// A VM could not be made.
    pub fn create_failed(&self) {
        self.create_failures.inc();
    }

    /// A VM is gone after a life of `lifetime`, the last `teardown` of it spent on its end.
    pub fn destroyed(&self, lifetime: Duration, teardown: Duration) {
        self.lifetime_seconds.observe(lifetime.as_secs_f64());
        self.teardown_seconds.observe(teardown.as_secs_f64());
    }

    /// A try to destroy a VM failed.
    pub fn teardown_failed(&self) {
        self.teardown_failures.inc();
    }

    /// A look for abandoned VMs destroyed some, and could not destroy others.
    pub fn reaped(&self, destroyed: usize, left: usize) {
        self.leaks.inc_by(destroyed as u64);
        self.leaks_left.set(left as i64);
    }
}

/// What VMs are restored from.
#[derive(Debug, Clone)]
pub struct ImageMetrics {
    builds: Counters<Made>,
    build_seconds: Histogram,
    bakes: Counters<Made>,
    bake_seconds: Histogram,
    cache_lookups: Counters<CacheFound>,
    cache_generations: Counters<CacheMade>,
}

impl ImageMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            builds: maker.counters("image_builds_total", "Images built from their recipes, by result."),
            build_seconds: maker.histogram("image_build_seconds", "Time of an image's build.", WORK),
            bakes: maker.counters("image_bakes_total", "Snapshots made of images, by result."),
            bake_seconds: maker.histogram("image_bake_seconds", "Time of making a snapshot.", WORK),
            cache_lookups: maker.counters("cache_lookups_total", "VMs of jobs with a named cache, by what they found."),
            cache_generations: maker
                .counters("cache_generations_total", "Volumes that producers filled, by what became of them."),
        }
    }

    /// A VM of a job looked for its named cache.
    pub fn cache_looked_up(&self, found: CacheFound) {
        self.cache_lookups.inc(found);
    }

    /// A volume was filled, and published or not.
    pub fn cache_made(&self, made: CacheMade) {
        self.cache_generations.inc(made);
    }

    /// An image was built, or not.
    pub fn built(&self, result: Made, took: Duration) {
        self.builds.inc(result);
        self.build_seconds.observe(took.as_secs_f64());
    }

    /// A snapshot was made, or not.
    pub fn baked(&self, result: Made, took: Duration) {
        self.bakes.inc(result);
        self.bake_seconds.observe(took.as_secs_f64());
    }
}

impl Default for ImageMetrics {
    /// Metrics that nobody reads.
    fn default() -> Self {
        Self::new(&Maker::default())
    }
}
