//! The plan: from a snapshot of all jobs to what shall happen next. Pure.
//!
//! - A waiting job is decided on when all that it needs has finished. A key that is needed stands for every job that has it:
//!   the cells of a matrix share one.
//! - A waiting job of a run in a concurrency group waits until the runs of the group that began, or else arrived,
//!   earlier are over. A job that is in a group by itself waits for the same, and for the jobs of the group before it. Where such
//!   jobs would wait for each other for ever, the one that came last fails.
//! - Among the queued jobs the repository with the fewest occupied VMs comes first, and within it the oldest job.
//! - A job that does not fit is overtaken by smaller ones, but only for [`PATIENCE`]: after that, once it is its turn, nothing
//!   starts before it. As jobs end, that makes room for it, so a big job waits at most its patience, its turn, and the end
//!   of the jobs that run.
//! - Of a matrix at most `max-parallel` cells have a VM, and with `fail-fast` the failure of one ends the others.
//! - A job that can never fit fails at once and says why.
//! - VMs that wait in a pool count against the limits. A job takes one of its own profile; where there is none and no room, those
//!   of other profiles go, if that is enough, and the job starts when they are gone.
//!
//! The plan may be computed again at any time; it holds nothing between two calls.

mod circles;
mod groups;
mod matrices;
mod room;
#[cfg(test)]
mod tests;
mod wait;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::forge::{Conclusion, RepoName};
use crate::ids::{JobId, RunId, VmId};
use crate::store::GroupPlace;
use crate::workflow::plan::StrategyCell;

use self::groups::Groups;
pub use self::groups::OwnGroup;
use self::matrices::Matrices;
pub use self::room::{Aside, Limits, Room, Size, aside};
use self::room::{Free, Way};
pub(crate) use self::room::{never_fits, openings};
pub use self::wait::WaitReason;
use self::wait::in_backticks;

/// How long a queued job that does not fit lets others overtake it.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// How far a job is, as far as planning is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not decided on yet.
    Waiting,
    /// May start since this time, in milliseconds since the epoch.
    Queued {
        since: i64,
    },
    /// Has a VM, or had one that is not verified to be gone.
    Occupying,
    Finished(Conclusion),
}

/// A job as the plan sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub run: RunId,
    pub repo: RepoName,
    pub key: String,
    pub needs: Vec<String>,
    pub stage: Stage,
    pub profile: Option<String>,
    pub size: Size,
    /// The concurrency group of its run.
    pub group: Option<GroupPlace>,
    /// The concurrency group that it is in by itself, once it has entered it.
    pub own_group: Option<OwnGroup>,
    /// Whether it is a call, and the jobs of the called workflow are there; it needs them.
    pub is_entered: bool,
    /// The job that runs the first steps of its matrix, from whose machine it will start.
    pub starts_from: Option<JobId>,
    /// The matrix of which it is a cell, with all jobs of its run that have its key.
    pub matrix: Option<StrategyCell>,
    /// Whether it ended in a failure that nothing allows.
    pub has_failed: bool,
    /// Whether it was asked to end.
    pub is_ending: bool,
}

/// A VM that waits in a pool, or is being made for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    pub vm: VmId,
    pub profile: String,
    pub size: Size,
    /// Whether a job can have it now.
    pub is_ready: bool,
    /// Whether it is being destroyed already.
    pub is_leaving: bool,
}

/// The file system of the state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    pub free_mib: u64,
    /// With less than this free, nothing starts.
    pub reserve_mib: u64,
}

/// Everything a plan depends on.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Milliseconds since the epoch.
    pub now: i64,
    pub limits: Limits,
    /// `None` where it is not known.
    pub disk: Option<Disk>,
    /// Those that have been ready longest come first.
    pub reserve: Vec<Reserve>,
    /// Every unfinished job, and every finished one of a run that has an unfinished job.
    pub jobs: Vec<Job>,
}

/// What a job's condition says once all that it needs has finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    Run,
    Skip,
    /// Others take its place, or it is a call whose jobs have ended.
    Unfold,
    /// It has to wait for its turn in a concurrency group of its own.
    Join,
    /// The condition cannot be evaluated.
    Error(String),
}

/// What shall happen to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Waiting → queued.
    Queue(JobId),
    /// Waiting → finished, skipped.
    Skip(JobId),
    /// Others take the place of a waiting one, or a call ends as its jobs did.
    Unfold(JobId),
    /// It enters its concurrency group.
    Join(JobId),
    /// It cannot run; the text is for its author.
    Fail(JobId, String),
    /// Queued → leased.
    Start(JobId),
    /// Queued → leased, with this VM of the pool.
    Claim(JobId, VmId),
    /// A VM of the pool goes, because a job needs its room.
    Evict(VmId),
    /// It ends, because another cell of its matrix failed.
    Cancel(JobId),
}

