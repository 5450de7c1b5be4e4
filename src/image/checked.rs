//! Which files this process has compared with their checksums. Each is compared before its first use, and not again while they are the
//! same files: a disk that lies does so seldom, and a restore takes less time than the comparison.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::catalog::{Bake, Image};
use super::{ImageError, Progress};
use crate::host::disk;
use crate::host::seen::Seen;

/// Directories that are known to be whole, with the time at which they were made, and their files as they were then. Clones are
/// the same.
#[derive(Debug, Clone, Default)]
pub struct Checked(Arc<Mutex<HashMap<(PathBuf, i64), Seen>>>);

impl Checked {
    fn is_known(&self, place: &(PathBuf, i64)) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was whole may have lost a file since.
        known.get(place).is_some_and(|seen| seen.lost().is_none())
    }

    fn note(&self, place: (PathBuf, i64), seen: Seen) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place, seen);
    }

    /// The snapshot with this key, if there is one that is whole. One that is not is removed, so that it is made again. The caller
    /// holds the image's lock.
    pub(super) async fn bake(
        &self, image: &Image, key: &str, progress: &dyn Progress,
    ) -> Result<Option<Bake>, ImageError> {
        let place = image.bakes().join(key);
        let why = match image.bake(key) {
            Ok(None) => return Ok(None),
            Err(ImageError::Unusable(why)) => why,
            Err(error) => return Err(error),
            Ok(Some(bake)) if bake.info.key != key => format!("it was made as `{}`", bake.info.key),
            Ok(Some(bake)) => {
                let known = (bake.directory.clone(), bake.info.baked_at);
                if self.is_known(&known) {
                    return Ok(Some(bake));
                }
                let seen = Seen::of(bake.paths()).unwrap_or_default();
                match bake.verify().await {
                    Ok(()) if !bake.info.files.is_empty() => {
                        self.note(known, seen);
                        return Ok(Some(bake));
                    }
                    Ok(()) => "it has no checksums".to_owned(),
                    Err(damage) => damage.to_string(),
                }
            }
        };
        let name = &image.info.name;
        tracing::warn!(directory = %place.display(), why, "a snapshot of the image `{name}` is damaged; it is made again");
        progress.step(&format!("removing the snapshot {key} of `{name}`, which is damaged: {why}"));
        disk::remove_tree(&place).map_err(ImageError::io(format!("removing `{}`", place.display())))?;
        Ok(None)
    }

    /// Fails if the image is not whole any more.
    pub(super) async fn image(&self, image: &Image) -> Result<(), ImageError> {
        let known = (image.directory.clone(), image.info.built_at);
        if self.is_known(&known) {
            return Ok(());
        }
        let seen = Seen::of(image.paths()).unwrap_or_default();
        match image.verify().await {
            Ok(()) => {
                self.note(known, seen);
                Ok(())
            }
            Err(damage) => Err(ImageError::Damaged { name: image.info.name.clone(), damage }),
        }
    }
}
