//! Approvals: which commit of which fork's pull request a person allowed to run.
//!
//! An approval is created together with the runs that it allows, so that it is used exactly once. A push voids the approval of
//! the commit that it replaces, whichever of the two is stored first: what counts is when they were asked for and arrived.

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteConnection;

use super::concurrency::cancel_jobs;
use super::deliveries::delivery_state;
use super::model::{DeliveryKey, NewRun};
use super::reports::{change_report, reports_of_held};
use super::rows::Columns;
use super::runs::{check_sizes, ends, insert_runs};
use super::transitions::DeliveryState;
use super::{Store, StoreError};
use crate::forge::{CommitSha, Conclusion, RepoAccess, RepoName, Report, ReportState};
use crate::ids::{JobId, RunId};

/// One commit of one pull request, allowed to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The forge's word for itself.
    pub forge: String,
    pub repo: RepoName,
    /// The pull request's.
    pub number: u64,
    pub sha: CommitSha,
    /// The name of a person at the forge; `None`: whoever may use the control socket.
    pub person: Option<String>,
    /// When it was asked for, in milliseconds since the epoch.
    pub at: i64,
}

/// A commit that was the head of a fork's pull request, until an event said that it no longer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplacedHead {
    /// The forge's word for itself.
    pub forge: String,
    pub repo: RepoName,
    /// The pull request's.
    pub number: u64,
    pub sha: CommitSha,
    /// When the event arrived, in milliseconds since the epoch.
    pub arrived_at: i64,
}

/// What became of an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approved {
    /// It counts, and these runs were created.
    Now(Vec<RunId>),
    /// There was one already; nothing was changed.
    Before,
    /// The pull request was pushed to after it was asked for; nothing was changed.
    Overtaken,
}

/// An unfinished job whose code is from a fork.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkJob {
    pub id: JobId,
    pub forge: String,
    /// Where it runs, not where its code is from.
    pub repo: RepoName,
    /// Somebody approved its commit, or did before the pull request went on to another.
    pub was_approved: bool,
}

/// A pull request of which a commit is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPullRequest {
    /// The forge's word for itself.
    pub forge: String,
    pub access: RepoAccess,
    pub number: u64,
}

impl Store {
    /// Stores an approval, creates the runs that it allows, finishes what was held with `title` and marks the delivery as
    /// processed: all or nothing. An approval that was void before counts again.
    pub async fn approve(
        &self, delivery: &DeliveryKey, approval: Approval, runs: Vec<NewRun>, title: String, now: i64,
    ) -> Result<Approved, StoreError> {
        check_sizes(&runs)?;
        let delivery = delivery.clone();
        let ended_at_once = ends(&runs);
        let approved = self
            .write("store an approval", move |db| {
                Box::pin(async move {
                    if delivery_state(db, &delivery).await? == DeliveryState::Processed {
                        return Ok(Approved::Now(Vec::new()));
                    }
                    match insert(db, &approval).await? {
                        Inserted::Now => {}
                        Inserted::Before => return Ok(Approved::Before),
                        Inserted::Overtaken => return Ok(Approved::Overtaken),
                    }
                    let created = insert_runs(db, &delivery, &runs, DeliveryState::Processed, now).await?;
                    for held in reports_of_held(db, &approval.forge, &approval.repo, approval.number).await? {
                        if held.desired.sha == approval.sha {
                            change_report(db, &held, now, |report| {
                                report.state = ReportState::Finished(Conclusion::Success);
                                report.summary = format!("{title}.");
                                report.title = title.clone();
                                report.finished_at = Some(now);
                            })
                            .await?;
                        }
                    }
                    Ok(Approved::Now(created))
                })
            })
            .await?;
        if let Approved::Now(created) = &approved {
            self.count_ended(ended_at_once, created);
        }
        Ok(approved)
    }

