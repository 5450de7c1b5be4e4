//! How often jobs started from prepared snapshots: what hit rates are made of, and what decides which one goes first.
//!
//! Only a count: what is there, the directory of the snapshots says.

use super::rows::Columns;
use super::upkeep::UpkeepKey;
use super::{Store, StoreError};
use crate::forge::RepoName;

/// How a prepared snapshot was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedUse {
    pub forge: String,
    pub repo: RepoName,
    pub profile: String,
    pub hash: String,
    pub hits: u64,
    /// Milliseconds since the epoch.
    pub used_at: i64,
}

impl Store {
    /// A job started from a prepared snapshot (`hash`), or found none.
    pub async fn count_prepared(&self, key: &UpkeepKey, hash: Option<&str>, now: i64) -> Result<(), StoreError> {
        let (key, hash) = (key.clone(), hash.map(str::to_owned));
        self.write("count a start", move |db| {
            Box::pin(async move {
                let statement = match hash {
                    Some(_) => {
                        "INSERT INTO prepared_uses (forge, repo, profile, hash, hits, used_at) VALUES ($1, $2, $3, $4, 1, $5) \
                         ON CONFLICT (forge, repo, profile, hash) DO UPDATE SET hits = hits + 1, used_at = excluded.used_at"
                    }
                    None => {
                        "UPDATE upkeep SET misses = misses + 1 \
                         WHERE forge = $1 AND repo = $2 AND profile = $3 AND kind = 'prepare'"
                    }
                };
                let query = sqlx::query(statement).bind(&key.forge).bind(key.repo.as_str()).bind(&key.profile);
                match hash {
                    Some(hash) => query.bind(hash).bind(now).execute(db).await?,
                    None => query.execute(db).await?,
                };
                Ok(())
            })
        })
        .await
    }

    /// How often each prepared snapshot was used; those that nobody used are not in here.
    pub async fn prepared_uses(&self) -> Result<Vec<PreparedUse>, StoreError> {
        self.read("read how prepared snapshots were used", async |db| {
            let rows = sqlx::query("SELECT * FROM prepared_uses").fetch_all(db).await?;
            rows.iter().map(|row| read_use(Columns::of("prepared snapshot", row))).collect()
        })
        .await
    }

    /// A prepared snapshot is not there any more.
    pub async fn forget_prepared(&self, key: &UpkeepKey, hash: &str) -> Result<(), StoreError> {
        let (key, hash) = (key.clone(), hash.to_owned());
        self.write("forget a prepared snapshot", move |db| {
            Box::pin(async move {
                sqlx::query("DELETE FROM prepared_uses WHERE forge = $1 AND repo = $2 AND profile = $3 AND hash = $4")
                    .bind(key.forge)
                    .bind(key.repo.as_str())
                    .bind(key.profile)
                    .bind(hash)
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}

fn read_use(columns: Columns<'_>) -> Result<PreparedUse, StoreError> {
    Ok(PreparedUse {
        forge: columns.plain("forge")?,
        repo: columns.text("repo")?,
        profile: columns.plain("profile")?,
        hash: columns.plain("hash")?,
        hits: columns.count("hits")?,
        used_at: columns.plain("used_at")?,
    })
}
