//! GitHub's own jobs, run by GitHub's runner in machines of this host: one machine for each job that waits, and never two.
//!
//! ```text
//!  workflow_job ─► how far the job is, stored ─┐
//!  GitHub asked ─► what no event told ─────────┴─► plan ─► a job of the kind `actions_runner` ─► scheduler, VM, runner ─► gone
//! ```
//! An event is news about a job, not an order for a machine: jobs that wait are counted, and machines are added until there are
//! as many (`plan`). Which job a machine gets, GitHub decides when its runner is there. What events do not tell, because they
//! were lost or another runner was faster, GitHub is asked, beside the planning (`reconcile`); what a machine left registered
//! is removed.
//!
//! A machine is a foreign job (`store/foreign.rs`): it waits, starts, is limited, shown and cleaned up as every job is.

mod accept;
pub mod board;
mod news;
pub mod plan;
mod reconcile;
pub(crate) mod view;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::board::Board;
pub(crate) use self::news::heard;
use self::plan::{Bounds, Group, Plan, Stage, Vm, plan};
use crate::clock;
use crate::core::Core;
use crate::forge::{Conclusion, ForgeError, RunnerAccess};
use crate::ids::JobId;
use crate::store::{DemandState, ForeignJob, Job, JobState, Outcome, Reason, StoreError, WorkflowJob};

/// Who gives these jobs away, in the store.
pub(crate) const SOURCE: &str = "github/actions";

/// The kind of these jobs, in their request.
pub(crate) const KIND: &str = "actions_runner";

/// What the names of all runners of this program begin with; the service's own name follows.
const NAME_PREFIX: &str = "dayfly-";

/// A look without a wake-up, in case one was lost.
const IDLE_LOOK: Duration = Duration::from_secs(5);

/// Machines of a profile that has no limit of its own: the scheduler starts them as there is room.
const MOST_WITHOUT_LIMIT: usize = 1_000;

/// Why an end is not to be blamed on the group's luck: somebody wanted it.
pub(crate) const NOT_NEEDED: &str = "No job needs it any more";

/// What a machine is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) kind: String,
    pub(crate) profile: String,
    pub(crate) at: RunnerAccess,
}

impl Request {
    pub(crate) fn group(&self) -> Group {
        Group { profile: self.profile.clone(), place: self.at.place.clone() }
    }
}

/// What GitHub knows of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registered {
    pub(crate) name: String,
    pub(crate) id: u64,
}

/// What came in the way of a look.
#[derive(Debug, thiserror::Error)]
enum RunnersError {
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A machine that is not settled, with its job.
struct Machine {
    foreign: ForeignJob,
    job: Job,
    request: Request,
    registered: Option<Registered>,
}

impl Machine {
    fn is_over(&self) -> bool {
        self.job.state == JobState::Finished
    }

    fn stage(&self, core: &Core) -> Stage {
        match self.job.state {
            JobState::Waiting | JobState::Queued => Stage::Queued,
            JobState::Leased => Stage::Starting,
            JobState::Running | JobState::Finished => core.runners.stage(&self.job.id),
        }
    }
}

/// Keeps as many machines as jobs wait, until the service stops.
pub async fn run(core: Arc<Core>) {
    let api = core.forges.github().and_then(|forge| forge.runner_api());
    let Some(api) = api.filter(|_| core.config.has_actions_runners()) else {
        return core.stop.cancelled().await;
    };
    let stop = core.stop.clone();
    tokio::select! {
        () = look_for_ever(&core) => {}
        () = reconcile::run(&core, api) => {}
        () = stop.cancelled() => {}
    }
}

async fn look_for_ever(core: &Arc<Core>) {
    loop {
        if let Err(error) = look(core).await {
            tracing::warn!(%error, "GitHub's jobs and the machines for them could not be compared; it will be tried again");
        }
        tokio::select! {
            () = core.wake.runners.notified() => core.runners.ask_soon(),
            () = tokio::time::sleep(IDLE_LOOK) => {}
        }
    }
}

/// One look: machines are added or dropped, from what is known.
async fn look(core: &Arc<Core>) -> Result<(), StoreError> {
    let machines = machines(core).await?;
    core.runners.keep_counts(&machines.iter().map(|machine| machine.job.id.clone()).collect());
    let (over, there): (Vec<Machine>, Vec<Machine>) = machines.into_iter().partition(Machine::is_over);
    for machine in &over {
        count_end(core, machine, clock::now_ms());
    }
    if core.shutdown.drain.is_cancelled() {
        core.runners.ask_soon();
        return Ok(());
    }
    let waiting = core.store.waiting_workflow_jobs().await?;
    let vms = vms(core, &there).await?;
    let demand: Vec<(Group, &WorkflowJob)> = demand(core, &waiting);
    let groups: Vec<Group> = demand.iter().map(|(group, _)| group.clone()).collect();
    let doubts = core.runners.doubts(clock::now_ms());
    let doubtful: HashSet<Group> = doubts.into_values().map(|doubt| doubt.group).collect();
    let planned = plan(&groups, &vms, |group| bounds(core, group, &doubtful));
    note(core, &demand, &vms);
    apply(core, planned, &demand, &there).await
}

/// Everything that GitHub may still know of, oldest first.
async fn machines(core: &Core) -> Result<Vec<Machine>, StoreError> {
    let mut machines = Vec::new();
    for foreign in core.store.unsettled_foreign(Some(SOURCE)).await? {
        let Some(job) = core.store.job(&foreign.job).await? else { continue };
        let Ok(request) = serde_json::from_value::<Request>(foreign.request.clone()) else {
            tracing::error!(job = %foreign.job, "what a runner was asked for does not read any more");
            core.store.settle_foreign(&foreign.job).await?;
            continue;
        };
        let registered = serde_json::from_value(foreign.progress.clone()).ok();
        machines.push(Machine { foreign, job, request, registered });
    }
    Ok(machines)
}

async fn vms(core: &Core, there: &[Machine]) -> Result<Vec<Vm<JobId>>, StoreError> {
    let names: Vec<String> =
        there.iter().filter_map(|machine| Some(machine.registered.as_ref()?.name.clone())).collect();
    let taken = core.store.runners_with_jobs(&names).await?;
    let now = clock::now_ms();
    let vm = |machine: &Machine| Vm {
        id: machine.job.id.clone(),
        group: machine.request.group(),
        stage: machine.stage(core),
        is_taken: machine.registered.as_ref().is_some_and(|registered| taken.contains(&registered.name))
            || core.runners.works_for_others(&machine.job.id, now),
    };
    Ok(there.iter().map(vm).collect())
}

/// The jobs that wait and may have a machine, each with its group.
fn demand<'j>(core: &Core, waiting: &'j [WorkflowJob]) -> Vec<(Group, &'j WorkflowJob)> {
    let queued = waiting.iter().filter(|job| job.state == DemandState::Queued);
    queued.filter_map(|job| Some((group_of(core, job)?, job))).collect()
}

