//! Which job runs when: a pure plan, and the loop that carries it out.
//!
//! The loop looks at the whole store each time and holds nothing but the handles of the drivers that it started. What it
//! missed by a crash or a lost wake-up it sees at the next look.

pub mod capacity;
pub(crate) mod drain;
mod forks;
pub mod plan;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::capacity::size_of;
use self::drain::Drain;
use self::plan::{Action, Gate, Plan, Size, Snapshot, Stage, plan};
use crate::clock;
use crate::config::MatrixFork;
use crate::core::Core;
use crate::forge::{Conclusion, RepoName, ReportState};
use crate::host;
use crate::ids::{JobId, RunId, VmId};
use crate::job::driver::{Lease, drive, settle_vm};
use crate::job::sharing::Part;
use crate::job::verdict::{CANCELLED, seen_by_needs};
use crate::lifecycle::Step;
use crate::metrics::labels::WaitKind;
use crate::pool::{self, Reserved};
use crate::store::{self, JobState, Outcome, Reason, ScheduledJob, StoreError};
use crate::workflow::contexts::{self, GithubContext};
use crate::workflow::gate::{self, NeedResult, NeedsResults};
use crate::workflow::plan::JobSpec;
use crate::workflow::share::shared_steps;

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

/// Jobs that hold a VM without having a driver: their drivers could not store what they did, or died. Their VMs go, and they
/// are queued again.
async fn adopt_orphans(core: &Core, jobs: &[ScheduledJob], drivers: &Drivers) -> Result<bool, StoreError> {
    let is_orphan = |job: &&ScheduledJob| {
        matches!(job.state, JobState::Leased | JobState::Running) && !drivers.contains_key(&job.id)
    };
    let orphans: Vec<&ScheduledJob> = jobs.iter().filter(is_orphan).collect();
    let has_driver = |vm: &store::Vm| drivers.contains_key(&vm.job);
    let left_over: Vec<store::Vm> = core.store.vms_not_gone().await?.into_iter().filter(|vm| !has_driver(vm)).collect();
    if !left_over.is_empty() {
        core.engine.reap().await;
    }
    for vm in &left_over {
        settle_vm(core, &vm.id).await?;
    }
    for job in &orphans {
        tracing::warn!(job = %job.id, "a job without a driver is queued again");
        requeue(core, job, "its progress could not be stored", Reason::Internal).await?;
    }
    Ok(!orphans.is_empty())
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
        for action in planned.actions {
            has_moved |= apply(core, action, &jobs, &specs, tasks, drivers).await?;
        }
        if !has_moved {
            core.metrics.jobs.wait(&waits);
            let jobs_wait = waits.iter().any(|wait| wait.is_for_room());
            // Who waits for a VM of a pool to go has its room by that.
            let lacks_room = waits.iter().any(|wait| wait.is_for_room() && *wait != WaitKind::Pool);
            if let Some(taken) = attend_desk(core, &snapshot, lacks_room) {
                room.take(taken);
            }
            // What is left then is the pools'.
            pool::tend(core, room, jobs_wait);
            return Ok(());
        }
    }
}

/// Gives a VM that no job asked for the room that is left, or takes it back. Gives what was taken.
fn attend_desk(core: &Core, snapshot: &Snapshot, lacks_room: bool) -> Option<Size> {
    if lacks_room {
        core.desk.revoke_one();
        return None;
    }
    if core.shutdown.drain.is_cancelled() {
        return None;
    }
    core.desk.grant(|size| plan::has_room_aside(snapshot, size))
}

/// Everything that a plan for these jobs depends on.
async fn survey(core: &Core, jobs: &[ScheduledJob]) -> Result<(Specs, Snapshot), StoreError> {
    let specs = Specs::load(core, jobs).await?;
    // Before the jobs: a VM that is handed over meanwhile is then seen twice rather than not at all.
    let mut reserve = core.pools.reserve();
    let planned = plannable(core, jobs).await?;
    reserve.retain(|idle| !jobs.iter().any(|job| job.vm.as_ref() == Some(&idle.vm)));
    let (limits, disk) = (capacity::limits(&core.config, host::facts()), capacity::disk(&core.config));
    let snapshot = Snapshot { now: clock::now_ms(), limits, disk, reserve, jobs: planned };
    Ok((specs, snapshot))
}

/// What would be planned now, and from what, for whoever asks why a job does not move. Changes nothing.
pub async fn prospect(core: &Core) -> Result<(Snapshot, Plan), StoreError> {
    let (specs, snapshot) = survey(core, &core.store.unfinished_jobs().await?).await?;
    let planned = plan(&snapshot, |job, _| specs.gate(job));
    Ok((snapshot, planned))
}

