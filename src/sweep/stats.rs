//! What the sweeps did since the start, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts up from the start of the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepCounts {
    /// Sweeps that ended, those that failed among them.
    pub sweeps: u64,
    /// Sweeps in which something could not be asked or stored.
    pub failed: u64,
    /// Deliveries that the forge was asked for again.
    pub redeliveries: u64,
    /// Pull requests whose event was lost and was brought.
    pub pull_requests: u64,
}

/// The counters, shared by the sweep and whoever reads them.
#[derive(Debug, Default)]
pub struct SweepStats {
    sweeps: AtomicU64,
    failed: AtomicU64,
    redeliveries: AtomicU64,
    pull_requests: AtomicU64,
}

impl SweepStats {
    /// What was counted so far.
    pub fn counts(&self) -> SweepCounts {
        SweepCounts {
            sweeps: self.sweeps.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            redeliveries: self.redeliveries.load(Ordering::Relaxed),
            pull_requests: self.pull_requests.load(Ordering::Relaxed),
        }
    }

    pub(super) fn add(&self, more: &SweepCounts) {
        self.sweeps.fetch_add(more.sweeps, Ordering::Relaxed);
        self.failed.fetch_add(more.failed, Ordering::Relaxed);
        self.redeliveries.fetch_add(more.redeliveries, Ordering::Relaxed);
        self.pull_requests.fetch_add(more.pull_requests, Ordering::Relaxed);
    }
}
