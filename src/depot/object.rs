//! One stored object: a directory with `data` and `meta.json`, that appears whole.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::DepotError;
use super::upload::Uploaded;

const DATA: &str = "data";
const META: &str = "meta.json";

/// Largest description that is read, in bytes.
const MAX_META: u64 = 64 << 10;

/// The content of an object, open: it can be read to its end whatever is removed meanwhile.
#[derive(Debug)]
pub struct Content {
    pub file: File,
    /// Bytes.
    pub size: u64,
}

/// The name of a directory for what strangers named.
pub(super) fn digest_of(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

/// Makes an upload the object at `place`.
///
/// # Errors
/// [`DepotError::Exists`] if there is one already; the host's file system.
pub(super) fn publish<M: Serialize>(uploaded: Uploaded, meta: &M, place: &Path, name: &str) -> Result<(), DepotError> {
    let io = DepotError::io;
    let staged = uploaded.directory();
    // The upload's directory has only its data by now, under the name that it has here, too.
    let json = serde_json::to_vec(meta).expect("descriptions have no keys but texts");
    write_synced(&staged.join(META), &json).map_err(io("a description cannot be written"))?;
    let parent = place.parent().unwrap_or(place);
    fs::create_dir_all(parent).map_err(io("a directory of the depot cannot be made"))?;
    match fs::rename(staged, place) {
        Ok(()) => uploaded.forget(),
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            return Err(DepotError::Exists(name.to_owned()));
        }
        Err(error) => return Err(io("an object cannot be put in its place")(error)),
    }
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(io("a directory of the depot cannot be synced"))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    File::open(path)?.sync_all()
}

/// The description of the object there; `None` if there is none that reads.
pub(super) fn read_meta<M: DeserializeOwned>(place: &Path) -> Option<M> {
    let path = place.join(META);
    if fs::metadata(&path).ok()?.len() > MAX_META {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Opens the content of the object there; `None` if it is gone.
pub(super) fn open(place: &Path) -> Result<Option<Content>, DepotError> {
    let io = DepotError::io("an object cannot be read");
    match File::open(place.join(DATA)) {
        Ok(file) => {
            let size = file.metadata().map_err(io)?.len();
            Ok(Some(Content { file, size }))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(error)),
    }
}

/// Notes that the object there is used now.
pub(super) fn touch(place: &Path, now: SystemTime) {
    let touched = File::options().append(true).open(place.join(META)).and_then(|meta| meta.set_modified(now));
    if let Err(error) = touched {
        tracing::debug!(place = %place.display(), %error, "the use of an object cannot be noted");
    }
}

/// When the object there was used last.
pub(super) fn used_at(place: &Path) -> Option<SystemTime> {
    fs::metadata(place.join(META)).ok()?.modified().ok()
}

/// How long the directory itself is unchanged; nothing where the clock was set back.
pub(super) fn age(place: &Path, now: SystemTime) -> Option<Duration> {
    now.duration_since(fs::metadata(place).ok()?.modified().ok()?).ok()
}

/// The directories in `parent`; an unreadable one has none.
pub(super) fn directories(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Removes the object there, if it can be; gives whether it is gone. First it loses its description: nobody sees a half.
pub(super) fn remove(place: &Path) -> bool {
    let removed = match fs::remove_file(place.join(META)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => fs::remove_dir_all(place),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(place = %place.display(), %error, "an object of the depot cannot be removed");
            false
        }
        _ => true,
    }
}
