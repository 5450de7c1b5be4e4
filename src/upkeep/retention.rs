//! Removing prepared snapshots that are too old or too many.

use std::sync::Arc;

use super::evict::{Bounds, Candidate, evicted};
use super::shelf::{Description, Removed};
use crate::clock;
use crate::core::Core;
use crate::store::{StoreError, UpkeepKey, UpkeepKind};

/// A snapshot with how it was used.
#[derive(Debug, Clone)]
pub struct Used {
    pub description: Description,
    pub hits: u64,
    /// When it was last used, or else made.
    pub used_at: i64,
    pub is_busy: bool,
}

/// Every snapshot.
pub async fn all(core: &Core) -> Result<Vec<Used>, StoreError> {
    let uses = core.store.prepared_uses().await?;
    let with_use = |(description, is_busy): (Description, bool)| {
        let known = uses.iter().find(|known| known.hash == description.hash);
        let used_at = known.map_or(0, |known| known.used_at).max(description.made_at);
        Used { hits: known.map_or(0, |known| known.hits), used_at, is_busy, description }
    };
    Ok(core.kept.shelf.list().into_iter().map(with_use).collect())
}

/// Those that go now, with their sizes.
pub async fn due(core: &Core) -> Result<Vec<Used>, StoreError> {
    let all = all(core).await?;
    let candidate = |used: &Used| Candidate {
        hash: used.description.hash.clone(),
        bytes: used.description.bytes,
        used_at: used.used_at,
        is_busy: used.is_busy,
    };
    let limits = core.config.prepared;
    let max_age_ms = i64::try_from(limits.max_age.as_millis()).unwrap_or(i64::MAX);
    let bounds = Bounds { max_bytes: limits.max_size, max_age_ms };
    let gone = evicted(&all.iter().map(candidate).collect::<Vec<_>>(), bounds, clock::now_ms());
    Ok(all.into_iter().filter(|used| gone.contains(&used.description.hash)).collect())
}

/// Removes one, and what is known of its use.
pub async fn remove(core: &Core, description: &Description) -> anyhow::Result<Removed> {
    let (shelf, hash) = (Arc::clone(&core.kept.shelf), description.hash.clone());
    let removed = tokio::task::spawn_blocking(move || shelf.remove(&hash)).await??;
    if removed == Removed::Done {
        let key = UpkeepKey {
            forge: description.forge.clone(),
            repo: description.repo.clone(),
            kind: UpkeepKind::Prepare,
            profile: description.profile.clone(),
        };
        core.store.forget_prepared(&key, &description.hash).await?;
        core.metrics.upkeep.evicted();
    }
    Ok(removed)
}

/// Removes what the configuration does not allow to stay. Failures are for the log: the next look tries again.
pub async fn tidy(core: &Core) {
    let due = match due(core).await {
        Ok(due) => due,
        Err(error) => return tracing::error!(%error, "it is not known which prepared snapshots are too old"),
    };
    for Used { description, .. } in due {
        match remove(core, &description).await {
            Ok(_) => {
                tracing::info!(hash = description.hash, repo = %description.repo, "a prepared snapshot was removed")
            }
            Err(error) => tracing::error!(hash = description.hash, %error, "a prepared snapshot cannot be removed"),
        }
    }
    let (snapshots, _): (Vec<_>, Vec<_>) = core.kept.shelf.list().into_iter().unzip();
    let bytes = snapshots.iter().map(|snapshot| snapshot.bytes).sum();
    core.metrics.upkeep.holds(snapshots.len(), bytes);
}
