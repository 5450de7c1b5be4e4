//! Jobs of GitHub's own workflows: demand for machines with GitHub's runner.
//!
//! Events of a job come late, twice and in any order. How far a job is never goes back, whatever comes: one that was taken or
//! has ended makes no demand, even if `queued` arrives afterwards.

use std::collections::HashSet;

use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::rows::{Columns, to_bigint};
use super::{Store, StoreError};
use crate::forge::{CommitSha, JobStage, RepoAccess};

/// Jobs that are looked at at a time, oldest first.
const MOST: u32 = 2_000;

/// How far a job is, as far as demand goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DemandState {
    /// It waits for a runner, and it is not known yet whether it may have one here.
    Unjudged,
    /// It waits for a runner, and gets none here: its code is a fork's.
    Refused,
    /// It waits for a runner.
    Queued,
    /// A runner has it.
    InProgress,
    Completed,
}

impl DemandState {
    const ALL: [Self; 5] = [Self::Unjudged, Self::Refused, Self::Queued, Self::InProgress, Self::Completed];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unjudged => "unjudged",
            Self::Refused => "refused",
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
        }
    }

    /// That of a job which the forge says is so far; one that waits for something else than a runner has none.
    pub fn of(stage: JobStage) -> Option<Self> {
        match stage {
            JobStage::Waiting => None,
            JobStage::Queued => Some(Self::Queued),
            JobStage::InProgress => Some(Self::InProgress),
            JobStage::Completed => Some(Self::Completed),
        }
    }

    /// Whether news of `next` change anything: those of a job that waits do not, once it is judged.
    fn is_changed_by(self, next: Self) -> bool {
        next > self && (next >= Self::InProgress || self == Self::Unjudged)
    }
}

/// A job of GitHub's own workflows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowJob {
    pub forge: String,
    pub id: u64,
    pub access: RepoAccess,
    pub organization: Option<String>,
    pub run: u64,
    pub sha: CommitSha,
    pub name: String,
    pub profile: String,
    pub state: DemandState,
    pub runner: Option<String>,
    pub conclusion: Option<String>,
    pub seen_at: i64,
    /// When the forge last said how far it is.
    pub checked_at: i64,
}

impl Store {
    /// Notes what is known of a job now. Gives whether anything about the demand changed.
    pub async fn note_workflow_job(&self, news: WorkflowJob) -> Result<bool, StoreError> {
        self.write("note a workflow job", move |db| Box::pin(async move { note(db, news).await })).await
    }

