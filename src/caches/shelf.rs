//! Where the caches of a host are, and what is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::generation::{CacheId, Generation, GenerationInfo, Held, INFO};
use super::retention::{Kept, Retention, superfluous};
use super::{CacheError, blocking};
use crate::clock;
use crate::host::disk;
use crate::host::lease::Lease;
use crate::lifecycle::Lifecycle;

/// Below the state directory.
const DIRECTORY: &str = "caches/named";

/// Beginnings of the names of a generation that is being made, and of one that is being removed.
pub(super) const BUILDING: &str = ".building-";
const GONE: &str = ".gone-";

/// How often the newest generation may go just when it is wanted, before there is none.
const MAX_ATTEMPTS: usize = 8;

/// All named caches of a host. Any number of processes may use them at once.
#[derive(Debug, Clone)]
pub struct Caches {
    root: PathBuf,
    pub(super) lifecycle: Lifecycle,
}

impl Caches {
    /// The caches below `state_dir`; directories are made when they are needed.
    pub fn new(state_dir: &Path) -> Self {
        Self { root: state_dir.join(DIRECTORY), lifecycle: Lifecycle::default() }
    }

    /// Has the steps of publishing told to `lifecycle`.
    #[must_use]
    pub fn told_to(self, lifecycle: Lifecycle) -> Self {
        Self { lifecycle, ..self }
    }

    /// The newest generation, held for a VM that will start with it.
    pub fn current(&self, id: &CacheId) -> Result<Option<Held>, CacheError> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(newest) = self.generations(id)?.pop() else { return Ok(None) };
            if let Some(held) = newest.hold() {
                note_use(&newest);
                return Ok(Some(held));
            }
        }
        Ok(None)
    }

    /// The generations of one cache, the newest last.
    pub fn generations(&self, id: &CacheId) -> Result<Vec<Generation>, CacheError> {
        let mut found = generations_in(&self.directory(id))?;
        found.retain(|generation| generation.info.cache == *id);
        Ok(found)
    }

    /// Every generation, ordered by cache and number.
    pub fn list(&self) -> Result<Vec<Generation>, CacheError> {
        let mut all = Vec::new();
        for directory in directories_in(&self.root)? {
            all.extend(generations_in(&directory)?);
        }
        all.sort_by(|a, b| (&a.info.cache, a.info.number).cmp(&(&b.info.cache, b.info.number)));
        Ok(all)
    }

    /// Removes a generation. A VM that runs with it keeps its open volume.
    ///
    /// # Errors
    /// [`CacheError::InUse`], unless it `is_forced`.
    pub fn remove(&self, generation: &Generation, is_forced: bool) -> Result<(), CacheError> {
        let context = || CacheError::io(format!("removing `{}`", generation.directory.display()));
        // Held until it has lost its name: nobody takes it up meanwhile.
        let owned = match Lease::try_take(&generation.directory) {
            Ok(owned) => owned,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(context()(error)),
        };
        if owned.is_none() && !is_forced {
            let (cache, number) = (generation.info.cache.to_string(), generation.info.number);
            return Err(CacheError::InUse { cache, number });
        }
        let name = generation.directory.file_name().unwrap_or_default().to_string_lossy();
        let gone = generation.directory.with_file_name(format!("{GONE}{name}"));
        fs::rename(&generation.directory, &gone).and_then(|()| disk::remove_tree(&gone)).map_err(context())
    }

    /// What `retention` does not keep, in the order in which it goes.
    pub fn superfluous(&self, retention: &Retention) -> Result<Vec<Generation>, CacheError> {
        let all = self.list()?;
        let seen: Vec<Kept> = all.iter().map(kept).collect();
        let going = superfluous(&seen, retention, clock::now_ms());
        Ok(going.into_iter().map(|position| all[position].clone()).collect())
    }

    /// Removes what `retention` does not keep, and what was left half-way; gives what it removed. What came into use
    /// meanwhile stays.
    pub async fn collect(&self, retention: Retention) -> Result<Vec<Generation>, CacheError> {
        let caches = self.clone();
        blocking(move || {
            caches.remove_unfinished()?;
            let mut removed = Vec::new();
            for generation in caches.superfluous(&retention)? {
                match caches.remove(&generation, false) {
                    Ok(()) => removed.push(generation),
                    Err(CacheError::InUse { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(removed)
        })
        .await
    }

    /// Removes what producers left that ended half-way. Blocks the thread, for a moment.
    pub fn remove_unfinished(&self) -> Result<(), CacheError> {
        for directory in directories_in(&self.root)? {
            let _shelf = lock(&directory)?;
            remove_unfinished_in(&directory)
                .map_err(CacheError::io(format!("what is left half-way in `{}`", directory.display())))?;
        }
        Ok(())
    }

    pub(super) fn directory(&self, id: &CacheId) -> PathBuf {
        self.root.join(id.directory())
    }
}

/// Waits until nobody else begins or publishes a generation of the cache. Blocks the thread, for a moment.
pub(super) fn lock(directory: &Path) -> Result<Lease, CacheError> {
    Lease::wait(directory).map_err(CacheError::io(format!("locking the cache `{}`", directory.display())))
}

fn kept(generation: &Generation) -> Kept {
    Kept {
        cache: generation.info.cache.clone(),
        number: generation.info.number,
        bytes: generation.info.bytes,
        used_at: generation.used_at(),
        is_in_use: generation.is_in_use(),
    }
}

/// Retention goes by it, so nothing is lost where it fails.
fn note_use(generation: &Generation) {
    let noted = fs::File::open(generation.lease_file()).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = noted {
        tracing::warn!(generation = %generation.directory.display(), %error, "the use of a cache cannot be noted");
    }
}

/// Producers lock what they build; what is found unlocked under the shelf's lock has lost its producer, or its description.
fn remove_unfinished_in(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_unowned = || Lease::try_take(&entry.path()).is_ok_and(|lease| lease.is_some());
        let is_whole = || !name.starts_with(BUILDING) && read(entry.path()).is_some();
        if name.starts_with(GONE) || !is_whole() && is_unowned() {
            match disk::remove_tree(&entry.path()) {
                // Whoever removes it as well was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

/// The generations in the directory of one cache, the newest last. One that is damaged is as good as none.
fn generations_in(directory: &Path) -> Result<Vec<Generation>, CacheError> {
    let mut found: Vec<Generation> = directories_in(directory)?.into_iter().filter_map(read).collect();
    found.sort_by_key(|generation| generation.info.number);
    Ok(found)
}

fn read(directory: PathBuf) -> Option<Generation> {
    let text = fs::read(directory.join(INFO));
    // It may just have been removed.
    if text.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return None;
    }
    let info = text.and_then(|text| serde_json::from_slice::<GenerationInfo>(&text).map_err(io::Error::other));
    match info {
        Ok(info) => Some(Generation { directory, info }),
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "a cache's generation is damaged and not used");
            None
        }
    }
}

/// The visible subdirectories; none if the directory is not there.
fn directories_in(directory: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() && !entry.file_name().to_string_lossy().starts_with('.') {
                found.push(entry.path());
            }
        }
        Ok(found)
    };
    read().map_err(CacheError::io(format!("caches in `{}`", directory.display())))
}
