//! Re-runs: a run of the same commit, context and contexts at the forge, with new jobs.
//!
//! Of one job, that job and those that need it run again; how the others ended is carried over. Attempts of one run are
//! numbered, and the store admits each number once, so that two wishes at a time make one re-run.

mod select;

use serde_json::Value as Json;

pub(crate) use self::select::unfinished_repetition;
use self::select::{Repeat, Repeated, select};
use super::internal::{Wish, submit};
use super::jobs::{new_job, new_report};
use super::runs::{Planner, full_queue};
use super::unfold::context_of;
use super::{IntakeError, approval, ended, finish, finish_created};
use crate::clock;
use crate::config::{Forks, RepositorySettings};
use crate::core::Core;
use crate::ids::{JobId, RunId};
use crate::policy::{self, Request, RerunOf, Standing, Verdict, judge};
use crate::store::{self, Delivery, DeliveryState, NewJob, NewRun, Run, StoreError};
use crate::webhook::{self, EventName};
use crate::workflow::contexts::GithubContext;
use crate::workflow::plan::{JobSpec, PlannedJob};

/// How often an attempt is made from what is stored while others make one too.
const TRIES: u32 = 3;

/// What is to be repeated, and for whom.
struct Target<'a> {
    run: &'a RunId,
    job: Option<&'a JobId>,
    person: Option<&'a str>,
}

/// A person pressed "Re-run" at the forge.
pub(super) async fn of_person(core: &Core, delivery: &Delivery, asked: &policy::Rerun) -> Result<(), IntakeError> {
    match &asked.what {
        RerunOf::Check(report) => {
            let Some(stored) = core.store.get_report(report).await? else {
                return ended(core, delivery, "the check run is not known, or no longer").await;
            };
            let is_asked = stored.forge == delivery.key.forge
                && stored.desired.access.repo == asked.access.repo
                && stored.desired.sha == asked.sha;
            if !is_asked {
                return ended(core, delivery, "the check run is of another repository or commit").await;
            }
            let target = Target { run: &stored.run, job: stored.job.as_ref(), person: Some(&asked.person) };
            attend(core, delivery, &target).await
        }
        RerunOf::Commit => of_commit(core, delivery, asked).await,
    }
}

/// Each run of the commit becomes a wish of its own, so that what is in the way of one does not hold up the others.
async fn of_commit(core: &Core, delivery: &Delivery, asked: &policy::Rerun) -> Result<(), IntakeError> {
    let runs = core.store.runs_at(&delivery.key.forge, &asked.access.repo, &asked.sha).await?;
    if runs.is_empty() {
        return ended(core, delivery, "no workflow of the commit was run").await;
    }
    for (first, run) in runs {
        // The same id however often this is processed, even if by then the wish has become the newest attempt.
        let id = format!("{}-{first}", delivery.key.id);
        submit(core, id, &Wish::Rerun { run, job: None, person: Some(asked.person.clone()) }).await?;
    }
    finish(core, &delivery.key, DeliveryState::Processed, "").await;
    Ok(())
}

/// A wish from the control socket, or one for a run of a commit.
pub(super) async fn of_wish(
    core: &Core, delivery: &Delivery, run: &RunId, job: Option<&JobId>, person: Option<&str>,
) -> Result<(), IntakeError> {
    attend(core, delivery, &Target { run, job, person }).await
}

/// Why there is no next attempt.
enum NoAttempt {
    Refused(String),
    Failed(IntakeError),
}

impl<E: Into<IntakeError>> From<E> for NoAttempt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn refused(why: &str) -> NoAttempt {
    NoAttempt::Refused(why.to_owned())
}

