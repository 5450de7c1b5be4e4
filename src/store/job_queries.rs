//! Reading jobs: one, those of a run, those that the scheduler looks at, those that a list shows.

use sqlx::sqlite::SqliteRow;

use super::model::{Job, JobFilter, ListedJob, Outcome, ScheduledJob};
use super::origin::{GroupPlace, run_label};
use super::rows::{Columns, to_json};
use super::transitions::Lifecycle;
use super::{Store, StoreError};
use crate::forge::Conclusion;
use crate::ids::{JobId, LogToken, RunId};

/// Jobs, each with its report's id, which lives in the table of reports.
macro_rules! select_jobs {
    ($rest:literal) => {
        concat!("SELECT jobs.*, reports.id AS report_id FROM jobs JOIN reports ON reports.job_id = jobs.id ", $rest)
    };
}

impl Store {
    /// A job.
    pub async fn job(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        self.one_job(select_jobs!("WHERE jobs.id = $1"), id.as_str()).await
    }

    /// The job whose log page has this token.
    pub async fn job_by_log_token(&self, token: &LogToken) -> Result<Option<Job>, StoreError> {
        self.one_job(select_jobs!("WHERE jobs.log_token = $1"), token.as_str()).await
    }

    async fn one_job(&self, sql: &'static str, key: &str) -> Result<Option<Job>, StoreError> {
        self.read("read a job", async |db| {
            let row = sqlx::query(sql).bind(key).fetch_optional(db).await?;
            row.as_ref().map(read_job).transpose()
        })
        .await
    }

    /// The jobs of a run in the order in which they were planned.
    pub async fn jobs_of_run(&self, run: &RunId) -> Result<Vec<Job>, StoreError> {
        self.read("read a run's jobs", async |db| {
            let rows = sqlx::query(select_jobs!("WHERE jobs.run_id = $1 ORDER BY jobs.position"))
                .bind(run.as_str())
                .fetch_all(db)
                .await?;
            rows.iter().map(read_job).collect()
        })
        .await
    }

    /// All jobs of the runs that have an unfinished one, oldest run first: what the scheduler decides from. The finished
    /// ones among them are there for those that need them.
    pub async fn unfinished_jobs(&self) -> Result<Vec<ScheduledJob>, StoreError> {
        self.read("read the unfinished jobs", async |db| {
            let rows = sqlx::query(
                "SELECT jobs.id, jobs.run_id, runs.repo, jobs.key, jobs.needs, jobs.profile, jobs.state, jobs.attempt, \
                 jobs.vm_id, jobs.created_at, jobs.queued_at, jobs.cancel_requested, jobs.cancel_why, jobs.outcome, \
                 jobs.inner_prefix, jobs.concurrency_group AS own_group, jobs.joined_group_at, \
                 runs.concurrency_group, runs.arrived_at, runs.created_at AS run_created_at, runs.root_id, runs.number, \
                 runs.sha FROM jobs JOIN runs ON runs.id = jobs.run_id \
                 WHERE jobs.run_id IN (SELECT run_id FROM jobs WHERE state <> 'finished') \
                 ORDER BY jobs.created_at, jobs.run_id, jobs.position",
            )
            .fetch_all(db)
            .await?;
            rows.iter().map(read_scheduled).collect()
        })
        .await
    }

    /// How many jobs have not finished.
    pub async fn count_unfinished_jobs(&self) -> Result<u64, StoreError> {
        self.read("count the unfinished jobs", async |db| {
            let row =
                sqlx::query("SELECT COUNT(*) AS number FROM jobs WHERE state <> 'finished'").fetch_one(db).await?;
            Columns::of("job", &row).count("number")
        })
        .await
    }

    /// The latest jobs that pass the filter, latest first, at most `limit`.
    pub async fn recent_jobs(&self, limit: u32, filter: &JobFilter) -> Result<Vec<ListedJob>, StoreError> {
        self.read("list jobs", async |db| {
            let rows = sqlx::query(
                "SELECT jobs.id, jobs.run_id, runs.repo, runs.sha, runs.event, runs.workflow_name, runs.number, jobs.name, \
                 jobs.profile, jobs.state, jobs.attempt, jobs.vm_id, jobs.outcome, jobs.log_token, jobs.created_at, \
                 jobs.started_at, jobs.finished_at FROM jobs JOIN runs ON runs.id = jobs.run_id \
                 WHERE (CAST($1 AS TEXT) IS NULL OR runs.repo = $1) AND (CAST($2 AS TEXT) IS NULL OR runs.sha = $2) \
                 AND (CAST($3 AS TEXT) IS NULL OR jobs.state = $3) AND (NOT $4 OR jobs.state <> 'finished') \
                 AND (CAST($5 AS TEXT) IS NULL OR jobs.outcome LIKE $5) AND (CAST($6 AS TEXT) IS NULL OR jobs.profile = $6) \
                 AND (CAST($7 AS TEXT) IS NULL OR runs.workflow_name = $7) \
                 ORDER BY jobs.created_at DESC, jobs.run_id, jobs.position LIMIT $8",
            )
            .bind(filter.repo.as_ref().map(|repo| repo.as_str()))
            .bind(filter.sha.as_ref().map(|sha| sha.as_str()))
            .bind(filter.state.map(Lifecycle::as_str))
            .bind(filter.is_unfinished)
            .bind(filter.conclusion.map(outcome_pattern))
            .bind(filter.profile.as_ref())
            .bind(filter.workflow.as_ref())
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
            rows.iter().map(read_listed).collect()
        })
        .await
    }
}

