//! What is kept up for repositories besides their jobs: durable wishes that trusted events of default branches made.
//!
//! A look is wanted for the newest commit of a default branch; it becomes one wish for each thing that the commit asks for: see
//! [`looks`].
//! A wish stays wanted until its end is stored, so a crash repeats it; every change names the commit that it is about, so
//! what was superseded meanwhile changes nothing.

mod looks;

use sqlx::sqlite::SqliteRow;

pub use self::looks::{Findings, NewUpkeep};
use super::rows::Columns;
use super::transitions::{Lifecycle, UpkeepState};
use super::{Store, StoreError, bounded_detail};
use crate::config::Prepare;
use crate::forge::{CommitSha, RepoAccess, RepoName};
use crate::ids::JobId;

/// The longest time until another try, in milliseconds: what a forge asks for that has had too many questions.
pub const LONGEST_WAIT_MS: i64 = 2 * 60 * 60 * 1000;

/// What kind of thing is kept up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UpkeepKind {
    /// Finding out what a commit asks for.
    Look,
    /// A prepared snapshot.
    Prepare,
    /// A generation of a cache.
    Fill,
}

impl UpkeepKind {
    const ALL: [Self; 3] = [Self::Look, Self::Prepare, Self::Fill];

    /// The word in the store and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Prepare => "prepare",
            Self::Fill => "fill",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Which thing: there is one row for each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpkeepKey {
    pub forge: String,
    pub repo: RepoName,
    pub kind: UpkeepKind,
    /// Empty for a look.
    pub profile: String,
}

/// A stored wish.
#[derive(Debug, Clone, PartialEq)]
pub struct Upkeep {
    pub key: UpkeepKey,
    pub access: RepoAccess,
    /// The default branch's commit from which it is made.
    pub sha: CommitSha,
    pub arrived_at: i64,
    /// Names what is wanted; empty for a look.
    pub hash: String,
    pub recipe: Option<Prepare>,
    pub state: UpkeepState,
    pub detail: String,
    /// Times that it was begun.
    pub tries: u32,
    pub next_try_at: i64,
    /// Under this id the log of the last try is kept.
    pub log: Option<JobId>,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
    pub misses: u64,
}

impl Store {
    /// What is to be done now, in the order in which it was asked for; looks first. A time that is further away than any wait is
    /// one of a clock that was set back since.
    pub async fn due_upkeep(&self, now: i64) -> Result<Vec<Upkeep>, StoreError> {
        self.read("look for upkeep", async |db| {
            let rows = sqlx::query(
                "SELECT * FROM upkeep WHERE state = 'wanted' AND (next_try_at <= $1 OR next_try_at > $2) \
                 ORDER BY kind <> 'look', arrived_at, repo, kind, profile",
            )
            .bind(now)
            .bind(now.saturating_add(LONGEST_WAIT_MS))
            .fetch_all(db)
            .await?;
            rows.iter().map(read).collect()
        })
        .await
    }

    /// When the next wish is due, if there is one.
    pub async fn next_upkeep_due(&self) -> Result<Option<i64>, StoreError> {
        self.read("look for upkeep", async |db| {
            Ok(sqlx::query_scalar("SELECT MIN(next_try_at) FROM upkeep WHERE state = 'wanted'").fetch_one(db).await?)
        })
        .await
    }

    /// A try begins: it counts from here on, however it ends. Gives whether the wish is still that of `upkeep`.
    pub async fn begin_upkeep(&self, upkeep: &Upkeep, log: &JobId, now: i64) -> Result<bool, StoreError> {
        let (upkeep, log) = (upkeep.clone(), log.clone());
        self.write("begin upkeep", move |db| {
            Box::pin(async move {
                let changed = bind_wish(
                    sqlx::query(
                        "UPDATE upkeep SET tries = tries + 1, started_at = $7, finished_at = NULL, log_id = $8 \
                         WHERE forge = $1 AND repo = $2 AND kind = $3 AND profile = $4 AND sha = $5 AND hash = $6 \
                         AND state = 'wanted'",
                    ),
                    &upkeep,
                )
                .bind(now)
                .bind(log.as_str())
                .execute(db)
                .await?;
                Ok(changed.rows_affected() == 1)
            })
        })
        .await
    }

