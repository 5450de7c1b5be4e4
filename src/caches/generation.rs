//! What a cache is called, and one of its generations on the disk.
//!
//! ```text
//!  caches/named/CACHE/000007-3f9a41d20c5e/generation.json   what it is
//!                                        volume            ext4, written by a guest: never opened by the host but to hash it
//!                                        lease             shared by those who use it
//! ```
//! A directory is named after number and content, so that one name never means two contents.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::CacheError;
use crate::forge::RepoName;
use crate::host::checksum;
use crate::host::lease::{LEASE_FILE, Lease};
use crate::protocol::message::VolumeFormat;
use crate::vm::volume::{CacheMode, CacheMount};

/// The description's file.
pub(super) const INFO: &str = "generation.json";
/// The volume's file.
pub(super) const VOLUME: &str = "volume";

/// Hexadecimal digits of the digest in a directory's name.
const DIGEST_LETTERS: usize = 12;

/// Whose cache it is, and which. No two of them share anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CacheId {
    /// `host/owner/name` of the repository, in small letters.
    repository: String,
    profile: String,
    name: String,
}

impl CacheId {
    /// The cache `name` of `profile`, for the jobs of `repo` on the forge at `host`.
    pub fn new(host: &str, repo: &RepoName, profile: &str, name: &str) -> Self {
        // Forges tell neither hosts nor repositories apart by case.
        let repository = format!("{host}/{repo}").to_ascii_lowercase();
        Self { repository, profile: profile.to_owned(), name: name.to_owned() }
    }

    /// The name of its directory.
    pub(super) fn directory(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.repository, &self.profile, &self.name] {
            hash.update(part);
            hash.update([0]);
        }
        hex::encode(&hash.finalize()[..8])
    }
}

impl fmt::Display for CacheId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}/{}", self.repository, self.profile, self.name)
    }
}

/// Who made a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    /// The commit of the default branch.
    pub sha: String,
    /// What ran, for people: a job's id.
    pub job: String,
}

/// `generation.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationInfo {
    pub cache: CacheId,
    /// From 1 on, and higher than every one that is there.
    pub number: u64,
    /// What its content depends on, such as the digest of a lock file. It decides whether another generation is needed.
    pub key: String,
    /// The place of its commit among those of the default branch: when it came, in milliseconds since the epoch.
    pub order: i64,
    /// Of the volume, as [`checksum::of`] gives it.
    pub digest: String,
    pub producer: Producer,
    /// Milliseconds since the epoch.
    pub published_at: i64,
    /// What the volume takes on the host.
    pub bytes: u64,
}

impl GenerationInfo {
    pub(super) fn directory(&self) -> String {
        format!("{:06}-{}", self.number, &self.digest[..DIGEST_LETTERS])
    }
}

/// A generation on the disk.
#[derive(Debug, Clone)]
pub struct Generation {
    pub(super) directory: PathBuf,
    pub info: GenerationInfo,
}

impl Generation {
    /// Its volume. It does not change; it may go unless the generation is held.
    pub fn volume(&self) -> PathBuf {
        self.directory.join(VOLUME)
    }

    pub(super) fn lease_file(&self) -> PathBuf {
        self.directory.join(LEASE_FILE)
    }

    /// Keeps it from being removed. `None`: it is gone, or just going.
    pub fn hold(&self) -> Option<Held> {
        let lease = Lease::try_share(&self.directory).ok().flatten()?;
        // It may have gone before it was locked.
        self.volume().is_file().then(|| Held { generation: self.clone(), lease: Arc::new(lease) })
    }

    /// Whether its volume still has its digest. Reads all of it, and blocks the thread.
    pub fn is_whole(&self) -> Result<bool, CacheError> {
        let volume = self.volume();
        let found = checksum::of(&volume).map_err(CacheError::io(format!("`{}`", volume.display())))?;
        Ok(found.sha256 == self.info.digest)
    }

    /// Whether somebody holds it.
    pub fn is_in_use(&self) -> bool {
        matches!(Lease::try_take(&self.directory), Ok(None))
    }

    /// When a job last started with it, or when it was published; milliseconds since the epoch.
    pub fn used_at(&self) -> i64 {
        modified_ms(&self.lease_file()).unwrap_or(self.info.published_at).max(self.info.published_at)
    }
}

fn modified_ms(path: &Path) -> Option<i64> {
    let modified = path.metadata().ok()?.modified().ok()?;
    i64::try_from(modified.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// A generation that stays as long as this, or a VM that was given it.
#[derive(Debug, Clone)]
pub struct Held {
    pub generation: Generation,
    lease: Arc<Lease>,
}

impl Held {
    /// How a VM gets it.
    pub fn mount(&self, mode: CacheMode, target: &str) -> CacheMount {
        CacheMount::of_volume(self.generation.volume(), VolumeFormat::Ext4, mode, target)
            .held_by(Arc::clone(&self.lease))
    }
}