/// What to do, and why the other jobs wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which to carry them out.
    pub actions: Vec<Action>,
    waits: HashMap<JobId, WaitReason>,
    /// What jobs and pools leave free once the actions are carried out.
    pub room: Room,
}

impl Plan {
    /// Why a job does not move; `None` for one that moves, runs or has finished.
    pub fn why(&self, job: &JobId) -> Option<&WaitReason> {
        self.waits.get(job)
    }

    /// Why the jobs that do not move wait, one entry for each.
    pub fn waits(&self) -> impl Iterator<Item = &WaitReason> {
        self.waits.values()
    }
}

/// Plans the next actions. `gate` is asked about each waiting job whose needs have all finished; it gets the jobs that it
/// needs as well.
pub fn plan(snapshot: &Snapshot, gate: impl FnMut(&Job, &[&Job]) -> Gate) -> Plan {
    let mut free = Free::of(snapshot);
    let mut plan = Plan { actions: Vec::new(), waits: HashMap::new(), room: free.room };
    let mut matrices = Matrices::of(snapshot);
    plan.actions.extend(matrices.lost().map(Action::Cancel));
    if !plan.actions.is_empty() {
        // Nothing of the same plan may start what another part of it ends.
        return plan;
    }
    decide_waiting(snapshot, gate, &mut matrices, &mut plan);
    start_queued(snapshot, &mut free, matrices, &mut plan);
    // What is made for later jobs takes from the disk, too.
    let is_disk_short = snapshot.disk.is_some_and(|disk| disk.free_mib < disk.reserve_mib);
    plan.room = if is_disk_short { Room { vms: 0, ..free.room } } else { free.room };
    plan
}

/// A waiting job with what its needs stand for.
struct Candidate<'a> {
    job: &'a Job,
    needed: Vec<&'a Job>,
    /// Needed keys that no job of the run has.
    missing: Vec<String>,
    /// Needed keys of which a job has not finished.
    unfinished: Vec<String>,
}

fn decide_waiting<'a>(
    snapshot: &'a Snapshot, mut gate: impl FnMut(&Job, &[&Job]) -> Gate, matrices: &mut Matrices<'a>, plan: &mut Plan,
) {
    let candidates = candidates(snapshot);
    let groups = Groups::of(snapshot);
    let circles = runs_that_wait_for_themselves(snapshot, &candidates);
    let locked = circles::locked(snapshot, &groups);
    for Candidate { job, needed, missing, unfinished } in candidates {
        let id = job.id.clone();
        if !missing.is_empty() {
            let text = format!("it needs {}, which its run does not have", in_backticks(&missing));
            plan.actions.push(Action::Fail(id, text));
        } else if locked.as_ref() == Some(&id) {
            plan.actions.push(Action::Fail(id, circles::WHY.to_owned()));
        } else if circles.contains(&job.run) {
            let text = format!("it needs {}, and they wait for each other", in_backticks(&unfinished));
            plan.actions.push(Action::Fail(id, text));
        } else if !unfinished.is_empty() {
            plan.waits.insert(id, WaitReason::Needs(unfinished));
        } else if let Some(reason) = groups.before(job) {
            plan.waits.insert(id, reason);
        } else {
            plan.actions.push(match gate(job, &needed) {
                Gate::Run => Action::Queue(id),
                Gate::Skip => Action::Skip(id),
                Gate::Unfold => match matrices.full(job).filter(|_| !job.is_entered) {
                    Some(max) => {
                        plan.waits.insert(id, WaitReason::Matrix { max });
                        continue;
                    }
                    None => {
                        matrices.begins(job);
                        Action::Unfold(id)
                    }
                },
                Gate::Join => Action::Join(id),
                Gate::Error(text) => Action::Fail(id, text),
            });
        }
    }
}

fn candidates(snapshot: &Snapshot) -> Vec<Candidate<'_>> {
    let mut by_key: HashMap<(&RunId, &str), Vec<&Job>> = HashMap::new();
    for job in &snapshot.jobs {
        by_key.entry((&job.run, &job.key)).or_default().push(job);
    }
    let waiting = snapshot.jobs.iter().filter(|job| job.stage == Stage::Waiting);
    waiting
        .map(|job| {
            let mut candidate = Candidate { job, needed: vec![], missing: vec![], unfinished: vec![] };
            for key in &job.needs {
                match by_key.get(&(&job.run, key)) {
                    None => candidate.missing.push(key.clone()),
                    Some(jobs) => {
                        candidate.needed.extend(jobs);
                        if !jobs.iter().all(|job| matches!(job.stage, Stage::Finished(_))) {
                            candidate.unfinished.push(key.clone());
                        }
                    }
                }
            }
            candidate
        })
        .collect()
}

