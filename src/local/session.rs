//! The jobs of a local run: planned like the service's, each in a VM of its own, as many at a time as the host bears.
//!
//! Nothing is stored. VMs end with this process, and the next command removes what a killed one left.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::choose::Cells;
use super::job::{self, Ended};
use super::unfold;
use crate::caches::CacheId;
use crate::config::{Config, JobSecrets, Profile};
use crate::depot::Depot;
use crate::engine::Engine;
use crate::forge::{Conclusion, RepoName};
use crate::host;
use crate::ids::{JobId, RunId};
use crate::image::{ImageError, Progress};
use crate::job::action::Actions;
use crate::job::driver::shape_of;
use crate::job::steps::Witness;
use crate::net::egress::network::Network;
use crate::net::git_proxy::Directory;
use crate::net::registry::Registries;
use crate::scheduler::plan::{self, Action, Limits, OwnGroup, Size, Snapshot, Stage};
use crate::store::{Outcome, Reason};
use crate::workflow::Workflow;
use crate::workflow::contexts::{self, GithubContext};
use crate::workflow::gate::{self, NeedResult, NeedsResults};
use crate::workflow::plan::PlannedJob;
use crate::workflow::strategy::FAILED_FAST;
use crate::workflow::values::Values;

/// What all jobs of a local run share.
#[derive(Debug)]
pub struct Session {
    pub engine: Engine,
    /// What guests fetch from.
    pub source: Directory,
    pub repo: RepoName,
    pub server_url: String,
    /// VMs at a time.
    pub parallel: usize,
    /// Where jobs run that are not known yet.
    pub profiles: Profiles,
    /// What jobs get as `vars` and `secrets`.
    pub values: Values,
    /// Which cells are wanted of matrices that are not known yet.
    pub cells: Cells,
    /// How long a job that is stopped may clean up.
    pub grace: Duration,
    /// Package registries with their credentials.
    pub registries: Registries,
    /// What jobs leave for later ones, and for the jobs of later runs.
    pub depot: Depot,
    /// Actions of other repositories.
    pub(crate) actions: Actions,
    /// The way of guests to others.
    pub network: Arc<dyn Network>,
}

/// What machines there are.
#[derive(Debug)]
pub enum Profiles {
    /// One kind, whatever `runs-on` says.
    Any(Box<Profile>),
    Configured(Box<Config>),
}

impl Profiles {
    fn select(&self, job: &PlannedJob) -> Result<Profile, String> {
        match self {
            Self::Any(profile) => Ok(Profile::clone(profile)),
            Self::Configured(config) => {
                config.select_profile(&job.labels).cloned().map_err(|no_profile| no_profile.to_string())
            }
        }
    }

    /// What jobs of the forge at `server_url` are given as `vars`, or of the main one. Secrets of the configuration are the service's to give.
    pub fn values_of(&self, repo: &RepoName, server_url: &str) -> Values {
        match self {
            Self::Any(_) => Values::default(),
            Self::Configured(config) => {
                let forge = config.forge_at(server_url).unwrap_or_else(|| config.main_forge());
                config.values_of(forge, repo, None, &JobSecrets::new())
            }
        }
    }

    /// The named cache that the jobs of a repository get on the forge, which they may read here, too. A name without its forge
    /// says nothing: then only those caches count that all repositories have in common.
    fn cache_of(&self, profile: &Profile, repo: &str, server_url: &str) -> Option<CacheId> {
        let Self::Configured(config) = self else { return None };
        let repo = RepoName::parse(repo).ok();
        config.cache_of(config.forge_at(server_url).zip(repo.as_ref()), profile)
    }
}

/// The workflows that a run calls, however indirectly, by their places.
pub type Called = BTreeMap<String, Workflow>;

/// A job of one of the workflows.
#[derive(Debug, Clone)]
pub struct Job {
    pub(super) id: JobId,
    pub(super) run: RunId,
    /// What its run calls.
    called: Arc<Called>,
    /// The workflow's name.
    pub workflow: String,
    /// What is known before the VM.
    pub(super) github: GithubContext,
    pub planned: PlannedJob,
    /// Why there is no machine for it, if there is none.
    pub(super) profile: Result<Profile, String>,
    /// Whose generations it gets in the place of a named cache.
    pub(super) cache: Option<CacheId>,
}

