//! Dependency-cache volumes: a directory or an image file of the operator's, as a read-only disk of the guests.
//!
//! A directory is packed once per content (names, sizes, times); guests that run keep the volume that they started with.
//! Jobs that start within `RECENT` of a look at the source take what was found then.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::staging::{Staging, remove_unfinished_in};
use super::{ImageError, build};
use crate::vm::spec::CACHE_VOLUME_BYTES;

/// Entries of a cache directory that are looked at before it is refused.
const MAX_ENTRIES: usize = 5_000_000;

/// Where the superblock of an erofs image is, and its first four bytes.
const SUPERBLOCK: (u64, [u8; 4]) = (1024, 0xE0F5_E1E2_u32.to_le_bytes());

/// Volumes of one source that are kept: the newest, and those before it, from which a VM may just be starting. A VM that
/// runs has its volume open and does not need the name any more.
const KEPT: usize = 3;

/// How long what was found in a source is taken for true. Many jobs start at once, and a walk of a large directory takes
/// longer than the start of a VM.
const RECENT: Duration = Duration::from_secs(2);

/// The volumes of sources that were looked at a moment ago.
#[derive(Debug, Default)]
pub struct Recent {
    found: Mutex<HashMap<PathBuf, (Instant, PathBuf)>>,
}

impl Recent {
    /// The volume of `source`, if it was found less than `RECENT` ago and is still there.
    pub fn get(&self, source: &Path) -> Option<PathBuf> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (when, volume) = found.get(source)?;
        (when.elapsed() < RECENT && volume.is_file()).then(|| volume.clone())
    }

    /// Remembers the volume of `source`.
    pub fn put(&self, source: &Path, volume: &Path) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(source.to_owned(), (Instant::now(), volume.to_owned()));
    }
}

/// A volume with the content of `source`, made below `caches` if it is not there yet.
pub async fn volume(caches: &Path, source: &Path) -> Result<PathBuf, ImageError> {
    let name = source.display();
    let volumes = caches.join(hex::encode(&Sha256::digest(source.as_os_str().as_encoded_bytes())[..8]));
    let volumes = volumes.as_path();
    let kind = fs::metadata(source).map_err(|error| {
        ImageError::Unusable(format!(
            "the cache `{name}` cannot be used: {error}\n  hint: make it, or remove `cache` from the profile"
        ))
    })?;
    let is_directory = kind.is_dir();
    let owned = source.to_owned();
    let digest =
        blocking(move || if is_directory { directory_digest(&owned) } else { file_digest(&owned, &kind) }).await?;
    let place = volumes.join(digest);
    let image = place.join("volume");
    if image.is_file() {
        return Ok(image);
    }
    let staging = Staging::begin(volumes)?;
    let fresh = staging.path().join("volume");
    if is_directory {
        build::make_erofs(source, &fresh).await?;
    } else {
        let (source, fresh) = (source.to_owned(), fresh.clone());
        blocking(move || copy_image(&source, &fresh)).await?;
    }
    pad(&fresh, source)?;
    staging.publish(&place).await?;
    remove_old(volumes, KEPT)?;
    Ok(image)
}

/// Removes what was left half-way of volumes. The caller holds the lock of `caches`. Blocks the thread.
pub fn remove_unfinished(caches: &Path) -> Result<(), ImageError> {
    let remove = || {
        fs::read_dir(caches)?.try_for_each(|entry| {
            let place = entry?.path();
            if place.is_dir() { remove_unfinished_in(&place) } else { Ok(()) }
        })
    };
    remove().map_err(ImageError::io(format!("cache volumes in `{}`", caches.display())))
}

/// Work on files that may take seconds, where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ImageError::Unusable(format!("the cache volume could not be made: {error}")))?
}

fn copy_image(source: &Path, fresh: &Path) -> Result<(), ImageError> {
    check_erofs(source)?;
    crate::host::disk::copy_sparse(source, fresh).map_err(ImageError::io("copying the cache volume"))
}

