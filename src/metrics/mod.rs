//! What an operator's monitoring sees, in Prometheus' terms.
//!
//! Each part of the service holds the handles of its own group and says what happened in one line, where it does IO; what
//! decides knows nothing of this. Invariants:
//! - Labels come from closed sets (`labels.rs`), or are names of profiles. No id, repository, commit or person is in here.
//! - Everything exists from the first scrape on, with the value 0.
//! - Counters and distributions begin anew with the process. What *is* (jobs, VMs, reports that wait) is counted in the
//!   store at each scrape, so that it is right after a restart too.
//!
//! `docs/metrics.md` explains every name; a test compares.

mod buckets;
mod egress;
mod family;
mod gitlab;
pub mod labels;
mod pools;
mod runners;
mod service;
mod upkeep;
mod work;

use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};

pub use egress::EgressMetrics;
pub use family::{Counters, Gauges, Label, Times};
pub use gitlab::GitLabMetrics;
pub use pools::PoolMetrics;
pub use runners::RunnerMetrics;
pub use service::{DeliveryMetrics, ForgeMetrics, ReportMetrics, StoreMetrics, SweepMetrics, Swept};
pub use upkeep::UpkeepMetrics;
pub use work::{ImageMetrics, JobMetrics, VmMetrics};

use crate::store::{JobState, StoreCounts, VmState};
use family::Maker;

/// All metrics of one service; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    pub deliveries: DeliveryMetrics,
    pub store: StoreMetrics,
    pub jobs: JobMetrics,
    pub vms: VmMetrics,
    pub pools: PoolMetrics,
    pub runners: RunnerMetrics,
    pub forge: ForgeMetrics,
    pub sweep: SweepMetrics,
    pub reports: ReportMetrics,
    pub images: ImageMetrics,
    pub upkeep: UpkeepMetrics,
    pub egress: EgressMetrics,
    pub gitlab: GitLabMetrics,
}

impl Metrics {
    /// Metrics of a service with these profiles, all at 0.
    pub fn new<'p>(profiles: impl IntoIterator<Item = &'p str>) -> Self {
        let maker = Maker::default();
        maker.build_info();
        let profiles: Vec<&str> = profiles.into_iter().collect();
        let metrics = Self {
            deliveries: DeliveryMetrics::new(&maker),
            store: StoreMetrics::new(&maker),
            jobs: JobMetrics::new(&maker, &profiles),
            vms: VmMetrics::new(&maker),
            pools: PoolMetrics::new(&maker),
            runners: RunnerMetrics::new(&maker),
            forge: ForgeMetrics::new(&maker),
            sweep: SweepMetrics::new(&maker),
            reports: ReportMetrics::new(&maker),
            images: ImageMetrics::new(&maker),
            upkeep: UpkeepMetrics::new(&maker),
            egress: EgressMetrics::new(&maker),
            gitlab: GitLabMetrics::new(&maker),
            registry: maker.registry,
        };
        // It reads `/proc/self` at each scrape. Two of them in one process would only be one too many.
        drop(metrics.registry.register(Box::new(ProcessCollector::for_self())));
        metrics
    }

    /// Notes what the store holds now.
    pub fn note_counts(&self, counts: &StoreCounts, now_ms: i64) {
        self.store.readable.set(1);
        self.deliveries.pending.set(counts.deliveries_pending.cast_signed());
        let oldest = counts.oldest_delivery.map_or(0, |received_at| (now_ms - received_at).max(0) / 1000);
        self.deliveries.oldest_pending_seconds.set(oldest);
        for state in JobState::all() {
            self.jobs.unfinished.set(state, counts.jobs(state));
        }
        for state in VmState::all() {
            self.vms.states.set(state, counts.vms(state));
        }
        self.reports.waiting.set(counts.reports_waiting.cast_signed());
        self.reports.retrying.set(counts.reports_retrying.cast_signed());
    }

    /// Everything in the text format of Prometheus.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
