//! The prepared snapshots on the disk.
//!
//! ```text
//!  state_dir/prepared/HASH/prepared.json    whose it is, and what it was made from
//!                          frozen.json  memory  state  scratch    see image/frozen.rs
//!                    /.building-HASH        one that is being made, or was when somebody died
//!                    /.gone-HASH            one that is being removed
//! ```
//! A snapshot has its name only when it is whole and on the disk, and loses the name before its files. The hash has the
//! repository in it, so that no other can ask for it. What does not read is removed: it can be made again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::engine::{Engine, Prepared};
use crate::forge::{CommitSha, RepoName};
use crate::host::disk;
use crate::image::ImageError;
use crate::image::catalog::write_json;
use crate::vm::basis::Basis;

const DESCRIPTION: &str = "prepared.json";
const BUILDING: &str = ".building-";
const GONE: &str = ".gone-";

/// `prepared.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    pub forge: String,
    pub repo: RepoName,
    pub profile: String,
    pub hash: String,
    /// The default branch's commit that it was made from.
    pub sha: CommitSha,
    pub image: String,
    /// Milliseconds since the epoch.
    pub made_at: i64,
    /// Allocated on the disk.
    pub bytes: u64,
}

/// A snapshot on the shelf. Whoever holds one keeps it from being removed.
#[derive(Debug)]
pub struct Snapshot {
    pub description: Description,
    place: PathBuf,
    /// Looked at once: that reads all of it.
    opened: OnceCell<Opened>,
}

/// What was found to be whole.
#[derive(Debug)]
struct Opened {
    prepared: Arc<Prepared>,
    basis: Basis,
}

/// What became of the wish to remove a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    Done,
    /// A VM is just starting from it.
    Busy,
    Unknown,
}

/// All of them.
#[derive(Debug)]
pub struct Shelf {
    root: PathBuf,
    snapshots: Mutex<BTreeMap<String, Arc<Snapshot>>>,
}

