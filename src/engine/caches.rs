//! What the VMs of jobs get of their caches, and how a generation of a named one is finished.

use super::{Engine, Prepared};
use crate::caches::{CacheError, CacheId, Caches, Producing, Published};
use crate::config::{Cache, CacheSource};
use crate::ids::VmId;
use crate::image::ImageError;
use crate::metrics::labels::{CacheFound, CacheMade};
use crate::protocol::message::VolumeFormat;
use crate::vm::volume::CacheMount;

impl Engine {
    /// The named caches.
    pub fn caches(&self) -> &Caches {
        &self.caches
    }

    /// What a VM gets of `cache`, whose generations are those of `id`. A named cache that has none yet, or that no `id` is
    /// known for, is an empty directory of the account that runs jobs.
    pub async fn cache(
        &self, cache: &Cache, id: Option<&CacheId>, prepared: &Prepared,
    ) -> Result<CacheMount, ImageError> {
        if let CacheSource::Path(source) = &cache.source {
            let volume = self.cache_volume(source).await?;
            return Ok(CacheMount::of_volume(volume, VolumeFormat::Erofs, cache.mode, &cache.mount));
        }
        let current = id.and_then(|id| {
            let current = self.caches.current(id).unwrap_or_else(|error| {
                // A job is slower without its cache, and no worse.
                tracing::warn!(%error, "a cache cannot be used");
                None
            });
            self.keeper.studio.metrics.cache_looked_up(if current.is_some() {
                CacheFound::Hit
            } else {
                CacheFound::Miss
            });
            current
        });
        Ok(match current {
            Some(held) => held.mount(cache.mode, &cache.mount),
            None => CacheMount::empty(&cache.mount, prepared.info.user.owner()),
        })
    }

    /// Has a volume that is filled examined in a VM of its own, and makes it the newest generation. The VM that filled it
    /// must be gone; `vm` is who examines it, and may have its id.
    ///
    /// # Errors
    /// [`CacheError::Refused`] when the volume is not whole. After any error nothing of it is left.
    pub async fn publish_cache(
        &self, vm: VmId, producing: Producing, prepared: &Prepared,
    ) -> Result<Published, CacheError> {
        let published = self.examine_and_publish(vm, producing, prepared).await;
        self.keeper.studio.metrics.cache_made(match &published {
            Ok(Published::Generation(_)) => CacheMade::Published,
            Ok(Published::Superseded) => CacheMade::Superseded,
            Err(CacheError::Refused(_)) => CacheMade::Refused,
            Err(_) => CacheMade::Failure,
        });
        published
    }

    async fn examine_and_publish(
        &self, vm: VmId, producing: Producing, prepared: &Prepared,
    ) -> Result<Published, CacheError> {
        let home = self.home(vm)?;
        let machine = self.restore(home, prepared, Some(&producing.mount_to_examine())).await?;
        producing.examine(machine).await?.publish(&self.caches).await
    }
}
