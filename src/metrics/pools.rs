//! VMs that wait for their jobs.

use std::time::Duration;

use prometheus::Histogram;

use super::buckets::MACHINE;
use super::family::{Counters, Gauges, Maker};
use super::labels::{PoolEnd, PoolStage, PoolTake};

/// The pools of all profiles.
#[derive(Debug, Clone)]
pub struct PoolMetrics {
    stages: Gauges<PoolStage>,
    taken: Counters<PoolTake>,
    ended: Counters<PoolEnd>,
    claim_seconds: Histogram,
}

impl PoolMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            stages: maker.gauges("pool_vms", "VMs of the pools, by state; as last planned."),
            taken: maker.counters("pool_takes_total", "Jobs of profiles with a pool, by what the pool had for them."),
            ended: maker.counters("pool_vms_lost_total", "VMs of pools that served no job, by reason."),
            claim_seconds: maker.histogram(
                "pool_claim_seconds",
                "Time from the claim of a VM of a pool until it is the job's and takes its first command.",
                MACHINE,
            ),
        }
    }

    /// So many are at that stage now.
    pub fn stands(&self, stage: PoolStage, count: u64) {
        self.stages.set(stage, count);
    }

    /// A job's way to its VM began.
    pub fn taken(&self, result: PoolTake) {
        self.taken.inc(result);
    }

    /// A VM goes without having served a job.
    pub fn ended(&self, reason: PoolEnd) {
        self.ended.inc(reason);
    }

    /// A VM became its job's, so long after it was claimed.
    pub fn claimed(&self, took: Duration) {
        self.claim_seconds.observe(took.as_secs_f64());
    }
}
