//! Schedules of default branches, and when each is due next.

use serde_json::Value;

use super::rows::{Columns, to_json};
use super::{Store, StoreError};
use crate::forge::RepoName;
use crate::webhook::Dispatch;

/// What a default branch's workflow says about when it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSchedule {
    pub workflow_path: String,
    pub cron: String,
    /// When it is due for the first time, in milliseconds since the epoch.
    pub next_at: i64,
    /// What it asks for then, and the event's payload.
    pub asked: Dispatch,
    pub payload: Value,
}

/// A schedule whose time has come.
#[derive(Debug, Clone, PartialEq)]
pub struct DueSchedule {
    pub forge: String,
    pub workflow_path: String,
    pub cron: String,
    pub next_at: i64,
    pub asked: Dispatch,
    pub payload: Value,
}

impl Store {
    /// Has exactly these schedules for a repository, as an event says that arrived at `arrived_at`; an older one than the last
    /// changes nothing. One that was there keeps its next time. Gives whether anything was done.
    pub async fn set_schedules(
        &self, forge: &str, repo: &RepoName, schedules: Vec<NewSchedule>, arrived_at: i64,
    ) -> Result<bool, StoreError> {
        let (forge, repo) = (forge.to_owned(), repo.clone());
        self.write("store schedules", move |db| {
            Box::pin(async move {
                let known: Vec<(String, String, i64)> = sqlx::query_as(
                    "SELECT workflow_path, cron, arrived_at FROM schedules WHERE forge = $1 AND repo = $2",
                )
                .bind(&forge)
                .bind(repo.as_str())
                .fetch_all(&mut *db)
                .await?;
                if known.iter().any(|(_, _, at)| *at > arrived_at) {
                    return Ok(false);
                }
                let stays = |path: &str, cron: &str| {
                    schedules.iter().any(|schedule| schedule.workflow_path == path && schedule.cron == cron)
                };
                for (path, cron, _) in known.iter().filter(|(path, cron, _)| !stays(path, cron)) {
                    sqlx::query(
                        "DELETE FROM schedules WHERE forge = $1 AND repo = $2 AND workflow_path = $3 AND cron = $4",
                    )
                    .bind(&forge)
                    .bind(repo.as_str())
                    .bind(path)
                    .bind(cron)
                    .execute(&mut *db)
                    .await?;
                }
                for schedule in &schedules {
                    sqlx::query(
                        "INSERT INTO schedules (forge, repo, workflow_path, cron, asked, payload, next_at, arrived_at) \
                         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                         ON CONFLICT (forge, repo, workflow_path, cron) DO UPDATE SET asked = excluded.asked, \
                         payload = excluded.payload, arrived_at = excluded.arrived_at",
                    )
                    .bind(&forge)
                    .bind(repo.as_str())
                    .bind(&schedule.workflow_path)
                    .bind(&schedule.cron)
                    .bind(to_json(&schedule.asked))
                    .bind(to_json(&schedule.payload))
                    .bind(schedule.next_at)
                    .bind(arrived_at)
                    .execute(&mut *db)
                    .await?;
                }
                Ok(true)
            })
        })
        .await
    }

    /// The schedules whose time has come, at most `limit`, longest due first.
    pub async fn due_schedules(&self, now: i64, limit: u32) -> Result<Vec<DueSchedule>, StoreError> {
        self.read("list due schedules", async |db| {
            let rows = sqlx::query("SELECT * FROM schedules WHERE next_at <= $1 ORDER BY next_at LIMIT $2")
                .bind(now)
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?;
            let read = |row| {
                let columns = Columns::of("schedule", row);
                Ok(DueSchedule {
                    forge: columns.plain("forge")?,
                    workflow_path: columns.plain("workflow_path")?,
                    cron: columns.plain("cron")?,
                    next_at: columns.plain("next_at")?,
                    asked: columns.json("asked")?,
                    payload: columns.json("payload")?,
                })
            };
            rows.iter().map(read).collect()
        })
        .await
    }

    /// When the next schedule is due.
    pub async fn next_schedule_due(&self) -> Result<Option<i64>, StoreError> {
        self.read("look for the next schedule", async |db| {
            Ok(sqlx::query_scalar("SELECT MIN(next_at) FROM schedules").fetch_one(db).await?)
        })
        .await
    }

    /// A schedule was attended to. Without a next time it is forgotten.
    pub async fn advance_schedule(&self, due: &DueSchedule, next: Option<i64>) -> Result<(), StoreError> {
        let due = due.clone();
        self.write("advance a schedule", move |db| {
            Box::pin(async move {
                let sql = match next {
                    Some(_) => {
                        "UPDATE schedules SET next_at = $6 WHERE forge = $1 AND repo = $2 AND workflow_path = $3 \
                         AND cron = $4 AND next_at = $5"
                    }
                    None => {
                        "DELETE FROM schedules WHERE forge = $1 AND repo = $2 AND workflow_path = $3 AND cron = $4 \
                         AND next_at = $5 AND $6 IS NULL"
                    }
                };
                sqlx::query(sql)
                    .bind(&due.forge)
                    .bind(due.asked.repository.access.repo.as_str())
                    .bind(&due.workflow_path)
                    .bind(&due.cron)
                    .bind(due.next_at)
                    .bind(next)
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}
