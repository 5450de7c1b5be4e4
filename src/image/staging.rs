//! Things that are made in a directory beside their place, and seen there only when they are whole.
//!
//! Whoever stages something holds a lock on it, so that what is found half-way under that lock was left by a builder that
//! ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::ImageError;
use crate::host::disk;

/// Beginnings of the names of directories that are not whole yet, and of those that another is taking the place of.
const BUILDING: &str = ".building-";
const REPLACED: &str = ".replaced-";

/// A directory under construction beside its final place. Dropped before [`Staging::publish`], nothing is left.
#[derive(Debug)]
pub(super) struct Staging {
    directory: PathBuf,
}

impl Staging {
    /// Starts building something that will be a subdirectory of `parent`. What an earlier builder left is removed: the
    /// caller holds the image's lock, so nobody is at it.
    pub(super) fn begin(parent: &Path) -> Result<Self, ImageError> {
        let begin = || -> io::Result<PathBuf> {
            fs::create_dir_all(parent)?;
            remove_unfinished_in(parent)?;
            Ok(tempfile::Builder::new().prefix(BUILDING).tempdir_in(parent)?.keep())
        };
        begin()
            .map(|directory| Self { directory })
            .map_err(ImageError::io(format!("building in `{}`", parent.display())))
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
        if name.starts_with(BUILDING) || name.starts_with(REPLACED) {
            disk::remove_tree(&entry.path())?;
        }
    }
    Ok(())
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
