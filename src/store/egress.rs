//! What jobs reached and were refused, attempt by attempt. It goes with its job.

use super::rows::{Columns, to_json};
use super::{Store, StoreError};
use crate::ids::JobId;
use crate::net::egress::log::EgressLog;

impl Store {
    /// Keeps the egress log of an attempt; once more, it replaces the one before. For a job that is gone it does nothing.
    pub async fn keep_egress(&self, job: &JobId, attempt: u32, log: &EgressLog) -> Result<(), StoreError> {
        let job = job.clone();
        let text = to_json(log);
        self.write("keep an egress log", move |db| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO egress (job_id, attempt, log) SELECT id, $2, $3 FROM jobs WHERE id = $1 \
                     ON CONFLICT (job_id, attempt) DO UPDATE SET log = excluded.log",
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

    /// The egress logs of a job's attempts that had any connection, in their order.
    pub async fn egress(&self, job: &JobId) -> Result<Vec<(u32, EgressLog)>, StoreError> {
        self.read("read egress logs", async |db| {
            let rows = sqlx::query("SELECT attempt, log FROM egress WHERE job_id = $1 ORDER BY attempt")
                .bind(job.as_str())
                .fetch_all(db)
                .await?;
            let read = |row| {
                let columns = Columns::of("egress log", row);
                Ok((columns.count("attempt")?, columns.json("log")?))
            };
            rows.iter().map(read).collect()
        })
        .await
    }
}