/// The group of a job; `None` if the configuration has none for it any more.
pub(crate) fn group_of(core: &Core, job: &WorkflowJob) -> Option<Group> {
    let runner = core.config.profile(&job.profile)?.executor.actions_runner()?;
    let place = runner.place(&job.access.repo, job.organization.as_deref())?;
    Some(Group { profile: job.profile.clone(), place })
}

fn bounds(core: &Core, group: &Group, doubtful: &HashSet<Group>) -> Bounds {
    let runner = core.config.profile(&group.profile).and_then(|profile| profile.executor.actions_runner());
    let most = runner.and_then(|runner| runner.max).map_or(MOST_WITHOUT_LIMIT, |max| max as usize);
    let now = clock::now_ms();
    let is_unlucky = core.runners.luck(group).is_some_and(|luck| luck.held_until > now);
    Bounds { most_of_profile: most, is_held_back: is_unlucky || doubtful.contains(group) }
}

/// For the metrics: what was found, before anything is done about it.
fn note(core: &Core, demand: &[(Group, &WorkflowJob)], vms: &[Vm<JobId>]) {
    core.metrics.runners.waiting(demand.len());
    for stage in [Stage::Queued, Stage::Starting, Stage::Idle, Stage::Busy] {
        core.metrics.runners.stands(stage, vms.iter().filter(|vm| vm.stage == stage).count());
    }
}

async fn apply(
    core: &Arc<Core>, planned: Plan<JobId>, demand: &[(Group, &WorkflowJob)], there: &[Machine],
) -> Result<(), StoreError> {
    let mut added: HashMap<&Group, usize> = HashMap::new();
    for (group, job) in demand.iter().rev() {
        // Which of the jobs it is added for means nothing but the names on its page: the newest are those without one.
        let count = added.entry(group).or_default();
        if *count < planned.add.get(group).copied().unwrap_or(0) {
            accept::accept(core, group, job).await?;
            *count += 1;
        }
    }
    for id in &planned.drop {
        if core.runners.try_drop(id) {
            core.store.request_cancel(id, NOT_NEEDED).await?;
        }
    }
    if planned.drop.len() + added.values().sum::<usize>() > 0 {
        core.wake.scheduler.notify_one();
    }
    let there = there.iter().map(|machine| machine.job.id.clone()).collect();
    core.runners.note_look(&there, planned.spare.into_iter().collect());
    Ok(())
}

/// What the end of a machine says about the next one of its group. Counts once: whoever plans and whoever settles both tell of
/// it, since either may be first, and what is settled is not seen again.
fn count_end(core: &Core, machine: &Machine, now: i64) {
    let (job, group) = (&machine.job, machine.request.group());
    if !core.runners.count_once(&job.id) {
        return;
    }
    let detail = job.outcome.as_ref().map_or("", |outcome| outcome.detail.as_str());
    if is_failure(job) {
        let wait = core.runners.failed(group.clone(), detail, clock::jitter(), now);
        tracing::warn!(job = %job.id, profile = group.profile, detail, wait_s = wait.as_secs(), "a machine for GitHub's jobs failed");
    } else if detail != NOT_NEEDED {
        core.runners.succeeded(&group);
    }
}

/// Whether a machine ended in a way that the next one may share.
fn is_failure(job: &Job) -> bool {
    let fails =
        |outcome: &Outcome| outcome.conclusion == Conclusion::Error && outcome.reason != Some(Reason::ServiceRestarted);
    job.outcome.as_ref().is_some_and(fails)
}
