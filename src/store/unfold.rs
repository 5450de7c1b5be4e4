//! Waiting jobs whose place others take: in one transaction, so that whoever looks sees either the one or the others.

use sqlx::sqlite::SqliteConnection;

use super::jobs::insert_job;
use super::model::NewJob;
use super::reports::insert_report;
use super::rows::{Columns, to_json};
use super::runs::MAX_RUN_BYTES;
use super::transitions::JobState;
use super::{Store, StoreError};
use crate::ids::{JobId, RunId};
use crate::metrics::labels::JobEnd;

/// More than the jobs of any run: places from here on are free while others are moved.
const FAR_AWAY: i64 = 1 << 32;

/// What becomes of the job itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfolded {
    /// The others are its cells: nothing is left of it.
    Replaced,
    /// The others are the jobs of the workflow that it calls, whose keys begin with this: it ends when they have.
    Entered { prefix: String },
}

/// A waiting job as it is just now.
struct Place {
    run: RunId,
    position: i64,
    cancel_requested: bool,
    cancel_why: Option<String>,
}

impl Store {
    /// Has other jobs take the place of a waiting one. What was asked for of it is asked for of them. Does nothing if that was
    /// done before, or if the job ended meanwhile; gives whether it was done.
    pub async fn unfold_job(
        &self, job: &JobId, others: Vec<NewJob>, how: Unfolded, now: i64,
    ) -> Result<bool, StoreError> {
        let size = others.iter().map(|job| to_json(&job.spec).len()).sum();
        if size > MAX_RUN_BYTES {
            return Err(StoreError::TooLarge { what: "the jobs that one becomes", size, limit: MAX_RUN_BYTES });
        }
        let ended: Vec<JobEnd> =
            others.iter().filter_map(|job| job.outcome.as_ref()).map(|o| JobEnd(o.conclusion, o.reason)).collect();
        let job = job.clone();
        let done = self
            .write("unfold a job", move |db| {
                Box::pin(async move {
                    let Some(place) = waiting_place(db, &job).await? else { return Ok(false) };
                    let first = leave_place(db, &job, &place, &how).await?;
                    make_room(db, &place, first, others.len()).await?;
                    for (position, other) in (first..).zip(&others) {
                        insert_job(db, &place.run, position, other, now).await?;
                        insert_report(db, &place.run, Some(&other.id), &other.report, other.telling, now).await?;
                        inherit(db, &place, &other.id).await?;
                    }
                    Ok(true)
                })
            })
            .await?;
        if done {
            ended.into_iter().for_each(|end| self.metrics.job_finished(end));
        }
        Ok(done)
    }
}

async fn waiting_place(db: &mut SqliteConnection, job: &JobId) -> Result<Option<Place>, StoreError> {
    let row = sqlx::query(
        "SELECT run_id, position, state, inner_prefix, cancel_requested, cancel_why FROM jobs WHERE id = $1",
    )
    .bind(job.as_str())
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::of("job", &row);
    if columns.state::<JobState>("state")? != JobState::Waiting
        || columns.plain::<Option<String>>("inner_prefix")?.is_some()
    {
        return Ok(None);
    }
    Ok(Some(Place {
        run: columns.text("run_id")?,
        position: columns.plain("position")?,
        cancel_requested: columns.plain("cancel_requested")?,
        cancel_why: columns.plain("cancel_why")?,
    }))
}

/// The job goes, or stays where it is; gives the place of the first of the others.
async fn leave_place(db: &mut SqliteConnection, job: &JobId, place: &Place, how: &Unfolded) -> Result<i64, StoreError> {
    Ok(match how {
        Unfolded::Replaced => {
            sqlx::query("DELETE FROM jobs WHERE id = $1").bind(job.as_str()).execute(db).await?;
            place.position
        }
        Unfolded::Entered { prefix } => {
            let entered = sqlx::query("UPDATE jobs SET inner_prefix = $2 WHERE id = $1");
            entered.bind(job.as_str()).bind(prefix).execute(db).await?;
            place.position + 1
        }
    })
}

/// Moves the jobs from this place on. No two may share one even for a moment, so they go by way of places that nobody has.
async fn make_room(db: &mut SqliteConnection, place: &Place, first: i64, count: usize) -> Result<(), StoreError> {
    let next = place.position + 1;
    let shift = first + i64::try_from(count).unwrap_or(FAR_AWAY) - next;
    for (from, by) in [(next, FAR_AWAY), (FAR_AWAY, shift - FAR_AWAY)] {
        sqlx::query("UPDATE jobs SET position = position + $3 WHERE run_id = $1 AND position >= $2")
            .bind(place.run.as_str())
            .bind(from)
            .bind(by)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

async fn inherit(db: &mut SqliteConnection, place: &Place, other: &JobId) -> Result<(), StoreError> {
    if place.cancel_requested {
        sqlx::query("UPDATE jobs SET cancel_requested = TRUE, cancel_why = $2 WHERE id = $1 AND state <> 'finished'")
            .bind(other.as_str())
            .bind(place.cancel_why.as_deref())
            .execute(db)
            .await?;
    }
    Ok(())
}
