//! What the reports of jobs said, attempt by attempt. It goes with its job.

use super::rows::{Columns, to_json};
use super::{Store, StoreError};
use crate::ids::JobId;
use crate::report::Results;

/// Attempts at one commit that are compared, the newest.
const MAX_COMPARED: i64 = 10;

impl Store {
    /// Keeps the results of an attempt; once more, it replaces those before. For a job that is gone it does nothing.
    pub async fn keep_results(&self, job: &JobId, attempt: u32, results: &Results) -> Result<(), StoreError> {
        let job = job.clone();
        let text = to_json(results);
        self.write("keep results", move |db| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO results (job_id, attempt, results) SELECT id, $2, $3 FROM jobs WHERE id = $1 \
                     ON CONFLICT (job_id, attempt) DO UPDATE SET results = excluded.results",
                )
                .bind(job.as_str())
                .bind(i64::from(attempt))
                .bind(text)
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// The results of a job's attempts that had any, in their order.
    pub async fn results(&self, job: &JobId) -> Result<Vec<(u32, Results)>, StoreError> {
        self.read("read results", async |db| {
            let rows = sqlx::query("SELECT attempt, results FROM results WHERE job_id = $1 ORDER BY attempt")
                .bind(job.as_str())
                .fetch_all(db)
                .await?;
            let read = |row| {
                let columns = Columns::of("results", row);
                Ok((columns.count("attempt")?, columns.json("results")?))
            };
            rows.iter().map(read).collect()
        })
        .await
    }

    /// The results of other attempts of the same job of the same workflow at the same commit, those of re-runs included.
    pub async fn results_beside(&self, job: &JobId, attempt: u32) -> Result<Vec<Results>, StoreError> {
        self.read("read results to compare", async |db| {
            let rows = sqlx::query(
                "SELECT results.results AS results FROM jobs AS own \
                 JOIN runs AS own_run ON own_run.id = own.run_id \
                 JOIN runs AS run ON run.forge = own_run.forge AND run.repo = own_run.repo AND run.sha = own_run.sha \
                   AND run.workflow_path = own_run.workflow_path \
                 JOIN jobs AS job ON job.run_id = run.id AND job.name = own.name \
                 JOIN results ON results.job_id = job.id \
                 WHERE own.id = $1 AND NOT (results.job_id = $1 AND results.attempt = $2) \
                 ORDER BY job.created_at DESC, results.attempt DESC LIMIT $3",
            )
            .bind(job.as_str())
            .bind(i64::from(attempt))
            .bind(MAX_COMPARED)
            .fetch_all(db)
            .await?;
            rows.iter().map(|row| Columns::of("results", row).json("results")).collect()
        })
        .await
    }
}
