//! A job's timeline: what happened when, for the person who asks where the time went.

use super::model::JobEvent;
use super::rows::Columns;
use super::{Store, StoreError, bounded_detail};
use crate::ids::JobId;

/// Events kept per job, over all its attempts; later ones are dropped.
pub const MAX_EVENTS_PER_JOB: u32 = 1000;

impl Store {
    /// Adds an event to a job's timeline. Beyond [`MAX_EVENTS_PER_JOB`], and for a job that is gone, it does nothing.
    pub async fn record_event(&self, job: &JobId, event: JobEvent) -> Result<(), StoreError> {
        let job = job.clone();
        self.write("record an event", move |db| {
            Box::pin(async move {
                // Selecting from `jobs` makes an event of a pruned job vanish instead of failing.
                sqlx::query(
                    "INSERT INTO job_events (job_id, number, attempt, at_us, kind, detail) \
                     SELECT jobs.id, (SELECT COUNT(*) FROM job_events WHERE job_id = $1), $2, $3, $4, $5 FROM jobs \
                     WHERE jobs.id = $1 AND (SELECT COUNT(*) FROM job_events WHERE job_id = $1) < $6",
                )
                .bind(job.as_str())
                .bind(i64::from(event.attempt))
                .bind(event.at_us)
                .bind(bounded_detail(&event.kind))
                .bind(bounded_detail(&event.detail))
                .bind(i64::from(MAX_EVENTS_PER_JOB))
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// A job's timeline in the order of recording.
    pub async fn events(&self, job: &JobId) -> Result<Vec<JobEvent>, StoreError> {
        self.read("read a timeline", async |db| {
            let rows =
                sqlx::query("SELECT attempt, at_us, kind, detail FROM job_events WHERE job_id = $1 ORDER BY number")
                    .bind(job.as_str())
                    .fetch_all(db)
                    .await?;
            rows.iter().map(|row| read_event(Columns::of("timeline", row))).collect()
        })
        .await
    }
}

fn read_event(columns: Columns<'_>) -> Result<JobEvent, StoreError> {
    Ok(JobEvent {
        attempt: columns.count("attempt")?,
        at_us: columns.plain("at_us")?,
        kind: columns.plain("kind")?,
        detail: columns.plain("detail")?,
    })
}