    /// The forge was asked, and what is known is still so.
    pub async fn confirm_workflow_job(&self, forge: &str, id: u64, now: i64) -> Result<(), StoreError> {
        let forge = forge.to_owned();
        self.write("confirm a workflow job", move |db| {
            Box::pin(async move {
                sqlx::query("UPDATE workflow_jobs SET checked_at = $3 WHERE forge = $1 AND id = $2")
                    .bind(forge)
                    .bind(to_bigint(id))
                    .bind(now)
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// The jobs that wait for a runner, those included that get none here; oldest first, of a bounded number.
    pub async fn waiting_workflow_jobs(&self) -> Result<Vec<WorkflowJob>, StoreError> {
        self.read("list workflow jobs", async |db| {
            let rows = sqlx::query(
                "SELECT * FROM workflow_jobs WHERE state IN ('unjudged', 'refused', 'queued') \
                 ORDER BY seen_at, id LIMIT $1",
            )
            .bind(MOST)
            .fetch_all(db)
            .await?;
            rows.iter().map(read_job).collect()
        })
        .await
    }

    /// Of these runners, those that have or had a job.
    pub async fn runners_with_jobs(&self, names: &[String]) -> Result<HashSet<String>, StoreError> {
        self.read("look for the jobs of runners", async |db| {
            let mut found = HashSet::new();
            for name in names {
                if job_of_runner(&mut *db, name).await?.is_some() {
                    found.insert(name.clone());
                }
            }
            Ok(found)
        })
        .await
    }

    /// The job that a runner has or had.
    pub async fn workflow_job_of(&self, runner: &str) -> Result<Option<WorkflowJob>, StoreError> {
        self.read("look for the job of a runner", async |db| job_of_runner(db, runner).await).await
    }

    /// Forgets jobs that ended, or of which nothing was heard, before that.
    pub async fn forget_workflow_jobs(&self, before: i64) -> Result<u64, StoreError> {
        self.write("forget workflow jobs", move |db| {
            Box::pin(async move {
                let done = sqlx::query("DELETE FROM workflow_jobs WHERE checked_at < $1").bind(before);
                Ok(done.execute(db).await?.rows_affected())
            })
        })
        .await
    }
}

async fn note(db: &mut SqliteConnection, news: WorkflowJob) -> Result<bool, StoreError> {
    let known = sqlx::query("SELECT * FROM workflow_jobs WHERE forge = $1 AND id = $2")
        .bind(&news.forge)
        .bind(to_bigint(news.id))
        .fetch_optional(&mut *db)
        .await?;
    let known = known.as_ref().map(read_job).transpose()?;
    let (state, is_news) = match &known {
        Some(known) if known.state.is_changed_by(news.state) => (news.state, true),
        Some(known) => (known.state, false),
        None => (news.state, true),
    };
    let (runner, conclusion, seen_at) = match known {
        Some(known) => (news.runner.or(known.runner), news.conclusion.or(known.conclusion), known.seen_at),
        None => (news.runner, news.conclusion, news.seen_at),
    };
    sqlx::query(
        "INSERT INTO workflow_jobs (forge, id, repo, installation, organization, run_id, sha, name, profile, state, \
         runner, conclusion, seen_at, checked_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
         ON CONFLICT (forge, id) DO UPDATE SET profile = $9, state = $10, runner = $11, conclusion = $12, checked_at = $14",
    )
    .bind(&news.forge)
    .bind(to_bigint(news.id))
    .bind(news.access.repo.as_str())
    .bind(news.access.installation.map(to_bigint))
    .bind(&news.organization)
    .bind(to_bigint(news.run))
    .bind(news.sha.as_str())
    .bind(&news.name)
    .bind(&news.profile)
    .bind(state.as_str())
    .bind(runner)
    .bind(conclusion)
    .bind(seen_at)
    .bind(news.checked_at)
    .execute(db)
    .await?;
    Ok(is_news)
}

async fn job_of_runner(db: &mut SqliteConnection, runner: &str) -> Result<Option<WorkflowJob>, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM workflow_jobs WHERE runner = $1 AND state IN ('in_progress', 'completed') \
         ORDER BY checked_at DESC LIMIT 1",
    )
    .bind(runner)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(read_job).transpose()
}

fn read_job(row: &SqliteRow) -> Result<WorkflowJob, StoreError> {
    let columns = Columns::of("workflow job", row);
    let word: String = columns.plain("state")?;
    let known = DemandState::ALL.into_iter().find(|state| state.as_str() == word);
    let state = known.ok_or_else(|| StoreError::Corrupt {
        what: "workflow job",
        detail: format!("column `state`: `{word}` is not a state"),
    })?;
    let installation: Option<i64> = columns.plain("installation")?;
    Ok(WorkflowJob {
        forge: columns.plain("forge")?,
        id: columns.count("id")?,
        access: RepoAccess { repo: columns.text("repo")?, installation: installation.map(i64::cast_unsigned) },
        organization: columns.plain("organization")?,
        run: columns.count("run_id")?,
        sha: columns.text("sha")?,
        name: columns.plain("name")?,
        profile: columns.plain("profile")?,
        state,
        runner: columns.plain("runner")?,
        conclusion: columns.plain("conclusion")?,
        seen_at: columns.plain("seen_at")?,
        checked_at: columns.plain("checked_at")?,
    })
}
