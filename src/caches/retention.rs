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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::forge::RepoName;

    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    const NOW: i64 = 1_000 * DAY_MS;

    fn cache(name: &str) -> CacheId {
        CacheId::new("forge", &RepoName::parse("acme/site").unwrap(), "linux", name)
    }

    fn kept(name: &str, number: u64, bytes: u64, days: i64, is_in_use: bool) -> Kept {
        Kept { cache: cache(name), number, bytes, used_at: NOW - days * DAY_MS, is_in_use }
    }

    fn retention(keep: u32, max_size: u64, days: u64) -> Retention {
        Retention { keep, max_size, max_age: Duration::from_secs(days * 24 * 60 * 60) }
    }

    #[test]
    fn each_limit_takes_what_it_is_for() {
        let all = [
            kept("a", 1, 10, 3, false),
            kept("a", 2, 10, 9, true),
            kept("a", 3, 10, 1, false),
            kept("b", 1, 10, 40, false),
            kept("b", 2, 10, 2, false),
        ];
        let going = |limits| superfluous(&all, &limits, NOW);
        assert_eq!(going(retention(3, 100, 100)), [0; 0]);
        assert_eq!(going(retention(1, 100, 100)), [0, 3], "what is in use stays");
        assert_eq!(going(retention(3, 100, 5)), [3], "old, but in use");
        assert_eq!(going(retention(3, 30, 100)), [3, 0], "the least recently used of those that have a successor");
        assert_eq!(going(retention(3, 20, 100)), [3, 0, 4], "then the newest ones too");
        assert_eq!(going(retention(3, 0, 0)), [0, 2, 3, 4], "never what is in use");
        assert_eq!(going(retention(0, 100, 100)), [0, 3], "one is always kept");
    }

    prop_compose! {
        fn some()(name in "[ab]", number in 1..6_u64, bytes in 0..50_u64, days in -2..60_i64, used in any::<bool>()) -> Kept {
            kept(&name, number, bytes, days, used)
        }
    }

    proptest! {
        #[test]
        fn what_stays_is_within_the_limits_and_what_is_used_stays(
            all in proptest::collection::vec(some(), 0..12), keep in 1..4_u32, size in 0..200_u64, days in 0..60_u64,
        ) {
            let limits = retention(keep, size, days);
            let going = superfluous(&all, &limits, NOW);
            let mut once = going.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), going.len());
            prop_assert!(going.iter().all(|&one| !all[one].is_in_use));
            let stays: Vec<&Kept> = (0..all.len()).filter(|one| !going.contains(one)).map(|one| &all[one]).collect();
            let idle: u64 = stays.iter().filter(|one| !one.is_in_use).map(|one| one.bytes).sum();
            let used: u64 = stays.iter().filter(|one| one.is_in_use).map(|one| one.bytes).sum();
            prop_assert!(idle + used <= size || idle == 0);
            let age = |one: &Kept| NOW - one.used_at;
            prop_assert!(stays.iter().all(|one| one.is_in_use || age(one) <= days as i64 * DAY_MS));
        }
    }
}
