//! What no event told: GitHub is asked, rarely, and within the budget that jobs leave.
//!
//! - A job that has waited for a while may be taken, ended or cancelled by now: it is asked for.
//! - A job whose event was lost is in the lists of its repository: those are looked through as often as the sweep does.
//! - A runner whose machine is gone is removed: at once where this service knows its number, and otherwise once it was seen
//!   offline for longer than any machine needs to register, as it may be another service's that is about to.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::news::known_as;
use super::plan::Group;
use super::{Machine, NAME_PREFIX, NOT_NEEDED, RunnersError, group_of, is_failure};
use crate::clock;
use crate::config::Credential;
use crate::core::Core;
use crate::forge::{Budget, ForgeError, RepoAccess, RunnerAccess, RunnerApi, RunnerPlace, github};
use crate::ids::JobId;
use crate::metrics::labels::Reconciled;
use crate::store::{DemandState, StoreError, WorkflowJob};
use crate::sweep::plan::{REPOSITORIES_PER_SWEEP, may_ask, repositories_of_token};

/// After how long without news a job that waits is asked for.
const STALE: Duration = Duration::from_secs(120);

/// Jobs that are asked for in one look.
const CHECKS_PER_LOOK: usize = 20;

/// How often what is registered is looked through.
const LEFTOVERS: Duration = Duration::from_secs(300);

/// How often GitHub is asked for the newest version of its runner.
const NEWEST: Duration = Duration::from_hours(12);

/// How long jobs that ended are remembered: as long as GitHub keeps failed deliveries, with what may come late of them.
const MEMORY: Duration = Duration::from_hours(4 * 24);

/// How long it is tried to remove a runner that GitHub believes to be at work: it gives up on it itself before.
const REMOVAL: Duration = Duration::from_hours(1);

/// The wait after a failure of the forge.
const PAUSE: Duration = Duration::from_secs(30);

/// What stays from look to look. Only memory: a restart asks anew.
pub(super) struct Reconciler {
    /// Between two looks for lost events; `None`: none.
    interval: Option<Duration>,
    lost_due: i64,
    leftovers_due: i64,
    newest_due: i64,
    /// After a failure, nothing is asked before.
    paused_until: i64,
    /// Runners without a machine here, by number, and when each was first seen offline.
    offline: HashMap<u64, i64>,
    /// The machines whose end has been counted, and when their runner's removal is tried again.
    counted: HashMap<JobId, i64>,
}

impl Reconciler {
    pub(super) fn new(core: &Core) -> Self {
        Self {
            interval: core.config.github.as_ref().and_then(|github| github.sweep),
            lost_due: 0,
            leftovers_due: 0,
            newest_due: 0,
            paused_until: 0,
            offline: HashMap::new(),
            counted: HashMap::new(),
        }
    }

    /// A machine is gone: its runner goes as well, and then nothing is left to do about it.
    pub(super) async fn settle(
        &mut self, core: &Core, api: &dyn RunnerApi, machine: Machine,
    ) -> Result<(), StoreError> {
        let Machine { foreign, job, request, registered } = machine;
        let now = clock::now_ms();
        let due = *self.counted.entry(job.id.clone()).or_insert_with(|| {
            count_end(core, &request.group(), &job, now);
            now
        });
        if let Some(registered) = registered {
            let is_given_up = job.finished_at.is_some_and(|ended| now - ended > millis(REMOVAL));
            if now < due.max(self.paused_until) && !is_given_up {
                return Ok(());
            }
            match api.remove_runner(&request.at, registered.id).await {
                Ok(()) => tracing::info!(runner = registered.name, "a runner whose machine is gone was removed"),
                Err(ForgeError::NotFound { .. }) => {}
                Err(error) if is_given_up => {
                    tracing::warn!(runner = registered.name, %error, "a runner is left at GitHub, which removes it itself");
                }
                Err(error) => {
                    // At a job, as GitHub still believes; or the forge does not answer.
                    tracing::debug!(runner = registered.name, %error, "a runner whose machine is gone cannot be removed yet");
                    self.counted.insert(job.id.clone(), now + millis(PAUSE));
                    if error.is_retryable() {
                        self.pause(&error, now);
                    }
                    return Ok(());
                }
            }
        }
        core.store.settle_foreign(&foreign.job).await?;
        self.counted.remove(&job.id);
        Ok(())
    }