impl Shelf {
    /// What is in `root`, which is made if it is absent. Removes what is not whole. Blocks; for the start of the service.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        let mut snapshots = BTreeMap::new();
        for entry in fs::read_dir(&root)? {
            let place = entry?.path();
            let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match read(&place) {
                Ok(description) if description.hash == name => {
                    let snapshot = Snapshot { description, place, opened: OnceCell::new() };
                    snapshots.insert(name, Arc::new(snapshot));
                }
                _ => {
                    if !name.starts_with('.') {
                        tracing::warn!(place = %place.display(), "this is no prepared snapshot, and is removed");
                    }
                    // One that stays takes room, and hinders nobody: the service starts all the same.
                    if let Err(error) = discard(&place) {
                        tracing::warn!(place = %place.display(), %error, "it could not be removed");
                    }
                }
            }
        }
        Ok(Self { root, snapshots: Mutex::new(snapshots) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Snapshot>>> {
        // A map's single calls leave it whole.
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The snapshot with this hash.
    pub fn take(&self, hash: &str) -> Option<Arc<Snapshot>> {
        self.lock().get(hash).cloned()
    }

    /// Every snapshot, and whether a VM is just starting from it.
    pub fn list(&self) -> Vec<(Description, bool)> {
        self.lock().values().map(|snapshot| (snapshot.description.clone(), is_busy(snapshot))).collect()
    }

    /// An empty directory in which a snapshot is made. Nobody else makes one with this hash at the same time.
    pub fn begin(&self, hash: &str) -> io::Result<PathBuf> {
        let building = self.root.join(format!("{BUILDING}{hash}"));
        discard(&building)?;
        fs::DirBuilder::new().mode(0o700).create(&building)?;
        Ok(building)
    }

    /// Removes what was begun and cannot be finished.
    pub fn abandon(&self, hash: &str) -> io::Result<()> {
        discard(&self.root.join(format!("{BUILDING}{hash}")))
    }

    /// Gives what was made its name. It is on the disk when it has it. Its size is filled in here. Blocks the thread:
    /// gigabytes may have to reach the disk.
    pub fn publish(&self, mut description: Description) -> Result<(), ImageError> {
        let building = self.root.join(format!("{BUILDING}{}", description.hash));
        let place = self.root.join(&description.hash);
        let context = || ImageError::io(format!("publishing `{}`", place.display()));
        description.bytes = allocated(&building).map_err(context())?;
        write_json(&building.join(DESCRIPTION), &description)?;
        let publish = || -> io::Result<()> {
            disk::sync_tree(&building)?;
            fs::rename(&building, &place)?;
            fs::File::open(&self.root)?.sync_all()
        };
        publish().map_err(context())?;
        let hash = description.hash.clone();
        let snapshot = Snapshot { description, place: place.clone(), opened: OnceCell::new() };
        self.lock().insert(hash, Arc::new(snapshot));
        Ok(())
    }

    /// Removes a snapshot, unless a VM is just starting from it. One that runs has its files open and does not need the
    /// names. Blocks the thread.
    pub fn remove(&self, hash: &str) -> io::Result<Removed> {
        let gone = {
            let mut snapshots = self.lock();
            let Some(snapshot) = snapshots.get(hash) else { return Ok(Removed::Unknown) };
            if is_busy(snapshot) {
                return Ok(Removed::Busy);
            }
            let gone = self.root.join(format!("{GONE}{hash}"));
            discard(&gone)?;
            fs::rename(&snapshot.place, &gone)?;
            snapshots.remove(hash);
            gone
        };
        discard(&gone)?;
        Ok(Removed::Done)
    }
}

impl Snapshot {
    /// What clones start from. Reads all of the snapshot the first time, and later sees whether its files are still there.
    ///
    /// # Errors
    /// When it must not be used: it was changed, or something that it depends on was.
    pub async fn open(&self, engine: &Engine) -> Result<Arc<Prepared>, ImageError> {
        let open = async || {
            let prepared = Arc::new(engine.thaw(&self.place).await?);
            Ok::<_, ImageError>(Opened { basis: Basis::of(&prepared.template)?, prepared })
        };
        let Opened { prepared, basis } = self.opened.get_or_try_init(open).await?;
        basis.require()?;
        Ok(Arc::clone(prepared))
    }
}

/// Whether somebody besides the shelf holds it.
fn is_busy(snapshot: &Arc<Snapshot>) -> bool {
    Arc::strong_count(snapshot) > 1
}

fn read(place: &Path) -> io::Result<Description> {
    serde_json::from_slice(&fs::read(place.join(DESCRIPTION))?).map_err(io::Error::other)
}

fn allocated(directory: &Path) -> io::Result<u64> {
    fs::read_dir(directory)?.map(|entry| disk::allocated_bytes(&entry?.path())).sum()
}

/// Removes what should be a directory, but may be something else, or not there.
fn discard(place: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(place) {
        Ok(found) if found.is_dir() => disk::remove_tree(place),
        Ok(_) => fs::remove_file(place),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn description(hash: &str) -> Description {
        Description {
            forge: "github".into(),
            repo: RepoName::parse("demo/hello").unwrap(),
            profile: "linux".into(),
            hash: hash.into(),
            sha: CommitSha::parse(&"a".repeat(40)).unwrap(),
            image: "base".into(),
            made_at: 5,
            bytes: 0,
        }
    }

    fn put(shelf: &Shelf, hash: &str) {
        fs::write(shelf.begin(hash).unwrap().join("memory"), [1; 5000]).unwrap();
        shelf.publish(description(hash)).unwrap();
    }

    fn names(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_whole_is_found_again_and_the_rest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("prepared");
        let shelf = Shelf::open(root.clone()).unwrap();
        put(&shelf, "one");
        fs::write(shelf.begin("half").unwrap().join("memory"), "").unwrap();
        put(&shelf, "moved");
        fs::rename(root.join("moved"), root.join("elsewhere")).unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        fs::create_dir(root.join(".gone-two")).unwrap();
        let shelf = Shelf::open(root.clone()).unwrap();
        assert_eq!(names(&root), ["one"]);
        let [(found, is_busy)] = &shelf.list()[..] else { panic!("{:?}", shelf.list()) };
        assert!(found.bytes >= 5000 && !is_busy);
        assert_eq!(Description { bytes: 0, ..found.clone() }, description("one"));
    }

    #[test]
    fn stray_files_go_and_keep_nothing_from_starting() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(directory.path().to_owned()).unwrap();
        put(&shelf, "one");
        for name in ["notes.txt", ".gone-one", ".building-two"] {
            fs::write(directory.path().join(name), "stray").unwrap();
        }
        std::os::unix::fs::symlink(elsewhere.path(), directory.path().join("link")).unwrap();
        // Seen by nobody before it is in the way.
        assert!(shelf.begin("two").unwrap().is_dir());
        assert_eq!(shelf.remove("one").unwrap(), Removed::Done);
        put(&shelf, "one");
        Shelf::open(directory.path().to_owned()).unwrap();
        assert_eq!(names(directory.path()), ["one"]);
        assert!(elsewhere.path().is_dir(), "links are not followed");
    }

    #[test]
    fn what_somebody_starts_from_stays() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(directory.path().to_owned()).unwrap();
        put(&shelf, "one");
        let taken = shelf.take("one").unwrap();
        assert_eq!(shelf.remove("one").unwrap(), Removed::Busy);
        drop(taken);
        assert_eq!(shelf.remove("one").unwrap(), Removed::Done);
        assert_eq!(shelf.remove("one").unwrap(), Removed::Unknown);
        assert!(shelf.take("one").is_none() && names(directory.path()).is_empty());
    }

    #[test]
    fn what_was_begun_before_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(directory.path().to_owned()).unwrap();
        fs::write(shelf.begin("one").unwrap().join("memory"), "old").unwrap();
        assert!(names(&shelf.begin("one").unwrap()).is_empty());
        shelf.abandon("one").unwrap();
        shelf.abandon("one").unwrap();
        assert!(names(directory.path()).is_empty());
    }
}
