//! Forgetting: deliveries and runs that ended long ago, so that nothing grows with the service's lifetime.

use std::time::Duration;

use super::model::{Pruned, Retention};
use super::reports::{change_report, long_held};
use super::{Store, StoreError};
use crate::forge::Report;

/// Rows of one transaction, so that pruning never makes other writes wait long.
const PRUNE_BATCH: i64 = 200;

/// Run numbers of workflow files that nobody has used for this long start from 1 again, and default branches without a push
/// for as long are not kept up any more. Repositories are strangers': without an end they would fill the tables.
const DORMANT_RETENTION: Duration = Duration::from_hours(400 * 24);

/// How long the end of what was held is tried to be told to a forge that does not answer, in milliseconds.
const UNTOLD_KEPT: i64 = 7 * 24 * 60 * 60 * 1000;

impl Store {
    /// Ends the reports of commits that nobody approved within `age`, as `end` says, for the forge would show them as pending
    /// for ever. Gives how many there were.
    pub async fn end_long_held(
        &self, now: i64, age: Duration, end: impl Fn(&mut Report) + Clone + Send + Sync + 'static,
    ) -> Result<u64, StoreError> {
        let mut total = 0;
        loop {
            let end = end.clone();
            let ended = self
                .write("end what was held too long", move |db| {
                    Box::pin(async move {
                        let held = long_held(db, before(now, age), PRUNE_BATCH).await?;
                        for report in &held {
                            change_report(db, report, now, &end).await?;
                        }
                        Ok(held.len() as u64)
                    })
                })
                .await?;
            total += ended;
            if ended < PRUNE_BATCH.cast_unsigned() {
                return Ok(total);
            }
        }
    }

    /// Forgets what ended longer ago than `retention` says: deliveries that were dealt with, and runs whose jobs all finished
    /// and whose VMs are all gone, with everything that belongs to them. An approval is forgotten like a run. What was held
    /// stays until the forge has been told of its end, or `UNTOLD_KEPT` longer.
    pub async fn prune(&self, now: i64, retention: Retention) -> Result<Pruned, StoreError> {
        let deliveries = self
            .delete_batches(
                "DELETE FROM deliveries WHERE (forge, id) IN (SELECT forge, id FROM deliveries \
                 WHERE state <> 'received' AND finished_at < $1 LIMIT $2)",
                before(now, retention.deliveries),
            )
            .await?;
        let runs = self
            .delete_batches(
                "DELETE FROM runs WHERE id IN (SELECT id FROM runs WHERE created_at < $1 \
                 AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.run_id = runs.id \
                                 AND (jobs.state <> 'finished' OR jobs.finished_at >= $1)) \
                 AND NOT EXISTS (SELECT 1 FROM jobs JOIN vms ON vms.job_id = jobs.id \
                                 WHERE jobs.run_id = runs.id AND vms.state <> 'gone') \
                 AND NOT (is_held AND created_at >= $1 - $3 AND EXISTS (SELECT 1 FROM reports \
                          WHERE reports.run_id = runs.id AND version > sent_version AND version > abandoned_version)) \
                 LIMIT $2)",
                before(now, retention.runs),
            )
            .await?;
        self.delete_batches(
            "DELETE FROM approvals WHERE (forge, repo, number, sha) IN \
             (SELECT forge, repo, number, sha FROM approvals WHERE at < $1 LIMIT $2)",
            before(now, retention.runs),
        )
        .await?;
        self.delete_batches(
            "DELETE FROM run_numbers WHERE (forge, repo, workflow_path) IN \
             (SELECT forge, repo, workflow_path FROM run_numbers WHERE used_at < $1 LIMIT $2)",
            before(now, DORMANT_RETENTION.max(retention.runs)),
        )
        .await?;
        self.delete_batches(
            "DELETE FROM upkeep WHERE (forge, repo, kind, profile) IN \
             (SELECT forge, repo, kind, profile FROM upkeep WHERE arrived_at < $1 AND state <> 'wanted' LIMIT $2)",
            before(now, DORMANT_RETENTION),
        )
        .await?;
        // Last: a segment that cannot be removed keeps nothing else.
        self.prune_inbox().await?;
        Ok(Pruned { deliveries, runs })
    }

    /// Removes the segments of the inbox of which every delivery is forgotten.
    async fn prune_inbox(&self) -> Result<(), StoreError> {
        let first = self
            .read("look for old deliveries", async |db| {
                let first = "SELECT MIN(segment) FROM (SELECT MIN(segment) AS segment FROM deliveries \
                             WHERE segment IS NOT NULL UNION ALL SELECT segment FROM inbox) AS needed";
                Ok(sqlx::query_scalar::<_, Option<i64>>(first).fetch_one(db).await?)
            })
            .await?;
        self.inbox.remove_before(first.unwrap_or_default().cast_unsigned()).await
    }

    /// Runs a `DELETE` until it finds nothing more; it is given the cut-off time, a limit, and [`UNTOLD_KEPT`].
    async fn delete_batches(&self, sql: &'static str, cut_off: i64) -> Result<u64, StoreError> {
        let mut total = 0;
        loop {
            let deleted = self
                .write("forget old entries", move |db| {
                    Box::pin(async move {
                        let done =
                            sqlx::query(sql).bind(cut_off).bind(PRUNE_BATCH).bind(UNTOLD_KEPT).execute(db).await?;
                        Ok(done.rows_affected())
                    })
                })
                .await?;
            total += deleted;
            if deleted == 0 {
                return Ok(total);
            }
        }
    }
}

pub(super) fn before(now: i64, age: Duration) -> i64 {
    now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}
