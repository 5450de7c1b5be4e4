//! Follows the images of what is prepared: when the VMs of a profile start from another one than the default branches were looked
//! at with, those are looked at again, and what they ask for is made anew, with the usual waits and limits.
//!
//! What follows is asked for once for each change of an image. The looks remember in memory from what they computed; a start of
//! the service looks at everything anyway.

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

    /// A look begins to find out what is wanted of this repository.
    pub(super) fn forget(&self, look: &UpkeepKey) {
        self.known().retain(|key, _| (&key.forge, &key.repo) != (&look.forge, &look.repo));
    }

    /// Whether anything of the profile was asked for with a bake.
    fn has(&self, profile: &str) -> bool {
        self.known().keys().any(|key| key.profile == profile)
    }

    /// VMs of the profile start from this bake now: what was asked for with another one, each once.
    fn outdated_by(&self, profile: &str, bake: &str) -> Vec<UpkeepKey> {
        let mut known = self.known();
        let others = known.iter_mut().filter(|(key, other)| key.profile == profile && *other != bake);
        let outdated = others.map(|(key, other)| {
            bake.clone_into(other);
            key.clone()
        });
        outdated.collect()
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
        tracing::info!(repo = %key.repo, profile = profile.name, "the image has changed: its default branch is looked at again");
        core.store.look_again(&key, clock::now_ms()).await?;
        core.wake.upkeep.notify_one();
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
    fn each_change_of_an_image_is_followed_once() {
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
        assert_eq!(bakes.outdated_by("linux", "second"), [key("demo/one", "linux")]);
        assert_eq!(bakes.outdated_by("linux", "second"), []);
        let mut all = bakes.outdated_by("linux", "third");
        all.sort_by_key(|key| key.repo.to_string());
        assert_eq!(all, [key("demo/one", "linux"), key("demo/two", "linux")]);
        assert_eq!(bakes.outdated_by("big", "first"), []);
        bakes.forget(&UpkeepKey { kind: UpkeepKind::Look, ..key("demo/one", "") });
        assert!(bakes.has("linux") && !bakes.has("big"));
    }
}