async fn attend(core: &Core, delivery: &Delivery, target: &Target<'_>) -> Result<(), IntakeError> {
    for _ in 0..TRIES {
        let run = match next_attempt(core, delivery, target).await {
            Ok(run) => run,
            Err(NoAttempt::Refused(why)) => return ended(core, delivery, &why).await,
            Err(NoAttempt::Failed(error)) => return Err(error),
        };
        match core.store.create_runs(&delivery.key, vec![run], DeliveryState::Processed, clock::now_ms()).await {
            Ok(created) => return finish_created(core, delivery, &created).await,
            Err(StoreError::AttemptTaken { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    ended(core, delivery, "the run is being repeated by others").await
}

async fn next_attempt(core: &Core, delivery: &Delivery, target: &Target<'_>) -> Result<NewRun, NoAttempt> {
    let attempts = core.store.attempts(target.run).await?;
    let (latest, _) = attempts.last().ok_or_else(|| refused("the run is not known, or no longer"))?;
    let settings = core
        .config
        .repository(&latest.forge, &latest.access.repo)
        .ok_or_else(|| refused("the repository is not configured"))?;
    check_allowed(core, latest, settings.forks).await?;
    if let Some(why) = full_queue(core.store.count_unfinished_jobs().await?, core.config.limits.queue) {
        return Err(NoAttempt::Refused(why));
    }
    let mut run = if attempts.iter().all(|(_, jobs)| jobs.is_empty()) {
        planned_anew(core, latest, &settings, delivery.arrived_at).await?
    } else {
        let repeat = select(&attempts, target.job).map_err(NoAttempt::Refused)?;
        repeated(core, latest, &settings, repeat, delivery.arrived_at).await?
    };
    if let Some(person) = target.person {
        run.context["triggering_actor"] = person.into();
    }
    Ok(run)
}

/// Whether the run may be repeated: a stranger's code needs an approval that counts now.
async fn check_allowed(core: &Core, run: &Run, forks: Forks) -> Result<(), NoAttempt> {
    if run.origin.is_held {
        return Err(refused("a held commit is run by an approval, not by a re-run"));
    }
    let Some(pull) = run.origin.pull_request.filter(|pull| pull.is_fork) else { return Ok(()) };
    match forks {
        Forks::Run => Ok(()),
        Forks::Deny => Err(refused("forks are denied here by now")),
        Forks::Approve if approval::counts(core, &run.forge, &run.access, pull.number, &run.sha).await? => Ok(()),
        Forks::Approve => Err(refused("the approval of the commit does not count any more: it is not the head")),
    }
}

/// A run that never had jobs is planned from its workflow again: what was in its way may be gone.
async fn planned_anew(
    core: &Core, run: &Run, settings: &RepositorySettings<'_>, arrived_at: i64,
) -> Result<NewRun, NoAttempt> {
    let nothing = || refused("there is nothing to repeat; push again to run");
    let (request, payload) = request_of(run)?.ok_or_else(nothing)?;
    let planner = Planner { core, request: &request, settings, payload: &payload, arrived_at, asked: None };
    let planned = planner.plan().await?.runs.into_iter().find(|planned| planned.workflow_path == run.workflow_path);
    let mut planned = planned.ok_or_else(nothing)?;
    planned.origin.rerun = Some(rerun_of(run, Json::Object(Default::default())));
    Ok(planned)
}

/// What the run's event asked for, and the event's payload; `None` for runs that were stored without it.
fn request_of(run: &Run) -> Result<Option<(Request, Json)>, IntakeError> {
    let unreadable = |error: String| IntakeError::Payload(format!("the run's context: {error}"));
    if run.context.is_null() {
        return Ok(None);
    }
    let context: GithubContext =
        serde_json::from_value(run.context.clone()).map_err(|error| unreadable(error.to_string()))?;
    let payload = serde_json::to_value(&context.event).map_err(|error| unreadable(error.to_string()))?;
    let name = EventName::parse(&context.event_name).map_err(unreadable)?;
    let event = webhook::parse(&run.forge, &name, payload.to_string().as_bytes())
        .map_err(|error| unreadable(error.to_string()))?;
    // Whether it may run was decided before.
    match judge(&event, &Standing { forks: Forks::Run, is_approved: true, sender_may_write: true }) {
        Verdict::Start(request) if request.sha == run.sha => Ok(Some((*request, payload))),
        _ => Ok(None),
    }
}

/// The run with the chosen jobs.
async fn repeated(
    core: &Core, run: &Run, settings: &RepositorySettings<'_>, repeat: Repeat<'_>, arrived_at: i64,
) -> Result<NewRun, IntakeError> {
    let mut jobs = Vec::new();
    for repeated in repeat.jobs {
        jobs.push(repeated_job(core, run, settings, repeated, arrived_at).await?);
    }
    Ok(NewRun {
        id: RunId::random(),
        forge: run.forge.clone(),
        access: run.access.clone(),
        event: run.event.clone(),
        sha: run.sha.clone(),
        workflow_path: run.workflow_path.clone(),
        workflow_name: run.workflow_name.clone(),
        context: run.context.clone(),
        origin: store::Origin {
            rerun: Some(rerun_of(run, serde_json::to_value(repeat.carried).unwrap_or_default())),
            arrived_at,
            ..run.origin.clone()
        },
        report: None,
        called: core.store.called_workflows(&run.id).await?,
        jobs,
    })
}

async fn repeated_job(
    core: &Core, run: &Run, settings: &RepositorySettings<'_>, repeated: Repeated<'_>, arrived_at: i64,
) -> Result<NewJob, IntakeError> {
    let Repeated { job, needs, anew } = repeated;
    let spec: JobSpec = serde_json::from_value(job.spec.clone())
        .map_err(|error| IntakeError::Payload(format!("the plan of the job {}: {error}", job.id)))?;
    let shown = core
        .store
        .get_report(&job.report)
        .await?
        .ok_or_else(|| StoreError::NotFound { what: "report", id: job.report.to_string() })?;
    // Plans that were stored without their labels are for the profile that they got.
    let profile = job.profile.as_deref().and_then(|name| core.config.profile(name));
    let labels = if spec.labels.is_empty() { profile.map(|profile| profile.labels.clone()) } else { None };
    let planned = anew.map(|anew| PlannedJob { needs: needs.clone(), ..anew }).unwrap_or_else(|| PlannedJob {
        key: job.key.clone(),
        name: job.name.clone(),
        labels: labels.unwrap_or_else(|| spec.labels.clone()),
        group: spec.group.clone(),
        needs,
        spec,
    });
    let context = context_of(&run.workflow_name, &job.name, &shown.desired.context, &planned.name);
    let report = |title| new_report(&run.access, &run.sha, context, title);
    Ok(new_job(core, settings, planned, report, arrived_at))
}

fn rerun_of(run: &Run, carried: Json) -> store::Rerun {
    store::Rerun { root: run.root().clone(), attempt: run.attempt() + 1, number: run.number, carried }
}
