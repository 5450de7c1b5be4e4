//! Which job runs when: a pure plan, and the loop that carries it out.
//!
//! The loop looks at the whole store each time and holds nothing but the handles of the drivers that it started. What it
//! missed by a crash or a lost wake-up it sees at the next look.

mod actions;
pub mod capacity;
pub(crate) mod drain;
mod forks;
mod openings;
pub mod plan;
mod recover;
mod survey;
pub(crate) mod unfold;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::actions::{Round, finish};
use self::drain::Drain;
pub use self::openings::{Claim, Openings};
use self::plan::{Aside, Size, Snapshot, plan};
use self::recover::adopt_orphans;
pub use self::recover::recover;
pub use self::survey::prospect;
pub(crate) use self::survey::result_of;
use self::survey::survey;
use crate::core::Core;
use crate::forge::Conclusion;
use crate::ids::JobId;
use crate::job::verdict::CANCELLED;
use crate::metrics::labels::WaitKind;
use crate::pool;
use crate::store::{JobState, Reason, ScheduledJob, StoreError};

/// A look without a wake-up, in case one was lost.
const IDLE_LOOK: Duration = Duration::from_secs(5);

/// The drivers that run, by job.
type Drivers = HashMap<JobId, Driver>;

/// How to reach a driver.
struct Driver {
    task: Id,
    cancel: CancellationToken,
}

/// Moves jobs until the service drains; then starts none any more, and puts those that do not end in time back into the
/// queue.
pub async fn run(core: Arc<Core>) {
    let _drained = core.shutdown.drained.clone().drop_guard();
    let mut tasks = JoinSet::new();
    let mut drivers = Drivers::new();
    let mut drain: Option<Drain> = None;
    while !drain.as_ref().is_some_and(|drain| drain.is_over(&core, drivers.len())) {
        if let Err(error) = look(&core, &mut tasks, &mut drivers).await {
            tracing::error!(%error, "the scheduler cannot use the store");
        }
        tokio::select! {
            () = core.wake.scheduler.notified() => {}
            Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => forget(&mut drivers, ended),
            () = tokio::time::sleep(IDLE_LOOK) => {}
            () = drain::next_stage(&core, drain.as_ref()) => {}
        }
        while let Some(ended) = tasks.try_join_next_with_id() {
            forget(&mut drivers, ended);
        }
        if let Some(drain) = &mut drain {
            drain.tell_progress(drivers.len());
        }
        if drain.is_none() && core.shutdown.drain.is_cancelled() {
            drain = Some(Drain::begin(&core, drivers.len()));
        }
    }
    drain::end_jobs(&core, tasks).await;
}

fn forget(drivers: &mut Drivers, ended: Result<(Id, ()), JoinError>) {
    let task = match ended {
        Ok((task, ())) => task,
        Err(error) => {
            tracing::error!(%error, "a job's driver died");
            error.id()
        }
    };
    drivers.retain(|_, driver| driver.task != task);
}

async fn look(core: &Arc<Core>, tasks: &mut JoinSet<()>, drivers: &mut Drivers) -> Result<(), StoreError> {
    // One round may make the next one possible: a skipped job decides about those that need it.
    loop {
        let jobs = core.store.unfinished_jobs().await?;
        core.sharing.forget_all_but(&jobs);
        if adopt_orphans(core, &jobs, drivers).await? | cancel_where_asked(core, &jobs, drivers).await? {
            continue;
        }
        let (specs, snapshot) = survey(core, &jobs).await?;
        let planned = plan(&snapshot, |job, _| specs.gate(job));
        let (mut room, waits) = (planned.room, planned.waits().map(WaitKind::of).collect::<Vec<_>>());
        let mut has_moved = false;
        let mut round = Round { core, jobs: &jobs, specs: &specs, tasks, drivers };
        for action in planned.actions {
            has_moved |= round.apply(action).await?;
        }
        if !has_moved {
            core.metrics.jobs.wait(&waits);
            let jobs_wait = waits.iter().any(|wait| wait.is_for_room());
            // Who waits for a VM of a pool to go has its room by that.
            let lacks_room = waits.iter().any(|wait| wait.is_for_room() && *wait != WaitKind::Pool);
            let attended = attend_desk(core, &snapshot, lacks_room);
            if let Attended::Given(size) = attended {
                room.take(size);
            }
            // What is left then is the pools', unless somebody waits for more than that.
            pool::tend(core, room, jobs_wait || attended == Attended::MakingRoom);
            core.openings.renew(count_openings(core, &snapshot));
            return Ok(());
        }
    }
}

