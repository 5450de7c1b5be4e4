//! Drives one attempt of a job. Intent is stored before each side effect and observation after it; the crash windows are
//! named where they are. Nothing here may keep the VM from being destroyed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::foreign::{self, ForeignScene};
use super::journal::Journal;
use super::matrix;
use super::obtain::{NoVm, Obtained, get_vm};
use super::reports;
use super::scene::Scene;
use super::services::{actions_of, egress_of, keep_egress, results_of};
use super::sharing::Part;
use super::steps::{Places, Witness};
use super::values::values_of;
use super::verdict::{self, CANCELLED, Ending, StepLine};
use crate::clock;
use crate::config::Profile;
use crate::core::{Core, heavy};
use crate::forge::ReportState;
use crate::ids::VmId;
use crate::lifecycle::Step;
use crate::net::egress::policy::Mode;
use crate::pool::Reserved;
use crate::report::{Results, flaky, summary};
use crate::scheduler::drain;
use crate::store::{Finished, ForeignJob, Job, Reason, Requeued, Run, StoreError, VmState};
use crate::vm::machine::Machine;
use crate::vm::spec::Shape;
use crate::workflow::contexts::GithubContext;
use crate::workflow::gate::NeedsResults;
use crate::workflow::plan::JobSpec;
use crate::workflow::run::{JobPlace, JobRun};

/// How long a VM is kept, paused, for the forge to take the outcome.
const POST_LIMIT: Duration = Duration::from_secs(5);

/// How often the removal of a VM is tried before it is left to the reaper.
const DESTROY_TRIES: u32 = 3;

/// A job that was leased to a VM which does not exist yet.
#[derive(Debug)]
pub struct Lease {
    pub job: Job,
    pub run: Run,
    pub vm: VmId,
    /// The VM itself, if it comes from a pool.
    pub idle: Option<Reserved>,
    pub needs: NeedsResults,
    /// What a forge asked for that planned the job itself.
    pub foreign: Option<ForeignJob>,
    /// What it has to do with the other cells of its matrix.
    pub(crate) part: Part,
    /// When the lease was made.
    pub began: Instant,
}

/// How an attempt ended, with all that is told of it.
struct End {
    ending: Ending,
    lines: Vec<StepLine>,
    log_failure: Option<String>,
    results: Results,
}

impl From<Ending> for End {
    fn from(ending: Ending) -> Self {
        Self { ending, lines: Vec::new(), log_failure: None, results: Results::default() }
    }
}

/// Drives the attempt to its end: an outcome, or a place in the queue for the next attempt. The VM is absent afterwards.
pub async fn drive(core: Arc<Core>, mut lease: Lease, cancel: CancellationToken) {
    let (vm, idle) = (lease.vm.clone(), lease.idle.take());
    if let Err(error) = try_drive(&core, &lease, idle, &cancel).await {
        // The store is what failed. The job stays where the store last saw it; the next start of the service finds it.
        tracing::error!(job = %lease.job.id, %error, "a job's progress could not be stored");
    }
    if let Err(error) = settle_vm(&core, &vm).await {
        tracing::error!(%vm, %error, "a VM's end could not be stored");
    }
    core.wake.scheduler.notify_one();
    core.wake.runners.notify_one();
}

/// Stores that a VM is gone, if nothing of it is left on the host; only then its capacity is free. Gives whether it is.
pub async fn settle_vm(core: &Core, vm: &VmId) -> Result<bool, StoreError> {
    core.store.set_vm_state(vm, VmState::Stopping, clock::now_ms()).await?;
    let is_absent = core.engine.homes().is_absent(vm).unwrap_or_else(|error| {
        tracing::error!(%vm, %error, "it is not known whether a VM is gone");
        false
    });
    if is_absent {
        core.store.set_vm_state(vm, VmState::Gone, clock::now_ms()).await?;
        core.lifecycle.reached(Step::VmGoneStored).await;
    }
    Ok(is_absent)
}

async fn try_drive(
    core: &Arc<Core>, lease: &Lease, idle: Option<Reserved>, cancel: &CancellationToken,
) -> Result<(), StoreError> {
    let job = &lease.job;
    core.timeline.record(&job.id, job.attempt, "vm_requested", lease.vm.as_str());
    let Some(profile) = job.profile.as_deref().and_then(|name| core.config.profile(name)) else {
        let detail = "its profile was removed from the configuration".to_owned();
        return conclude(core, lease, &Ending::NotStarted { reason: Reason::NoProfile, detail }.into()).await;
    };
    let created = tokio::select! {
        created = get_vm(core, lease, idle, profile) => created,
        // Dropping the creation leaves its home to the reaper, which is asked at once.
        () = cancel.cancelled() => {
            core.engine.reap().await;
            return conclude(core, lease, &cancelled(core, lease).await.into()).await;
        }
    };
    match created {
        Ok(obtained) => run_in(core, lease, profile, obtained, cancel).await,
        // Whatever went wrong, the stop may be what broke it.
        Err(_) if core.shutdown.drain.is_cancelled() => drain::put_back(core, &job.id, job.attempt).await,
        Err(no_vm) => give_up_or_requeue(core, lease, no_vm).await,
    }
}

