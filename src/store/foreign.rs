//! Jobs that a forge planned itself: a GitLab job, a machine for a just-in-time runner.
//!
//! Such a job is a run with one job like any other, so that everything that jobs have is there for it. Beside it stands what the
//! forge asked for and how far the forge was told. It is *settled* once the forge knows its end; until then somebody has to tell it.
//!
//! A foreign job that has started is never run again: its log may have been sent, and whether to repeat it is the forge's
//! to decide.

use serde_json::Value;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::model::{DeliveryKey, NewRun};
use super::rows::{Columns, to_json};
use super::runs::{check_size, insert_run};
use super::{Store, StoreError};
use crate::ids::JobId;

/// What a forge asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewForeign {
    /// Who gave the job away.
    pub source: String,
    /// Its name there. With the source it identifies the job.
    pub external_id: String,
    /// Opaque here.
    pub request: Value,
}

/// A stored job of a forge's own.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignJob {
    pub job: JobId,
    pub source: String,
    pub external_id: String,
    /// `null` once the job is settled.
    pub request: Value,
    /// `null` before [`Store::note_foreign_progress`].
    pub progress: Value,
    /// `null` before [`Store::note_foreign_verdict`].
    pub verdict: Value,
    pub settled: bool,
}

impl Store {
    /// Stores a run with its one job, which may start at once; `None` if the forge gave this job away before.
    /// The run names no delivery that is stored: nothing but its source and id made it.
    pub async fn accept_foreign(
        &self, run: NewRun, foreign: NewForeign, now: i64,
    ) -> Result<Option<JobId>, StoreError> {
        check_size(&run)?;
        self.write("accept a job of a forge's own", move |db| {
            Box::pin(async move {
                let [job] = run.jobs.as_slice() else {
                    return Err(StoreError::NotFound { what: "the one job of run", id: run.id.to_string() });
                };
                if is_known(db, &foreign).await? {
                    return Ok(None);
                }
                let delivery = DeliveryKey { forge: foreign.source.clone(), id: foreign.external_id.clone() };
                if !insert_run(db, &delivery, &run, now).await? {
                    return Ok(None);
                }
                sqlx::query("UPDATE jobs SET state = 'queued', queued_at = $2 WHERE id = $1")
                    .bind(job.id.as_str())
                    .bind(now)
                    .execute(&mut *db)
                    .await?;
                sqlx::query("INSERT INTO foreign_jobs (job_id, source, external_id, request) VALUES ($1, $2, $3, $4)")
                    .bind(job.id.as_str())
                    .bind(&foreign.source)
                    .bind(&foreign.external_id)
                    .bind(to_json(&foreign.request))
                    .execute(db)
                    .await?;
                Ok(Some(job.id.clone()))
            })
        })
        .await
    }

    /// What a forge asked for, if the job is of that kind.
    pub async fn foreign_job(&self, job: &JobId) -> Result<Option<ForeignJob>, StoreError> {
        self.read("read a job of a forge's own", async |db| {
            let row = sqlx::query("SELECT * FROM foreign_jobs WHERE job_id = $1")
                .bind(job.as_str())
                .fetch_optional(db)
                .await?;
            row.as_ref().map(read_foreign).transpose()
        })
        .await
    }

    /// The jobs of a source, or of all of them, whose end the forge does not know yet; oldest first.
    pub async fn unsettled_foreign(&self, source: Option<&str>) -> Result<Vec<ForeignJob>, StoreError> {
        self.read("list jobs of forges' own", async |db| {
            let rows = sqlx::query(
                "SELECT foreign_jobs.* FROM foreign_jobs JOIN jobs ON jobs.id = foreign_jobs.job_id \
                 WHERE NOT settled AND ($1 IS NULL OR source = $1) ORDER BY jobs.created_at, jobs.id",
            )
            .bind(source)
            .fetch_all(db)
            .await?;
            rows.iter().map(read_foreign).collect()
        })
        .await
    }

    /// Notes how far the forge was told.
    pub async fn note_foreign_progress(&self, job: &JobId, progress: Value) -> Result<(), StoreError> {
        self.set_foreign(job, "UPDATE foreign_jobs SET progress = $2 WHERE job_id = $1", Some(progress)).await
    }

    /// Notes what ran the job says of its end, before the end itself is stored.
    pub async fn note_foreign_verdict(&self, job: &JobId, verdict: Value) -> Result<(), StoreError> {
        self.set_foreign(job, "UPDATE foreign_jobs SET verdict = $2 WHERE job_id = $1", Some(verdict)).await
    }

    /// The forge knows the end. What it asked for is forgotten, with the tokens in it.
    pub async fn settle_foreign(&self, job: &JobId) -> Result<(), StoreError> {
        self.set_foreign(job, "UPDATE foreign_jobs SET settled = TRUE, request = $2 WHERE job_id = $1", None).await
    }

    async fn set_foreign(&self, job: &JobId, sql: &'static str, value: Option<Value>) -> Result<(), StoreError> {
        let job = job.clone();
        self.write("note something of a job of a forge's own", move |db| {
            Box::pin(async move {
                let done = sqlx::query(sql).bind(job.as_str()).bind(value.map(|value| to_json(&value)));
                match done.execute(db).await?.rows_affected() {
                    1 => Ok(()),
                    _ => Err(StoreError::NotFound { what: "job of a forge's own", id: job.to_string() }),
                }
            })
        })
        .await
    }
}

async fn is_known(db: &mut SqliteConnection, foreign: &NewForeign) -> Result<bool, StoreError> {
    let known: Option<String> =
        sqlx::query_scalar("SELECT job_id FROM foreign_jobs WHERE source = $1 AND external_id = $2")
            .bind(&foreign.source)
            .bind(&foreign.external_id)
            .fetch_optional(db)
            .await?;
    Ok(known.is_some())
}

/// Whether a job is a forge's own, and so runs at most once.
pub(super) async fn is_foreign(db: &mut SqliteConnection, job: &JobId) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM foreign_jobs WHERE job_id = $1")
        .bind(job.as_str())
        .fetch_optional(db)
        .await?;
    Ok(found.is_some())
}

fn read_foreign(row: &SqliteRow) -> Result<ForeignJob, StoreError> {
    let columns = Columns::of("job of a forge's own", row);
    Ok(ForeignJob {
        job: columns.text("job_id")?,
        source: columns.plain("source")?,
        external_id: columns.plain("external_id")?,
        request: columns.optional_json("request")?.unwrap_or_default(),
        progress: columns.json("progress")?,
        verdict: columns.json("verdict")?,
        settled: columns.plain("settled")?,
    })
}
