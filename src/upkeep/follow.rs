//! Follows the images of what is prepared: when the VMs of a profile start from another one than the default branches were looked
//! at with, those are looked at again, and what they ask for is made anew, with the usual waits and limits.
//!
//! The looks remember in memory from what they computed, and only they change that: what is out of date stays so until a look that
//! began after the change has ended, so that no change is lost, whatever is under way or cannot be stored. A start of the service
//! looks at everything anyway.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Trouble;
use crate::clock;
use crate::config::Profile;
use crate::core::Core;
use crate::image::Logged;
use crate::job::driver::shape_of;
use crate::store::UpkeepKey;

/// Between two looks at the images. To look at one that has not changed takes a moment.
const LOOK: Duration = Duration::from_secs(15);

/// What no bake is called.
const NONE: &str = "";

/// By what is prepared: the key of the bake that it was last asked for with.
#[derive(Debug, Default)]
pub(super) struct Bakes(Mutex<HashMap<UpkeepKey, String>>);

impl Bakes {
    fn known(&self) -> MutexGuard<'_, HashMap<UpkeepKey, String>> {
        // A map's single calls leave it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A look computes what is wanted from this bake.
    pub(super) fn note(&self, key: UpkeepKey, bake: &str) {
        self.known().insert(key, bake.to_owned());
    }

    /// A look wants something of which there is no bake yet: whichever comes first is followed.
    pub(super) fn await_first(&self, key: UpkeepKey) {
        self.note(key, NONE);
    }

    /// A look begins to find out what is wanted of this repository.
    pub(super) fn forget(&self, look: &UpkeepKey) {
        self.known().retain(|key, _| (&key.forge, &key.repo) != (&look.forge, &look.repo));
    }

    /// Whether anything of the profile was asked for with a bake.
    fn has(&self, profile: &str) -> bool {
        self.known().keys().any(|key| key.profile == profile)
    }

    /// VMs of the profile start from this bake now: what was asked for with another one.
    fn outdated_by(&self, profile: &str, bake: &str) -> Vec<UpkeepKey> {
        let known = self.known();
        let others = known.iter().filter(|(key, other)| key.profile == profile && *other != bake);
        others.map(|(key, _)| key.clone()).collect()
    }
}

/// Looks at the images again and again, for ever. One that is missing or out of date is made.
pub(super) async fn follow_images(core: &Core) {
    loop {
        tokio::time::sleep(LOOK).await;
        if core.shutdown.drain.is_cancelled() {
            continue;
        }
        for profile in core.config.profiles.iter().filter(|profile| core.kept.bakes.has(&profile.name)) {
            if let Err(trouble) = follow(core, profile).await {
                // Whoever needs the image says so louder.
                tracing::debug!(profile = profile.name, error = %trouble, "what is prepared cannot follow its image");
            }
        }
    }
}

async fn follow(core: &Core, profile: &Profile) -> Result<(), Trouble> {
    let image = core.engine.prepare(&profile.image, shape_of(profile), &Logged).await?;
    for key in core.kept.bakes.outdated_by(&profile.name, &image.bake.key) {
        // Where a look is under way, the next round asks again: that one may have ended with what it knew before.
        if core.store.look_again(&key, clock::now_ms()).await? {
            tracing::info!(repo = %key.repo, profile = profile.name, "the image has changed: its default branch is looked at again");
            core.wake.upkeep.notify_one();
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::forge::RepoName;
    use crate::store::UpkeepKind;

    #[test]
    fn what_is_out_of_date_stays_so_until_it_is_looked_at_with_the_new_bake() {
        let key = |repo: &str, profile: &str| UpkeepKey {
            forge: "github".into(),
            repo: RepoName::parse(repo).unwrap(),
            kind: UpkeepKind::Prepare,
            profile: profile.into(),
        };
        let bakes = Bakes::default();
        assert!(!bakes.has("linux"));
        bakes.note(key("demo/one", "linux"), "first");
        bakes.note(key("demo/two", "linux"), "second");
        bakes.note(key("demo/one", "big"), "first");
        assert!(bakes.has("linux"));
        for _ in 0..2 {
            assert_eq!(bakes.outdated_by("linux", "second"), [key("demo/one", "linux")]);
        }
        bakes.note(key("demo/one", "linux"), "second");
        assert_eq!(bakes.outdated_by("linux", "second"), []);
        let mut all = bakes.outdated_by("linux", "third");
        all.sort_by_key(|key| key.repo.to_string());
        assert_eq!(all, [key("demo/one", "linux"), key("demo/two", "linux")]);
        assert_eq!(bakes.outdated_by("big", "first"), []);
        bakes.await_first(key("demo/one", "big"));
        assert_eq!(bakes.outdated_by("big", "first"), [key("demo/one", "big")], "there was none before");
        bakes.forget(&UpkeepKey { kind: UpkeepKind::Look, ..key("demo/one", "") });
        assert!(bakes.has("linux") && !bakes.has("big"));
    }
}