/// The shape of the VMs of a profile.
pub fn shape_of(profile: &Profile) -> Shape {
    let card = profile.egress.mode == Mode::Nat;
    Shape { vcpus: profile.vcpus, memory_mib: profile.memory >> 20, disk_mib: profile.disk >> 20, card }
}

async fn give_up_or_requeue(core: &Arc<Core>, lease: &Lease, no_vm: NoVm) -> Result<(), StoreError> {
    let job = &lease.job;
    tracing::error!(job = %job.id, error = no_vm.detail, "a VM could not be created");
    core.metrics.vms.create_failed();
    if no_vm.is_worth_a_retry {
        let requeued = core.store.requeue_job(&job.id, job.attempt, core.config.limits.attempts).await?;
        if let Requeued::Queued { attempt } = requeued {
            core.metrics.jobs.requeued();
            core.lifecycle.reached(Step::JobRequeued).await;
            core.timeline.record(&job.id, attempt, "job_queued", &no_vm.detail);
            let title =
                format!("Queued again (attempt {attempt}): {}", no_vm.detail.lines().next().unwrap_or_default());
            return set_state(core, job, ReportState::Queued, title).await;
        }
    }
    conclude(core, lease, &Ending::NotStarted { reason: no_vm.reason, detail: no_vm.detail }.into()).await
}

async fn run_in(
    core: &Arc<Core>, lease: &Lease, profile: &Profile, mut obtained: Obtained, cancel: &CancellationToken,
) -> Result<(), StoreError> {
    let stored = run_and_store(core, lease, profile, &mut obtained, cancel).await;
    // Whatever happened: the VM served one job, and goes.
    destroy(core, lease, obtained.machine).await;
    match stored? {
        Some(end) => conclude(core, lease, &end).await,
        None => Ok(()),
    }
}

/// Gives the end if it could not be stored: perhaps it can once the VM is gone, which may have taken the last of the disk.
async fn run_and_store(
    core: &Arc<Core>, lease: &Lease, profile: &Profile, obtained: &mut Obtained, cancel: &CancellationToken,
) -> Result<Option<End>, StoreError> {
    let (job, began) = (&lease.job, Instant::now());
    core.store.set_vm_state(&lease.vm, VmState::Running, clock::now_ms()).await?;
    core.lifecycle.reached(Step::VmRunningStored).await;
    core.store.start_job(&job.id, job.attempt, clock::now_ms()).await?;
    core.lifecycle.reached(Step::JobStartedStored).await;
    set_state(core, job, ReportState::Running, running_title(profile, job.attempt)).await?;
    let writer = match core.logs.create(&job.id, job.attempt, profile.log_limit).await {
        Ok(writer) => writer,
        Err(error) => {
            let reason = if error.is_disk_full() { Reason::DiskFull } else { Reason::Internal };
            let end = Ending::NotStarted { reason, detail: error.to_string() }.into();
            return conclude(core, lease, &end).await.map(|()| None);
        }
    };
    core.lifecycle.reached(Step::LogCreated).await;
    let mut journal = Journal::new(Arc::clone(core), lease, writer);
    if job.attempt > 1 {
        journal.say(0, &format!("This is attempt {}; the one before was broken off.", job.attempt)).await;
    }
    for note in obtained.prepared.notes().into_iter().chain(obtained.note.take()) {
        journal.say(0, &note).await;
    }
    let ran = run_steps(core, lease, profile, obtained, &mut journal, cancel).await;
    core.lifecycle.reached(Step::StepsEnded).await;
    core.metrics.jobs.ran(began.elapsed());
    let results = match &ran {
        Ok((ending, _)) => report(core, lease, profile, obtained, ending, &mut journal).await,
        Err(_) => Results::default(),
    };
    // The job is over, whatever it left running: from here on nothing in the VM moves.
    if let Err(error) = obtained.machine.pause().await {
        tracing::debug!(vm = %lease.vm, %error, "a VM could not be paused before it is destroyed");
    }
    core.timeline.record(&job.id, job.attempt, "vm_paused", "");
    core.lifecycle.reached(Step::VmPaused).await;
    let log_failure = journal.finish().await.map(|error| error.to_string());
    core.lifecycle.reached(Step::LogFinished).await;
    let (ending, lines) = match ran {
        Ok(ran) => ran,
        Err(no_vm) => return give_up_or_requeue(core, lease, no_vm).await.map(|()| None),
    };
    let end = End { ending, lines, log_failure, results };
    if let Err(error) = conclude(core, lease, &end).await {
        tracing::error!(job = %job.id, %error, "an outcome could not be stored; it will be once more when the VM is gone");
        return Ok(Some(end));
    }
    if lease.foreign.is_none() && !core.sent.wait_for(core, &job.report, POST_LIMIT).await {
        tracing::warn!(job = %job.id, "the forge has not taken the outcome yet; it will be sent again");
    }
    Ok(None)
}

