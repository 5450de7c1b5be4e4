//! From a fresh volume to a generation. Each stage is a type of its own: what was not examined cannot be published.
//!
//! Two producers may be at one cache at once. They build beside each other and publish one after the other; of two
//! generations with one key the second is dropped, and so is one whose commit came before that of the newest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::generation::{CacheId, Generation, GenerationInfo, INFO, Producer, VOLUME};
use super::shelf::{BUILDING, Caches, lock};
use super::{CacheError, blocking, examine};
use crate::clock;
use crate::host::lease::Lease;
use crate::host::{checksum, disk};
use crate::lifecycle::Step;
use crate::protocol::message::Owner;
use crate::vm::machine::Machine;
use crate::vm::spec::CACHE_VOLUME_BYTES;
use crate::vm::volume::CacheMount;

/// The smallest volume that has room for a file system.
pub const SMALLEST_VOLUME: u64 = 16 << 20;

/// A generation that somebody wants to make.
#[derive(Debug, Clone)]
pub struct Wish {
    pub cache: CacheId,
    /// What the content depends on; see [`GenerationInfo::key`].
    pub key: String,
    /// Higher for a commit that came to the default branch later: when it came, in milliseconds since the epoch.
    pub order: i64,
    pub producer: Producer,
    /// Bytes that the volume may hold, between [`SMALLEST_VOLUME`] and [`CACHE_VOLUME_BYTES`].
    pub limit: u64,
    /// Who may write to the empty volume: the account that runs jobs.
    pub owner: Owner,
}

/// What became of a generation.
#[derive(Debug, Clone)]
pub enum Published {
    /// Jobs that start from now on get it.
    Generation(Box<Generation>),
    /// It is not needed any more: there is one with this key, or of a later commit.
    Superseded,
}

/// A fresh volume for a VM to fill. Dropped, nothing of it is left.
#[derive(Debug)]
pub struct Producing {
    build: Build,
    wish: Wish,
}

/// A volume that was examined and can be published. Dropped, nothing of it is left.
#[derive(Debug)]
pub struct Examined {
    build: Build,
    wish: Wish,
    digest: String,
}

/// A volume that is a generation but for its name. Nobody else publishes one of its cache meanwhile.
#[derive(Debug)]
struct Described {
    build: Build,
    info: GenerationInfo,
    _shelf: Lease,
}

/// A directory that becomes a generation's, unless it is dropped before.
#[derive(Debug)]
struct Build {
    /// Of the whole cache.
    shelf: PathBuf,
    directory: PathBuf,
    /// Tells others that somebody is at it.
    lease: Option<Lease>,
}

impl Caches {
    /// Begins a generation. `None`: it is not needed, as for [`Published::Superseded`].
    pub async fn begin(&self, wish: Wish) -> Result<Option<Producing>, CacheError> {
        let shelf = self.directory(&wish.cache);
        let (caches, id, key, order) = (self.clone(), wish.cache.clone(), wish.key.clone(), wish.order);
        let build = blocking(move || {
            fs::create_dir_all(&shelf).map_err(CacheError::io(shelf.display().to_string()))?;
            let _shelf = lock(&shelf)?;
            if is_superseded(caches.generations(&id)?.last(), &key, order, clock::now_ms()) {
                return Ok(None);
            }
            Build::begin(&shelf).map(Some).map_err(CacheError::io(format!("beginning in `{}`", shelf.display())))
        });
        let Some(build) = build.await? else { return Ok(None) };
        let limit = wish.limit.clamp(SMALLEST_VOLUME, CACHE_VOLUME_BYTES);
        disk::make_ext4(&build.volume(), limit, (wish.owner.uid, wish.owner.gid)).await?;
        Ok(Some(Producing { build, wish }))
    }
}

/// Whether a generation for `key`, of the commit at `order`, comes too late. One of a commit that is yet to come was made while
/// the clock was ahead: what its order says is not believed.
fn is_superseded(newest: Option<&Generation>, key: &str, order: i64, now: i64) -> bool {
    newest.is_some_and(|newest| newest.info.key == key || (newest.info.order > order && newest.info.order <= now))
}

impl Producing {
    /// What the VM that fills the volume gets; it sees the volume at `target` and may write there. Before the VM ends, ask
    /// it for [`crate::vm::guest::Guest::seal_volume`].
    pub fn mount(&self, target: &str) -> CacheMount {
        CacheMount::filling(self.build.volume(), target)
    }

