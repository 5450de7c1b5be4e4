//! The workflows that a run's jobs are: kept with the run, so that what is entered later is what was checked at its start.

use serde_json::Value;
use sqlx::sqlite::SqliteConnection;

use super::rows::{Columns, to_json};
use super::{Store, StoreError};
use crate::forge::CommitSha;
use crate::ids::RunId;

/// A workflow that another one calls.
#[derive(Debug, Clone, PartialEq)]
pub struct CalledWorkflow {
    /// As a `uses` names it, from the place of the first workflow.
    pub place: String,
    /// The commit that it was read at.
    pub sha: CommitSha,
    /// Opaque here.
    pub workflow: Value,
}

impl Store {
    /// The workflows that a run calls, however indirectly.
    pub async fn called_workflows(&self, run: &RunId) -> Result<Vec<CalledWorkflow>, StoreError> {
        self.read("read called workflows", async |db| {
            let rows =
                sqlx::query("SELECT place, sha, workflow FROM called_workflows WHERE run_id = $1 ORDER BY place")
                    .bind(run.as_str())
                    .fetch_all(db)
                    .await?;
            let read = |row| {
                let columns = Columns::of("called workflow", row);
                Ok(CalledWorkflow {
                    place: columns.plain("place")?,
                    sha: columns.text("sha")?,
                    workflow: columns.json("workflow")?,
                })
            };
            rows.iter().map(read).collect()
        })
        .await
    }
}

pub(super) async fn insert(db: &mut SqliteConnection, run: &RunId, called: &CalledWorkflow) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO called_workflows (run_id, place, sha, workflow) VALUES ($1, $2, $3, $4)")
        .bind(run.as_str())
        .bind(&called.place)
        .bind(called.sha.as_str())
        .bind(to_json(&called.workflow))
        .execute(db)
        .await?;
    Ok(())
}
