//! Pools: VMs that are restored before their jobs come, and wait for them.
//!
//! ```text
//!  wanted ──► making ──► ready ──► promised to a job ──► claimed: the job's VM from here on
//!    ▲           │         └──────────┬──────────────► destroyed, absence verified
//!    └── failed ◄┘    outdated, too old, in the way, dead
//! ```
//! Who decides is [`plan`], pure, together with the scheduler's plan: one task decides on all capacity, so that jobs and
//! pools cannot take the same room. Each VM belongs to a task of its own (`keeper`) until a job claims it.
//!
//! Invariants: a VM is promised to one job, under its own id, before that job's lease is stored; it counts against the limits
//! from before it exists until its absence is verified; one that has died is never handed out. The store knows nothing of a
//! VM before its lease: what a killed service leaves is abandoned, and the next start destroys it.

mod keeper;
pub mod plan;
mod stock;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use self::plan::Removal;
use crate::clock;
use crate::config::Profile;
use crate::core::Core;
use crate::forge::backoff;
use crate::host::memory;
use crate::image::{ImageError, Logged};
use crate::job::driver::shape_of;
use crate::job::obtain::cache_mount;
use crate::metrics::labels::{PoolEnd, PoolTake};
use crate::scheduler::plan::Room;

pub use keeper::Reserved;
pub use stock::{Idling, Kit, Pools};

/// How long a VM of a pool may take to answer when it is claimed. It takes milliseconds; one that does not answer is lost,
/// and the job that waits for it shall not notice much.
pub const CLAIM_LIMIT: Duration = Duration::from_secs(5);

/// Between two looks whether images or caches have changed. To look at a large cache takes a while.
const LOOK: Duration = Duration::from_secs(15);

/// Keeps the pools stocked with what they are made from, until the service drains; then empties them.
pub async fn run(core: Arc<Core>) {
    let pooled = core.config.profiles.iter().filter(|profile| profile.pool.is_some());
    let following = join_all(pooled.map(|profile| follow(&core, profile)));
    tokio::select! {
        () = async { following.await; std::future::pending().await } => {}
        () = core.shutdown.drain.cancelled() => {}
    }
    core.pools.close().await;
    core.stop.cancelled().await;
}

/// Looks again and again what a profile's VMs start from. What is missing is made; after a failure that waits longer each
/// time, because to build an image in vain may take minutes.
async fn follow(core: &Core, profile: &Profile) {
    let mut failures = 0;
    loop {
        let (kit, wait) = match kit(core, profile).await {
            Ok(kit) => {
                failures = 0;
                (Some(kit), LOOK)
            }
            Err(error) => {
                tracing::error!(profile = profile.name, %error, "the pool cannot be filled");
                failures += 1;
                (None, LOOK.max(backoff(failures, clock::jitter())))
            }
        };
        if core.pools.set_kit(&profile.name, kit) {
            core.wake.scheduler.notify_one();
        }
        tokio::time::sleep(wait).await;
    }
}

/// What the VMs of a profile's pool start from, made if it is missing.
async fn kit(core: &Core, profile: &Profile) -> Result<Kit, ImageError> {
    let prepared = core.engine.prepare(&profile.image, shape_of(profile), &Logged).await?;
    let cache = cache_mount(core, profile, None, &prepared).await?;
    Ok(Kit { prepared, cache })
}

/// Brings the pools one step closer to what they should be. `room` is what jobs and pools leave free; `others_wait`: whether
/// somebody else waits for room. Only the scheduler calls this, when it is done with the jobs.
pub(crate) fn tend(core: &Arc<Core>, room: Room, others_wait: bool) {
    if core.pools.are_none() {
        return;
    }
    let now = clock::steady_ms();
    let snapshot = core.pools.observe(now, room, others_wait, memory::is_short());
    for action in plan::plan(&snapshot) {
        match action {
            plan::Action::Make { profile } => core.pools.make(core, &profile),
            plan::Action::Remove { vm, why } => {
                core.pools.remove(&vm);
                core.metrics.pools.ended(end_of(why));
                tracing::debug!(%vm, ?why, "a VM of a pool goes");
            }
        }
    }
    core.pools.measure(&core.metrics.pools);
}

/// A VM of a pool goes because somebody else needs its room.
pub(crate) fn evict(core: &Core, vm: &crate::ids::VmId) {
    core.pools.remove(vm);
    core.metrics.pools.ended(PoolEnd::Room);
}

/// A job of the profile begins, with a VM of the pool or without.
pub(crate) fn note_start(core: &Core, profile: &str, is_pooled: bool) {
    if core.pools.note_start(profile, clock::steady_ms()) {
        core.metrics.pools.taken(if is_pooled { PoolTake::Promised } else { PoolTake::Missed });
    }
}

fn end_of(why: Removal) -> PoolEnd {
    match why {
        Removal::Outdated => PoolEnd::Outdated,
        Removal::Aged => PoolEnd::Aged,
        Removal::Surplus => PoolEnd::Surplus,
        Removal::Pressure => PoolEnd::Pressure,
    }
}
