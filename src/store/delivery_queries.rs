//! Deliveries as an operator looks at them.

use std::collections::HashMap;

use super::deliveries::{read_delivery, select_deliveries};
use super::model::{Delivery, DeliveryFilter, DeliveryKey, Run, Started};
use super::rows::Columns;
use super::runs::read_run;
use super::transitions::Lifecycle;
use super::{Store, StoreError};

/// Bodies that are searched for a text before the search gives up.
const MAX_SEARCHED: i64 = 20_000;

impl Store {
    /// The latest deliveries that pass the filter, latest first, at most `limit`.
    pub async fn recent_deliveries(&self, limit: u32, filter: &DeliveryFilter) -> Result<Vec<Delivery>, StoreError> {
        self.read("list deliveries", async |db| {
            let rows = sqlx::query(select_deliveries!(
                "WHERE (CAST($1 AS TEXT) IS NULL OR state = $1) AND (CAST($2 AS TEXT) IS NULL OR event = $2) \
                 AND (CAST($3 AS TEXT) IS NULL OR SUBSTR(id, 1, LENGTH($3)) = $3) \
                 ORDER BY received_at DESC, id LIMIT $4"
            ))
            .bind(filter.state.map(Lifecycle::as_str))
            .bind(filter.event.as_ref())
            .bind(filter.id_prefix.as_ref())
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
            rows.iter().map(|row| read_delivery(Columns::of("delivery", row))).collect()
        })
        .await
    }

    /// A delivery, if it is still kept.
    pub async fn delivery(&self, key: &DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        self.read("read a delivery", async |db| {
            let row = sqlx::query(select_deliveries!("WHERE forge = $1 AND id = $2"))
                .bind(&key.forge)
                .bind(&key.id)
                .fetch_optional(db)
                .await?;
            row.as_ref().map(|row| read_delivery(Columns::of("delivery", row))).transpose()
        })
        .await
    }

    /// The runs that a delivery started.
    pub async fn runs_of_delivery(&self, key: &DeliveryKey) -> Result<Vec<Run>, StoreError> {
        self.read("read a delivery's runs", async |db| {
            let rows =
                sqlx::query("SELECT * FROM runs WHERE delivery_forge = $1 AND delivery_id = $2 ORDER BY workflow_path")
                    .bind(&key.forge)
                    .bind(&key.id)
                    .fetch_all(db)
                    .await?;
            rows.iter().map(|row| read_run(Columns::of("run", row))).collect()
        })
        .await
    }

    /// What each delivery started of which there are runs that were created at `since` or later.
    pub async fn started_since(&self, since: i64) -> Result<HashMap<DeliveryKey, Started>, StoreError> {
        self.read("list what deliveries started", async |db| {
            let rows = sqlx::query(
                "SELECT delivery_forge, delivery_id, COUNT(*) AS runs, \
                 SUM((SELECT COUNT(*) FROM jobs WHERE jobs.run_id = runs.id)) AS jobs, \
                 MAX((SELECT desired FROM reports WHERE reports.run_id = runs.id AND reports.job_id IS NULL)) AS report \
                 FROM runs WHERE created_at >= $1 GROUP BY delivery_forge, delivery_id",
            )
            .bind(since)
            .fetch_all(db)
            .await?;
            let read = |columns: Columns<'_>| {
                let key = DeliveryKey { forge: columns.plain("delivery_forge")?, id: columns.plain("delivery_id")? };
                let report = columns.optional_json("report")?;
                Ok((key, Started { runs: columns.count("runs")?, jobs: columns.count("jobs")?, report }))
            };
            rows.iter().map(|row| read(Columns::of("run", row))).collect()
        })
        .await
    }

    /// Deliveries that started nothing and have `text` in their payload, latest first, at most `limit`. Reads the
    /// latest `MAX_SEARCHED` such payloads: for a person's question, not for a loop.
    pub async fn fruitless_deliveries_with(&self, text: &str, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let fruitless = self
            .read("search the deliveries", async |db| {
                let query = select_deliveries!("WHERE state <> 'processed' ORDER BY received_at DESC, id LIMIT $1");
                let rows = sqlx::query(query).bind(MAX_SEARCHED).fetch_all(db).await?;
                rows.iter().map(|row| read_delivery(Columns::of("delivery", row))).collect::<Result<Vec<_>, _>>()
            })
            .await?;
        let mut found = Vec::new();
        for delivery in fruitless {
            if found.len() >= limit as usize {
                break;
            }
            // One that cannot be read, or was forgotten meanwhile, tells nothing.
            let Ok(body) = self.delivery_payload(&delivery.key).await else { continue };
            if String::from_utf8_lossy(&body).contains(text) {
                found.push(delivery);
            }
        }
        Ok(found)
    }
}