    /// A fork's pull request went on to another commit. The approval of the one before is void, unless it was asked for after
    /// that; what it allowed and has not started will not.
    pub async fn replace_head(&self, head: ReplacedHead) -> Result<(), StoreError> {
        self.write("void an approval", move |db| {
            Box::pin(async move {
                let done = sqlx::query(
                    "INSERT INTO approvals (forge, repo, number, sha, at, voided_at) VALUES ($1, $2, $3, $4, $5, $5) \
                     ON CONFLICT (forge, repo, number, sha) DO UPDATE SET voided_at = excluded.voided_at \
                     WHERE approvals.voided_at IS NULL AND approvals.at <= excluded.at",
                )
                .bind(&head.forge)
                .bind(head.repo.as_str())
                .bind(head.number.cast_signed())
                .bind(head.sha.as_str())
                .bind(head.arrived_at)
                .execute(&mut *db)
                .await?;
                if done.rows_affected() == 1 {
                    cancel_what_waits(db, &head).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// The approval of a commit of a pull request, if there is one that is not void. It says nothing about whether that commit
    /// is still the pull request's head.
    pub async fn approval(
        &self, forge: &str, repo: &RepoName, number: u64, sha: &CommitSha,
    ) -> Result<Option<Approval>, StoreError> {
        self.read("look for an approval", async |db| {
            let row = sqlx::query(
                "SELECT * FROM approvals WHERE forge = $1 AND repo = $2 AND number = $3 AND sha = $4 \
                 AND voided_at IS NULL",
            )
            .bind(forge)
            .bind(repo.as_str())
            .bind(number.cast_signed())
            .bind(sha.as_str())
            .fetch_optional(db)
            .await?;
            row.as_ref().map(|row| read_approval(Columns::of("approval", row))).transpose()
        })
        .await
    }

    /// All jobs of forks that have not finished.
    pub async fn unfinished_fork_jobs(&self) -> Result<Vec<ForkJob>, StoreError> {
        self.read("look for the jobs of forks", async |db| {
            let rows = sqlx::query(
                "SELECT jobs.id, runs.forge, runs.repo, EXISTS (SELECT 1 FROM approvals WHERE approvals.forge = runs.forge \
                 AND approvals.repo = runs.repo AND approvals.number = runs.pull_request \
                 AND approvals.sha = runs.sha) AS was_approved FROM jobs JOIN runs ON runs.id = jobs.run_id \
                 WHERE jobs.state <> 'finished' AND runs.is_fork ORDER BY jobs.created_at, jobs.id",
            )
            .fetch_all(db)
            .await?;
            let read = |row| {
                let columns = Columns::of("job", row);
                let was_approved = columns.plain("was_approved")?;
                let forge = columns.plain("forge")?;
                Ok(ForkJob { id: columns.text("id")?, forge, repo: columns.text("repo")?, was_approved })
            };
            rows.iter().map(read).collect()
        })
        .await
    }

    /// Changes what the forge shows of a pull request that is held: its newest report that still is. Gives whether there is one.
    pub async fn change_held(
        &self, forge: &str, repo: &RepoName, number: u64, now: i64, change: impl FnOnce(&mut Report) + Send + 'static,
    ) -> Result<bool, StoreError> {
        let (forge, repo) = (forge.to_owned(), repo.clone());
        self.write("change a held report", move |db| {
            Box::pin(async move {
                let Some(newest) = reports_of_held(db, &forge, &repo, number).await?.pop() else { return Ok(false) };
                change_report(db, &newest, now, change).await?;
                Ok(true)
            })
        })
        .await
    }

    /// The pull requests that are held at a commit, newest first.
    pub async fn held_at(&self, sha: &CommitSha) -> Result<Vec<HeldPullRequest>, StoreError> {
        self.read("look for what is held", async |db| {
            let rows = sqlx::query(
                "SELECT runs.forge, runs.repo, runs.installation, runs.pull_request FROM runs \
                 JOIN reports ON reports.run_id = runs.id WHERE runs.sha = $1 AND runs.is_held \
                 AND runs.pull_request IS NOT NULL AND NOT reports.is_final ORDER BY runs.created_at DESC, runs.id",
            )
            .bind(sha.as_str())
            .fetch_all(db)
            .await?;
            rows.iter().map(|row| read_held(Columns::of("run", row))).collect()
        })
        .await
    }

    /// The commits that are held at the moment, newest first, at most `limit`.
    pub async fn held_commits(&self, limit: u32) -> Result<Vec<(RepoName, CommitSha)>, StoreError> {
        self.read("list what is held", async |db| {
            let rows = sqlx::query(
                "SELECT runs.repo, runs.sha FROM runs JOIN reports ON reports.run_id = runs.id \
                 WHERE runs.is_held AND runs.pull_request IS NOT NULL AND NOT reports.is_final \
                 ORDER BY runs.created_at DESC, runs.id LIMIT $1",
            )
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
            let read = |columns: Columns<'_>| Ok((columns.text("repo")?, columns.text("sha")?));
            rows.iter().map(|row| read(Columns::of("run", row))).collect()
        })
        .await
    }
}

fn read_approval(columns: Columns<'_>) -> Result<Approval, StoreError> {
    Ok(Approval {
        forge: columns.plain("forge")?,
        repo: columns.text("repo")?,
        number: columns.plain::<i64>("number")?.cast_unsigned(),
        sha: columns.text("sha")?,
        person: columns.plain("person")?,
        at: columns.plain("at")?,
    })
}

fn read_held(columns: Columns<'_>) -> Result<HeldPullRequest, StoreError> {
    Ok(HeldPullRequest {
        forge: columns.plain("forge")?,
        access: RepoAccess {
            repo: columns.text("repo")?,
            installation: columns.plain::<Option<i64>>("installation")?.map(i64::cast_unsigned),
        },
        number: columns.plain::<i64>("pull_request")?.cast_unsigned(),
    })
}

enum Inserted {
    Now,
    Before,
    Overtaken,
}

async fn insert(db: &mut SqliteConnection, approval: &Approval) -> Result<Inserted, StoreError> {
    let known =
        sqlx::query("SELECT voided_at FROM approvals WHERE forge = $1 AND repo = $2 AND number = $3 AND sha = $4")
            .bind(&approval.forge)
            .bind(approval.repo.as_str())
            .bind(approval.number.cast_signed())
            .bind(approval.sha.as_str())
            .fetch_optional(&mut *db)
            .await?;
    if let Some(row) = known {
        match Columns::of("approval", &row).plain::<Option<i64>>("voided_at")? {
            None => return Ok(Inserted::Before),
            Some(voided_at) if voided_at >= approval.at => return Ok(Inserted::Overtaken),
            Some(_) => {}
        }
    }
    sqlx::query(
        "INSERT INTO approvals (forge, repo, number, sha, person, at) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (forge, repo, number, sha) DO UPDATE SET person = excluded.person, at = excluded.at, \
         voided_at = NULL",
    )
    .bind(&approval.forge)
    .bind(approval.repo.as_str())
    .bind(approval.number.cast_signed())
    .bind(approval.sha.as_str())
    .bind(approval.person.as_deref())
    .bind(approval.at)
    .execute(db)
    .await?;
    Ok(Inserted::Now)
}

async fn cancel_what_waits(db: &mut SqliteConnection, head: &ReplacedHead) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE jobs SET cancel_requested = TRUE, cancel_why = COALESCE(cancel_why, $5) \
         WHERE state IN ('waiting', 'queued') AND run_id IN (SELECT id FROM runs \
         WHERE forge = $1 AND repo = $2 AND pull_request = $3 AND sha = $4 AND is_fork)",
    )
    .bind(&head.forge)
    .bind(head.repo.as_str())
    .bind(head.number.cast_signed())
    .bind(head.sha.as_str())
    .bind(void(&head.sha))
    .execute(db)
    .await?;
    Ok(())
}

/// Ends a run of a fork at once whose approval became void after it was asked for: the push was stored between the look at the
/// approval and the creation of the run, and found nothing to end.
pub(super) async fn check_void(db: &mut SqliteConnection, run: &NewRun) -> Result<(), StoreError> {
    let Some(pull) = run.origin.pull_request.filter(|pull| pull.is_fork && !run.origin.is_held) else { return Ok(()) };
    let is_void: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM approvals WHERE forge = $1 AND repo = $2 AND number = $3 AND sha = $4 \
         AND voided_at >= $5)",
    )
    .bind(&run.forge)
    .bind(run.access.repo.as_str())
    .bind(pull.number.cast_signed())
    .bind(run.sha.as_str())
    .bind(run.origin.arrived_at)
    .fetch_one(&mut *db)
    .await?;
    if is_void {
        cancel_jobs(db, &run.id, &void(&run.sha)).await?;
    }
    Ok(())
}

/// Why a job ends whose approval is void.
fn void(sha: &CommitSha) -> String {
    format!("Cancelled: the approval of {} is void, as the pull request was pushed to", sha.short())
}
