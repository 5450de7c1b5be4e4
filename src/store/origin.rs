//! Where a run comes from and what it is related to: a pull request, the run that it repeats, a concurrency group.

use serde_json::Value;
use sqlx::sqlite::SqliteConnection;

use super::StoreError;
use super::model::NewRun;
use super::rows::Columns;
use crate::forge::CommitSha;
use crate::ids::RunId;

/// The number of a run's first attempt.
pub(super) const FIRST_RUN_ATTEMPT: u32 = 1;

/// What a run is related to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    pub pull_request: Option<FromPullRequest>,
    /// It stands for an event that may not run: it has a report and never a job.
    pub is_held: bool,
    pub rerun: Option<Rerun>,
    pub concurrency: Option<Concurrency>,
    /// When its delivery arrived, in milliseconds since the epoch.
    pub arrived_at: i64,
}

impl Origin {
    /// Whether its code is a stranger's.
    pub fn is_of_fork(&self) -> bool {
        self.pull_request.is_some_and(|pull| pull.is_fork)
    }
}

/// The pull request that a run is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FromPullRequest {
    pub number: u64,
    /// Its code is a stranger's.
    pub is_fork: bool,
}

/// What a run repeats.
#[derive(Debug, Clone, PartialEq)]
pub struct Rerun {
    /// The first attempt. It may have been forgotten.
    pub root: RunId,
    /// Counts from 2.
    pub attempt: u32,
    /// The root's number.
    pub number: u64,
    /// How the jobs ended that are not repeated, by key; opaque here.
    pub carried: Value,
}

/// A workflow's `concurrency`, evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concurrency {
    /// In lower case: groups are not told apart by case.
    pub group: String,
    /// Whether a newer run of the group ends those before it.
    pub cancels: bool,
    /// Whether it ends none that wait, and waits behind them.
    pub queues: bool,
}

/// A run's place in its concurrency group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlace {
    pub group: String,
    /// The order within the group: arrival, creation. Equal ones are ordered by the run's id.
    pub order: (i64, i64),
    /// Attempts of one run do not wait for each other.
    pub root: RunId,
    /// How people call the run.
    pub label: String,
}

/// How people call a run.
pub(super) fn run_label(number: u64, sha: &CommitSha) -> String {
    format!("run #{number} at {}", sha.short())
}

/// Reads the columns of a run that tell of it.
pub(super) fn read_origin(columns: Columns<'_>) -> Result<Origin, StoreError> {
    let root: Option<RunId> = columns.optional_text("root_id")?;
    let group: Option<String> = columns.plain("concurrency_group")?;
    let number: Option<i64> = columns.plain("pull_request")?;
    Ok(Origin {
        pull_request: match number {
            Some(number) => {
                Some(FromPullRequest { number: number.cast_unsigned(), is_fork: columns.plain("is_fork")? })
            }
            None => None,
        },
        is_held: columns.plain("is_held")?,
        rerun: match root {
            Some(root) => Some(Rerun {
                root,
                attempt: columns.count("attempt")?,
                number: columns.count("number")?,
                carried: columns.json("carried")?,
            }),
            None => None,
        },
        concurrency: match group {
            Some(group) => Some(Concurrency {
                group,
                cancels: columns.plain("cancels_group")?,
                queues: columns.plain("queues_in_group")?,
            }),
            None => None,
        },
        arrived_at: columns.plain("arrived_at")?,
    })
}

/// Refuses an attempt that is not the next one of its root: somebody else repeated it meanwhile.
pub(super) async fn check_attempt(db: &mut SqliteConnection, run: &NewRun) -> Result<(), StoreError> {
    let Some(rerun) = &run.origin.rerun else { return Ok(()) };
    let row = sqlx::query("SELECT COALESCE(MAX(attempt), 1) AS latest FROM runs WHERE id = $1 OR root_id = $1")
        .bind(rerun.root.as_str())
        .fetch_one(db)
        .await?;
    let latest: u32 = Columns::of("run", &row).count("latest")?;
    if rerun.attempt == latest + 1 {
        return Ok(());
    }
    Err(StoreError::AttemptTaken { run: rerun.root.clone(), attempt: rerun.attempt, latest })
}