impl Job {
    /// All jobs of one workflow.
    pub fn of_run(
        workflow: &str, github: &GithubContext, planned: Vec<PlannedJob>, called: Called, profiles: &Profiles,
    ) -> impl Iterator<Item = Self> {
        let (run, called) = (RunId::random(), Arc::new(called));
        planned.into_iter().map(move |planned| {
            let profile = profiles.select(&planned);
            let of_profile = |profile| profiles.cache_of(profile, &github.repository, &github.server_url);
            Self {
                id: JobId::random(),
                run: run.clone(),
                called: Arc::clone(&called),
                workflow: workflow.to_owned(),
                github: github.clone(),
                cache: profile.as_ref().ok().and_then(of_profile),
                profile,
                planned,
            }
        })
    }

    /// Another job of the same run.
    pub(super) fn beside(&self, planned: PlannedJob, profiles: &Profiles) -> Self {
        let profile = profiles.select(&planned);
        let of_profile = |profile| profiles.cache_of(profile, &self.github.repository, &self.github.server_url);
        let cache = profile.as_ref().ok().and_then(of_profile);
        Self { id: JobId::random(), cache, profile, planned, ..self.clone() }
    }

    /// The workflow that it is, if it is one.
    pub(super) fn called_workflow(&self) -> Option<&Workflow> {
        self.called.get(&self.planned.spec.called()?.to_string())
    }

    /// The job for people.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.workflow, self.planned.name)
    }

    fn size(&self) -> Size {
        self.profile.as_ref().map_or(Size { memory_mib: 0, vcpus: 0 }, |profile| {
            let shape = shape_of(profile);
            Size { memory_mib: shape.memory_mib, vcpus: shape.vcpus }
        })
    }
}

/// Who is told of the jobs of a local run.
pub(crate) trait Audience {
    /// Sees one job's steps.
    type Witness: Witness + 'static;

    /// A job gets a VM now.
    fn job_started(&self, job: &Job) -> Self::Witness;

    /// A job has ended, perhaps without ever having had a VM.
    fn job_ended(&self, _ended: &Ended) {}
}

/// A job and how far it is.
pub(super) struct Slot {
    pub(super) job: Job,
    pub(super) stage: Stage,
    pub(super) ended: Option<Ended>,
    /// Of a call whose jobs are there: what their keys begin with.
    pub(super) inner_prefix: Option<String>,
    /// The concurrency group that it is in by itself, once it has entered it.
    pub(super) own_group: Option<OwnGroup>,
    /// Whether the audience knows of its end.
    is_told: bool,
    /// Ends it where it runs.
    pub(super) stop: CancellationToken,
}

/// The runs that the jobs are of, each once.
pub fn runs_of(jobs: &[Job]) -> Vec<RunId> {
    let mut runs: Vec<RunId> = jobs.iter().map(|job| job.run.clone()).collect();
    runs.dedup();
    runs
}

/// Builds and bakes what the jobs need, so that what is missing is said before anything runs, and what cannot be there before
/// anything is built.
pub async fn prepare(engine: &Engine, jobs: &[Job], progress: &dyn Progress) -> Result<(), ImageError> {
    let profiles = || jobs.iter().filter_map(|job| job.profile.as_ref().ok());
    profiles().try_for_each(|profile| engine.check(&profile.image))?;
    for profile in profiles() {
        engine.prepare(&profile.image, shape_of(profile), progress).await?;
    }
    Ok(())
}

