//! Runs: created together with their jobs and reports, in the transaction that marks their delivery as dealt with.

use serde_json::Value;
use sqlx::sqlite::SqliteConnection;

use super::deliveries::{delivery_state, set_delivery_state};
use super::jobs::insert_job;
use super::model::{DeliveryKey, NewRun, Run};
use super::reports::insert_report;
use super::rows::{Columns, to_json};
use super::transitions::DeliveryState;
use super::{Store, StoreError};
use crate::forge::RepoAccess;
use crate::ids::RunId;

/// Most bytes of one run's context and job specifications together. A matrix repeats its job's specification per cell.
pub const MAX_RUN_BYTES: usize = 32 * 1024 * 1024;

impl Store {
    /// Creates the runs of a delivery and moves the delivery on to `state`, all or nothing. Returns the ids of the runs that
    /// were created: a run of the same delivery and workflow file is never created twice, and a delivery that was
    /// processed before changes nothing.
    pub async fn create_runs(
        &self, delivery: &DeliveryKey, runs: Vec<NewRun>, state: DeliveryState, now: i64,
    ) -> Result<Vec<RunId>, StoreError> {
        check_sizes(&runs)?;
        let delivery = delivery.clone();
        self.write("create runs", move |db| {
            Box::pin(async move {
                if delivery_state(db, &delivery).await? == DeliveryState::Processed {
                    return Ok(Vec::new());
                }
                insert_runs(db, &delivery, &runs, state, now).await
            })
        })
        .await
    }

    /// A run.
    pub async fn run(&self, id: &RunId) -> Result<Option<Run>, StoreError> {
        self.read("read a run", async |db| {
            let row = sqlx::query("SELECT * FROM runs WHERE id = $1").bind(id.as_str()).fetch_optional(db).await?;
            row.as_ref().map(|row| read_run(Columns::of("run", row))).transpose()
        })
        .await
    }
}

pub(super) fn check_sizes(runs: &[NewRun]) -> Result<(), StoreError> {
    runs.iter().try_for_each(check_size)
}

fn check_size(run: &NewRun) -> Result<(), StoreError> {
    let json_size = |value: &Value| to_json(value).len();
    let size = json_size(&run.context) + run.jobs.iter().map(|job| json_size(&job.spec)).sum::<usize>();
    if size > MAX_RUN_BYTES {
        return Err(StoreError::TooLarge { what: "a run with its jobs", size, limit: MAX_RUN_BYTES });
    }
    Ok(())
}

/// Inserts the runs of a delivery that is not processed yet, and moves the delivery on to `state`.
pub(super) async fn insert_runs(
    db: &mut SqliteConnection, delivery: &DeliveryKey, runs: &[NewRun], state: DeliveryState, now: i64,
) -> Result<Vec<RunId>, StoreError> {
    let mut created = Vec::new();
    for run in runs {
        if insert_run(db, delivery, run, now).await? {
            created.push(run.id.clone());
        }
    }
    set_delivery_state(db, delivery, state, "", now).await?;
    Ok(created)
}

/// Inserts the run with all that belongs to it, unless the delivery already has a run of this workflow file.
async fn insert_run(
    db: &mut SqliteConnection, delivery: &DeliveryKey, run: &NewRun, now: i64,
) -> Result<bool, StoreError> {
    let known: Option<String> =
        sqlx::query_scalar("SELECT id FROM runs WHERE forge = $1 AND delivery_id = $2 AND workflow_path = $3")
            .bind(&delivery.forge)
            .bind(&delivery.id)
            .bind(&run.workflow_path)
            .fetch_optional(&mut *db)
            .await?;
    if known.is_some() {
        return Ok(false);
    }
    let number = next_number(db, delivery, run, now).await?;
    sqlx::query(
        "INSERT INTO runs (id, forge, delivery_id, repo, installation, event, sha, workflow_path, workflow_name, context, \
         number, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(run.id.as_str())
    .bind(&delivery.forge)
    .bind(&delivery.id)
    .bind(run.access.repo.as_str())
    .bind(run.access.installation.map(u64::cast_signed))
    .bind(&run.event)
    .bind(run.sha.as_str())
    .bind(&run.workflow_path)
    .bind(&run.workflow_name)
    .bind(to_json(&run.context))
    .bind(number)
    .bind(now)
    .execute(&mut *db)
    .await?;
    if let Some(report) = &run.report {
        insert_report(db, &run.id, None, report, now).await?;
    }
    for (position, job) in (0_i64..).zip(&run.jobs) {
        insert_job(db, &run.id, position, job, now).await?;
        insert_report(db, &run.id, Some(&job.id), &job.report, now).await?;
    }
    Ok(true)
}

async fn next_number(
    db: &mut SqliteConnection, delivery: &DeliveryKey, run: &NewRun, now: i64,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "INSERT INTO run_numbers (forge, repo, workflow_path, last, used_at) VALUES ($1, $2, $3, 1, $4) \
         ON CONFLICT (forge, repo, workflow_path) DO UPDATE SET last = run_numbers.last + 1, used_at = excluded.used_at \
         RETURNING last",
    )
    .bind(&delivery.forge)
    .bind(run.access.repo.as_str())
    .bind(&run.workflow_path)
    .bind(now)
    .fetch_one(db)
    .await?)
}

fn read_run(columns: Columns<'_>) -> Result<Run, StoreError> {
    Ok(Run {
        id: columns.text("id")?,
        delivery: DeliveryKey { forge: columns.plain("forge")?, id: columns.plain("delivery_id")? },
        access: RepoAccess {
            repo: columns.text("repo")?,
            installation: columns.plain::<Option<i64>>("installation")?.map(i64::cast_unsigned),
        },
        event: columns.plain("event")?,
        sha: columns.text("sha")?,
        workflow_path: columns.plain("workflow_path")?,
        workflow_name: columns.plain("workflow_name")?,
        context: columns.json("context")?,
        number: columns.count("number")?,
        created_at: columns.plain("created_at")?,
    })
}
