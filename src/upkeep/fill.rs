//! Makes a generation of a named cache: what a job of the default branch wrote to a fresh volume, examined and published.

use tokio_util::sync::CancellationToken;

use super::desk::Activity;
use super::produce::Making;
use super::{End, Trouble};
use crate::caches::{CacheError, Producer, Published, Wish};
use crate::ids::JobId;
use crate::image::Logged;
use crate::job::driver::shape_of;

impl Making<'_> {
    /// Makes it. The VMs are absent afterwards, unless this is dropped before.
    pub(super) async fn fill_cache(&mut self, log: &JobId, cancel: &CancellationToken) -> Result<End, Trouble> {
        let (core, wish, profile) = (self.core, self.wish, self.profile);
        let filled = core.config.cache_filled_by(&wish.key.forge, &wish.key.repo, profile).zip(profile.cache.as_ref());
        let Some(((cache, named), place)) = filled else {
            return Err(Trouble::Failed("the configuration does not name this cache any more".to_owned()));
        };
        let image = core.engine.prepare(&profile.image, shape_of(profile), &Logged).await?;
        let asked = Wish {
            cache,
            key: wish.hash.clone(),
            order: wish.arrived_at,
            producer: Producer { sha: wish.sha.to_string(), job: log.to_string() },
            limit: named.limit,
            owner: image.info.user.owner(),
        };
        let Some(producing) = core.engine.caches().begin(asked).await? else {
            return Ok(End::Done("its cache has this content already, or newer".to_owned()));
        };
        let home = core.engine.home(self.vm.clone())?;
        let mut machine = core.engine.restore(home, &image, Some(&producing.mount(&place.mount))).await?;
        let worked = async {
            self.work(&mut machine, &image, cancel).await?;
            Ok::<_, Trouble>(machine.guest().seal_volume(&place.mount).await?)
        };
        let worked = worked.await;
        // Before anybody examines the volume, nothing may write to it any more.
        machine.destroy().await?;
        worked?;
        self.place.turns_to(Activity::Examining);
        Ok(End::Done(match core.engine.publish_cache(self.vm.clone(), producing, &image).await? {
            Published::Generation(made) => format!("it is generation {} of its cache", made.info.number),
            Published::Superseded => "a newer generation came first".to_owned(),
        }))
    }
}

impl From<CacheError> for Trouble {
    fn from(error: CacheError) -> Self {
        Self::Failed(error.to_string())
    }
}
