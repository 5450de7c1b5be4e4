//! GitHub's own jobs, and the machines that serve them.

use prometheus::IntGauge;

use super::family::{Counters, Gauges, Label, Maker};
use super::labels::Reconciled;
use crate::runners::plan::Stage;

/// The machines of all profiles with GitHub's runner.
#[derive(Debug, Clone)]
pub struct RunnerMetrics {
    waiting: IntGauge,
    stages: Gauges<Stage>,
    reconciled: Counters<Reconciled>,
}

impl RunnerMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            waiting: maker.gauge("runner_jobs_waiting", "GitHub's own jobs that wait for a runner of this service."),
            stages: maker.gauges("runner_vms", "VMs for GitHub's own jobs, by how far their runner is."),
            reconciled: maker.counters(
                "runner_reconciled_total",
                "What no event told and GitHub's answers did, about its jobs and runners.",
            ),
        }
    }

    /// So many jobs wait.
    pub fn waiting(&self, jobs: usize) {
        self.waiting.set(i64::try_from(jobs).unwrap_or(i64::MAX));
    }

    /// So many VMs are at that stage.
    pub fn stands(&self, stage: Stage, count: usize) {
        self.stages.set(stage, count as u64);
    }

    /// An answer of GitHub's put something right.
    pub fn reconciled(&self, what: Reconciled) {
        self.reconciled.inc(what);
    }
}

impl Label for Stage {
    fn names() -> Vec<&'static str> {
        vec!["state"]
    }

    fn all() -> Vec<Self> {
        vec![Self::Queued, Self::Starting, Self::Idle, Self::Busy]
    }

    fn words(self) -> Vec<&'static str> {
        vec![self.as_str()]
    }
}
