//! Runs and the runs that repeat them: what a re-run is made from.

use serde_json::Value;

use super::model::{Job, Run};
use super::rows::Columns;
use super::runs::read_run;
use super::{Store, StoreError};
use crate::forge::{CommitSha, RepoName};
use crate::ids::RunId;

/// Runs of one commit that a re-run of all of them covers, at most.
const MAX_ROOTS: i64 = 200;

impl Store {
    /// All attempts of the run that `id` is an attempt of, oldest first, each with its jobs in their order.
    pub async fn attempts(&self, id: &RunId) -> Result<Vec<(Run, Vec<Job>)>, StoreError> {
        let runs: Vec<Run> = self
            .read("read a run's attempts", async |db| {
                let rows = sqlx::query(
                    "SELECT attempts.* FROM runs JOIN runs AS attempts \
                     ON attempts.id = COALESCE(runs.root_id, runs.id) OR attempts.root_id = COALESCE(runs.root_id, runs.id) \
                     WHERE runs.id = $1 ORDER BY attempts.attempt",
                )
                .bind(id.as_str())
                .fetch_all(db)
                .await?;
                rows.iter().map(|row| read_run(Columns::of("run", row))).collect()
            })
            .await?;
        let mut attempts = Vec::new();
        for run in runs {
            let jobs = self.jobs_of_run(&run.id).await?;
            attempts.push((run, jobs));
        }
        Ok(attempts)
    }

    /// Every run at a commit that is not held, oldest first: its first attempt, which may be forgotten by now, and its newest.
    pub async fn runs_at(
        &self, forge: &str, repo: &RepoName, sha: &CommitSha,
    ) -> Result<Vec<(RunId, RunId)>, StoreError> {
        self.read("read the runs of a commit", async |db| {
            let rows = sqlx::query(
                "SELECT COALESCE(root_id, id) AS root, id FROM runs WHERE forge = $4 AND repo = $1 AND sha = $2 AND NOT is_held \
                 AND attempt = (SELECT MAX(attempt) \
                 FROM runs AS others WHERE COALESCE(others.root_id, others.id) = COALESCE(runs.root_id, runs.id) \
                 AND others.forge = $4 AND others.repo = $1 AND others.sha = $2) ORDER BY created_at, id LIMIT $3",
            )
            .bind(repo.as_str())
            .bind(sha.as_str())
            .bind(MAX_ROOTS)
            .bind(forge)
            .fetch_all(db)
            .await?;
            let read = |row| {
                let columns = Columns::of("run", row);
                Ok((columns.text("root")?, columns.text("id")?))
            };
            rows.iter().map(read).collect()
        })
        .await
    }

    /// How the jobs ended that a run does not repeat, by key.
    pub async fn carried(&self, id: &RunId) -> Result<Value, StoreError> {
        self.read("read what a re-run carries", async |db| {
            let row =
                sqlx::query("SELECT carried FROM runs WHERE id = $1").bind(id.as_str()).fetch_optional(db).await?;
            row.map_or(Ok(Value::Null), |row| Columns::of("run", &row).json("carried"))
        })
        .await
    }
}
