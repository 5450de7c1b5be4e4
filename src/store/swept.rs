//! What the sweep of the forge remembers, and how its findings and late events keep out of each other's way.
//!
//! An event that the sweep brings and the one that was late say the same. Whichever is processed second starts nothing that
//! the first one started; that is decided in the transaction that creates the runs, so that no order and no race makes two.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use sqlx::sqlite::SqliteConnection;

use super::deliveries::{accept, delivery_state, set_delivery_state};
use super::model::{Accepted, DeliveryKey, NewDelivery, NewRun};
use super::prune::before;
use super::rows::Columns;
use super::runs::{check_sizes, ends, insert_runs};
use super::transitions::DeliveryState;
use super::{Store, StoreError};
use crate::forge::{CommitSha, DEFAULT_BRANCH, HeadNews, RepoAccess, RepoName};
use crate::ids::RunId;

/// What a delivery is told that came when its runs were there already.
const OLD_NEWS: &str = "its commit was started already: this event and the sweep's finding are the same news";

/// After how long a head is brought again whose delivery failed: what was in its way may be gone.
const BRING_AGAIN: Duration = Duration::from_hours(1);

/// How long a head is remembered after it was seen last, and a wish after it was asked last.
const MEMORY: Duration = Duration::from_hours(30 * 24);

/// The head of a pull request, or of the default branch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PullHead {
    pub repo: RepoName,
    /// The pull request's, or [`DEFAULT_BRANCH`].
    pub number: u64,
    pub sha: CommitSha,
}

/// What is known of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadMemory {
    Unknown,
    /// Its commit has runs of this pull request; or its push came, if it is the default branch's.
    HasRuns,
    /// It needs no more looks; when it was seen last.
    Settled {
        seen_at: i64,
    },
}

/// What is known of a delivery of the forge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryMemory {
    /// It arrived.
    pub is_stored: bool,
    /// How often another attempt was asked for, and when last.
    pub asked: u32,
    pub asked_at: i64,
}

impl Store {
    /// What is known of each of the heads, in their order. Nothing is, some time after the delivery failed that told of it.
    pub async fn head_memories(
        &self, forge: &str, heads: &[PullHead], now: i64,
    ) -> Result<Vec<HeadMemory>, StoreError> {
        self.read("look for the heads of pull requests", async |db| {
            let mut memories = Vec::with_capacity(heads.len());
            for head in heads {
                memories.push(head_memory(db, forge, head, now).await?);
            }
            Ok(memories)
        })
        .await
    }

    /// Whether the default branch was seen before: by the sweep, or through a push to it.
    pub async fn knows_default_branch(&self, forge: &str, repo: &RepoName) -> Result<bool, StoreError> {
        self.read("look for a default branch", async |db| {
            Ok(sqlx::query_scalar::<_, bool>(
                "SELECT EXISTS (SELECT 1 FROM swept_heads WHERE forge = $1 AND repo = $2 AND number = $3 \
                 UNION ALL SELECT 1 FROM upkeep WHERE forge = $1 AND repo = $2 AND kind = 'look')",
            )
            .bind(forge)
            .bind(repo.as_str())
            .bind(DEFAULT_BRANCH.cast_signed())
            .fetch_one(db)
            .await?)
        })
        .await
    }

