//! What jobs leave behind for later ones: artifacts of a run, and entries of the caches that actions keep.
//!
//! Files, not rows: an object is a directory with its content and a description beside it, and appears by one rename. So it
//! is there whole or not at all, an equal one that was first wins, and several processes may use one depot. What is in it
//! can be made again or was asked for by a person; no state of a job depends on it.
//!
//! ```text
//! depot/
//!   staging/UPLOAD/               what is not finished yet; its owner removes it, and `tidy` what is a day old
//!   artifacts/RUN/NAME/           `meta.json`, `data`; RUN is the run's first attempt, NAME a digest of the name
//!   caches/REPOSITORY/ENTRY/      `meta.json`, whose time is that of the last use, `data`; both names are digests
//! ```
//!
//! Everything here blocks; callers are on threads for that. No name of a guest's becomes a path of the host: they are hashed.

pub mod artifacts;
pub mod caches;
pub mod evict;
mod object;
pub mod scope;
pub mod tenant;
pub mod unpack;
pub mod upload;
pub mod zip;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

pub use artifacts::Artifact;
pub use caches::{CacheEntry, Found};
pub use object::Content;
pub use tenant::Tenant;
pub use upload::{Block, Upload, Uploaded};

use crate::config::DepotLimits;

/// Something unfinished that nobody has touched for so long was left by a process that is gone.
const STALE_STAGING: Duration = Duration::from_secs(24 * 60 * 60);

/// Why something is not stored or not found.
#[derive(Debug, thiserror::Error)]
pub enum DepotError {
    /// What was asked is not allowed; for whoever asked.
    #[error("{0}")]
    Refused(String),
    /// There is one already, and it stays.
    #[error("{0} exists already")]
    Exists(String),
    /// A limit of the configuration or of this program.
    #[error("{0}")]
    TooLarge(String),
    /// The host's own; for the operator.
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

impl DepotError {
    fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// The depot of one state directory. A clone is the same.
#[derive(Debug, Clone)]
pub struct Depot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    limits: DepotLimits,
    /// Entries that somebody in this process is uploading.
    reserved: Mutex<HashSet<PathBuf>>,
}

impl Depot {
    /// The depot in that directory, which is made when something is stored.
    pub fn new(root: PathBuf, limits: DepotLimits) -> Self {
        Self(Arc::new(Inner { root, limits, reserved: Mutex::default() }))
    }

    /// What it may hold.
    pub fn limits(&self) -> &DepotLimits {
        &self.0.limits
    }

    /// Starts something that may have at most `limit` bytes.
    ///
    /// # Errors
    /// The host's file system.
    pub fn begin(&self, limit: u64) -> Result<Upload, DepotError> {
        Upload::begin(&self.0.root.join("staging"), limit)
    }

    /// A directory for what is only passed on; it goes when it is dropped.
    ///
    /// # Errors
    /// The host's file system, and a disk that is full.
    pub fn desk(&self) -> Result<tempfile::TempDir, DepotError> {
        let staging = self.0.root.join("staging");
        let io = DepotError::io("a directory cannot be made");
        std::fs::create_dir_all(&staging).map_err(&io)?;
        upload::require_room(&staging)?;
        tempfile::tempdir_in(&staging).map_err(io)
    }

    /// Removes what expired, what nobody used for long, and what a killed process left.
    pub fn tidy(&self, now: SystemTime) {
        self.expire_artifacts(now);
        self.expire_caches(now);
        for staged in object::directories(&self.0.root.join("staging")) {
            let is_stale = object::age(&staged, now).is_some_and(|age| age > STALE_STAGING);
            if is_stale {
                object::remove(&staged);
            }
        }
    }

    fn directory(&self, kind: &str) -> PathBuf {
        self.0.root.join(kind)
    }
}

/// A place in the depot that one uploader has for itself until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    depot: Depot,
    place: PathBuf,
}

impl Reservation {
    /// `None` if another one has it.
    fn take(depot: &Depot, place: &Path) -> Option<Self> {
        let mut reserved = depot.0.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = reserved.insert(place.to_owned());
        is_free.then(|| Self { depot: depot.clone(), place: place.to_owned() })
    }

    /// Where it is.
    pub fn place(&self) -> &Path {
        &self.place
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.depot.0.reserved.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.place);
    }
}
