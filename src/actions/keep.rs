//! What is kept of fetched actions: those that were used last.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often a fetch is looked at, and after what time one is nobody's any more.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const TORN: Duration = Duration::from_secs(60 * 60);

/// An archive, when it was used last, and its bytes.
type Kept = (SystemTime, u64, PathBuf);

/// Whether the archive is there; then it counts as used now.
pub(super) fn is_there(file: &Path) -> bool {
    // Without its new time it only goes earlier.
    File::open(file).map(|file| drop(file.set_modified(SystemTime::now()))).is_ok()
}

/// Returns when what is below the directory takes more than so many bytes.
pub(super) async fn outgrown(directory: &Path, most: u64) {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        if size_of(directory) > most {
            return;
        }
    }
}

fn size_of(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(facts) if facts.is_dir() => size_of(&entry.path()),
        Ok(facts) => facts.len(),
        Err(_) => 0,
    };
    entries.map(size).fold(0, u64::saturating_add)
}

/// Removes directories of fetches whose process ended long ago.
pub(super) fn remove_torn(directory: &Path, prefix: &str) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_old = || {
            entry.metadata().and_then(|facts| facts.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age > TORN))
        };
        if entry.file_name().to_string_lossy().starts_with(prefix) && is_old() {
            // What cannot be removed is looked at by the next start.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Removes archives that were not used for longest until the rest has at most `budget` bytes; `but` stays.
pub(super) fn make_room(directory: &Path, budget: u64, but: &Path) {
    let mut kept = Vec::new();
    for kind in ["public", "private"] {
        collect(&directory.join(kind), 2, &mut kept);
    }
    for file in surplus(kept, budget).iter().filter(|file| *file != but) {
        // A job that reads it keeps it open; the next one fetches it again.
        if let Err(error) = fs::remove_file(file) {
            tracing::warn!(file = %file.display(), %error, "an action that is not needed could not be removed");
        }
    }
}

fn collect(directory: &Path, levels: usize, kept: &mut Vec<Kept>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if levels > 0 {
            collect(&entry.path(), levels - 1, kept);
        } else if let Ok(facts) = entry.metadata() {
            kept.push((facts.modified().unwrap_or(SystemTime::UNIX_EPOCH), facts.len(), entry.path()));
        }
    }
}

/// What goes: all that does not fit beside what was used later.
fn surplus(mut kept: Vec<Kept>, budget: u64) -> Vec<PathBuf> {
    kept.sort_by(|one, other| other.cmp(one));
    let mut sum = 0u64;
    let is_surplus = |(_, bytes, path): Kept| {
        sum = sum.saturating_add(bytes);
        (sum > budget).then_some(path)
    };
    kept.into_iter().filter_map(is_surplus).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let at = |seconds, bytes, name: &str| {
            (SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), bytes, PathBuf::from(name))
        };
        let kept = vec![at(1, 10, "old"), at(3, 10, "new"), at(2, 10, "middle")];
        assert_eq!(surplus(kept.clone(), 30), [""; 0].map(PathBuf::from));
        assert_eq!(surplus(kept.clone(), 25), [PathBuf::from("old")]);
        assert_eq!(surplus(kept, 0).len(), 3);
    }
}
