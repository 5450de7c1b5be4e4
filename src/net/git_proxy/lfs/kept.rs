//! What the forge said about objects, for the downloads of one VM that follow: bounded, the oldest goes first.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batch::{Download, Oid};
use crate::forge::RepoName;

/// Bytes that are kept for one VM. The client downloads the hundred objects of a request before it asks for the next.
const MAX_BYTES: usize = 4 << 20;

/// The same object may be of more than one repository, each with its own rights.
type Key = (RepoName, Oid);

#[derive(Default)]
pub(in crate::net::git_proxy) struct Kept(Mutex<Downloads>);

#[derive(Default)]
struct Downloads {
    known: HashMap<Key, Arc<Download>>,
    /// In the order in which they became known.
    order: VecDeque<Key>,
    bytes: usize,
}

impl Kept {
    pub(super) fn put(&self, repo: &RepoName, oid: Oid, download: Download) -> Arc<Download> {
        let (key, download) = ((repo.clone(), oid), Arc::new(download));
        let mut downloads = self.lock();
        downloads.bytes += download.weight();
        match downloads.known.insert(key.clone(), Arc::clone(&download)) {
            Some(earlier) => downloads.bytes -= earlier.weight(),
            None => downloads.order.push_back(key),
        }
        while downloads.bytes > MAX_BYTES
            && let Some(oldest) = downloads.order.pop_front()
        {
            let gone = downloads.known.remove(&oldest).map_or(0, |gone| gone.weight());
            downloads.bytes -= gone;
        }
        download
    }

    pub(super) fn get(&self, repo: &RepoName, oid: Oid) -> Option<Arc<Download>> {
        self.lock().known.get(&(repo.clone(), oid)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Downloads> {
        // Whoever panicked while holding the lock left maps that are still maps.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Addresses and headers are secrets.
impl fmt::Debug for Kept {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Kept({} downloads)", self.lock().known.len())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::HeaderMap;
    use url::Url;

    use super::*;

    #[test]
    fn the_oldest_goes_first_and_repositories_are_told_apart() {
        let (kept, site, lib) =
            (Kept::default(), RepoName::parse("acme/site").unwrap(), RepoName::parse("acme/lib").unwrap());
        let oid = |number: usize| Oid::parse(&format!("{number:064x}")).unwrap();
        let url = Url::parse(&format!("https://store.example/{}", "x".repeat(8_000))).unwrap();
        for number in 0..1_000 {
            for _ in 0..2 {
                kept.put(&site, oid(number), Download { url: url.clone(), headers: HeaderMap::new(), size: 1 });
            }
        }
        assert!(kept.get(&site, oid(0)).is_none() && kept.get(&site, oid(999)).is_some());
        assert!(kept.get(&lib, oid(999)).is_none());
        let downloads = kept.lock();
        assert_eq!(downloads.known.len(), downloads.order.len());
        assert!(downloads.bytes <= MAX_BYTES && downloads.bytes > MAX_BYTES / 2, "{}", downloads.bytes);
        drop(downloads);
        assert!(!format!("{kept:?}").contains("store.example"));
    }
}
