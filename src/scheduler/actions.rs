//! Carries out what was planned: one call for each action, with what is intended stored before it is done.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::plan::Action;
use super::survey::Specs;
use super::{Driver, Drivers};
use crate::clock;
use crate::config::MatrixFork;
use crate::core::Core;
use crate::forge::Conclusion;
use crate::ids::{JobId, VmId};
use crate::job::driver::{Lease, drive};
use crate::job::sharing::Part;
use crate::lifecycle::Step;
use crate::metrics::labels::CellStart;
use crate::pool::{self, Reserved};
use crate::store::{Outcome, Reason, ScheduledJob, StoreError};
use crate::workflow::plan::JobSpec;
use crate::workflow::share::shared_steps;
use crate::workflow::strategy::FAILED_FAST;

/// One look's means to carry out its plan.
pub(super) struct Round<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) jobs: &'a [ScheduledJob],
    pub(super) specs: &'a Specs,
    pub(super) tasks: &'a mut JoinSet<()>,
    pub(super) drivers: &'a mut Drivers,
}

impl<'a> Round<'a> {
    /// Carries out one action. Gives whether the store changed.
    pub(super) async fn apply(&mut self, action: Action) -> Result<bool, StoreError> {
        let core = self.core;
        match action {
            Action::Queue(id) => {
                let Some(job) = self.known(&id) else { return Ok(false) };
                core.store.queue_job(&id, clock::now_ms()).await?;
                core.lifecycle.reached(Step::JobQueued).await;
                core.timeline.record(&id, job.attempt, "job_queued", "");
                Ok(true)
            }
            Action::Skip(id) => {
                let Some(job) = self.known(&id) else { return Ok(false) };
                let detail = format!("Skipped: {}", self.specs.why_skipped(job));
                finish(core, job, Conclusion::Skipped, Some(Reason::Skipped), detail).await?;
                Ok(true)
            }
            Action::Fail(id, why) => {
                let Some(job) = self.known(&id) else { return Ok(false) };
                finish(core, job, Conclusion::Error, Some(Reason::Workflow), why).await?;
                Ok(true)
            }
            Action::Unfold(id) => self.unfold(&id).await,
            Action::Join(id) => self.join(&id).await,
            Action::Start(_) | Action::Claim(..) if core.shutdown.drain.is_cancelled() => Ok(false),
            Action::Start(id) => match self.startable(&id) {
                Some(job) => self.start(job, None).await,
                None => Ok(false),
            },
            Action::Claim(id, vm) => {
                let Some(job) = self.startable(&id) else { return Ok(false) };
                // One that died meanwhile still has its place; once it is gone, the next look finds another way.
                let Some(idle) = core.pools.take(&vm) else { return Ok(false) };
                self.start(job, Some(idle)).await
            }
            Action::Evict(vm) => {
                pool::evict(core, &vm);
                Ok(false)
            }
            Action::Cancel(id) => core.store.request_cancel(&id, FAILED_FAST).await.map(|_| true),
        }
    }

    pub(super) fn known(&self, id: &JobId) -> Option<&'a ScheduledJob> {
        self.jobs.iter().find(|job| job.id == *id)
    }

    /// The job, unless it has started, or has to wait: since the plan was made, another cell of its matrix may have begun to
    /// run steps for it.
    fn startable(&self, id: &JobId) -> Option<&'a ScheduledJob> {
        self.known(id).filter(|job| !self.drivers.contains_key(id) && self.core.sharing.leader(job).is_none())
    }

    async fn start(&mut self, job: &ScheduledJob, idle: Option<Reserved>) -> Result<bool, StoreError> {
        let core = self.core;
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
        let needs = self.specs.needs(&job.run, spec.as_ref().map_or(&[], |spec| spec.ancestors.as_slice()));
        let shared = spec.map_or(0, |spec| shared_steps_of(core, job, &spec));
        let part = match idle {
            // It cannot be frozen, and stands where its image does.
            Some(_) => Part::Alone,
            None => core.sharing.take_part(job, shared, self.jobs),
        };
        if shared > 0 {
            core.metrics.jobs.cell_began(CellStart::of(&part));
        }
        let foreign = core.store.foreign_job(&job.id).await?;
        let lease = Lease { job: stored, run, vm, idle, needs, foreign, part, began: Instant::now() };
        let cancel = CancellationToken::new();
        let task = self.tasks.spawn(drive(Arc::clone(core), lease, cancel.clone())).id();
        self.drivers.insert(job.id.clone(), Driver { task, cancel });
        Ok(true)
    }
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
pub(super) async fn finish(
    core: &Core, job: &ScheduledJob, conclusion: Conclusion, reason: Option<Reason>, detail: String,
) -> Result<(), StoreError> {
    conclude(core, job, Outcome { conclusion, reason, detail }, serde_json::Value::Null).await
}

/// Stores the outcome and the outputs of a job that never got a VM.
pub(super) async fn conclude(
    core: &Core, job: &ScheduledJob, outcome: Outcome, outputs: serde_json::Value,
) -> Result<(), StoreError> {
    let conclusion = outcome.conclusion;
    let title = outcome.detail.lines().next().unwrap_or_default().to_owned();
    let summary = outcome.detail.clone();
    let describe = move |report: &mut crate::forge::Report| {
        report.title = title;
        report.summary = summary;
    };
    core.store.finish_job(&job.id, job.attempt, outcome, outputs, clock::now_ms(), describe).await?;
    core.timeline.record(&job.id, job.attempt, "outcome_stored", conclusion.as_str());
    core.wake.reports.notify_one();
    Ok(())
}