    /// What the VM that examines the volume gets.
    pub fn mount_to_examine(&self) -> CacheMount {
        CacheMount::unmounted(self.build.volume())
    }

    /// Has the volume examined in `machine`, which was given [`Producing::mount_to_examine`] and is destroyed in any case.
    /// The VM that filled it must be gone: nothing writes to it any more.
    ///
    /// # Errors
    /// [`CacheError::Refused`] when it is not whole, or not a volume at all.
    pub async fn examine(self, machine: Machine) -> Result<Examined, CacheError> {
        examine::in_machine(machine).await?;
        self.believed().await
    }

    /// What becomes of a volume that was found to be whole.
    pub(super) async fn believed(self) -> Result<Examined, CacheError> {
        let Self { build, wish } = self;
        let volume = build.volume();
        let checksum = blocking(move || {
            // All volumes have one size, so that they can take each other's place.
            fs::File::options()
                .write(true)
                .open(&volume)
                .and_then(|file| file.set_len(CACHE_VOLUME_BYTES))
                .and_then(|()| checksum::of(&volume))
                .map_err(CacheError::io(format!("the cache volume `{}`", volume.display())))
        });
        Ok(Examined { digest: checksum.await?.sha256, build, wish })
    }
}

impl Examined {
    /// Makes it the newest generation, unless it comes too late. It is on the disk before anybody sees it.
    pub async fn publish(self, caches: &Caches) -> Result<Published, CacheError> {
        let shelf = caches.clone();
        // Gigabytes may have to reach the disk.
        let Some(described) = blocking(move || self.describe(&shelf)).await? else { return Ok(Published::Superseded) };
        caches.lifecycle.reached(Step::CacheDescribed).await;
        let generation = blocking(move || described.publish()).await?;
        caches.lifecycle.reached(Step::CachePublished).await;
        Ok(Published::Generation(Box::new(generation)))
    }

    /// `None`: it comes too late.
    fn describe(self, caches: &Caches) -> Result<Option<Described>, CacheError> {
        let Self { build, wish, digest } = self;
        let context = || CacheError::io(format!("publishing `{}`", build.directory.display()));
        let bytes = disk::allocated_bytes(&build.volume()).map_err(context())?;
        // The bulk of it before anybody has to wait for the lock.
        disk::sync_tree(&build.directory).map_err(context())?;
        let shelf = lock(&build.shelf)?;
        let present = caches.generations(&wish.cache)?;
        if is_superseded(present.last(), &wish.key, wish.order, clock::now_ms()) {
            return Ok(None);
        }
        let info = GenerationInfo {
            number: present.last().map_or(0, |newest| newest.info.number) + 1,
            cache: wish.cache,
            key: wish.key,
            order: wish.order,
            digest,
            producer: wish.producer,
            published_at: clock::now_ms(),
            bytes,
        };
        build.describe(&info).map_err(context())?;
        Ok(Some(Described { build, info, _shelf: shelf }))
    }
}

impl Described {
    fn publish(self) -> Result<Generation, CacheError> {
        let Self { mut build, info, _shelf } = self;
        let place = build.shelf.join(info.directory());
        build.publish(&place).map_err(CacheError::io(format!("publishing `{}`", place.display())))?;
        Ok(Generation { directory: place, info })
    }
}

impl Build {
    fn begin(shelf: &Path) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix(BUILDING).tempdir_in(shelf)?.keep();
        // Removed by its drop, if the lock fails.
        let mut build = Self { shelf: shelf.to_owned(), directory, lease: None };
        build.lease = Lease::try_take(&build.directory)?;
        Ok(build)
    }

    fn volume(&self) -> PathBuf {
        self.directory.join(VOLUME)
    }

    fn describe(&self, info: &GenerationInfo) -> io::Result<()> {
        fs::write(self.directory.join(INFO), serde_json::to_vec_pretty(info)?)?;
        disk::sync_tree(&self.directory)
    }

    /// The caller holds the shelf's lock.
    fn publish(&mut self, place: &Path) -> io::Result<()> {
        // Whoever finds it in its place must not take it for one that somebody removes.
        self.lease = None;
        fs::rename(&self.directory, place)?;
        fs::File::open(&self.shelf)?.sync_all()
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        match disk::remove_tree(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(directory = %self.directory.display(), %error, "an unfinished cache could not be removed");
            }
            _ => {}
        }
    }
}