/// Runs the jobs to their ends; gives those in the order of `jobs`. Cancelled, it ends those that run and starts no more.
pub(crate) async fn run<A: Audience>(
    session: Arc<Session>, jobs: Vec<Job>, audience: &A, cancel: &CancellationToken,
) -> Vec<Ended> {
    let mut slots: Vec<Slot> = jobs.into_iter().map(|job| Slot::new(job, cancel)).collect();
    let limits = limits(&slots, session.parallel);
    let mut tasks = JoinSet::new();
    let mut running = HashMap::new();
    loop {
        cancel_waiting(&mut slots);
        tell_ends(&mut slots, audience);
        let actions = planned(&slots, limits);
        // One round may make the next one possible: a skipped job decides about those that need it.
        let is_idle = actions.is_empty();
        for action in actions {
            if let Some(at) = apply(&mut slots, action, &session) {
                let (job, needs) = (slots[at].job.clone(), needs_of(&slots, &slots[at].job));
                let (id, witness) = (job.id.clone(), audience.job_started(&job));
                let work = job::run(Arc::clone(&session), job, needs, witness, slots[at].stop.clone());
                running.insert(tasks.spawn(work).id(), id);
            }
        }
        if !is_idle {
            continue;
        }
        let ended = tokio::select! {
            ended = tasks.join_next_with_id() => ended,
            () = cancel.cancelled(), if has_waiting(&slots) => continue,
        };
        match ended {
            None => break,
            Some(Ok((task, ended))) => settle(&mut slots, running.remove(&task), |slot| slot.finish(ended)),
            Some(Err(error)) => {
                let detail = format!("running it broke off: a fault of Dayfly ({error})");
                settle(&mut slots, running.remove(&error.id()), |slot| {
                    slot.end(Conclusion::Error, Reason::Internal, detail);
                });
            }
        }
    }
    // Nothing runs, and nothing can: what has not ended is in a circle, such as a job in the group of its own call.
    for slot in slots.iter_mut().filter(|slot| slot.ended.is_none()) {
        slot.end(Conclusion::Error, Reason::Workflow, "it waits for a job that waits for it".to_owned());
    }
    tell_ends(&mut slots, audience);
    slots.into_iter().filter_map(|slot| slot.ended).collect()
}

fn tell_ends(slots: &mut [Slot], audience: &impl Audience) {
    for slot in slots.iter_mut().filter(|slot| !slot.is_told) {
        if let Some(ended) = &slot.ended {
            audience.job_ended(ended);
            slot.is_told = true;
        }
    }
}

/// Carries out what needs no VM; gives the place of the job that is to be started, if it is one.
fn apply(slots: &mut Vec<Slot>, action: Action, session: &Session) -> Option<usize> {
    match action {
        // In the order of the workflow.
        Action::Queue(id) => {
            let at = slots.iter().position(|slot| slot.job.id == id)?;
            slots[at].stage = Stage::Queued { since: i64::try_from(at).unwrap_or(i64::MAX) };
        }
        Action::Skip(id) => {
            let skipped = slots.iter().find(|slot| slot.job.id == id).map(|slot| &slot.job)?;
            let detail = gate::why_skipped(&skipped.planned.spec, &needs_of(slots, skipped));
            settle(slots, Some(id), |slot| slot.end(Conclusion::Skipped, Reason::Skipped, detail));
        }
        Action::Fail(id, why) => {
            settle(slots, Some(id), |slot| slot.end(Conclusion::Error, Reason::Workflow, why));
        }
        Action::Start(id) => {
            let at = slots.iter().position(|slot| slot.job.id == id)?;
            slots[at].stage = Stage::Occupying;
            return Some(at);
        }
        Action::Unfold(id) => unfold::unfold(slots, &id, &session.profiles, &session.cells),
        Action::Join(id) => unfold::join(slots, &id),
        Action::Cancel(id) => settle(slots, Some(id), |slot| slot.cancel(FAILED_FAST)),
        // There are no pools here.
        Action::Claim(..) | Action::Evict(_) => {}
    }
    None
}

impl Slot {
    pub(super) fn new(job: Job, cancel: &CancellationToken) -> Self {
        let (inner_prefix, own_group, stop) = (None, None, cancel.child_token());
        Self { job, stage: Stage::Waiting, ended: None, inner_prefix, own_group, is_told: false, stop }
    }