/// How many more jobs each profile could start; none once the service drains.
fn count_openings(core: &Core, snapshot: &Snapshot) -> HashMap<String, u32> {
    if core.shutdown.drain.is_cancelled() {
        return HashMap::new();
    }
    let count = |name: &str| plan::openings(snapshot, name, capacity::size_of(&core.config, Some(name)));
    core.config.profiles.iter().map(|profile| (profile.name.clone(), count(&profile.name))).collect()
}

/// What became of those who want room for what no job asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attended {
    /// Nobody got anything.
    Nobody,
    /// One got so much.
    Given(Size),
    /// Idle VMs of the pools go for one of them.
    MakingRoom,
}

/// Gives a VM that no job asked for the room that is left, or takes it back.
fn attend_desk(core: &Core, snapshot: &Snapshot, lacks_room: bool) -> Attended {
    if lacks_room {
        core.desk.revoke_one();
        return Attended::Nobody;
    }
    if core.shutdown.drain.is_cancelled() {
        return Attended::Nobody;
    }
    if let Some(size) = core.desk.grant(|size| plan::aside(snapshot, size) == Aside::Now) {
        return Attended::Given(size);
    }
    let in_the_way = core.desk.asked().into_iter().find_map(|size| match plan::aside(snapshot, size) {
        Aside::After(vms) => Some(vms),
        Aside::Now | Aside::NotNow => None,
    });
    match in_the_way {
        Some(vms) => {
            vms.iter().for_each(|vm| pool::evict(core, vm));
            Attended::MakingRoom
        }
        None => Attended::Nobody,
    }
}

/// Gives whether the store changed.
async fn cancel_where_asked(core: &Core, jobs: &[ScheduledJob], drivers: &Drivers) -> Result<bool, StoreError> {
    let mut has_changed = false;
    for job in jobs.iter().filter(|job| job.cancel_requested) {
        match job.state {
            // It ends when its jobs have.
            JobState::Waiting if job.inner_prefix.is_some() => has_changed |= cancel_within(core, job, jobs).await?,
            JobState::Waiting | JobState::Queued => {
                let detail = job.cancel_why.clone().unwrap_or_else(|| CANCELLED.to_owned());
                finish(core, job, Conclusion::Cancelled, Some(Reason::Cancelled), detail).await?;
                has_changed = true;
            }
            JobState::Leased | JobState::Running => {
                if let Some(driver) = drivers.get(&job.id) {
                    driver.cancel.cancel();
                }
            }
            JobState::Finished => {}
        }
    }
    Ok(has_changed)
}

/// Asks for the end of the jobs that stand in the place of a call. Gives whether the store changed.
async fn cancel_within(core: &Core, call: &ScheduledJob, jobs: &[ScheduledJob]) -> Result<bool, StoreError> {
    let Some(prefix) = &call.inner_prefix else { return Ok(false) };
    let is_within = |job: &&ScheduledJob| job.run == call.run && job.key.starts_with(prefix);
    let is_open = |job: &&ScheduledJob| job.state != JobState::Finished && !job.cancel_requested;
    let why = call.cancel_why.as_deref().unwrap_or(CANCELLED);
    let mut has_changed = false;
    for job in jobs.iter().filter(is_within).filter(is_open) {
        core.store.request_cancel(&job.id, why).await?;
        has_changed = true;
    }
    Ok(has_changed)
}
