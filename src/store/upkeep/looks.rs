//! Looks at default branches: for which commit, and what they found.

use sqlx::sqlite::SqliteConnection;

use super::{Upkeep, UpkeepKey, UpkeepKind, bind_wish};
use crate::config::Prepare;
use crate::forge::{CommitSha, RepoAccess};
use crate::store::rows::{Columns, to_json};
use crate::store::transitions::{Lifecycle, UpkeepState};
use crate::store::{Store, StoreError, bounded_detail};

/// A wish that follows from a look.
#[derive(Debug, Clone, PartialEq)]
pub struct NewUpkeep {
    pub kind: UpkeepKind,
    pub profile: String,
    pub hash: String,
    pub recipe: Prepare,
    /// It is there already.
    pub is_made: bool,
}

/// What a look found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    pub wishes: Vec<NewUpkeep>,
    /// Of these, by profile, it could not be found out: what was wanted of them before stays.
    pub unknown: Vec<(UpkeepKind, String)>,
    /// For people: what is wrong with the rest.
    pub detail: String,
}

impl Store {
    /// The default branch is at this commit, says a trusted event that arrived at that time. An older event, or the same once
    /// more, changes nothing; but one that is yet to arrive came while the clock was ahead, and any other counts as newer.
    pub async fn want_look(
        &self, forge: &str, access: &RepoAccess, sha: &CommitSha, arrived_at: i64, now: i64,
    ) -> Result<(), StoreError> {
        let (forge, access, sha) = (forge.to_owned(), access.clone(), sha.clone());
        self.write("note a default branch", move |db| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO upkeep (forge, repo, kind, profile, installation, sha, arrived_at, hash, state, detail, \
                     tries, next_try_at) VALUES ($1, $2, 'look', '', $3, $4, $5, '', 'wanted', '', 0, \
                     MIN($5, $6)) \
                     ON CONFLICT (forge, repo, kind, profile) DO UPDATE SET installation = excluded.installation, \
                     sha = excluded.sha, arrived_at = excluded.arrived_at, state = 'wanted', detail = '', tries = 0, \
                     next_try_at = excluded.next_try_at \
                     WHERE excluded.arrived_at > upkeep.arrived_at OR upkeep.arrived_at > $6",
                )
                .bind(forge)
                .bind(access.repo.as_str())
                .bind(access.installation.map(u64::cast_signed))
                .bind(sha.as_str())
                .bind(arrived_at)
                .bind(now)
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Looks again at every default branch: the configuration or the images may have changed. Failed wishes are tried anew,
    /// and times of a clock that was set back delay nothing.
    pub async fn want_all_looks(&self, now: i64) -> Result<(), StoreError> {
        self.write("look at the default branches again", move |db| {
            Box::pin(async move {
                sqlx::query("UPDATE upkeep SET arrived_at = MIN(arrived_at, $1), next_try_at = MIN(next_try_at, $1)")
                    .bind(now)
                    .execute(&mut *db)
                    .await?;
                sqlx::query("UPDATE upkeep SET state = 'wanted', tries = 0, next_try_at = $1 WHERE kind = 'look'")
                    .bind(now)
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Looks again at one default branch: something that was made is gone, or of no more use. Gives whether that is news: a look
    /// that is wanted already may be under way, and have found out before what has changed.
    pub async fn look_again(&self, key: &UpkeepKey, now: i64) -> Result<bool, StoreError> {
        let key = key.clone();
        self.write("look at a default branch again", move |db| {
            Box::pin(async move {
                let changed = sqlx::query(
                    "UPDATE upkeep SET state = 'wanted', tries = 0, next_try_at = $3 \
                     WHERE forge = $1 AND repo = $2 AND kind = 'look' AND state <> 'wanted'",
                )
                .bind(key.forge)
                .bind(key.repo.as_str())
                .bind(now)
                .execute(db)
                .await?;
                Ok(changed.rows_affected() > 0)
            })
        })
        .await
    }

    /// A look has found what its commit asks for: that, and nothing else, is wanted of this repository from now on. Does
    /// nothing if a newer commit came meanwhile; gives whether it did something.
    pub async fn finish_look(&self, look: &Upkeep, findings: Findings, now: i64) -> Result<bool, StoreError> {
        let (look, detail) = (look.clone(), bounded_detail(&findings.detail).to_owned());
        self.write("store what a default branch asks for", move |db| {
            Box::pin(async move {
                let changed = bind_wish(
                    sqlx::query(
                        "UPDATE upkeep SET state = 'done', detail = $7, finished_at = $8 \
                         WHERE forge = $1 AND repo = $2 AND kind = $3 AND profile = $4 AND sha = $5 AND hash = $6",
                    ),
                    &look,
                )
                .bind(detail)
                .bind(now)
                .execute(&mut *db)
                .await?;
                if changed.rows_affected() == 0 {
                    return Ok(false);
                }
                forget_others(db, &look, &findings).await?;
                for wish in &findings.wishes {
                    want(db, &look, wish, now).await?;
                }
                Ok(true)
            })
        })
        .await
    }
}

async fn forget_others(db: &mut SqliteConnection, look: &Upkeep, findings: &Findings) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT kind, profile FROM upkeep WHERE forge = $1 AND repo = $2 AND kind <> 'look'")
        .bind(&look.key.forge)
        .bind(look.key.repo.as_str())
        .fetch_all(&mut *db)
        .await?;
    for row in &rows {
        let columns = Columns::of("upkeep", row);
        let (kind, profile): (String, String) = (columns.plain("kind")?, columns.plain("profile")?);
        let wanted = findings.wishes.iter().map(|wish| (wish.kind, &wish.profile));
        let unknown = findings.unknown.iter().map(|(kind, profile)| (*kind, profile));
        if wanted.chain(unknown).any(|(its_kind, its_profile)| its_kind.as_str() == kind && *its_profile == profile) {
            continue;
        }
        sqlx::query("DELETE FROM upkeep WHERE forge = $1 AND repo = $2 AND kind = $3 AND profile = $4")
            .bind(&look.key.forge)
            .bind(look.key.repo.as_str())
            .bind(kind)
            .bind(profile)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// A try that is under way with an older commit may still make what is wanted; its end changes nothing here. The same wish once
/// more, as after a restart, keeps its tries: they may have taken the service with them.
async fn want(db: &mut SqliteConnection, look: &Upkeep, wish: &NewUpkeep, now: i64) -> Result<(), StoreError> {
    let state = if wish.is_made { UpkeepState::Done } else { UpkeepState::Wanted };
    sqlx::query(
        "INSERT INTO upkeep (forge, repo, kind, profile, installation, sha, arrived_at, hash, recipe, state, detail, tries, \
         next_try_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '', 0, $11) \
         ON CONFLICT (forge, repo, kind, profile) DO UPDATE SET installation = excluded.installation, \
         sha = excluded.sha, arrived_at = excluded.arrived_at, hash = excluded.hash, recipe = excluded.recipe, \
         state = excluded.state, detail = '', next_try_at = excluded.next_try_at, \
         tries = CASE WHEN upkeep.state = 'wanted' AND upkeep.sha = excluded.sha AND upkeep.hash = excluded.hash \
         THEN upkeep.tries ELSE 0 END",
    )
    .bind(&look.key.forge)
    .bind(look.key.repo.as_str())
    .bind(wish.kind.as_str())
    .bind(&wish.profile)
    .bind(look.access.installation.map(u64::cast_signed))
    .bind(look.sha.as_str())
    .bind(look.arrived_at)
    .bind(&wish.hash)
    .bind(to_json(&wish.recipe))
    .bind(state.as_str())
    .bind(now)
    .execute(db)
    .await?;
    Ok(())
}