    /// Whether it may still begin. A call whose jobs are there has begun.
    fn waits(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Queued { .. }) && self.inner_prefix.is_none()
    }

    fn finish(&mut self, ended: Ended) {
        self.stage = Stage::Finished(ended.outcome.conclusion);
        self.ended = Some(ended);
    }

    /// Ends a job for this reason, if it has not ended. A call ends when its jobs have.
    pub(super) fn cancel(&mut self, why: &str) {
        match self.stage {
            Stage::Waiting if self.inner_prefix.is_some() => self.stop.cancel(),
            Stage::Waiting | Stage::Queued { .. } => {
                self.end(Conclusion::Cancelled, Reason::Cancelled, why.to_owned());
            }
            Stage::Occupying => self.stop.cancel(),
            Stage::Finished(_) => {}
        }
    }

    /// Ends a job that had no VM.
    pub(super) fn end(&mut self, conclusion: Conclusion, reason: Reason, detail: String) {
        let outcome = Outcome { conclusion, reason: Some(reason), detail };
        self.finish(Ended::without_machine(&self.job, outcome));
    }

    /// Ends a call.
    pub(super) fn end_as(&mut self, outcome: Outcome, seen_by_needs: NeedResult) {
        self.finish(Ended { seen_by_needs, ..Ended::without_machine(&self.job, outcome) });
    }
}

fn settle(slots: &mut [Slot], id: Option<JobId>, change: impl FnOnce(&mut Slot)) {
    if let Some(slot) = slots.iter_mut().find(|slot| Some(&slot.job.id) == id.as_ref()) {
        change(slot);
    }
}

fn has_waiting(slots: &[Slot]) -> bool {
    slots.iter().any(Slot::waits)
}

/// Ends jobs that were asked to end before they began.
fn cancel_waiting(slots: &mut [Slot]) {
    for slot in slots.iter_mut().filter(|slot| slot.waits() && slot.stop.is_cancelled()) {
        slot.end(Conclusion::Cancelled, Reason::Cancelled, "cancelled before it started".to_owned());
    }
}

fn planned(slots: &[Slot], limits: Limits) -> Vec<Action> {
    let needs = |slot: &Slot| match &slot.inner_prefix {
        None => slot.job.planned.needs.clone(),
        Some(prefix) => {
            let within = slots.iter().filter(|other| other.job.run == slot.job.run);
            within.map(|other| other.job.planned.key.clone()).filter(|key| key.starts_with(prefix)).collect()
        }
    };
    let of_plan = |slot: &Slot| plan::Job {
        id: slot.job.id.clone(),
        run: slot.job.run.clone(),
        // One queue for all.
        repo: RepoName::parse("local/run").expect("it is a name"),
        key: slot.job.planned.key.clone(),
        needs: needs(slot),
        stage: slot.stage,
        group: None,
        own_group: slot.own_group.clone(),
        is_entered: slot.inner_prefix.is_some(),
        starts_from: None,
        matrix: Some(slot.job.planned.spec.strategy).filter(|strategy| strategy.job_total > 1),
        has_failed: slot.ended.as_ref().is_some_and(|ended| ended.seen_by_needs.result == contexts::Outcome::Failure),
        is_ending: slot.stop.is_cancelled(),
        profile: None,
        size: slot.job.size(),
    };
    let jobs = slots.iter().map(of_plan).collect();
    let snapshot = Snapshot { now: 0, limits, disk: None, reserve: Vec::new(), jobs };
    plan::plan(&snapshot, |job, _| {
        let slot = slots.iter().find(|slot| slot.job.id == job.id);
        slot.map_or_else(|| plan::Gate::Error("it is not known".to_owned()), |slot| decide(slots, slot))
    })
    .actions
}

fn decide(slots: &[Slot], slot: &Slot) -> plan::Gate {
    let (job, spec) = (&slot.job, &slot.job.planned.spec);
    if slot.inner_prefix.is_some() {
        return plan::Gate::Unfold;
    }
    let needs = needs_of(slots, job);
    match gate::gate(spec, &needs, &job.github.to_value()) {
        Ok(gate::Gate::Skip) => plan::Gate::Skip,
        Ok(gate::Gate::Run) if spec.unexpanded => plan::Gate::Unfold,
        Ok(gate::Gate::Run) if slot.own_group.is_none() && spec.is_grouped() => match unfold::group_of(job, &needs) {
            Ok(Some(_)) => plan::Gate::Join,
            Ok(None) => ready(job),
            Err(why) => plan::Gate::Error(why),
        },
        Ok(gate::Gate::Run) => ready(job),
        Err(complaint) => plan::Gate::Error(complaint.to_string()),
    }
}