    /// Asks GitHub what is due to be asked. A failure ends it until later: machines are planned from what is known.
    pub(super) async fn ask(&mut self, core: &Core, api: &dyn RunnerApi, there: &[Machine]) {
        let now = clock::now_ms();
        if now < self.paused_until {
            return;
        }
        if let Err(error) = self.try_ask(core, api, there, now).await {
            tracing::warn!(%error, "GitHub could not be asked about its jobs and runners; it will be tried again");
            if let RunnersError::Forge(error) = error {
                self.pause(&error, now);
            }
        }
    }

    async fn try_ask(
        &mut self, core: &Core, api: &dyn RunnerApi, there: &[Machine], now: i64,
    ) -> Result<(), RunnersError> {
        check_waiting(core, api, now).await?;
        if self.interval.is_some() && now >= self.lost_due {
            self.lost_due = now + self.interval.map_or(0, millis);
            find_lost(core, api).await?;
        }
        if now >= self.leftovers_due {
            self.leftovers_due = now + millis(self.interval.unwrap_or(LEFTOVERS).min(LEFTOVERS));
            core.store.forget_workflow_jobs(now - millis(MEMORY)).await?;
            self.remove_leftovers(core, api, there, now).await?;
        }
        if now >= self.newest_due
            && let Some(at) = places(core).await?.first()
        {
            self.newest_due = now + millis(NEWEST);
            if let Some(version) = api.newest_runner(at).await? {
                core.runners.note_newest(version);
            }
        }
        Ok(())
    }

    fn pause(&mut self, error: &ForgeError, now: i64) {
        let wait = match error {
            ForgeError::RateLimited { wait, .. } => *wait,
            _ => PAUSE,
        };
        self.paused_until = now + millis(wait);
    }

