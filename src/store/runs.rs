//! Runs: created together with their jobs and reports, in the transaction that marks their delivery as dealt with.

use serde_json::Value;
use sqlx::sqlite::SqliteConnection;

use super::deliveries::{delivery_state, set_delivery_state};
use super::jobs::insert_job;
use super::model::{DeliveryKey, NewRun, Run, Telling};
use super::origin::{FIRST_RUN_ATTEMPT, Origin, check_attempt, read_origin};
use super::reports::insert_report;
use super::rows::{Columns, to_bigint, to_json};
use super::transitions::DeliveryState;
use super::{Store, StoreError, approvals, called, concurrency};
use crate::forge::RepoAccess;
use crate::ids::RunId;
use crate::metrics::labels::JobEnd;

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
        let ended_at_once = ends(&runs);
        let created = self
            .write("create runs", move |db| {
                Box::pin(async move {
                    if delivery_state(db, &delivery).await? == DeliveryState::Processed {
                        return Ok(Vec::new());
                    }
                    insert_runs(db, &delivery, &runs, state, now).await
                })
            })
            .await?;
        self.count_ended(ended_at_once, &created);
        Ok(created)
    }

    /// Tells the metrics of the jobs that ended when their runs were created.
    pub(super) fn count_ended(&self, ended_at_once: Vec<(RunId, JobEnd)>, created: &[RunId]) {
        for (_, end) in ended_at_once.into_iter().filter(|(run, _)| created.contains(run)) {
            self.metrics.job_finished(end);
        }
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

/// How those jobs ended that never begin.
pub(super) fn ends(runs: &[NewRun]) -> Vec<(RunId, JobEnd)> {
    let jobs = runs.iter().flat_map(|run| run.jobs.iter().map(|job| (&run.id, job.outcome.as_ref())));
    jobs.filter_map(|(run, outcome)| outcome.map(|o| (run.clone(), JobEnd(o.conclusion, o.reason)))).collect()
}

/// Fails for a run with more than [`MAX_RUN_BYTES`], which is not stored.
pub fn check_size(run: &NewRun) -> Result<(), StoreError> {
    let json_size = |value: &Value| to_json(value).len();
    let called: usize = run.called.iter().map(|called| json_size(&called.workflow)).sum();
    let size = json_size(&run.context) + called + run.jobs.iter().map(|job| json_size(&job.spec)).sum::<usize>();
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

/// Inserts the run with all that belongs to it, and lets it act on its concurrency group; unless the delivery already has a
/// run of this workflow file.
pub(super) async fn insert_run(
    db: &mut SqliteConnection, delivery: &DeliveryKey, run: &NewRun, now: i64,
) -> Result<bool, StoreError> {
    let known: Option<String> =
        sqlx::query_scalar("SELECT id FROM runs WHERE forge = $1 AND delivery_id = $2 AND workflow_path = $3")
            .bind(&run.forge)
            .bind(&delivery.id)
            .bind(&run.workflow_path)
            .fetch_optional(&mut *db)
            .await?;
    if known.is_some() {
        return Ok(false);
    }
    check_attempt(db, run).await?;
    let number = match &run.origin.rerun {
        Some(rerun) => to_bigint(rerun.number),
        None => next_number(db, run, now).await?,
    };
    insert_row(db, delivery, run, number, now).await?;
    if let Some(report) = &run.report {
        insert_report(db, &run.id, None, report, Telling::AtOnce, now).await?;
    }
    for (position, job) in (0_i64..).zip(&run.jobs) {
        insert_job(db, &run.id, position, job, now).await?;
        insert_report(db, &run.id, Some(&job.id), &job.report, job.telling, now).await?;
    }
    for called in &run.called {
        called::insert(db, &run.id, called).await?;
    }
    approvals::check_void(db, run).await?;
    concurrency::enter(db, run, number).await?;
    Ok(true)
}

async fn insert_row(
    db: &mut SqliteConnection, delivery: &DeliveryKey, run: &NewRun, number: i64, now: i64,
) -> Result<(), StoreError> {
    let Origin { pull_request, is_held, rerun, concurrency, arrived_at } = &run.origin;
    sqlx::query(
        "INSERT INTO runs (id, forge, delivery_id, repo, installation, event, sha, workflow_path, workflow_name, context, \
         number, created_at, delivery_forge, pull_request, is_fork, is_held, root_id, attempt, carried, \
         concurrency_group, cancels_group, arrived_at, queues_in_group) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
         $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)",
    )
    .bind(run.id.as_str())
    .bind(&run.forge)
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
    .bind(&delivery.forge)
    .bind(pull_request.map(|pull| pull.number.cast_signed()))
    .bind(pull_request.is_some_and(|pull| pull.is_fork))
    .bind(*is_held)
    .bind(rerun.as_ref().map(|rerun| rerun.root.as_str().to_owned()))
    .bind(rerun.as_ref().map_or(i64::from(FIRST_RUN_ATTEMPT), |rerun| i64::from(rerun.attempt)))
    .bind(rerun.as_ref().map_or_else(|| "{}".to_owned(), |rerun| to_json(&rerun.carried)))
    .bind(concurrency.as_ref().map(|concurrency| concurrency.group.as_str()))
    .bind(concurrency.as_ref().is_some_and(|concurrency| concurrency.cancels))
    .bind(*arrived_at)
    .bind(concurrency.as_ref().is_some_and(|concurrency| concurrency.queues))
    .execute(db)
    .await?;
    Ok(())
}

async fn next_number(db: &mut SqliteConnection, run: &NewRun, now: i64) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "INSERT INTO run_numbers (forge, repo, workflow_path, last, used_at) VALUES ($1, $2, $3, 1, $4) \
         ON CONFLICT (forge, repo, workflow_path) DO UPDATE SET last = run_numbers.last + 1, used_at = excluded.used_at \
         RETURNING last",
    )
    .bind(&run.forge)
    .bind(run.access.repo.as_str())
    .bind(&run.workflow_path)
    .bind(now)
    .fetch_one(db)
    .await?)
}

pub(super) fn read_run(columns: Columns<'_>) -> Result<Run, StoreError> {
    Ok(Run {
        id: columns.text("id")?,
        forge: columns.plain("forge")?,
        delivery: DeliveryKey { forge: columns.plain("delivery_forge")?, id: columns.plain("delivery_id")? },
        access: RepoAccess {
            repo: columns.text("repo")?,
            installation: columns.plain::<Option<i64>>("installation")?.map(i64::cast_unsigned),
        },
        event: columns.plain("event")?,
        sha: columns.text("sha")?,
        workflow_path: columns.plain("workflow_path")?,
        workflow_name: columns.plain("workflow_name")?,
        context: columns.json("context")?,
        origin: read_origin(columns)?,
        number: columns.count("number")?,
        created_at: columns.plain("created_at")?,
    })
}
