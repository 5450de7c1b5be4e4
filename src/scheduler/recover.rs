//! Brings jobs whose VM is lost back into the queue: those of an earlier run of the service, and those whose driver died.

use super::actions::finish;
use super::{Drivers, forks};
use crate::clock;
use crate::core::Core;
use crate::forge::{Conclusion, ReportState};
use crate::job::driver::settle_vm;
use crate::lifecycle::Step;
use crate::store::{self, JobState, Reason, ScheduledJob, StoreError};

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
/// Jobs that hold a VM without having a driver: their drivers could not store what they did, or died. Their VMs go, and they
/// are queued again.
pub(super) async fn adopt_orphans(core: &Core, jobs: &[ScheduledJob], drivers: &Drivers) -> Result<bool, StoreError> {
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