    /// Removes runners of ours whose machines are gone, and which nobody remembers.
    async fn remove_leftovers(
        &mut self, core: &Core, api: &dyn RunnerApi, there: &[Machine], now: i64,
    ) -> Result<(), RunnersError> {
        let ours: HashSet<&str> = there.iter().filter_map(|machine| Some(machine.job.vm.as_ref()?.as_str())).collect();
        let patience = longest_registration(core);
        let mut seen = HashSet::new();
        let mut troubles = Troubles::default();
        for at in places(core).await? {
            if !may_ask(&budgets(core), &at.access.budget_name()) {
                continue;
            }
            let listed = match api.runners(&at).await {
                Ok(listed) => listed,
                // One place that may not be read must not hide the others.
                Err(error) if !error.is_retryable() => {
                    troubles.note(&error);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for runner in listed {
                let Some(vm) = runner.name.strip_prefix(NAME_PREFIX) else { continue };
                if ours.iter().any(|ours| vm.starts_with(ours)) || runner.is_online || runner.is_busy {
                    continue;
                }
                seen.insert(runner.id);
                if now - *self.offline.entry(runner.id).or_insert(now) < millis(patience) {
                    continue;
                }
                match api.remove_runner(&at, runner.id).await {
                    Ok(()) => {
                        tracing::info!(runner = runner.name, place = %at.place, "a runner that was left registered was removed");
                        core.metrics.runners.reconciled(Reconciled::RemovedRunner);
                    }
                    Err(error) if error.is_retryable() => return Err(error.into()),
                    Err(error) => tracing::debug!(runner = runner.name, %error, "a runner could not be removed"),
                }
            }
        }
        self.offline.retain(|id, _| seen.contains(id));
        troubles.tell("the runners of some places");
        Ok(())
    }
}

/// What the end of a machine says about the next one of its group.
fn count_end(core: &Core, group: &Group, job: &crate::store::Job, now: i64) {
    let detail = job.outcome.as_ref().map_or("", |outcome| outcome.detail.as_str());
    if is_failure(job) {
        let wait = core.runners.failed(group.clone(), detail, clock::jitter(), now);
        tracing::warn!(job = %job.id, profile = group.profile, detail, wait_s = wait.as_secs(), "a machine for GitHub's jobs failed");
    } else if detail != NOT_NEEDED {
        core.runners.succeeded(group);
    }
}

/// Asks about jobs that may not wait any more, and about those whose code may be a fork's.
async fn check_waiting(core: &Core, api: &dyn RunnerApi, now: i64) -> Result<(), RunnersError> {
    let waiting = core.store.waiting_workflow_jobs().await?;
    let doubtful = core.runners.doubtful();
    let is_doubtful = |job: &WorkflowJob| group_of(core, job).is_some_and(|group| doubtful.contains(&group));
    let mut troubles = Troubles::default();
    let mut asked = 0;
    let mut is_complete = true;
    for job in waiting.iter().filter(|job| is_due(job, now) || is_doubtful(job)) {
        if asked == CHECKS_PER_LOOK || !may_ask(&budgets(core), &job.access.budget_name()) {
            is_complete &= !is_doubtful(job);
            continue;
        }
        asked += 1;
        let checked = match job.state {
            DemandState::Unjudged => judge(core, api, job).await,
            _ => check(core, api, job, now).await,
        };
        match checked {
            // One that may not be asked about must not hide the others.
            Err(RunnersError::Forge(error)) if !error.is_retryable() => {
                troubles.note(&error);
                core.store.confirm_workflow_job(&job.forge, job.id, now).await?;
            }
            checked => checked?,
        }
    }
    if is_complete {
        doubtful.iter().for_each(|group| core.runners.settle(group));
    }
    troubles.tell("jobs that wait");
    Ok(())
}

/// Whether GitHub is to be asked about a job: where forks may have no machine, at once, and then until it has answered.
fn is_due(job: &WorkflowJob, now: i64) -> bool {
    let patience = match job.state {
        DemandState::Unjudged if job.checked_at == job.seen_at => Duration::ZERO,
        DemandState::Unjudged => PAUSE,
        _ => STALE,
    };
    now - job.checked_at >= millis(patience)
}

/// Decides whether a job may have a machine, where forks may have none.
async fn judge(core: &Core, api: &dyn RunnerApi, job: &WorkflowJob) -> Result<(), RunnersError> {
    let state = match api.is_of_fork(&job.access, job.run).await {
        Ok(true) => DemandState::Refused,
        Ok(false) => DemandState::Queued,
        Err(ForgeError::NotFound { .. }) => DemandState::Completed,
        Err(error) => return Err(error.into()),
    };
    if state == DemandState::Refused {
        tracing::info!(job = job.id, repo = %job.access.repo, "a fork's job gets no machine: `forks` is `deny`");
    }
    core.store.note_workflow_job(WorkflowJob { state, ..job.clone() }).await?;
    Ok(())
}

async fn check(core: &Core, api: &dyn RunnerApi, job: &WorkflowJob, now: i64) -> Result<(), RunnersError> {
    let (state, runner, conclusion) = match api.workflow_job(&job.access, job.id).await {
        Ok(told) => (DemandState::of(told.stage), told.runner, told.conclusion),
        // Its run was deleted.
        Err(ForgeError::NotFound { .. }) => (Some(DemandState::Completed), None, None),
        Err(error) => return Err(error.into()),
    };
    let Some(state) = state.filter(|state| *state >= DemandState::InProgress) else {
        return Ok(core.store.confirm_workflow_job(&job.forge, job.id, now).await?);
    };
    let news = WorkflowJob { state, runner, conclusion, checked_at: now, ..job.clone() };
    if core.store.note_workflow_job(news).await? {
        tracing::info!(job = job.id, repo = %job.access.repo, state = state.as_str(), "a job waits no more, which no event told");
        core.metrics.runners.reconciled(Reconciled::DroppedDemand);
    }
    Ok(())
}

/// Looks for jobs that wait and of which no event told.
async fn find_lost(core: &Core, api: &dyn RunnerApi) -> Result<(), RunnersError> {
    let mut troubles = Troubles::default();
    for access in repositories(core).await? {
        let Some(settings) = core.config.repository(github::NAME, &access.repo) else { continue };
        if !may_ask(&budgets(core), &access.budget_name()) {
            continue;
        }
        let jobs = match api.unfinished_jobs(&access).await {
            Ok(jobs) => jobs,
            Err(error) if !error.is_retryable() => {
                troubles.note(&error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for news in jobs {
            let id = news.id;
            // Which organization a repository is in, only its events say; its owner's name is the same.
            let organization = Some(access.repo.owner());
            let Some(job) = known_as(core, &access, organization, &settings, news) else { continue };
            let waits = matches!(job.state, DemandState::Queued | DemandState::Unjudged);
            if core.store.note_workflow_job(job).await? && waits {
                tracing::info!(job = id, repo = %access.repo, "a job waits of which no event told");
                core.metrics.runners.reconciled(Reconciled::LostEvent);
            }
        }
    }
    troubles.tell("the jobs of some repositories");
    Ok(())
}

/// What cannot be asked, told once for all.
#[derive(Default)]
struct Troubles {
    count: u64,
    first: Option<String>,
}

impl Troubles {
    fn note(&mut self, error: &ForgeError) {
        self.count += 1;
        self.first.get_or_insert_with(|| error.to_string());
    }

    fn tell(self, what: &str) {
        if let Some(error) = self.first {
            tracing::warn!(count = self.count, error, "GitHub does not tell of {what}");
        }
    }
}

/// What is left of GitHub's budgets.
fn budgets(core: &Core) -> Vec<(String, Budget)> {
    core.forges.github().map_or_else(Vec::new, |forge| forge.budgets())
}

/// The repositories whose events count and which can be asked about.
async fn repositories(core: &Core) -> Result<Vec<RepoAccess>, RunnersError> {
    let (Some(settings), Some(forge)) = (&core.config.github, core.forges.github()) else { return Ok(Vec::new()) };
    let all = match settings.credential {
        Credential::App { .. } => forge.repositories().await?,
        Credential::Token(_) => {
            let used = core.store.used_repositories(github::NAME, REPOSITORIES_PER_SWEEP as u32).await?;
            repositories_of_token(&settings.repositories, used)
        }
    };
    let counts = |access: &RepoAccess| core.config.repository(github::NAME, &access.repo).is_some();
    Ok(all.into_iter().filter(counts).take(REPOSITORIES_PER_SWEEP).collect())
}

/// Where runners of this service may be registered.
async fn places(core: &Core) -> Result<Vec<RunnerAccess>, RunnersError> {
    let mut seen: HashSet<RunnerPlace> = HashSet::new();
    let mut places = Vec::new();
    for access in repositories(core).await? {
        for profile in &core.config.profiles {
            let Some(runner) = profile.executor.actions_runner() else { continue };
            let place = runner.place(&access.repo, Some(access.repo.owner()));
            if let Some(place) = place.filter(|place| seen.insert(place.clone())) {
                places.push(RunnerAccess { place, access: access.clone() });
            }
        }
    }
    Ok(places)
}

/// How long the slowest machine may take to register.
fn longest_registration(core: &Core) -> Duration {
    let runners = core.config.profiles.iter().filter_map(|profile| profile.executor.actions_runner());
    runners.map(|runner| runner.registration_timeout).max().unwrap_or_default()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
