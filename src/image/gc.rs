//! Removing images and snapshots that nobody uses any more.
//!
//! What a VM runs from may go too: it has the files open until it ends. What is kept is what somebody may be starting from at
//! this moment, and what stands in for an image that cannot be made.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::ImageError;
use super::catalog::{Catalog, Image};
use crate::host::lease::Lease;
use crate::host::{disk, users};

/// How long an image that is not current any more is kept after the next one was built.
const SUPERSEDED_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Something that is removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub path: PathBuf,
    /// The image's name.
    pub name: String,
    pub digest: String,
    /// The snapshot's key; `None`: the image with all its snapshots.
    pub key: Option<String>,
    /// What it takes of the disk.
    pub bytes: u64,
}

/// What is known of a thing that may be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    path: PathBuf,
    is_current: bool,
    is_in_use: bool,
    /// Since it was superseded or used the last time; `None` if a clock says that this is still to come.
    idle: Option<Duration>,
}

/// Which images of one name go; newest last. With `needs_substitute` the newest one that is not current is kept.
fn removable(candidates: &[Candidate], older_than: Duration, needs_substitute: bool) -> Vec<&Candidate> {
    let substitute = candidates.iter().rfind(|candidate| !candidate.is_current).filter(|_| needs_substitute);
    let goes = |candidate: &&Candidate| {
        let is_old = candidate.idle.is_some_and(|idle| idle > older_than);
        is_old && !candidate.is_current && !candidate.is_in_use && substitute != Some(*candidate)
    };
    candidates.iter().filter(goes).collect()
}

/// Removes images that were superseded, and snapshots that were not used, for longer than `older_than`; with `is_dry_run` only tells which. An
/// image at which somebody works is left alone. Blocks the thread.
pub fn collect(catalog: &Catalog, older_than: Duration, is_dry_run: bool) -> Result<Vec<Removal>, ImageError> {
    let open: HashSet<PathBuf> = users::open_below(catalog.root()).into_iter().map(|(_, file)| file).collect();
    let mut removals = Vec::new();
    for name in catalog.names()? {
        let directory = catalog.directory(&name);
        let lock = Lease::try_take(&directory).map_err(ImageError::io(directory.display().to_string()))?;
        let Some(_lock) = lock else { continue };
        let images = superseded(catalog, &name, &open, older_than)?;
        for image in catalog.images(&name)? {
            if !images.iter().any(|removal| removal.digest == image.info.digest) {
                removals.extend(idle_bakes(&image, &open, older_than)?);
            }
        }
        removals.extend(images);
        if !is_dry_run {
            remove(removals.iter().filter(|removal| removal.name == name))?;
        }
    }
    Ok(removals)
}

/// Removes the images of that name that have not been current for a day. The caller holds the image's lock.
pub(super) fn remove_superseded(catalog: &Catalog, name: &str) -> Result<(), ImageError> {
    remove(&superseded(catalog, name, &HashSet::new(), SUPERSEDED_KEPT)?)
}

fn remove<'r>(removals: impl IntoIterator<Item = &'r Removal>) -> Result<(), ImageError> {
    removals.into_iter().try_for_each(|removal| {
        disk::remove_tree(&removal.path).map_err(ImageError::io(removal.path.display().to_string()))
    })
}

fn superseded(
    catalog: &Catalog, name: &str, open: &HashSet<PathBuf>, older_than: Duration,
) -> Result<Vec<Removal>, ImageError> {
    let Some(current) = catalog.current_digest(name) else { return Ok(Vec::new()) };
    let mut candidates: Vec<Candidate> = catalog
        .digests(name)?
        .into_iter()
        .map(|digest| candidate(catalog.directory(name).join(&digest), digest == current, open))
        .collect();
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.idle));
    let needs_substitute = !catalog.failures(name).is_empty();
    let gone = removable(&candidates, older_than, needs_substitute);
    Ok(gone.into_iter().map(|candidate| removal(name, &candidate.path, None)).collect())
}

fn idle_bakes(image: &Image, open: &HashSet<PathBuf>, older_than: Duration) -> Result<Vec<Removal>, ImageError> {
    let candidates: Vec<Candidate> =
        image.list_bakes()?.into_iter().map(|bake| candidate(bake.directory, false, open)).collect();
    let gone = removable(&candidates, older_than, false).into_iter();
    Ok(gone.map(|candidate| removal(&image.info.name, &image.directory, Some(&candidate.path))).collect())
}

fn removal(name: &str, image: &Path, bake: Option<&Path>) -> Removal {
    let last = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = bake.unwrap_or(image);
    Removal {
        path: path.to_owned(),
        name: name.to_owned(),
        digest: last(image),
        key: bake.map(last),
        bytes: disk::tree_bytes(path).map_or(0, |size| size.allocated),
    }
}

fn candidate(path: PathBuf, is_current: bool, open: &HashSet<PathBuf>) -> Candidate {
    let modified = path.metadata().and_then(|metadata| metadata.modified());
    Candidate {
        is_current,
        is_in_use: open.iter().any(|file| file.starts_with(&path)),
        idle: modified.ok().and_then(|when| SystemTime::now().duration_since(when).ok()),
        path,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn of(name: &str, hours: Option<u32>) -> Candidate {
        let idle = hours.map(|hours| HOUR * hours);
        Candidate { path: name.into(), is_current: name == "current", is_in_use: name == "used", idle }
    }

    fn gone(candidates: &[Candidate], needs_substitute: bool) -> Vec<&str> {
        let gone = removable(candidates, HOUR * 24, needs_substitute);
        gone.into_iter().map(|candidate| candidate.path.to_str().unwrap()).collect()
    }

    #[test]
    fn only_what_is_superseded_old_and_unused_goes() {
        let all = [
            of("old", Some(90)),
            of("used", Some(80)),
            of("older", Some(70)),
            of("current", Some(60)),
            of("young", Some(1)),
        ];
        assert_eq!(gone(&all, false), ["old", "older"]);
        assert_eq!(gone(&all, true), ["old", "older"], "the newest one stands in, and is young anyway");
        assert_eq!(gone(&all[..4], true), ["old"], "the newest one stands in");
    }

    #[test]
    fn a_clock_that_was_set_back_removes_nothing() {
        assert_eq!(gone(&[of("of-tomorrow", None), of("current", None)], false), [""; 0]);
    }
}
