//! Everything that a plan depends on, from what the store, the pools and the desk say now.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::capacity::{self, size_of};
use super::plan::{self, Gate, OwnGroup, Plan, Size, Snapshot, Stage, plan};
use crate::clock;
use crate::core::Core;
use crate::forge::{Conclusion, RepoName};
use crate::host;
use crate::ids::{JobId, RunId};
use crate::job::verdict::seen_by_needs;
use crate::store::{self, JobState, ScheduledJob, StoreError};
use crate::workflow::concurrency::{Group, job_group};
use crate::workflow::contexts::{self, GithubContext};
use crate::workflow::gate::{self, NeedResult, NeedsResults};
use crate::workflow::plan::{JobSpec, StrategyCell};

/// Everything that a plan for these jobs depends on.
pub(super) async fn survey(core: &Core, jobs: &[ScheduledJob]) -> Result<(Specs, Snapshot), StoreError> {
    let specs = Specs::load(core, jobs).await?;
    // Before the jobs: a VM that is handed over meanwhile is then seen twice rather than not at all.
    let mut reserve = core.pools.reserve();
    let planned = plannable(core, jobs, &specs).await?;
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

/// The jobs as the plan sees them, and an entry for every VM whose job is elsewhere by now but which is not gone.
async fn plannable(core: &Core, jobs: &[ScheduledJob], specs: &Specs) -> Result<Vec<plan::Job>, StoreError> {
    let mut plannable: Vec<plan::Job> = jobs
        .iter()
        .map(|job| plan::Job {
            id: job.id.clone(),
            run: job.run.clone(),
            repo: job.repo.clone(),
            key: job.key.clone(),
            needs: match &job.inner_prefix {
                Some(prefix) => keys_within(jobs, job, prefix),
                None => job.needs.clone(),
            },
            stage: match (job.state, job.conclusion) {
                (JobState::Waiting, _) => Stage::Waiting,
                (JobState::Queued, _) => Stage::Queued { since: job.queued_at.unwrap_or(job.created_at) },
                (JobState::Leased | JobState::Running, _) => Stage::Occupying,
                (JobState::Finished, conclusion) => Stage::Finished(conclusion.unwrap_or(Conclusion::Error)),
            },
            profile: job.profile.clone(),
            size: size_of(&core.config, job.profile.as_deref()),
            group: job.group.clone(),
            own_group: job.own_group.clone().map(|(group, since)| OwnGroup { group, since }),
            is_entered: job.inner_prefix.is_some(),
            starts_from: core.sharing.leader(job),
            matrix: specs.matrices.get(&job.id).copied(),
            has_failed: specs.failed.contains(&job.id),
            is_ending: job.cancel_requested,
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

/// The keys of the jobs that stand in the place of a call.
fn keys_within(jobs: &[ScheduledJob], call: &ScheduledJob, prefix: &str) -> Vec<String> {
    let within = jobs.iter().filter(|job| job.run == call.run && job.key.starts_with(prefix));
    within.map(|job| job.key.clone()).collect::<BTreeSet<_>>().into_iter().collect()
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
        own_group: None,
        is_entered: false,
        starts_from: None,
        matrix: None,
        has_failed: false,
        is_ending: false,
    }
}

/// What deciding about waiting jobs takes: their specifications, and how the jobs of their runs ended.
#[derive(Default)]
pub(super) struct Specs {
    specs: HashMap<JobId, (JobSpec, GithubContext)>,
    /// By run, then by key; only keys of which every job has ended.
    results: HashMap<RunId, BTreeMap<String, NeedResult>>,
    /// Of every job that is a cell of a matrix.
    matrices: HashMap<JobId, StrategyCell>,
    /// Jobs that have ended in a failure, unless `continue-on-error` allows it.
    failed: HashSet<JobId>,
    /// By run: calls whose jobs are there and that are in a concurrency group, with their prefixes.
    calls: HashMap<RunId, Vec<(String, String)>>,
}

impl Specs {
    async fn load(core: &Core, jobs: &[ScheduledJob]) -> Result<Self, StoreError> {
        let mut loaded = Self::default();
        for job in jobs {
            if let (Some(prefix), Some((group, _))) = (&job.inner_prefix, &job.own_group) {
                loaded.calls.entry(job.run.clone()).or_default().push((prefix.clone(), group.clone()));
            }
        }
        let mut runs: Vec<&RunId> =
            jobs.iter().filter(|j| !matches!(j.state, JobState::Finished)).map(|j| &j.run).collect();
        runs.sort();
        runs.dedup();
        for run in runs {
            let members = core.store.jobs_of_run(run).await?;
            loaded.results.insert(run.clone(), results_of(&members, core.store.carried(run).await?));
            loaded.add_cells(&members);
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

    fn add_cells(&mut self, members: &[store::Job]) {
        for job in members {
            let strategy = job.spec.get("strategy").cloned().and_then(|cell| serde_json::from_value(cell).ok());
            let Some(strategy) = strategy.filter(|strategy: &StrategyCell| strategy.job_total > 1) else { continue };
            self.matrices.insert(job.id.clone(), strategy);
            if job.outcome.is_some() && result_of(job).result == contexts::Outcome::Failure {
                self.failed.insert(job.id.clone());
            }
        }
    }

    pub(super) fn gate(&self, job: &plan::Job) -> Gate {
        let Some((spec, github)) = self.specs.get(&job.id) else {
            return Gate::Error("the job's plan in the store does not read any more".to_owned());
        };
        if job.is_entered {
            return Gate::Unfold;
        }
        match gate::gate(spec, &self.needs(&job.run, &spec.ancestors), &github.to_value()) {
            Ok(gate::Gate::Run) if spec.unexpanded => Gate::Unfold,
            Ok(gate::Gate::Run) => match self.group(&job.id, &job.run) {
                Err(why) => Gate::Error(why),
                Ok(Some(group)) if job.own_group.is_none() => self.may_join(job, spec, &group),
                Ok(_) if spec.unfolds() => Gate::Unfold,
                Ok(_) => Gate::Run,
            },
            Ok(gate::Gate::Skip) => Gate::Skip,
            Err(complaint) => Gate::Error(complaint.to_string()),
        }
    }

    /// A job cannot wait for itself: for its run, or for a call that it is in.
    fn may_join(&self, job: &plan::Job, spec: &JobSpec, group: &Group) -> Gate {
        let is_of_run = job.group.as_ref().is_some_and(|own| own.group == group.name);
        let is_around = |call: &(String, String)| spec.prefix.starts_with(&call.0) && call.1 == group.name;
        let calls = self.calls.get(&job.run).map(Vec::as_slice).unwrap_or_default();
        match is_of_run || calls.iter().any(is_around) {
            true => Gate::Error(format!(
                "its concurrency group `{}` is that of its run: it would wait for itself",
                group.name
            )),
            false => Gate::Join,
        }
    }

    /// The concurrency group that a job is in by itself; an error is for its author.
    pub(super) fn group(&self, job: &JobId, run: &RunId) -> Result<Option<Group>, String> {
        let Some((spec, github)) = self.specs.get(job) else { return Ok(None) };
        let needs = self.needs(run, &spec.ancestors);
        job_group(spec, &github.to_value(), &needs).map_err(|complaint| complaint.to_string())
    }

    /// A waiting job's specification.
    pub(super) fn of(&self, job: &JobId) -> Option<(&JobSpec, &GithubContext)> {
        self.specs.get(job).map(|(spec, github)| (spec, github))
    }

    /// How the jobs ended that stand in the place of a call, by their ids in the called workflow.
    pub(super) fn results_within(&self, run: &RunId, prefix: &str) -> BTreeMap<String, NeedResult> {
        let results = self.results.get(run).into_iter().flatten();
        let within = results.filter_map(|(key, result)| Some((key.strip_prefix(prefix)?.to_owned(), result.clone())));
        within.filter(|(id, _)| !id.contains('/')).collect()
    }

    pub(super) fn why_skipped(&self, job: &ScheduledJob) -> String {
        match self.specs.get(&job.id) {
            Some((spec, _)) => gate::why_skipped(spec, &self.needs(&job.run, &spec.ancestors)),
            None => "its condition is not met".to_owned(),
        }
    }

    /// How the jobs before a job ended. Others of its run are none of its business.
    pub(super) fn needs(&self, run: &RunId, ancestors: &[String]) -> NeedsResults {
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