/// What stored outcomes with this conclusion look like, for `LIKE`: the conclusion is the first field of an [`Outcome`].
fn outcome_pattern(conclusion: Conclusion) -> String {
    format!("{{\"conclusion\":{},%", to_json(&conclusion))
}

fn read_job(row: &SqliteRow) -> Result<Job, StoreError> {
    let columns = Columns::of("job", row);
    Ok(Job {
        id: columns.text("id")?,
        run: columns.text("run_id")?,
        key: columns.plain("key")?,
        name: columns.plain("name")?,
        spec: columns.json("spec")?,
        needs: columns.json("needs")?,
        profile: columns.plain("profile")?,
        state: columns.state("state")?,
        attempt: columns.count("attempt")?,
        vm: columns.optional_text("vm_id")?,
        outcome: columns.optional_json("outcome")?,
        outputs: columns.optional_json("outputs")?.unwrap_or_default(),
        log_token: columns.text("log_token")?,
        report: columns.text("report_id")?,
        created_at: columns.plain("created_at")?,
        queued_at: columns.plain("queued_at")?,
        started_at: columns.plain("started_at")?,
        finished_at: columns.plain("finished_at")?,
        cancel_requested: columns.plain("cancel_requested")?,
        cancel_why: columns.plain("cancel_why")?,
    })
}

fn read_scheduled(row: &SqliteRow) -> Result<ScheduledJob, StoreError> {
    let columns = Columns::of("job", row);
    let outcome: Option<Outcome> = columns.optional_json("outcome")?;
    Ok(ScheduledJob {
        id: columns.text("id")?,
        run: columns.text("run_id")?,
        repo: columns.text("repo")?,
        key: columns.plain("key")?,
        needs: columns.json("needs")?,
        profile: columns.plain("profile")?,
        state: columns.state("state")?,
        attempt: columns.count("attempt")?,
        vm: columns.optional_text("vm_id")?,
        created_at: columns.plain("created_at")?,
        queued_at: columns.plain("queued_at")?,
        cancel_requested: columns.plain("cancel_requested")?,
        cancel_why: columns.plain("cancel_why")?,
        inner_prefix: columns.plain("inner_prefix")?,
        own_group: columns.plain::<Option<String>>("own_group")?.zip(columns.plain::<Option<i64>>("joined_group_at")?),
        group: read_group_place(columns)?,
        conclusion: outcome.map(|outcome| outcome.conclusion),
    })
}

fn read_group_place(columns: Columns<'_>) -> Result<Option<GroupPlace>, StoreError> {
    let Some(group) = columns.plain("concurrency_group")? else { return Ok(None) };
    let root = match columns.optional_text("root_id")? {
        Some(root) => root,
        None => columns.text("run_id")?,
    };
    Ok(Some(GroupPlace {
        group,
        order: (columns.plain("arrived_at")?, columns.plain("run_created_at")?),
        root,
        label: run_label(columns.count("number")?, &columns.text("sha")?),
    }))
}

fn read_listed(row: &SqliteRow) -> Result<ListedJob, StoreError> {
    let columns = Columns::of("job", row);
    Ok(ListedJob {
        id: columns.text("id")?,
        run: columns.text("run_id")?,
        repo: columns.text("repo")?,
        sha: columns.text("sha")?,
        event: columns.plain("event")?,
        workflow_name: columns.plain("workflow_name")?,
        run_number: columns.count("number")?,
        name: columns.plain("name")?,
        profile: columns.plain("profile")?,
        state: columns.state("state")?,
        attempt: columns.count("attempt")?,
        vm: columns.optional_text("vm_id")?,
        outcome: columns.optional_json("outcome")?,
        log_token: columns.text("log_token")?,
        created_at: columns.plain("created_at")?,
        started_at: columns.plain("started_at")?,
        finished_at: columns.plain("finished_at")?,
    })
}
