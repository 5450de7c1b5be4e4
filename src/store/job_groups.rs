//! Concurrency groups of single jobs: what the arrival of a job does to the others of its group, in the transaction in which it
//! enters. Whose turn it is is decided by the scheduler's plan, in the order of arrival.

use sqlx::sqlite::SqliteConnection;

use super::origin::run_label;
use super::rows::Columns;
use super::transitions::JobState;
use super::{Store, StoreError};
use crate::ids::JobId;
use crate::workflow::concurrency::{Arrival, Group, Member, arrive};

/// What became of a job that wanted to enter its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// It is in the group, now or before.
    In,
    /// There is no place for it.
    TurnedAway,
}

impl Store {
    /// Has a job enter its concurrency group, and ends those for which there is no place any more.
    pub async fn join_group(&self, job: &JobId, group: Group, now: i64) -> Result<Joined, StoreError> {
        let job = job.clone();
        self.write("enter a concurrency group", move |db| {
            Box::pin(async move {
                let members = members(db, &job, &group.name).await?;
                let stages: Vec<Member> = members.iter().map(|(_, stage)| *stage).collect();
                let Arrival::Enters { ends } = arrive(&stages, &group) else { return Ok(Joined::TurnedAway) };
                let why = format!("Cancelled: superseded by {}", label(db, &job).await?);
                for (victim, _) in ends.into_iter().filter_map(|place| members.get(place)) {
                    sqlx::query(
                        "UPDATE jobs SET cancel_requested = TRUE, cancel_why = COALESCE(cancel_why, $2) WHERE id = $1",
                    )
                    .bind(victim.as_str())
                    .bind(&why)
                    .execute(&mut *db)
                    .await?;
                }
                sqlx::query(
                    "UPDATE jobs SET concurrency_group = $2, joined_group_at = $3 \
                     WHERE id = $1 AND concurrency_group IS NULL",
                )
                .bind(job.as_str())
                .bind(&group.name)
                .bind(now)
                .execute(db)
                .await?;
                Ok(Joined::In)
            })
        })
        .await
    }
}

/// The other jobs of the group that are not over or ending, in the order of their arrival.
async fn members(db: &mut SqliteConnection, job: &JobId, group: &str) -> Result<Vec<(JobId, Member)>, StoreError> {
    let rows = sqlx::query(
        "SELECT jobs.id, jobs.state, jobs.inner_prefix FROM jobs JOIN runs ON runs.id = jobs.run_id \
         JOIN jobs AS own ON own.id = $1 JOIN runs AS own_run ON own_run.id = own.run_id \
         WHERE jobs.concurrency_group = $2 AND jobs.state <> 'finished' AND NOT jobs.cancel_requested \
         AND jobs.id <> $1 AND runs.forge = own_run.forge AND runs.repo = own_run.repo \
         ORDER BY jobs.joined_group_at, jobs.id",
    )
    .bind(job.as_str())
    .bind(group)
    .fetch_all(db)
    .await?;
    let read = |row| {
        let columns = Columns::of("job", row);
        let waits = columns.state::<JobState>("state")? == JobState::Waiting;
        let is_entered = columns.plain::<Option<String>>("inner_prefix")?.is_some();
        Ok((columns.text("id")?, if waits && !is_entered { Member::Waits } else { Member::Runs }))
    };
    rows.iter().map(read).collect()
}

/// How people call the job.
async fn label(db: &mut SqliteConnection, job: &JobId) -> Result<String, StoreError> {
    let row = sqlx::query(
        "SELECT jobs.name, runs.number, runs.sha FROM jobs JOIN runs ON runs.id = jobs.run_id WHERE jobs.id = $1",
    )
    .bind(job.as_str())
    .fetch_optional(db)
    .await?
    .ok_or_else(|| StoreError::NotFound { what: "job", id: job.to_string() })?;
    let columns = Columns::of("job", &row);
    let name: String = columns.plain("name")?;
    Ok(format!("`{name}` of {}", run_label(columns.count("number")?, &columns.text("sha")?)))
}
