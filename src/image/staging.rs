//! Things that are made in a directory beside their place, and seen there only when they are whole.
//!
//! Whoever stages something holds a lock on the image, and one on the directory itself. The latter outlives a builder that gives up
//! while a thread still publishes, so that what is found half-way and not locked was left by one that ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::ImageError;
use crate::host::disk;

/// Beginnings of the names of directories that are not whole yet, and of those that another is taking the place of.
const BUILDING: &str = ".building-";
const REPLACED: &str = ".replaced-";

/// A directory under construction beside its final place. Dropped before [`Staging::publish`], nothing is left.
#[derive(Debug)]
pub(super) struct Staging {
    directory: PathBuf,
    /// Tells others that somebody is at it. Of no use to who finds the directory in its place.
    _lock: Option<Flock<fs::File>>,
}

impl Staging {
    /// Starts building something that will be a subdirectory of `parent`. What an earlier builder left is removed. The caller
    /// holds the image's lock.
    pub(super) fn begin(parent: &Path) -> Result<Self, ImageError> {
        let begin = || -> io::Result<Self> {
            fs::create_dir_all(parent)?;
            remove_unfinished_in(parent)?;
            let directory = tempfile::Builder::new().prefix(BUILDING).tempdir_in(parent)?;
            let lock = try_lock(directory.path())?;
            Ok(Self { directory: directory.keep(), _lock: lock })
        };
        begin().map_err(ImageError::io(format!("building in `{}`", parent.display())))
    }

    /// The directory to build in.
    pub(super) fn path(&self) -> &Path {
        &self.directory
    }

    /// Moves what was built to its place, which replaces what was there. It is all on the disk before it is seen. After a
    /// crash the place has the old, the new, or nothing.
    pub(super) async fn publish(self, place: &Path) -> Result<(), ImageError> {
        let place = place.to_owned();
        // Gigabytes may have to reach the disk.
        let done = tokio::task::spawn_blocking(move || {
            self.publish_blocking(&place).map_err(ImageError::io(format!("publishing `{}`", place.display())))
        });
        done.await.map_err(|error| ImageError::Unusable(format!("publishing was interrupted: {error}")))?
    }

    fn publish_blocking(&self, place: &Path) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755))?;
        disk::sync_tree(self.path())?;
        let parent = place.parent().unwrap_or(Path::new("/"));
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let aside = parent.join(format!("{REPLACED}{name}"));
        if place.exists() {
            fs::rename(place, &aside)?;
        }
        fs::rename(self.path(), place)?;
        fs::File::open(parent)?.sync_all()?;
        if aside.exists() { disk::remove_tree(&aside) } else { Ok(()) }
    }
}

/// `None`: somebody else has it.
fn try_lock(directory: &Path) -> io::Result<Option<Flock<fs::File>>> {
    match Flock::lock(fs::File::open(directory)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Removes what builders in a directory left that ended half-way. The caller holds the lock that they held.
pub(super) fn remove_unfinished_in(parent: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let removed = if name.starts_with(BUILDING) {
            remove_unless_locked(&entry.path())
        } else if name.starts_with(REPLACED) {
            disk::remove_tree(&entry.path())
        } else {
            Ok(())
        };
        // One that was finished just now has its name, or is gone.
        removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    }
    Ok(())
}

fn remove_unless_locked(directory: &Path) -> io::Result<()> {
    match try_lock(directory)? {
        Some(_lock) => disk::remove_tree(directory),
        None => Ok(()),
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        match disk::remove_tree(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(directory = %self.directory.display(), %error, "an unfinished build could not be removed");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_builder_is_at_stays_and_what_one_left_goes() {
        let parent = tempfile::tempdir().unwrap();
        let [left, replaced] = [BUILDING, REPLACED].map(|prefix| parent.path().join(format!("{prefix}left")));
        for directory in [&left, &replaced] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("file"), "").unwrap();
        }
        let first = Staging::begin(parent.path()).unwrap();
        assert!(!left.exists() && !replaced.exists());
        fs::write(first.path().join("file"), "").unwrap();
        let second = Staging::begin(parent.path()).unwrap();
        assert!(first.path().join("file").exists(), "a thread that still publishes it is not disturbed");
        first.publish_blocking(&parent.path().join("whole")).unwrap();
        remove_unfinished_in(parent.path()).unwrap();
        assert!(second.path().exists());
        drop((first, second));
        let names: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["whole"]);
    }
}