    /// A wish has ended, unless it was superseded.
    pub async fn finish_upkeep(
        &self, upkeep: &Upkeep, state: UpkeepState, detail: &str, now: i64,
    ) -> Result<(), StoreError> {
        upkeep.state.check(&upkeep.key.repo, state)?;
        let (upkeep, detail) = (upkeep.clone(), bounded_detail(detail).to_owned());
        self.write("finish upkeep", move |db| {
            Box::pin(async move {
                bind_wish(
                    sqlx::query(
                        "UPDATE upkeep SET state = $7, detail = $8, finished_at = $9 \
                         WHERE forge = $1 AND repo = $2 AND kind = $3 AND profile = $4 AND sha = $5 AND hash = $6",
                    ),
                    &upkeep,
                )
                .bind(state.as_str())
                .bind(detail)
                .bind(now)
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// A wish is tried again at `next_try_at`, at most [`LONGEST_WAIT_MS`] from now, unless it was superseded. `tries` is how many
    /// count by then.
    pub async fn postpone_upkeep(
        &self, upkeep: &Upkeep, tries: u32, detail: &str, next_try_at: i64,
    ) -> Result<(), StoreError> {
        let (upkeep, detail) = (upkeep.clone(), bounded_detail(detail).to_owned());
        self.write("postpone upkeep", move |db| {
            Box::pin(async move {
                bind_wish(
                    sqlx::query(
                        "UPDATE upkeep SET tries = $7, detail = $8, next_try_at = $9 \
                         WHERE forge = $1 AND repo = $2 AND kind = $3 AND profile = $4 AND sha = $5 AND hash = $6 \
                         AND state = 'wanted'",
                    ),
                    &upkeep,
                )
                .bind(i64::from(tries))
                .bind(detail)
                .bind(next_try_at)
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// What is known of one thing.
    pub async fn upkeep(&self, key: &UpkeepKey) -> Result<Option<Upkeep>, StoreError> {
        self.read("read upkeep", async |db| {
            let row = sqlx::query("SELECT * FROM upkeep WHERE forge = $1 AND repo = $2 AND kind = $3 AND profile = $4")
                .bind(&key.forge)
                .bind(key.repo.as_str())
                .bind(key.kind.as_str())
                .bind(&key.profile)
                .fetch_optional(db)
                .await?;
            row.as_ref().map(read).transpose()
        })
        .await
    }

    /// Everything that is kept up, by repository.
    pub async fn all_upkeep(&self) -> Result<Vec<Upkeep>, StoreError> {
        self.read("list upkeep", async |db| {
            let rows = sqlx::query("SELECT * FROM upkeep ORDER BY repo, forge, kind, profile").fetch_all(db).await?;
            rows.iter().map(read).collect()
        })
        .await
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Binds what names a wish as it was read: a newer one differs in its commit or hash.
fn bind_wish<'q>(query: Query<'q>, upkeep: &'q Upkeep) -> Query<'q> {
    let UpkeepKey { forge, repo, kind, profile } = &upkeep.key;
    query.bind(forge).bind(repo.as_str()).bind(kind.as_str()).bind(profile).bind(upkeep.sha.as_str()).bind(&upkeep.hash)
}

fn read(row: &SqliteRow) -> Result<Upkeep, StoreError> {
    let columns = Columns::of("upkeep", row);
    let repo: RepoName = columns.text("repo")?;
    let kind: String = columns.plain("kind")?;
    let kind = UpkeepKind::parse(&kind)
        .ok_or_else(|| StoreError::Corrupt { what: "upkeep", detail: format!("column `kind`: `{kind}` is none") })?;
    let installation: Option<i64> = columns.plain("installation")?;
    Ok(Upkeep {
        access: RepoAccess { repo: repo.clone(), installation: installation.map(i64::cast_unsigned) },
        key: UpkeepKey { forge: columns.plain("forge")?, repo, kind, profile: columns.plain("profile")? },
        sha: columns.text("sha")?,
        arrived_at: columns.plain("arrived_at")?,
        hash: columns.plain("hash")?,
        recipe: columns.optional_json("recipe")?,
        state: columns.state("state")?,
        detail: columns.plain("detail")?,
        tries: columns.count("tries")?,
        next_try_at: columns.plain("next_try_at")?,
        log: columns.optional_text("log_id")?,
        started_at: columns.plain("started_at")?,
        finished_at: columns.plain("finished_at")?,
        misses: columns.count("misses")?,
    })
}
