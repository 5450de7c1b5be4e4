//! The end of the scheduler's loop: those jobs that run get some time to end, then what is left goes back into the queue.
//!
//! A stop that somebody planned is not the job's fault, nor its machine's: the attempt that it breaks off does not count
//! towards `limits.attempts`.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock;
use crate::config::format_duration;
use crate::core::Core;
use crate::forge::Conclusion;
use crate::ids::JobId;
use crate::job::driver::settle_vm;
use crate::store::{JobState, Outcome, Reason, StoreError};

/// How long drivers may take to notice that they are ended.
const ABORT_LIMIT: Duration = Duration::from_secs(10);

/// What authors read of a job that was put back.
const WHY: &str = "the service was stopped while it ran";

/// The time that jobs have left.
#[derive(Debug)]
pub(super) struct Drain {
    deadline: Instant,
    /// Jobs that ran when this was last told.
    told: usize,
}

impl Drain {
    /// Begins now, with so many jobs that run.
    pub(super) fn begin(core: &Core, running: usize) -> Self {
        let limit = core.config.limits.drain;
        if running > 0 && !limit.is_zero() {
            tracing::info!("draining: {}, up to {}", jobs(running), format_duration(limit));
        }
        Self { deadline: Instant::now() + limit, told: running }
    }

    /// Says how many jobs are still waited for, when there are fewer.
    pub(super) fn tell_progress(&mut self, running: usize) {
        if running != self.told {
            tracing::info!("draining: {}", jobs(running));
            self.told = running;
        }
    }

    /// Whether nothing is waited for any more.
    pub(super) fn is_over(&self, core: &Core, running: usize) -> bool {
        running == 0 || core.shutdown.hurry.is_cancelled() || Instant::now() >= self.deadline
    }
}

/// Waits until the next stage of the end may have come.
pub(super) async fn next_stage(core: &Core, drain: Option<&Drain>) {
    match drain {
        None => core.shutdown.drain.cancelled().await,
        Some(drain) => tokio::select! {
            () = core.shutdown.hurry.cancelled() => {}
            () = tokio::time::sleep_until(drain.deadline) => {}
        },
    }
}

fn jobs(count: usize) -> String {
    match count {
        0 => "no job runs".to_owned(),
        1 => "1 job runs".to_owned(),
        _ => format!("{count} jobs run"),
    }
}

/// Ends what still runs: destroys the VMs, then puts their jobs back, which the forge is told.
pub(super) async fn end_jobs(core: &Core, mut drivers: JoinSet<()>) {
    drivers.abort_all();
    let ended = async { while drivers.join_next().await.is_some() {} };
    if tokio::time::timeout(ABORT_LIMIT, ended).await.is_err() {
        tracing::warn!("some jobs did not end in time");
    }
    core.engine.reap().await;
    if let Err(error) = put_back_all(core).await {
        tracing::error!(%error, "jobs that ran cannot be put back into the queue; the next start will");
    }
}

async fn put_back_all(core: &Core) -> Result<(), StoreError> {
    for vm in core.store.vms_not_gone().await? {
        settle_vm(core, &vm.id).await?;
    }
    for job in core.store.unfinished_jobs().await? {
        if matches!(job.state, JobState::Leased | JobState::Running) {
            put_back(core, &job.id, job.attempt).await?;
        }
    }
    Ok(())
}

/// Puts a job back into the queue that the stop broke off.
pub(crate) async fn put_back(core: &Core, job: &JobId, attempt: u32) -> Result<(), StoreError> {
    if core.store.foreign_job(job).await?.is_some()
        && core.store.job(job).await?.is_some_and(|job| job.started_at.is_some())
    {
        return end_foreign(core, job, attempt).await;
    }
    let Some(attempt) = core.store.release_job(job, attempt, WHY, clock::now_ms()).await? else { return Ok(()) };
    tracing::info!(%job, attempt, "a job is queued again: {WHY}");
    core.timeline.record(job, attempt, "job_queued", WHY);
    core.wake.reports.notify_one();
    Ok(())
}

/// Ends a job of a forge's own that the stop broke off: whether it runs again is the forge's to decide.
async fn end_foreign(core: &Core, job: &JobId, attempt: u32) -> Result<(), StoreError> {
    let outcome =
        Outcome { conclusion: Conclusion::Error, reason: Some(Reason::ServiceRestarted), detail: WHY.to_owned() };
    core.store.finish_job(job, attempt, outcome, serde_json::Value::Null, clock::now_ms(), |_| {}).await?;
    core.timeline.record(job, attempt, "outcome_stored", WHY);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_jobs_read_well() {
        assert_eq!([0, 1, 2].map(jobs), ["no job runs", "1 job runs", "2 jobs run"]);
    }
}
