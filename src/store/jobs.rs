//! The life of a job: every method here is one step along the table of [`JobState`], in one transaction with what must be
//! true together with it. Steps name the attempt they mean, so that a driver of a lost attempt cannot touch the next one.

use serde_json::Value;
use sqlx::sqlite::SqliteConnection;

use super::foreign::is_foreign;
use super::model::{Finished, NewJob, Outcome, Requeued};
use super::reports::{change_report, hasten_report, report_of_job, tell};
use super::rows::{Columns, to_json};
use super::transitions::{JobState, Lifecycle};
use super::vms::insert_vm;
use super::{Store, StoreError, bounded_detail};
use crate::forge::{Report, ReportState};
use crate::ids::{JobId, RunId, VmId};
use crate::metrics::labels::JobEnd;

/// The number of a job's first attempt.
const FIRST_ATTEMPT: u32 = 1;

impl Store {
    /// A waiting job may start as soon as there is capacity.
    pub async fn queue_job(&self, job: &JobId, now: i64) -> Result<(), StoreError> {
        let job = job.clone();
        self.write("queue a job", move |db| {
            Box::pin(async move {
                expect_state(load(db, &job).await?.state, &[JobState::Waiting], &job, JobState::Queued)?;
                sqlx::query("UPDATE jobs SET state = 'queued', queued_at = $2 WHERE id = $1")
                    .bind(job.as_str())
                    .bind(now)
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// A queued job gets a VM: stores the lease and the VM as [`VmState::Creating`](super::VmState::Creating), before
    /// anything of the VM exists.
    pub async fn lease_job(&self, job: &JobId, attempt: u32, vm: &VmId, now: i64) -> Result<(), StoreError> {
        let (job, vm) = (job.clone(), vm.clone());
        self.write("lease a VM to a job", move |db| {
            Box::pin(async move {
                load_attempt(db, &job, attempt).await?.state.check(&job, JobState::Leased)?;
                insert_vm(db, &vm, &job, attempt, now).await?;
                sqlx::query("UPDATE jobs SET state = 'leased', vm_id = $2 WHERE id = $1")
                    .bind(job.as_str())
                    .bind(vm.as_str())
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// A leased job's steps begin.
    pub async fn start_job(&self, job: &JobId, attempt: u32, now: i64) -> Result<(), StoreError> {
        let job = job.clone();
        self.write("start a job", move |db| {
            Box::pin(async move {
                load_attempt(db, &job, attempt).await?.state.check(&job, JobState::Running)?;
                sqlx::query("UPDATE jobs SET state = 'running', started_at = $2 WHERE id = $1")
                    .bind(job.as_str())
                    .bind(now)
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// A leased or running job lost its VM: queues it for its next attempt, unless it has had `max_attempts`, apart from
    /// those that [`Store::release_job`] spared it, or is a forge's own that has started. It keeps its place in the queue.
    pub async fn requeue_job(&self, job: &JobId, attempt: u32, max_attempts: u32) -> Result<Requeued, StoreError> {
        let job = job.clone();
        self.write("queue a job again", move |db| {
            Box::pin(async move {
                let known = load_attempt(db, &job, attempt).await?;
                expect_state(known.state, &[JobState::Leased, JobState::Running], &job, JobState::Queued)?;
                let may_not = known.state == JobState::Running && is_foreign(db, &job).await?;
                if may_not || attempt - known.spared >= max_attempts {
                    return Ok(Requeued::Exhausted);
                }
                let attempt = attempt + 1;
                sqlx::query(
                    "UPDATE jobs SET state = 'queued', attempt = $2, vm_id = NULL, started_at = NULL WHERE id = $1",
                )
                .bind(job.as_str())
                .bind(i64::from(attempt))
                .execute(db)
                .await?;
                Ok(Requeued::Queued { attempt })
            })
        })
        .await
    }

    /// The service is stopped while a job is leased or running: queues it for its next attempt and has the forge told `why`,
    /// at once. This attempt does not count. Returns the next one's number; `None` if the job has moved on meanwhile.
    pub async fn release_job(&self, job: &JobId, attempt: u32, why: &str, now: i64) -> Result<Option<u32>, StoreError> {
        let (job, next) = (job.clone(), attempt + 1);
        let title = format!("Queued again (attempt {next}): {why}");
        self.write("put a job back into the queue", move |db| {
            Box::pin(async move {
                let known = load(db, &job).await?;
                if known.attempt != attempt || !matches!(known.state, JobState::Leased | JobState::Running) {
                    return Ok(None);
                }
                known.state.check(&job, JobState::Queued)?;
                sqlx::query(
                    "UPDATE jobs SET state = 'queued', attempt = $2, spared_attempts = spared_attempts + 1, \
                     vm_id = NULL, started_at = NULL WHERE id = $1",
                )
                .bind(job.as_str())
                .bind(i64::from(next))
                .execute(&mut *db)
                .await?;
                let report = report_of_job(db, &job).await?;
                let queued = |report: &mut Report| (report.state, report.title) = (ReportState::Queued, title);
                change_report(db, &report, now, queued).await?;
                hasten_report(db, &report, now).await?;
                Ok(Some(next))
            })
        })
        .await
    }

    /// Stores how an attempt ended and, in the same transaction, makes the job's report finished: `describe` gives it its
    /// title and summary. The same outcome may be told again; a different one is refused.
    pub async fn finish_job(
        &self, job: &JobId, attempt: u32, outcome: Outcome, outputs: Value, now: i64,
        describe: impl FnOnce(&mut Report) + Send + 'static,
    ) -> Result<Finished, StoreError> {
        let job = job.clone();
        let end = JobEnd(outcome.conclusion, outcome.reason);
        let finished = self
            .write("store a job's outcome", move |db| {
                Box::pin(async move {
                    let known = load_attempt(db, &job, attempt).await?;
                    if let Some(stored) = known.outcome {
                        return same_outcome(job, &stored, &outcome);
                    }
                    known.state.check(&job, JobState::Finished)?;
                    sqlx::query(
                    "UPDATE jobs SET state = 'finished', outcome = $2, outputs = $3, finished_at = $4 WHERE id = $1",
                )
                .bind(job.as_str())
                .bind(to_json(&outcome))
                .bind(to_json(&outputs))
                .bind(now)
                .execute(&mut *db)
                .await?;
                    if !known.is_entered {
                        tell(db, &job).await?;
                    }
                    let report = report_of_job(db, &job).await?;
                    change_report(db, &report, now, |report| {
                        describe(report);
                        report.state = ReportState::Finished(outcome.conclusion);
                        report.started_at = known.started_at;
                        report.finished_at = Some(now);
                    })
                    .await?;
                    Ok(Finished::Now)
                })
            })
            .await?;
        if finished == Finished::Now {
            self.metrics.job_finished(end);
        }
        Ok(finished)
    }

    /// Notes that a job shall end, and why, as its outcome will say it; the first reason counts. Returns its state: what to do
    /// depends on how far it is. A finished job stays as it is.
    pub async fn request_cancel(&self, job: &JobId, why: &str) -> Result<JobState, StoreError> {
        let (job, why) = (job.clone(), bounded_detail(why).to_owned());
        self.write("cancel a job", move |db| {
            Box::pin(async move {
                let known = load(db, &job).await?;
                sqlx::query(
                    "UPDATE jobs SET cancel_requested = TRUE, cancel_why = COALESCE(cancel_why, $2) \
                     WHERE id = $1 AND state <> 'finished'",
                )
                .bind(job.as_str())
                .bind(why)
                .execute(db)
                .await?;
                Ok(known.state)
            })
        })
        .await
    }
}

/// What the checks of a step need to know.
struct Known {
    state: JobState,
    attempt: u32,
    outcome: Option<Outcome>,
    started_at: Option<i64>,
    /// Attempts that do not count towards the limit.
    spared: u32,
    is_entered: bool,
}

async fn load(db: &mut SqliteConnection, job: &JobId) -> Result<Known, StoreError> {
    let row = sqlx::query(
        "SELECT state, attempt, outcome, started_at, spared_attempts, inner_prefix FROM jobs WHERE id = $1",
    )
    .bind(job.as_str())
    .fetch_optional(db)
    .await?
    .ok_or_else(|| StoreError::NotFound { what: "job", id: job.to_string() })?;
    let columns = Columns::of("job", &row);
    Ok(Known {
        state: columns.state("state")?,
        attempt: columns.count("attempt")?,
        outcome: columns.optional_json("outcome")?,
        started_at: columns.plain("started_at")?,
        spared: columns.count("spared_attempts")?,
        is_entered: columns.plain::<Option<String>>("inner_prefix")?.is_some(),
    })
}

async fn load_attempt(db: &mut SqliteConnection, job: &JobId, attempt: u32) -> Result<Known, StoreError> {
    let known = load(db, job).await?;
    if known.attempt != attempt {
        return Err(StoreError::OtherAttempt { job: job.clone(), attempt, current: known.attempt });
    }
    Ok(known)
}

/// Two different steps lead to [`JobState::Queued`]: each may start only where its own begins.
fn expect_state(state: JobState, begins: &[JobState], job: &JobId, next: JobState) -> Result<(), StoreError> {
    if begins.contains(&state) {
        return state.check(job, next);
    }
    Err(StoreError::Illegal { what: JobState::WHAT, id: job.to_string(), from: state.as_str(), to: next.as_str() })
}

fn same_outcome(job: JobId, stored: &Outcome, told: &Outcome) -> Result<Finished, StoreError> {
    if stored == told {
        return Ok(Finished::Before);
    }
    Err(StoreError::OtherOutcome { job, stored: to_json(stored), refused: to_json(told) })
}

pub(super) async fn insert_job(
    db: &mut SqliteConnection, run: &RunId, position: i64, job: &NewJob, now: i64,
) -> Result<(), StoreError> {
    let state = if job.outcome.is_some() { JobState::Finished } else { JobState::Waiting };
    sqlx::query(
        "INSERT INTO jobs (id, run_id, position, key, name, spec, needs, profile, state, attempt, outcome, log_token, \
         created_at, finished_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(job.id.as_str())
    .bind(run.as_str())
    .bind(position)
    .bind(&job.key)
    .bind(&job.name)
    .bind(to_json(&job.spec))
    .bind(to_json(&job.needs))
    .bind(job.profile.as_deref())
    .bind(state.as_str())
    .bind(i64::from(FIRST_ATTEMPT))
    .bind(job.outcome.as_ref().map(to_json))
    .bind(job.log_token.as_str())
    .bind(now)
    .bind(job.outcome.as_ref().map(|_| now))
    .execute(db)
    .await?;
    Ok(())
}