async fn run_steps(
    core: &Arc<Core>, lease: &Lease, profile: &Profile, obtained: &mut Obtained, journal: &mut Journal,
    cancel: &CancellationToken,
) -> Result<(Ending, Vec<StepLine>), NoVm> {
    let Obtained { machine, prepared, workspace, .. } = obtained;
    if let Some(foreign) = &lease.foreign {
        let scene = ForeignScene { core, lease, foreign, profile, image: &prepared.info, cancel };
        return Ok((foreign::run(&scene, machine, journal).await?, Vec::new()));
    }
    let places = Places::new(&prepared.info.user.home(), lease.run.access.repo.name());
    let github = github_of(lease, &places);
    let run = match job_run(core, lease, &places, &github) {
        Ok(run) => run,
        Err(detail) => {
            journal.say(0, &detail).await;
            return Ok((Ending::NotStarted { reason: Reason::Workflow, detail }, Vec::new()));
        }
    };
    let image = &prepared.info;
    let egress = egress_of(core, profile, &lease.run.forge, &lease.run.access.repo);
    let results = results_of(core, lease, &github);
    let (places, github) = (&places, &github);
    let actions = &actions_of(core, &lease.run.forge, &lease.run.access, lease.run.origin.is_of_fork());
    let (workspace, may_read) = (*workspace, run.may_read_contents());
    let scene =
        Scene { core, lease, profile, image, workspace, places, github, egress, results, actions, may_read, cancel };
    let ran = matrix::run(&scene, machine, prepared, run, journal).await;
    keep_egress(core, &lease.job, &scene.egress).await;
    match ran? {
        (Ending::Cancelled(_), lines) => Ok((cancelled(core, lease).await, lines)),
        ended => Ok(ended),
    }
}

/// What the job's programs reported: said in the log, compared with other attempts at the commit, and kept.
async fn report(
    core: &Core, lease: &Lease, profile: &Profile, obtained: &Obtained, ending: &Ending, journal: &mut Journal,
) -> Results {
    let Ending::Steps(end) = ending else { return Results::default() };
    let image = &obtained.prepared.info;
    let places = Places::new(&image.user.home(), lease.run.access.repo.name());
    let mut results = reports::gather(
        obtained.machine.guest(),
        image,
        &places,
        &profile.reports,
        &lease.run.workflow_path,
        &end.masks,
    )
    .await;
    if results.is_empty() {
        return results;
    }
    let job = &lease.job;
    match core.store.results_beside(&job.id, job.attempt).await {
        Ok(others) => core.metrics.jobs.flaky(heavy(|| flaky::compare(&mut results, &others))),
        Err(error) => tracing::warn!(job = %job.id, %error, "earlier results cannot be read"),
    }
    for line in summary::lines(&results) {
        journal.say(0, &line).await;
    }
    if let Err(error) = core.store.keep_results(&job.id, job.attempt, &results).await {
        tracing::warn!(job = %job.id, %error, "results could not be kept");
    }
    results
}

/// The end of a job that somebody asked for, with what was stored about who did.
pub(super) async fn cancelled(core: &Core, lease: &Lease) -> Ending {
    let why = core.store.job(&lease.job.id).await.ok().flatten().and_then(|job| job.cancel_why);
    Ending::Cancelled(why.unwrap_or_else(|| CANCELLED.to_owned()))
}

fn github_of(lease: &Lease, places: &Places) -> GithubContext {
    let mut github: GithubContext = serde_json::from_value(lease.run.context.clone()).unwrap_or_default();
    github.job = id_of(&lease.job.key).to_owned();
    github.workspace = places.workspace.clone();
    github.event_path = places.event_path.clone();
    github.run_id = numeric_id(lease.run.root().as_str()).to_string();
    github.run_number = lease.run.number.to_string();
    // Whoever repeats it, a person or Dayfly after a lost VM: the number never falls.
    github.run_attempt = (lease.run.attempt() + lease.job.attempt - 1).to_string();
    github
}