    /// Remembers that these heads were seen and need nothing.
    pub async fn settle_heads(&self, forge: &str, heads: Vec<PullHead>, now: i64) -> Result<(), StoreError> {
        let forge = forge.to_owned();
        self.write("remember heads of pull requests", move |db| {
            Box::pin(async move {
                for head in &heads {
                    remember(db, &forge, head, None, now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Makes the delivery durable that tells of a head, and remembers the head, both or neither. `as_of` is the pull
    /// request's last change that the delivery knows of.
    pub async fn accept_found(
        &self, delivery: NewDelivery, head: PullHead, as_of: Option<i64>, now: i64,
    ) -> Result<Accepted, StoreError> {
        self.write("accept what the sweep found", move |db| {
            Box::pin(async move {
                remember(db, &delivery.key.forge, &head, Some((&delivery.key.id, as_of)), now).await?;
                accept(db, delivery).await
            })
        })
        .await
    }

    /// As [`Store::create_runs`], but without the runs that the same news started before. A delivery of which nothing
    /// remains becomes [`DeliveryState::Ignored`].
    pub async fn create_runs_of_news(
        &self, delivery: &DeliveryKey, news: Option<HeadNews>, runs: Vec<NewRun>, now: i64,
    ) -> Result<Vec<RunId>, StoreError> {
        check_sizes(&runs)?;
        let delivery = delivery.clone();
        let ended_at_once = ends(&runs);
        let created = self
            .write("create runs", move |db| {
                Box::pin(async move {
                    if delivery_state(db, &delivery).await? == DeliveryState::Processed {
                        return Ok(Vec::new());
                    }
                    let pushed = runs.first().and_then(|run| head_of_push(news, run));
                    let mut fresh = Vec::with_capacity(runs.len());
                    for run in runs {
                        if !is_old_news(db, &delivery, news, &run).await? {
                            fresh.push(run);
                        }
                    }
                    if let Some(head) = &pushed {
                        note_push(db, &delivery, head).await?;
                    }
                    if fresh.is_empty() {
                        set_delivery_state(db, &delivery, DeliveryState::Ignored, OLD_NEWS, now).await?;
                        return Ok(Vec::new());
                    }
                    insert_runs(db, &delivery, &fresh, DeliveryState::Processed, now).await
                })
            })
            .await?;
        self.count_ended(ended_at_once, &created);
        Ok(created)
    }

    /// What is known of deliveries of the forge, by their id; of those that are not in the answer, nothing.
    pub async fn delivery_memories(
        &self, forge: &str, guids: &[String],
    ) -> Result<HashMap<String, DeliveryMemory>, StoreError> {
        self.read("look for deliveries", async |db| {
            let mut memories = HashMap::new();
            for guid in guids {
                let row = sqlx::query(
                    "SELECT EXISTS (SELECT 1 FROM deliveries WHERE forge = $1 AND id = $2) AS is_stored, \
                     COALESCE((SELECT times FROM redeliveries WHERE forge = $1 AND guid = $2), 0) AS asked, \
                     COALESCE((SELECT asked_at FROM redeliveries WHERE forge = $1 AND guid = $2), 0) AS asked_at",
                )
                .bind(forge)
                .bind(guid)
                .fetch_one(&mut *db)
                .await?;
                let columns = Columns::of("redelivery", &row);
                let memory = DeliveryMemory {
                    is_stored: columns.plain("is_stored")?,
                    asked: columns.count("asked")?,
                    asked_at: columns.plain("asked_at")?,
                };
                memories.insert(guid.clone(), memory);
            }
            Ok(memories)
        })
        .await
    }

    /// Counts a wish for another attempt at a delivery that the forge last tried to bring at `tried_at`; that of the first wish
    /// is its place in the order of events. Call it before asking: a crash in between must not make the wish endless.
    pub async fn count_redelivery(&self, forge: &str, guid: &str, tried_at: i64, now: i64) -> Result<(), StoreError> {
        let (forge, guid) = (forge.to_owned(), guid.to_owned());
        self.write("count a redelivery", move |db| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO redeliveries (forge, guid, times, asked_at, first_at) VALUES ($1, $2, 1, $3, $4) \
                     ON CONFLICT (forge, guid) DO UPDATE SET times = redeliveries.times + 1, asked_at = excluded.asked_at",
                )
                .bind(forge)
                .bind(guid)
                .bind(now)
                .bind(tried_at)
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// The repositories that had a run, the last used first, at most `limit`.
    pub async fn used_repositories(&self, forge: &str, limit: u32) -> Result<Vec<RepoAccess>, StoreError> {
        self.read("list repositories", async |db| {
            let rows = sqlx::query(
                "SELECT repo, MAX(installation) AS installation FROM runs WHERE forge = $1 \
                 GROUP BY repo ORDER BY MAX(created_at) DESC LIMIT $2",
            )
            .bind(forge)
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
            let read = |row| {
                let columns = Columns::of("run", row);
                let installation = columns.plain::<Option<i64>>("installation")?.map(i64::cast_unsigned);
                Ok(RepoAccess { repo: columns.text("repo")?, installation })
            };
            rows.iter().map(read).collect()
        })
        .await
    }

    /// Forgets heads that were not seen and wishes that were not repeated for 30 days.
    pub async fn forget_swept(&self, now: i64) -> Result<(), StoreError> {
        let cut_off = before(now, MEMORY);
        self.write("forget what the sweep remembered", move |db| {
            Box::pin(async move {
                sqlx::query("DELETE FROM swept_heads WHERE seen_at < $1").bind(cut_off).execute(&mut *db).await?;
                sqlx::query("DELETE FROM redeliveries WHERE asked_at < $1").bind(cut_off).execute(db).await?;
                Ok(())
            })
        })
        .await
    }
}

async fn head_memory(
    db: &mut SqliteConnection, forge: &str, head: &PullHead, now: i64,
) -> Result<HeadMemory, StoreError> {
    let seen_at: Option<i64> = sqlx::query_scalar(
        "SELECT seen_at FROM swept_heads WHERE forge = $1 AND repo = $2 AND number = $3 AND sha = $4 \
         AND (seen_at >= $5 OR NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.forge = swept_heads.forge \
         AND deliveries.id = swept_heads.delivery_id AND deliveries.state = 'failed'))",
    )
    .bind(forge)
    .bind(head.repo.as_str())
    .bind(head.number.cast_signed())
    .bind(head.sha.as_str())
    .bind(before(now, BRING_AGAIN))
    .fetch_optional(&mut *db)
    .await?;
    if let Some(seen_at) = seen_at {
        return Ok(HeadMemory::Settled { seen_at });
    }
    if head.number == DEFAULT_BRANCH {
        return is_known_branch(db, forge, head).await;
    }
    let has_runs: bool = sqlx::query_scalar(
        // Runs of before a pull request was noted with them count for all.
        "SELECT EXISTS (SELECT 1 FROM runs WHERE forge = $1 AND repo = $2 AND sha = $3 AND event = 'pull_request' \
         AND (pull_request = $4 OR pull_request IS NULL))",
    )
    .bind(forge)
    .bind(head.repo.as_str())
    .bind(head.sha.as_str())
    .bind(head.number.cast_signed())
    .fetch_one(db)
    .await?;
    Ok(if has_runs { HeadMemory::HasRuns } else { HeadMemory::Unknown })
}

/// The newest push to each default branch is remembered for what is kept up for it, whatever started from it.
async fn is_known_branch(db: &mut SqliteConnection, forge: &str, head: &PullHead) -> Result<HeadMemory, StoreError> {
    let is_known: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM upkeep WHERE forge = $1 AND repo = $2 AND kind = 'look' AND sha = $3)",
    )
    .bind(forge)
    .bind(head.repo.as_str())
    .bind(head.sha.as_str())
    .fetch_one(db)
    .await?;
    Ok(if is_known { HeadMemory::HasRuns } else { HeadMemory::Unknown })
}

async fn remember(
    db: &mut SqliteConnection, forge: &str, head: &PullHead, found: Option<(&str, Option<i64>)>, now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO swept_heads (forge, repo, number, sha, delivery_id, as_of, seen_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (forge, repo, number, sha) DO UPDATE SET seen_at = excluded.seen_at, \
         delivery_id = COALESCE(excluded.delivery_id, swept_heads.delivery_id), \
         as_of = COALESCE(excluded.as_of, swept_heads.as_of)",
    )
    .bind(forge)
    .bind(head.repo.as_str())
    .bind(head.number.cast_signed())
    .bind(head.sha.as_str())
    .bind(found.map(|(delivery, _)| delivery.to_owned()))
    .bind(found.and_then(|(_, as_of)| as_of))
    .bind(now)
    .execute(db)
    .await?;
    Ok(())
}

/// The head of the default branch of whose push the run is.
fn head_of_push(news: Option<HeadNews>, run: &NewRun) -> Option<PullHead> {
    news.filter(|news| news.number == DEFAULT_BRANCH)?;
    Some(PullHead { repo: run.access.repo.clone(), number: DEFAULT_BRANCH, sha: run.sha.clone() })
}

/// A push to the default branch came, and its delivery is dealt with. Pushes tell no time, so only the first one can be the one
/// that the sweep missed: any other brings the branch back to the commit, and is news.
async fn note_push(db: &mut SqliteConnection, delivery: &DeliveryKey, head: &PullHead) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE swept_heads SET as_of = NULL WHERE forge = $1 AND repo = $2 AND number = $3 AND sha = $4 \
         AND delivery_id <> $5",
    )
    .bind(&delivery.forge)
    .bind(head.repo.as_str())
    .bind(head.number.cast_signed())
    .bind(head.sha.as_str())
    .bind(&delivery.id)
    .execute(db)
    .await?;
    Ok(())
}

/// Whether the run exists already by other news of the same head: of what the sweep found, if any event of the pull request
/// started the workflow at this commit, or any push of it to the same branch; of an event, if it tells no more than the sweep
/// knew, whatever followed from that.
async fn is_old_news(
    db: &mut SqliteConnection, delivery: &DeliveryKey, news: Option<HeadNews>, run: &NewRun,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM swept_heads JOIN runs ON runs.forge = swept_heads.forge \
         AND runs.repo = swept_heads.repo AND runs.sha = swept_heads.sha \
         AND (runs.pull_request = swept_heads.number OR runs.pull_request IS NULL) \
         WHERE swept_heads.forge = $1 AND swept_heads.repo = $2 AND swept_heads.sha = $3 \
         AND runs.workflow_path = $4 \
         AND runs.event = CASE WHEN swept_heads.number = $8 THEN 'push' ELSE 'pull_request' END \
         AND (swept_heads.number <> $8 OR json_extract(runs.context, '$.ref') IS $9) \
         AND (swept_heads.delivery_id = $5 OR (swept_heads.number = $6 AND swept_heads.as_of >= $7)))",
    )
    .bind(&delivery.forge)
    .bind(run.access.repo.as_str())
    .bind(run.sha.as_str())
    .bind(&run.workflow_path)
    .bind(&delivery.id)
    .bind(news.map(|news| news.number.cast_signed()))
    .bind(news.map(|news| news.as_of))
    .bind(DEFAULT_BRANCH.cast_signed())
    .bind(run.context.get("ref").and_then(Value::as_str))
    .fetch_one(db)
    .await?)
}
