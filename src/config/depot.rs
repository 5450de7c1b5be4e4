//! `[artifacts]` and `[actions_cache]`: what jobs may leave on this host for later ones.

use std::time::Duration;

use super::sections::{DAY, GIB, HOUR, MIB};
use super::units::{duration_between, size_between};
use crate::document::{Complaint, Item, Table};

const LARGEST: u64 = u64::MAX >> 1;

/// The limits of what jobs leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepotLimits {
    /// Whether jobs may have artifacts.
    pub artifacts: bool,
    /// Bytes of one artifact, as it is stored.
    pub artifact_size: u64,
    /// Bytes of all artifacts of a run.
    pub artifact_budget: u64,
    /// How long an artifact is kept; a job may ask for less.
    pub artifact_retention: Duration,
    /// Whether actions may keep caches.
    pub cache: bool,
    /// Bytes of one entry.
    pub cache_size: u64,
    /// Bytes of all entries of a repository.
    pub cache_budget: u64,
    /// An entry that nobody used for so long is removed.
    pub cache_unused: Duration,
}

impl Default for DepotLimits {
    fn default() -> Self {
        Self {
            artifacts: true,
            artifact_size: 2 * GIB,
            artifact_budget: 10 * GIB,
            artifact_retention: 30 * DAY,
            cache: true,
            cache_size: 5 * GIB,
            cache_budget: 10 * GIB,
            cache_unused: 7 * DAY,
        }
    }
}

/// Both sections.
pub(super) fn read(root: &Table<'_>) -> Option<DepotLimits> {
    let default = DepotLimits::default();
    let size = |item: &Item<'_>| size_between(item, MIB, LARGEST);
    let time = |item: &Item<'_>| duration_between(item, HOUR, 3650 * DAY);
    let artifacts = root.section("artifacts", &["enabled", "max_size", "max_size_per_run", "retention"])?;
    let caches = root.section("actions_cache", &["enabled", "max_size", "max_size_per_repository", "unused"])?;
    let limits = DepotLimits {
        artifacts: artifacts.read_or("enabled", default.artifacts, |item| item.bool()),
        artifact_size: artifacts.read_or("max_size", default.artifact_size, size),
        artifact_budget: artifacts.read_or("max_size_per_run", default.artifact_budget, size),
        artifact_retention: artifacts.read_or("retention", default.artifact_retention, time),
        cache: caches.read_or("enabled", default.cache, |item| item.bool()),
        cache_size: caches.read_or("max_size", default.cache_size, size),
        cache_budget: caches.read_or("max_size_per_repository", default.cache_budget, size),
        cache_unused: caches.read_or("unused", default.cache_unused, time),
    };
    refuse_excess(&artifacts, limits.artifact_size, limits.artifact_budget, "max_size_per_run");
    refuse_excess(&caches, limits.cache_size, limits.cache_budget, "max_size_per_repository");
    Some(limits)
}

/// One that is larger than all together may be.
fn refuse_excess(table: &Table<'_>, one: u64, all: u64, key: &str) {
    if one <= all {
        return;
    }
    // The key that is there; the other one has its default.
    if let Some(item) = table.get(key).or_else(|| table.get("max_size")) {
        let complaint = Complaint::new(format!("`max_size` is larger than `{key}`"));
        item.refuse(complaint.hint("what one may have must fit into what all may have"));
    }
}
