//! Entries of the caches that actions keep, of each repository for itself. An entry is never changed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::evict::{Held, evict};
use super::scope::Scopes;
use super::{Content, Depot, DepotError, Reservation, Uploaded, object};
use crate::clock;

/// Characters of a key.
pub const MAX_KEY: usize = 512;

/// Keys of one question: the key itself and those to fall back on.
pub const MAX_KEYS: usize = 10;

/// Bytes of a version, which clients make by hashing what an entry holds and how.
const MAX_VERSION: usize = 512;

/// Entries of one repository.
const MAX_ENTRIES: usize = 10_000;

/// A stored entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheEntry {
    pub id: u64,
    pub repo: String,
    /// The ref whose runs read it.
    pub scope: String,
    pub key: String,
    pub version: String,
    /// Bytes.
    pub size: u64,
    /// In hexadecimal digits.
    pub sha256: String,
    /// Milliseconds since the epoch.
    pub created_at: i64,
}

/// An entry that was looked for.
#[derive(Debug)]
pub struct Found {
    pub entry: CacheEntry,
    place: PathBuf,
}

impl Found {
    /// Its content; `None` if it was removed meanwhile.
    ///
    /// # Errors
    /// The host's file system.
    pub fn open(&self) -> Result<Option<Content>, DepotError> {
        object::open(&self.place)
    }
}

/// What is wrong with a key, for whoever wrote it.
///
/// # Errors
/// It is empty, too long, or has a comma.
pub fn check_key(key: &str) -> Result<(), DepotError> {
    let complaint = match key {
        "" => "a cache's key is empty".to_owned(),
        key if key.chars().nth(MAX_KEY).is_some() => {
            let start: String = key.chars().take(40).collect();
            format!("the key `{start}…` is longer than {MAX_KEY} characters")
        }
        key if key.contains(',') => format!("the key `{key}` contains a comma"),
        _ => return Ok(()),
    };
    Err(DepotError::Refused(complaint))
}

