//! What is prepared for jobs, and how often it is there when one needs it.

use prometheus::{Histogram, IntCounter, IntGauge};

use super::buckets::WORK;
use super::family::{Counters, Gauges, Label, Maker};
use super::labels::{Kept, PreparedStart};
use crate::upkeep::Activity;

/// Prepared snapshots.
#[derive(Debug, Clone)]
pub struct UpkeepMetrics {
    starts: Counters<PreparedStart>,
    ended: Counters<Kept>,
    seconds: Histogram,
    evicted: IntCounter,
    snapshots: IntGauge,
    bytes: IntGauge,
    vms: Gauges<Activity>,
}

impl UpkeepMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            starts: maker.counters(
                "prepared_starts_total",
                "Jobs for whose repository and profile something is prepared, by whether they could start from it.",
            ),
            ended: maker.counters("upkeep_total", "Tries of what is kept up for default branches, by how they ended."),
            seconds: maker.histogram(
                "preparation_seconds",
                "Time to make a prepared snapshot, from its VM to its place.",
                WORK,
            ),
            evicted: maker.counter("prepared_removed_total", "Prepared snapshots that were removed."),
            snapshots: maker.gauge("prepared_snapshots", "Prepared snapshots that there are."),
            bytes: maker.gauge("prepared_bytes", "Bytes that they take on the disk."),
            vms: maker.gauges("upkeep_vms", "VMs that make something for later jobs, by what they are at."),
        }
    }

    /// A job that might have started from a prepared snapshot did, or did not.
    pub fn started(&self, start: PreparedStart) {
        self.starts.inc(start);
    }

    /// A try ended.
    pub fn ended(&self, end: Kept) {
        self.ended.inc(end);
    }

    /// A snapshot was made.
    pub fn made(&self, took: std::time::Duration) {
        self.seconds.observe(took.as_secs_f64());
    }

    /// A snapshot was removed.
    pub fn evicted(&self) {
        self.evicted.inc();
    }

    /// What the VMs are at that make something for later jobs, one entry for each.
    pub fn occupies(&self, vms: &[Activity]) {
        for activity in Activity::all() {
            self.vms.set(activity, vms.iter().filter(|other| **other == activity).count() as u64);
        }
    }

    /// So many snapshots of so many bytes are there.
    pub fn holds(&self, snapshots: usize, bytes: u64) {
        self.snapshots.set(i64::try_from(snapshots).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
