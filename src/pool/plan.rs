//! What shall happen to the pools: from what there is, what is wanted and what the host has left to actions. Pure.
//!
//! - A pool has as many VMs as jobs began on its profile lately ([`DEMAND_WINDOW`]), at least `min` and at most `max`.
//! - What starts from something older than the image and cache of now goes, and so does what is older than `max_age`.
//! - A pool never stands in a way: nothing is made while others wait for room, nor beyond the host's limits, nor while the
//!   host is short of memory; then idle VMs go, all of them.
//! - Few are made at a time ([`MAX_MAKING`]), and after a failure none for a while, which the caller says.
//!
//! The plan may be computed again at any time; it holds nothing between two calls. All times are of [`crate::clock::steady_ms`]: a
//! wall clock that is set would make VMs old at once, or keep them for ever.

use std::time::Duration;

use crate::ids::VmId;
use crate::scheduler::plan::{Room, Size};

/// How long a job's start counts as demand.
pub const DEMAND_WINDOW: Duration = Duration::from_secs(5 * 60);

/// VMs of all pools that are made at the same time: jobs that run need the processors more.
pub const MAX_MAKING: usize = 2;

/// How far a VM of a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is being restored.
    Making,
    /// It stands still since this time.
    Ready { since: i64 },
    /// It is promised to a job, or is being destroyed.
    Leaving,
}

/// A VM of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    pub id: VmId,
    pub stage: Stage,
    /// Whether it starts from the image and cache of now.
    pub is_current: bool,
}

/// One profile's pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    pub profile: String,
    pub min: usize,
    pub max: usize,
    pub max_age: Duration,
    /// What each of its VMs takes.
    pub size: Size,
    /// Whether image and cache are there to start from.
    pub can_make: bool,
    /// After a failure: none is made before this time.
    pub not_before: i64,
    /// Jobs of the profile that began within [`DEMAND_WINDOW`].
    pub demand: usize,
    pub vms: Vec<Vm>,
}

/// Everything a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub now: i64,
    pub pools: Vec<Pool>,
    /// What jobs and pools leave free of the host's limits.
    pub room: Room,
    /// Whether a job, or what is made for later jobs, waits for room.
    pub others_wait: bool,
    /// Whether the host is short of memory.
    pub is_pressed: bool,
}

/// What shall happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A VM is made for the pool of this profile.
    Make { profile: String },
    /// A VM goes.
    Remove { vm: VmId, why: Removal },
}

/// Why an idle VM goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The image or the cache has changed, or cannot be had any more.
    Outdated,
    /// It is older than `max_age`.
    Aged,
    /// There are more than are wanted.
    Surplus,
    /// The host is short of memory.
    Pressure,
}

/// Plans the next actions.
pub fn plan(snapshot: &Snapshot) -> Vec<Action> {
    let mut actions = Vec::new();
    for pool in &snapshot.pools {
        actions.extend(removals(snapshot, pool).map(|(vm, why)| Action::Remove { vm: vm.id.clone(), why }));
    }
    actions.extend(additions(snapshot).map(|pool| Action::Make { profile: pool.profile.clone() }));
    actions
}

/// How many VMs a pool should have.
fn target(pool: &Pool) -> usize {
    pool.demand.clamp(pool.min, pool.max.max(pool.min))
}

fn removals<'a>(snapshot: &Snapshot, pool: &'a Pool) -> impl Iterator<Item = (&'a Vm, Removal)> {
    let mut kept = 0;
    let max_age = i64::try_from(pool.max_age.as_millis()).unwrap_or(i64::MAX);
    let (now, is_pressed, target) = (snapshot.now, snapshot.is_pressed, target(pool));
    // The youngest stay.
    let mut vms: Vec<&Vm> = pool.vms.iter().filter(|vm| vm.stage != Stage::Leaving).collect();
    vms.sort_by_key(|vm| match vm.stage {
        Stage::Ready { since } => std::cmp::Reverse(since),
        Stage::Making | Stage::Leaving => std::cmp::Reverse(i64::MAX),
    });
    vms.into_iter().filter_map(move |vm| {
        let is_aged = matches!(vm.stage, Stage::Ready { since } if now.saturating_sub(since) >= max_age);
        let why = match () {
            () if is_pressed => Removal::Pressure,
            () if !vm.is_current => Removal::Outdated,
            () if is_aged => Removal::Aged,
            () if kept >= target => Removal::Surplus,
            () => {
                kept += 1;
                return None;
            }
        };
        Some((vm, why))
    })
}

/// Pools that get another VM, in turn while there is room.
fn additions(snapshot: &Snapshot) -> impl Iterator<Item = &Pool> {
    let making = snapshot.pools.iter().flat_map(|pool| &pool.vms).filter(|vm| vm.stage == Stage::Making).count();
    let is_calm = !snapshot.others_wait && !snapshot.is_pressed;
    let mut places = if is_calm { MAX_MAKING.saturating_sub(making) } else { 0 };
    let mut room = snapshot.room;
    snapshot.pools.iter().flat_map(move |pool| {
        let there = pool.vms.iter().filter(|vm| vm.is_current && vm.stage != Stage::Leaving).count();
        let may_make = pool.can_make && snapshot.now >= pool.not_before;
        let lacking = if may_make { target(pool).saturating_sub(there) } else { 0 };
        let mut made = 0;
        while made < lacking && places > 0 && room.has(pool.size) {
            room.take(pool.size);
            places -= 1;
            made += 1;
        }
        std::iter::repeat_n(pool, made)
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
#[allow(clippy::unwrap_used)]
mod tests;