/// What is done with a job that nothing stands in the way of any more.
fn ready(job: &Job) -> plan::Gate {
    match (&job.planned.group, &job.profile) {
        _ if job.planned.spec.unfolds() => plan::Gate::Unfold,
        (Some(_), _) => plan::Gate::Error("there are no runner groups here; ask by labels".to_owned()),
        (None, Err(why)) => plan::Gate::Error(why.clone()),
        (None, Ok(_)) => plan::Gate::Run,
    }
}

/// How the jobs before this one ended; the cells of a matrix together.
pub(super) fn needs_of(slots: &[Slot], job: &Job) -> NeedsResults {
    let mut by_key: BTreeMap<String, Vec<NeedResult>> = BTreeMap::new();
    let before = |slot: &&Slot| slot.job.run == job.run && job.planned.spec.ancestors.contains(&slot.job.planned.key);
    for slot in slots.iter().filter(before) {
        let seen = slot.ended.iter().map(|ended| ended.seen_by_needs.clone());
        by_key.entry(slot.job.planned.key.clone()).or_default().extend(seen);
    }
    let jobs = by_key.into_iter().map(|(key, cells)| (key, NeedResult::combine(cells))).collect();
    NeedsResults { jobs, cancelled: false }
}

/// What this host bears; a job that is larger than that still runs alone.
fn limits(slots: &[Slot], parallel: usize) -> Limits {
    let host = host::facts();
    let sizes: Vec<Size> = slots.iter().map(|slot| slot.job.size()).collect();
    let cpus = u32::try_from(host.cpus).unwrap_or(u32::MAX);
    let largest_vcpus = sizes.iter().map(|size| size.vcpus).max().unwrap_or(0);
    Limits {
        max_vms: parallel,
        memory_mib: sizes.iter().map(|size| size.memory_mib).max().unwrap_or(0).max(host.memory_mib / 5 * 4),
        // With --parallel the person has decided.
        vcpus: largest_vcpus.max(cpus).saturating_mul(u32::try_from(parallel).unwrap_or(u32::MAX)),
    }
}

/// VMs at a time where nobody says how many: one for each processor.
pub fn usual_parallel() -> usize {
    host::facts().cpus.max(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn configured(cache: &str) -> Profiles {
        let text = format!(
            "[server]\npublic_url = 'https://ci.example.org'\n[github]\nwebhook_secret = {{ env = 'HOOK' }}\n\
             token = {{ env = 'TOKEN' }}\n[profile.linux]\nlabels = ['linux']\n\
             cache = {{ name = 'npm', fill = {{ run = 'npm ci', key = ['a'] }}{cache} }}\n"
        );
        Profiles::Configured(Box::new(Config::parse("dayfly.toml", &text).unwrap().0))
    }

    /// The cache of a repository of that name which came from that server.
    fn cache(profiles: &Profiles, repo: &str, server_url: &str) -> Option<String> {
        let Profiles::Configured(config) = profiles else { panic!("it was configured") };
        profiles.cache_of(&config.profiles[0], repo, server_url).map(|id| id.to_string())
    }

    #[test]
    fn a_local_repository_gets_the_cache_that_it_has_on_its_forge() {
        let (own, shared) = (configured(""), configured(", repository = 'acme/tools'"));
        let (here, elsewhere) = ("https://github.com", "https://git.example.org");
        assert_eq!(cache(&own, "acme/site", here).as_deref(), Some("github.com/acme/site:linux/npm"));
        assert_eq!(cache(&own, "acme/site", elsewhere), None);
        assert_eq!(cache(&own, "no name", here), None);
        for server in [here, elsewhere] {
            assert_eq!(cache(&shared, "acme/site", server).as_deref(), Some("github.com/acme/tools:linux/npm"));
        }
    }
}