/// Runs in which every unfinished job waits for another: needs in a circle. Workflows with circles are refused when they are
/// read; this is here so that no run can wait for ever.
fn runs_that_wait_for_themselves(snapshot: &Snapshot, candidates: &[Candidate<'_>]) -> HashSet<RunId> {
    let mut stuck: HashSet<RunId> = candidates.iter().map(|candidate| candidate.job.run.clone()).collect();
    for candidate in candidates {
        if !candidate.missing.is_empty() || candidate.unfinished.is_empty() {
            stuck.remove(&candidate.job.run);
        }
    }
    for job in &snapshot.jobs {
        match job.stage {
            Stage::Queued { .. } | Stage::Occupying => drop(stuck.remove(&job.run)),
            Stage::Waiting | Stage::Finished(_) => {}
        }
    }
    stuck
}

/// The queued jobs of one repository, oldest first.
struct Line<'a> {
    occupied: usize,
    queued: VecDeque<(i64, &'a Job)>,
}

fn start_queued<'a>(snapshot: &'a Snapshot, free: &mut Free<'_>, mut matrices: Matrices<'a>, plan: &mut Plan) {
    let mut lines = lines(snapshot);
    let mut kept_for = None;
    while let Some((since, job)) = take_next(&mut lines) {
        let id = job.id.clone();
        if let Some(text) = never_fits(job.size, snapshot.limits) {
            plan.actions.push(Action::Fail(id, text));
            continue;
        }
        if let Some(leader) = &job.starts_from {
            plan.waits.insert(id, WaitReason::SharedSteps(leader.clone()));
            continue;
        }
        if let Some(max) = matrices.full(job) {
            plan.waits.insert(id, WaitReason::Matrix { max });
            continue;
        }
        if let Some(first) = &kept_for {
            plan.waits.insert(id, WaitReason::KeptFor(JobId::clone(first)));
            continue;
        }
        let begins = match free.find(job.profile.as_deref(), job.size) {
            Way::Fresh => Action::Start(id),
            Way::Claim(vm) => Action::Claim(id, vm.vm.clone()),
            Way::Evict(vms) => {
                plan.actions.extend(vms.into_iter().map(|vm| Action::Evict(vm.vm.clone())));
                plan.waits.insert(id, WaitReason::Pool);
                continue;
            }
            Way::Wait(reason) => {
                if snapshot.now >= patience_ends(since) && may_be_overtaken(&reason) {
                    kept_for = Some(id.clone());
                }
                plan.waits.insert(id, reason);
                continue;
            }
        };
        matrices.begins(job);
        if let Some(line) = lines.get_mut(&job.repo) {
            line.occupied += 1;
        }
        plan.actions.push(begins);
    }
}

fn patience_ends(since: i64) -> i64 {
    since.saturating_add(i64::try_from(PATIENCE.as_millis()).unwrap_or(i64::MAX))
}

/// While there is no VM at all, or no room on the disk, nobody can overtake anybody.
fn may_be_overtaken(reason: &WaitReason) -> bool {
    !matches!(reason, WaitReason::Vms { .. } | WaitReason::Disk { .. })
}

fn lines(snapshot: &Snapshot) -> BTreeMap<&RepoName, Line<'_>> {
    let mut lines: BTreeMap<&RepoName, Line<'_>> = BTreeMap::new();
    for job in &snapshot.jobs {
        let line = lines.entry(&job.repo).or_insert_with(|| Line { occupied: 0, queued: VecDeque::new() });
        match job.stage {
            Stage::Queued { since } => line.queued.push_back((since, job)),
            Stage::Occupying => line.occupied += 1,
            Stage::Waiting | Stage::Finished(_) => {}
        }
    }
    for line in lines.values_mut() {
        line.queued.make_contiguous().sort_by_key(|(since, job)| (*since, &job.id));
    }
    lines
}

/// Takes the job whose turn it is out of its line.
fn take_next<'a>(lines: &mut BTreeMap<&RepoName, Line<'a>>) -> Option<(i64, &'a Job)> {
    let turn = |line: &Line<'a>| line.queued.front().map(|&(since, job)| (line.occupied, since, &job.id));
    let line = lines.values_mut().filter(|line| !line.queued.is_empty()).min_by_key(|line| turn(line))?;
    line.queued.pop_front()
}