/// A job's id in its workflow, which its key ends with.
pub(crate) fn id_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

/// Tools expect a number in `GITHUB_RUN_ID`. 52 bits of the run's id, so that it stays exact in a double.
pub(crate) fn numeric_id(id: &str) -> u64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(id);
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)) >> 12
}

fn job_run(core: &Core, lease: &Lease, places: &Places, github: &GithubContext) -> Result<JobRun, String> {
    let spec: JobSpec = serde_json::from_value(lease.job.spec.clone())
        .map_err(|error| format!("the job's plan does not read: {error}"))?;
    let values = values_of(core, &lease.run, &spec, github, &lease.needs)?;
    let place = JobPlace {
        github: github.clone(),
        runner: places.runner_context(lease.vm.as_str()),
        needs: lease.needs.clone(),
        values,
        command_directory: places.commands.clone(),
    };
    JobRun::new(spec, place).map_err(|complaint| complaint.to_string())
}

/// Says which attempt it is, for a reader who may have missed that it was queued again: newer reports replace older ones.
fn running_title(profile: &Profile, attempt: u32) -> String {
    match attempt {
        1 => format!("Running on `{}`", profile.name),
        _ => format!("Running on `{}` (attempt {attempt})", profile.name),
    }
}

/// Stores the outcome and what the forge shall show, in one transaction. A crash before it runs the job again; after it,
/// the outcome is sent, again if need be.
async fn conclude(core: &Arc<Core>, lease: &Lease, end: &End) -> Result<(), StoreError> {
    let job = &lease.job;
    let End { ending, lines, log_failure, results } = end;
    let outcome = verdict::outcome(ending, lines);
    let end = if let Ending::Steps(end) = ending { Some(end) } else { None };
    let now = clock::now_ms();
    let took = Duration::from_millis(lines.iter().map(|line| line.took.as_millis() as u64).sum());
    let title = verdict::title(&outcome, took);
    let steps = verdict::summary(&outcome, lines, end, log_failure.as_deref());
    let summary = if results.is_empty() { steps } else { format!("{steps}\n{}", summary::markdown(results)) };
    let (annotations, coverage) = (verdict::annotations(lines, results), results.coverage.share());
    let outputs =
        end.map(|end| end.need_result()).and_then(|result| serde_json::to_value(result).ok()).unwrap_or_default();
    let described = move |report: &mut crate::forge::Report| {
        report.title = title;
        report.summary = summary;
        report.annotations = annotations;
        report.coverage = coverage;
    };
    let finished = core.store.finish_job(&job.id, job.attempt, outcome.clone(), outputs, now, described).await?;
    core.lifecycle.reached(Step::OutcomeStored).await;
    if finished == Finished::Now {
        core.timeline.record(&job.id, job.attempt, "outcome_stored", &outcome.detail);
        tracing::info!(job = %job.id, vm = %lease.vm, conclusion = outcome.conclusion.as_str(), detail = outcome.detail, "job finished");
    }
    core.wake.reports.notify_one();
    core.wake.scheduler.notify_one();
    core.gitlab.nudge(&job.id);
    Ok(())
}

async fn set_state(core: &Core, job: &Job, state: ReportState, title: String) -> Result<(), StoreError> {
    let now = clock::now_ms();
    let change = move |report: &mut crate::forge::Report| {
        report.state = state;
        report.title = title;
        if state == ReportState::Running {
            report.started_at = Some(now);
        }
    };
    core.store.set_report(&job.report, now, change).await?;
    core.wake.reports.notify_one();
    Ok(())
}

async fn destroy(core: &Core, lease: &Lease, mut machine: Machine) {
    if let Err(error) = core.store.set_vm_state(&lease.vm, VmState::Stopping, clock::now_ms()).await {
        tracing::error!(vm = %lease.vm, %error, "a VM's teardown could not be stored");
    }
    core.lifecycle.reached(Step::VmStoppingStored).await;
    let began = Instant::now();
    for attempt in 1..=DESTROY_TRIES {
        match timeout(Duration::from_secs(60), machine.destroy()).await {
            Ok(Ok(())) => {
                core.timeline.record(&lease.job.id, lease.job.attempt, "vm_destroyed", "absence verified");
                core.metrics.vms.destroyed(lease.began.elapsed(), began.elapsed());
                return;
            }
            Ok(Err(error)) => tracing::error!(vm = %lease.vm, %error, attempt, "a VM could not be removed"),
            Err(_) => tracing::error!(vm = %lease.vm, attempt, "removing a VM takes too long"),
        }
        core.metrics.vms.teardown_failed();
    }
}
