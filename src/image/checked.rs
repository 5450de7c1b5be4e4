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
    ///
    /// # Errors
    /// [`ImageError::Damaged`] when the snapshot is whole and the image is not: machines run from both.
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
                    self.image(image).await?;
                    return Ok(Some(bake));
                }
                let seen = Seen::of(bake.paths()).unwrap_or_default();
                match bake.verify().await {
                    Ok(()) if !bake.info.files.is_empty() => {
                        self.note(known, seen);
                        self.image(image).await?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::checksum;
    use crate::image::catalog::{BakeInfo, ImageInfo, PLACEHOLDER, write_json};
    use crate::image::recipe::User;
    use crate::vm::spec::{Accelerator, Shape};

    /// An image and its snapshot `key`, of files with a word each.
    fn image(directory: &std::path::Path) -> Image {
        let bake = directory.join("bakes/key");
        for place in [directory.join("modules"), bake.clone()] {
            fs::create_dir_all(place).unwrap();
        }
        for file in ["kernel", "root.erofs", "bakes/key/memory", &format!("bakes/key/{PLACEHOLDER}")] {
            fs::write(directory.join(file), "whole").unwrap();
        }
        let info = BakeInfo {
            key: "key".into(),
            shape: Shape { vcpus: 1, memory_mib: 256, disk_mib: 1024, card: false },
            accelerator: Accelerator::Tcg,
            monitor: String::new(),
            command_line: String::new(),
            baked_at: 1,
            files: checksum::of_files(&bake, &["memory"]).unwrap(),
        };
        write_json(&bake.join("snapshot.json"), &info).unwrap();
        let info = ImageInfo {
            name: "base".into(),
            digest: "digest".into(),
            recipe: String::new(),
            description: String::new(),
            source: String::new(),
            kernel: String::new(),
            user: User { name: "ci".into(), uid: 1, gid: 1 },
            environment: Vec::new(),
            packages: Vec::new(),
            fetched: Vec::new(),
            bake: Vec::new(),
            built_at: 1,
            built_by: String::new(),
            agent: String::new(),
            files: checksum::of_files(directory, &["kernel", "root.erofs"]).unwrap(),
        };
        Image { directory: directory.to_owned(), info }
    }

    #[tokio::test]
    async fn a_snapshot_is_of_use_only_with_its_image() {
        let directory = tempfile::tempdir().unwrap();
        let image = image(directory.path());
        let look = async |checked: &Checked| checked.bake(&image, "key", &crate::image::Logged).await;
        let checked = Checked::default();
        assert!(look(&checked).await.unwrap().is_some());

        fs::write(image.file("root.erofs"), "other").unwrap();
        assert!(look(&checked).await.unwrap().is_some(), "it was compared, and has the same length");
        let after_a_restart = Checked::default();
        for _ in 0..2 {
            let error = look(&after_a_restart).await.unwrap_err();
            let ImageError::Damaged { name, damage } = error else { panic!("{error}") };
            assert_eq!((name.as_str(), damage.file.as_str()), ("base", "root.erofs"));
        }
        assert!(image.bake("key").unwrap().is_some(), "the snapshot is not what is damaged");
    }
}