impl Depot {
    /// The entry that a run with these scopes gets for these keys: in the first scope that has any, for the first key that
    /// does, an equal one or else the newest that begins with it.
    ///
    /// # Errors
    /// Keys that are none.
    pub fn find_cache(
        &self, repo: &str, scopes: &Scopes, keys: &[String], version: &str,
    ) -> Result<Option<Found>, DepotError> {
        check_keys(keys)?;
        let mut of_scope: HashMap<String, Vec<Found>> = HashMap::new();
        for found in self.entries(repo).filter(|found| found.entry.version == version) {
            of_scope.entry(found.entry.scope.clone()).or_default().push(found);
        }
        for scope in &scopes.read {
            let Some(mut entries) = of_scope.remove(scope) else { continue };
            entries.sort_by_key(|found| std::cmp::Reverse(found.entry.created_at));
            for key in keys {
                let equal = entries.iter().position(|found| found.entry.key == *key);
                let at = equal.or_else(|| entries.iter().position(|found| found.entry.key.starts_with(key.as_str())));
                if let Some(at) = at {
                    let found = entries.swap_remove(at);
                    object::touch(&found.place, SystemTime::now());
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The place of a new entry, for one uploader.
    ///
    /// # Errors
    /// [`DepotError::Refused`] for a key that is none and a run that may not write; [`DepotError::Exists`] if there is one,
    /// or somebody is making it.
    pub fn reserve_cache(
        &self, repo: &str, scopes: &Scopes, key: &str, version: &str,
    ) -> Result<Reservation, DepotError> {
        check_key(key)?;
        if version.is_empty() || version.len() > MAX_VERSION {
            return Err(DepotError::Refused("a cache's version is missing or too long".to_owned()));
        }
        let Some(scope) = &scopes.write else {
            let denied = "cache write denied: this run's code is a stranger's, and it belongs to no pull request";
            return Err(DepotError::Refused(denied.to_owned()));
        };
        let place = self.repository(repo).join(object::digest_of(&[scope, version, key]));
        let is_there = object::read_meta::<CacheEntry>(&place).is_some();
        let exists = || DepotError::Exists(format!("the cache `{key}` of `{scope}`"));
        if is_there { Err(exists()) } else { Reservation::take(self, &place).ok_or_else(exists) }
    }

    /// Stores an entry in the place that was reserved for it, and removes what has no room beside it.
    ///
    /// # Errors
    /// [`DepotError::Exists`] if another process was first; the host's file system.
    pub fn store_cache(
        &self, repo: &str, scopes: &Scopes, key: &str, version: &str, reservation: &Reservation, uploaded: Uploaded,
    ) -> Result<CacheEntry, DepotError> {
        let entry = CacheEntry {
            id: object_id(),
            repo: repo.to_owned(),
            scope: scopes.write.clone().unwrap_or_default(),
            key: key.to_owned(),
            version: version.to_owned(),
            size: uploaded.size,
            sha256: uploaded.sha256.clone(),
            created_at: clock::now_ms(),
        };
        object::publish(uploaded, &entry, reservation.place(), &format!("the cache `{key}`"))?;
        self.make_room(repo);
        Ok(entry)
    }

    /// Stores an entry in the place of those of its key that are older, which is a name that no other begins with: what is found
    /// for it from now on is this one. Who reads an older one reads it to its end.
    ///
    /// # Errors
    /// [`DepotError::Refused`] for a run that may not write; the host's file system.
    pub fn replace_cache(
        &self, repo: &str, scopes: &Scopes, key: &str, version: &str, uploaded: Uploaded,
    ) -> Result<CacheEntry, DepotError> {
        let unique = format!("{key}{}", object_id());
        let reservation = self.reserve_cache(repo, scopes, &unique, version)?;
        let entry = self.store_cache(repo, scopes, &unique, version, &reservation, uploaded)?;
        let is_older = |other: &CacheEntry| {
            other.scope == entry.scope
                && other.version == version
                && other.key.starts_with(key)
                && (other.created_at, other.id) < (entry.created_at, entry.id)
        };
        self.entries(repo).filter(|found| is_older(&found.entry)).for_each(|found| _ = object::remove(&found.place));
        Ok(entry)
    }

    /// Removes entries of the repository until the rest is within its budget.
    fn make_room(&self, repo: &str) {
        let limits = self.limits();
        let held = self.entries(repo).filter_map(|Found { entry, place }| {
            let used_at = object::used_at(&place)?;
            Some(Held { what: place, size: entry.size, used_at })
        });
        for place in evict(held.collect(), limits.cache_budget, MAX_ENTRIES) {
            object::remove(&place);
        }
    }

    pub(super) fn expire_caches(&self, now: SystemTime) {
        for repository in object::directories(&self.directory("caches")) {
            for place in object::directories(&repository) {
                let unused = object::used_at(&place).and_then(|used| now.duration_since(used).ok());
                // What has no description is what a removal left.
                let is_whole = object::read_meta::<CacheEntry>(&place).is_some();
                if !is_whole || unused.is_some_and(|unused| unused > self.limits().cache_unused) {
                    object::remove(&place);
                }
            }
        }
    }

    fn entries(&self, repo: &str) -> impl Iterator<Item = Found> + use<> {
        let places = object::directories(&self.repository(repo)).into_iter();
        places.filter_map(|place| Some(Found { entry: object::read_meta(&place)?, place }))
    }

    /// Names of repositories are not told apart by case.
    fn repository(&self, repo: &str) -> PathBuf {
        self.directory("caches").join(object::digest_of(&[&repo.to_ascii_lowercase()]))
    }
}

fn check_keys(keys: &[String]) -> Result<(), DepotError> {
    if keys.len() > MAX_KEYS {
        return Err(DepotError::Refused(format!("{} keys are more than {MAX_KEYS}", keys.len())));
    }
    keys.iter().try_for_each(|key| check_key(key))
}

/// A number for an object, which clients take for a double: 53 bits, never 0.
pub(super) fn object_id() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system has a random source");
    (u64::from_le_bytes(bytes) >> 11).max(1)
}
