//! Which generations are not needed any more. Pure.

use std::time::Duration;

use super::generation::CacheId;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Generations of each cache; at least 1.
    pub keep: u32,
    /// Bytes that all generations of all caches may take on the host.
    pub max_size: u64,
    /// A generation that no job started with for so long goes, even if it is the newest.
    pub max_age: Duration,
}

/// A generation as this module sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub cache: CacheId,
    pub number: u64,
    pub bytes: u64,
    /// Milliseconds since the epoch.
    pub used_at: i64,
    pub is_in_use: bool,
}

/// The positions in `generations` of those that go, in that order: first what is beyond [`Retention::keep`] or too old, then
/// what is least recently used until the rest fits. What is in use stays, and counts.
pub fn superfluous(generations: &[Kept], retention: &Retention, now_ms: i64) -> Vec<usize> {
    let mut going: Vec<usize> =
        (0..generations.len()).filter(|&one| is_outdated(generations, one, retention, now_ms)).collect();
    let mut rest: Vec<usize> = (0..generations.len()).filter(|one| !going.contains(one)).collect();
    // Of one cache the older generation goes first, whoever used it.
    rest.sort_by_key(|&one| (!is_superseded(generations, one), generations[one].used_at, generations[one].number));
    let mut bytes: u64 = rest.iter().map(|&one| generations[one].bytes).sum();
    for one in rest {
        if bytes <= retention.max_size {
            break;
        }
        if !generations[one].is_in_use {
            bytes -= generations[one].bytes;
            going.push(one);
        }
    }
    going
}

fn is_outdated(generations: &[Kept], one: usize, retention: &Retention, now_ms: i64) -> bool {
    let this = &generations[one];
    let age_ms = now_ms.saturating_sub(this.used_at);
    let is_old = u128::try_from(age_ms).is_ok_and(|age| age > retention.max_age.as_millis());
    let is_excess = newer_than(generations, one).count() >= retention.keep.max(1) as usize;
    !this.is_in_use && (is_old || is_excess)
}

fn is_superseded(generations: &[Kept], one: usize) -> bool {
    newer_than(generations, one).next().is_some()
}

fn newer_than(generations: &[Kept], one: usize) -> impl Iterator<Item = &Kept> {
    let this = &generations[one];
    generations.iter().filter(|other| other.cache == this.cache && other.number > this.number)
}