/// Gives a volume the one size that the guests' disks have.
fn pad(volume: &Path, source: &Path) -> Result<(), ImageError> {
    let file = fs::File::options().write(true).open(volume).map_err(ImageError::io("the cache volume"))?;
    let length = file.metadata().map_err(ImageError::io("the cache volume"))?.len();
    if length > CACHE_VOLUME_BYTES {
        return Err(ImageError::Unusable(format!(
            "the cache `{}` is larger than {} GiB",
            source.display(),
            CACHE_VOLUME_BYTES >> 30
        )));
    }
    file.set_len(CACHE_VOLUME_BYTES).map_err(ImageError::io("the cache volume"))
}

/// Removes all but the newest `kept` subdirectories.
pub(super) fn remove_old(directory: &Path, kept: usize) -> Result<(), ImageError> {
    let remove = || -> io::Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() && !entry.file_name().to_string_lossy().starts_with('.') {
                found.push((metadata.modified()?, entry.path()));
            }
        }
        found.sort();
        let excess = found.len().saturating_sub(kept);
        found.into_iter().take(excess).try_for_each(|(_, path)| fs::remove_dir_all(path))
    };
    remove().map_err(ImageError::io(format!("removing what is old in `{}`", directory.display())))
}

fn check_erofs(source: &Path) -> Result<(), ImageError> {
    let read = || -> io::Result<[u8; 4]> {
        let mut file = fs::File::open(source)?;
        file.seek(SeekFrom::Start(SUPERBLOCK.0))?;
        let mut magic = [0; 4];
        file.read_exact(&mut magic)?;
        Ok(magic)
    };
    match read() {
        Ok(magic) if magic == SUPERBLOCK.1 => Ok(()),
        _ => Err(ImageError::Unusable(format!(
            "the cache `{}` is neither a directory nor an erofs image\n  hint: make an image with mkfs.erofs",
            source.display()
        ))),
    }
}

fn file_digest(source: &Path, metadata: &fs::Metadata) -> Result<String, ImageError> {
    let place = source.canonicalize().map_err(ImageError::io(source.display().to_string()))?;
    let text = format!("file {} {} {} {}", place.display(), metadata.ino(), metadata.len(), metadata.mtime_nsec());
    Ok(hex::encode(&Sha256::digest(format!("{text} {}", metadata.mtime()))[..12]))
}

/// Names everything in the directory by path, kind, size and time: a change shows in one of them.
fn directory_digest(source: &Path) -> Result<String, ImageError> {
    let mut hash = Sha256::new();
    let mut left = vec![source.to_owned()];
    let mut seen = 0;
    while let Some(directory) = left.pop() {
        let context = || ImageError::io(directory.display().to_string());
        let mut entries: Vec<_> =
            fs::read_dir(&directory).map_err(context())?.collect::<io::Result<_>>().map_err(context())?;
        entries.sort_by_key(fs::DirEntry::file_name);
        seen += entries.len();
        if seen > MAX_ENTRIES {
            return Err(ImageError::Unusable(format!(
                "the cache `{}` has more than {MAX_ENTRIES} files",
                source.display()
            )));
        }
        for entry in entries {
            let metadata = entry.metadata().map_err(context())?;
            let path = entry.path();
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update(format!(
                "\0{:o} {} {} {}\0",
                metadata.mode(),
                metadata.len(),
                metadata.mtime(),
                metadata.mtime_nsec()
            ));
            if metadata.is_dir() {
                left.push(path);
            }
        }
    }
    Ok(hex::encode(&hash.finalize()[..12]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_recent_volume_is_taken_only_while_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("volume");
        fs::write(&volume, "").unwrap();
        let recent = Recent::default();
        recent.put(Path::new("/source"), &volume);
        assert_eq!(recent.get(Path::new("/source")), Some(volume.clone()));
        assert_eq!(recent.get(Path::new("/another")), None);
        fs::remove_file(&volume).unwrap();
        assert_eq!(recent.get(Path::new("/source")), None);
    }
}
