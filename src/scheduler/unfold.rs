//! Jobs whose turn is no machine: those that others take the place of, calls that end as their jobs did, and those that enter a
//! concurrency group of their own.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::actions::{Round, conclude, finish};
use crate::clock;
use crate::core::{Core, heavy};
use crate::document::Diagnostic;
use crate::forge::Conclusion;
use crate::ids::JobId;
use crate::intake::unfold::{new_jobs, taken_names};
use crate::lifecycle::Step;
use crate::store::{Job, Joined, Outcome, Reason, Run, ScheduledJob, StoreError, Unfolded};
use crate::workflow::Workflow;
use crate::workflow::call::{self, enter, leave};
use crate::workflow::concurrency::MAX_QUEUED;
use crate::workflow::contexts::{self, GithubContext};
use crate::workflow::gate::{NeedResult, NeedsResults};
use crate::workflow::plan::{JobSpec, PlannedJob, expand};

/// A job with everything that decides what becomes of it.
struct Unfolding<'a> {
    job: &'a ScheduledJob,
    spec: &'a JobSpec,
    github: &'a GithubContext,
    needs: NeedsResults,
    run: Run,
    members: Vec<Job>,
}

impl Round<'_> {
    /// A job enters its concurrency group. Gives whether the store changed.
    pub(super) async fn join(&mut self, id: &JobId) -> Result<bool, StoreError> {
        let (core, Some(job)) = (self.core, self.known(id)) else { return Ok(false) };
        let Ok(Some(group)) = self.specs.group(id, &job.run) else { return Ok(false) };
        let name = group.name.clone();
        match core.store.join_group(id, group, clock::now_ms()).await? {
            Joined::In => {}
            Joined::TurnedAway => {
                let detail = format!("Cancelled: {MAX_QUEUED} jobs of the concurrency group `{name}` wait already");
                finish(core, job, Conclusion::Cancelled, Some(Reason::Cancelled), detail).await?;
            }
        }
        Ok(true)
    }

    /// Others take the place of a job, or a call ends. Gives whether the store changed.
    pub(super) async fn unfold(&mut self, id: &JobId) -> Result<bool, StoreError> {
        let core = self.core;
        let (Some(job), Some((spec, github))) = (self.known(id), self.specs.of(id)) else { return Ok(false) };
        let Some(run) = core.store.run(&job.run).await? else { return Ok(false) };
        let members = core.store.jobs_of_run(&job.run).await?;
        let needs = self.specs.needs(&job.run, &spec.ancestors);
        let unfolding = Unfolding { job, spec, github, needs, run, members };
        let done = match &job.inner_prefix {
            Some(prefix) => unfolding.leave(core, self.specs.results_within(&job.run, prefix)).await?,
            None => unfolding.begin(core).await?,
        };
        match done {
            Ok(has_changed) => Ok(has_changed),
            Err(why) => finish(core, job, Conclusion::Error, Some(Reason::Workflow), why).await.map(|()| true),
        }
    }
}

/// What is wrong is the job's own, and for its author.
type Done = Result<Result<bool, String>, StoreError>;

impl Unfolding<'_> {
    async fn begin(&self, core: &Core) -> Done {
        let Some(own) = self.members.iter().find(|member| member.id == self.job.id) else { return Ok(Ok(false)) };
        let called = match self.spec.unexpanded {
            true => None,
            false => self.called(core).await?,
        };
        let how = match called {
            None => Unfolded::Replaced,
            Some(_) => Unfolded::Entered { prefix: call::prefix(self.spec) },
        };
        let planned = match heavy(|| self.planned(own, called.as_ref())) {
            Ok(planned) => planned,
            Err(why) => return Ok(Err(why)),
        };
        let Some(report) = core.store.get_report(&own.report).await? else { return Ok(Ok(false)) };
        let names: Vec<String> = planned.iter().map(|job| job.name.clone()).collect();
        let new = match new_jobs(core, &self.run, &self.members, own, &report.desired.context, planned) {
            Ok(new) => new,
            Err(why) => return Ok(Err(why)),
        };
        core.lifecycle.reached(Step::UnfoldPlanned).await;
        let ids: Vec<JobId> = new.iter().map(|job| job.id.clone()).collect();
        let has_changed = match core.store.unfold_job(&own.id, new, how, clock::now_ms()).await {
            Err(StoreError::TooLarge { size, limit, .. }) => {
                return Ok(Err(format!("the jobs that it becomes take {size} bytes; at most {limit} are kept")));
            }
            done => done?,
        };
        if has_changed {
            core.lifecycle.reached(Step::UnfoldStored).await;
            tracing::info!(job = %own.id, run = %self.run.id, becomes = ?names, "a job became others");
            ids.iter().for_each(|id| core.timeline.record(id, own.attempt, "planned_from", &own.name));
            core.wake.reports.notify_one();
        }
        Ok(Ok(has_changed))
    }

    /// The workflow that the job calls, as it was when the run was planned.
    async fn called(&self, core: &Core) -> Result<Option<Workflow>, StoreError> {
        let Some(place) = self.spec.called().map(|place| place.to_string()) else { return Ok(None) };
        let called = core.store.called_workflows(&self.run.id).await?;
        let called = called.into_iter().find(|called| called.place == place);
        Ok(called.and_then(|called| serde_json::from_value(called.workflow).ok()))
    }

    fn planned(&self, own: &Job, called: Option<&Workflow>) -> Result<Vec<PlannedJob>, String> {
        let (github, taken) = (self.github.to_value(), taken_names(&self.members, own));
        if self.spec.unexpanded {
            return expand(self.spec, &github, &self.needs, taken).map_err(|complaint| complaint.to_string());
        }
        let called = called.ok_or_else(|| "the workflow that it calls is not stored".to_owned())?;
        enter(self.spec, called, &github, &self.needs, taken).map_err(|complaints| listed(&complaints))
    }

    /// The call ends as its jobs did.
    async fn leave(&self, core: &Core, results: BTreeMap<String, NeedResult>) -> Done {
        let Some(called) = self.called(core).await? else {
            return Ok(Err("the workflow that it calls is not stored".to_owned()));
        };
        let prefix = call::prefix(self.spec);
        let inner = self.members.iter().find(|member| member.key.starts_with(&prefix));
        let inputs = inner.and_then(|job| serde_json::from_value::<JobSpec>(job.spec.clone()).ok());
        let inputs = inputs.map(|spec| spec.inputs).unwrap_or_default();
        let left = match leave(self.spec, &called, &self.github.to_value(), &inputs, &results) {
            Ok(left) => left,
            Err(complaint) => return Ok(Err(complaint.to_string())),
        };
        let outputs = serde_json::to_value(&left).unwrap_or(Json::Null);
        conclude(core, self.job, outcome_of_call(&left), outputs).await?;
        Ok(Ok(true))
    }
}

/// How a call ends whose jobs ended so.
pub(crate) fn outcome_of_call(left: &NeedResult) -> Outcome {
    let (conclusion, reason) = match left.result {
        contexts::Outcome::Success => (Conclusion::Success, None),
        contexts::Outcome::Failure => (Conclusion::Failure, None),
        contexts::Outcome::Cancelled => (Conclusion::Cancelled, Some(Reason::Cancelled)),
        contexts::Outcome::Skipped => (Conclusion::Skipped, Some(Reason::Skipped)),
    };
    Outcome { conclusion, reason, detail: format!("its called workflow ended: {}", left.result.as_str()) }
}

fn listed(complaints: &[Diagnostic]) -> String {
    complaints.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