/// Gives whether the store changed.
async fn cancel_where_asked(core: &Core, jobs: &[ScheduledJob], drivers: &Drivers) -> Result<bool, StoreError> {
    let mut has_changed = false;
    for job in jobs.iter().filter(|job| job.cancel_requested) {
        match job.state {
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

/// The jobs as the plan sees them, and an entry for every VM whose job is elsewhere by now but which is not gone.
async fn plannable(core: &Core, jobs: &[ScheduledJob]) -> Result<Vec<plan::Job>, StoreError> {
    let mut plannable: Vec<plan::Job> = jobs
        .iter()
        .map(|job| plan::Job {
            id: job.id.clone(),
            run: job.run.clone(),
            repo: job.repo.clone(),
            key: job.key.clone(),
            needs: job.needs.clone(),
            stage: match (job.state, job.conclusion) {
                (JobState::Waiting, _) => Stage::Waiting,
                (JobState::Queued, _) => Stage::Queued { since: job.queued_at.unwrap_or(job.created_at) },
                (JobState::Leased | JobState::Running, _) => Stage::Occupying,
                (JobState::Finished, conclusion) => Stage::Finished(conclusion.unwrap_or(Conclusion::Error)),
            },
            profile: job.profile.clone(),
            size: size_of(&core.config, job.profile.as_deref()),
            group: job.group.clone(),
            starts_from: core.sharing.leader(job),
        })
        .collect();
    for vm in core.store.vms_not_gone().await? {
        let is_counted = jobs
            .iter()
            .any(|job| job.vm.as_ref() == Some(&vm.id) && matches!(job.state, JobState::Leased | JobState::Running));
        if is_counted {
            continue;
        }
        if let Some(job) = core.store.job(&vm.job).await?
            && let Some(run) = core.store.run(&job.run).await?
        {
            plannable.push(occupying(run.access.repo, size_of(&core.config, job.profile.as_deref())));
        }
    }
    plannable.extend(core.desk.held().into_iter().map(|(repo, size)| occupying(repo, size)));
    Ok(plannable)
}

/// A VM whose job, if it has one, is of no interest.
fn occupying(repo: RepoName, size: Size) -> plan::Job {
    plan::Job {
        id: JobId::random(),
        run: RunId::random(),
        repo,
        key: String::new(),
        needs: Vec::new(),
        stage: Stage::Occupying,
        profile: None,
        size,
        group: None,
        starts_from: None,
    }
}

/// What deciding about waiting jobs takes: their specifications, and how the jobs of their runs ended.
struct Specs {
    specs: HashMap<JobId, (JobSpec, GithubContext)>,
    /// By run, then by key; only keys of which every job has ended.
    results: HashMap<RunId, BTreeMap<String, NeedResult>>,
}

impl Specs {
    async fn load(core: &Core, jobs: &[ScheduledJob]) -> Result<Self, StoreError> {
        let mut loaded = Self { specs: HashMap::new(), results: HashMap::new() };
        let mut runs: Vec<&RunId> =
            jobs.iter().filter(|j| !matches!(j.state, JobState::Finished)).map(|j| &j.run).collect();
        runs.sort();
        runs.dedup();
        for run in runs {
            let members = core.store.jobs_of_run(run).await?;
            loaded.results.insert(run.clone(), results_of(&members, core.store.carried(run).await?));
            if members.iter().all(|job| job.state != JobState::Waiting) {
                continue;
            }
            let Some(stored) = core.store.run(run).await? else { continue };
            let github: GithubContext = serde_json::from_value(stored.context).unwrap_or_default();
            for job in members.into_iter().filter(|job| job.state == JobState::Waiting) {
                if let Ok(spec) = serde_json::from_value::<JobSpec>(job.spec) {
                    loaded.specs.insert(job.id, (spec, github.clone()));
                }
            }
        }
        Ok(loaded)
    }

    fn gate(&self, job: &plan::Job) -> Gate {
        let Some((spec, github)) = self.specs.get(&job.id) else {
            return Gate::Error("the job's plan in the store does not read any more".to_owned());
        };
        match gate::gate(spec, &self.needs(&job.run, &spec.ancestors), &github.to_value()) {
            Ok(gate::Gate::Run) => Gate::Run,
            Ok(gate::Gate::Skip) => Gate::Skip,
            Err(complaint) => Gate::Error(complaint.to_string()),
        }
    }

    fn why_skipped(&self, job: &ScheduledJob) -> String {
        match self.specs.get(&job.id) {
            Some((spec, _)) => gate::why_skipped(spec, &self.needs(&job.run, &spec.ancestors)),
            None => "its condition is not met".to_owned(),
        }
    }

    /// How the jobs before a job ended. Others of its run are none of its business.
    fn needs(&self, run: &RunId, ancestors: &[String]) -> NeedsResults {
        let mut jobs = self.results.get(run).cloned().unwrap_or_default();
        jobs.retain(|key, _| ancestors.contains(key));
        NeedsResults { jobs, cancelled: false }
    }
}

/// By key; `carried` is how the jobs ended that a re-run does not repeat.
fn results_of(jobs: &[store::Job], carried: serde_json::Value) -> BTreeMap<String, NeedResult> {
    let carried: BTreeMap<String, NeedResult> = serde_json::from_value(carried).unwrap_or_default();
    let mut by_key: BTreeMap<&str, Vec<NeedResult>> = BTreeMap::new();
    let unfinished: HashSet<&str> =
        jobs.iter().filter(|job| job.outcome.is_none()).map(|job| job.key.as_str()).collect();
    for (key, result) in &carried {
        by_key.entry(key).or_default().push(result.clone());
    }
    for job in jobs {
        by_key.entry(&job.key).or_default().push(result_of(job));
    }
    by_key.retain(|key, _| !unfinished.contains(key));
    by_key.into_iter().map(|(key, cells)| (key.to_owned(), NeedResult::combine(cells))).collect()
}

/// How a job that has ended appears to those that need it.
pub(crate) fn result_of(job: &store::Job) -> NeedResult {
    serde_json::from_value(job.outputs.clone()).unwrap_or_else(|_| NeedResult {
        result: job.outcome.as_ref().map_or(contexts::Outcome::Failure, |outcome| seen_by_needs(outcome.conclusion)),
        outputs: BTreeMap::new(),
    })
}

/// Carries out one action. Gives whether the store changed.
async fn apply(
    core: &Arc<Core>, action: Action, jobs: &[ScheduledJob], specs: &Specs, tasks: &mut JoinSet<()>,
    drivers: &mut Drivers,
) -> Result<bool, StoreError> {
    let known = |id: &JobId| jobs.iter().find(|job| job.id == *id);
    match action {
        Action::Queue(id) => {
            let Some(job) = known(&id) else { return Ok(false) };
            core.store.queue_job(&id, clock::now_ms()).await?;
            core.lifecycle.reached(Step::JobQueued).await;
            core.timeline.record(&id, job.attempt, "job_queued", "");
        }
        Action::Skip(id) => {
            let Some(job) = known(&id) else { return Ok(false) };
            let detail = format!("Skipped: {}", specs.why_skipped(job));
            finish(core, job, Conclusion::Skipped, Some(Reason::Skipped), detail).await?;
        }
        Action::Fail(id, why) => {
            let Some(job) = known(&id) else { return Ok(false) };
            finish(core, job, Conclusion::Error, Some(Reason::Workflow), why).await?;
        }
        Action::Start(_) | Action::Claim(..) if core.shutdown.drain.is_cancelled() => return Ok(false),
        Action::Start(id) => {
            let Some(job) = known(&id).filter(|_| !drivers.contains_key(&id)) else { return Ok(false) };
            // Since the plan was made, another cell of its matrix may have begun to run steps for it.
            if core.sharing.leader(job).is_some() {
                return Ok(false);
            }
            return start(core, job, jobs, None, specs, tasks, drivers).await;
        }
        Action::Claim(id, vm) => {
            let Some(job) = known(&id).filter(|_| !drivers.contains_key(&id)) else { return Ok(false) };
            if core.sharing.leader(job).is_some() {
                return Ok(false);
            }
            // One that died meanwhile still has its place; once it is gone, the next look finds another way.
            let Some(idle) = core.pools.take(&vm) else { return Ok(false) };
            return start(core, job, jobs, Some(idle), specs, tasks, drivers).await;
        }
        Action::Evict(vm) => {
            pool::evict(core, &vm);
            return Ok(false);
        }
    }
    Ok(true)
}

async fn start(
    core: &Arc<Core>, job: &ScheduledJob, jobs: &[ScheduledJob], idle: Option<Reserved>, specs: &Specs,
    tasks: &mut JoinSet<()>, drivers: &mut Drivers,
) -> Result<bool, StoreError> {
    let vm = idle.as_ref().map_or_else(VmId::random, |idle| idle.id().clone());
    // The intent, before anything of the VM exists: a crash from here on leaves a lease that the next start finds.
    let now = clock::now_ms();
    core.store.lease_job(&job.id, job.attempt, &vm, now).await?;
    core.lifecycle.reached(Step::LeaseStored).await;
    let waited = clock::since_ms(job.queued_at.unwrap_or(job.created_at), now);
    // One that is not configured any more has no series, and makes none.
    if let Some(profile) = job.profile.as_deref().and_then(|name| core.config.profile(name)) {
        core.metrics.jobs.leased(&profile.name, waited);
        pool::note_start(core, &profile.name, idle.is_some());
    }
    let (Some(stored), Some(run)) = (core.store.job(&job.id).await?, core.store.run(&job.run).await?) else {
        return Ok(false);
    };
    let spec = serde_json::from_value::<JobSpec>(stored.spec.clone()).ok();
    let needs = specs.needs(&job.run, spec.as_ref().map_or(&[], |spec| spec.ancestors.as_slice()));
    let part = match idle {
        // It cannot be frozen, and stands where its image does.
        Some(_) => Part::Alone,
        None => core.sharing.take_part(job, spec.map_or(0, |spec| shared_steps_of(core, job, &spec)), jobs),
    };
    let lease = Lease { job: stored, run, vm, idle, needs, part, began: Instant::now() };
    let cancel = CancellationToken::new();
    let task = tasks.spawn(drive(Arc::clone(core), lease, cancel.clone())).id();
    drivers.insert(job.id.clone(), Driver { task, cancel });
    Ok(true)
}

/// How many of a job's first steps are run once for its whole matrix.
fn shared_steps_of(core: &Core, job: &ScheduledJob, spec: &JobSpec) -> usize {
    let profile = job.profile.as_deref().and_then(|name| core.config.profile(name));
    match profile.map(|profile| profile.matrix_fork) {
        Some(MatrixFork::Auto) => shared_steps(spec),
        Some(MatrixFork::Off) | None => 0,
    }
}

/// Ends a job that never got a VM.
async fn finish(
    core: &Core, job: &ScheduledJob, conclusion: Conclusion, reason: Option<Reason>, detail: String,
) -> Result<(), StoreError> {
    let title = detail.lines().next().unwrap_or_default().to_owned();
    let summary = detail.clone();
    let outcome = Outcome { conclusion, reason, detail };
    let describe = move |report: &mut crate::forge::Report| {
        report.title = title;
        report.summary = summary;
    };
    core.store.finish_job(&job.id, job.attempt, outcome, serde_json::Value::Null, clock::now_ms(), describe).await?;
    core.timeline.record(&job.id, job.attempt, "outcome_stored", conclusion.as_str());
    core.wake.reports.notify_one();
    Ok(())
}

/// Brings the store in line with a host on which this service has just started: what ran before is destroyed, its jobs are
/// queued again, visibly, or ended if they have had all their attempts, or may not run any more.
pub async fn recover(core: &Core) -> Result<(), StoreError> {
    core.store.make_all_due(clock::now_ms()).await?;
    if let Err(error) = core.engine.empty_freezers() {
        tracing::warn!(%error, "what an earlier run of the service froze could not be removed");
    }
    let reaped = core.engine.reap().await;
    if !reaped.is_empty() {
        tracing::warn!(count = reaped.len(), "VMs of an earlier run of the service were destroyed");
    }
    for vm in core.store.vms_not_gone().await? {
        settle_vm(core, &vm.id).await?;
    }
    for job in core.store.unfinished_jobs().await? {
        if matches!(job.state, JobState::Leased | JobState::Running) {
            requeue(core, &job, "the service restarted while it ran", Reason::ServiceRestarted).await?;
        }
    }
    forks::cancel_inadmissible(core).await
}

/// Queues a job that lost its VM, visibly; ends it if it has had all its attempts.
async fn requeue(core: &Core, job: &ScheduledJob, why: &str, reason: Reason) -> Result<(), StoreError> {
    let attempts = core.config.limits.attempts;
    let store::Requeued::Queued { attempt } = core.store.requeue_job(&job.id, job.attempt, attempts).await? else {
        let detail = format!("No attempt left after {}: {why}", job.attempt);
        return finish(core, job, Conclusion::Error, Some(reason), detail).await;
    };
    core.lifecycle.reached(Step::JobRequeued).await;
    core.metrics.jobs.requeued();
    core.timeline.record(&job.id, attempt, "job_queued", why);
    let Some(stored) = core.store.job(&job.id).await? else { return Ok(()) };
    let title = format!("Queued again (attempt {attempt}): {why}");
    let change = move |report: &mut crate::forge::Report| {
        report.state = ReportState::Queued;
        report.title = title;
    };
    core.store.set_report(&stored.report, clock::now_ms(), change).await?;
    core.wake.reports.notify_one();
    Ok(())
}
