//! Which prepared snapshots go: those that nobody used for too long, then the least recently used, until the rest fits. Pure.

/// A snapshot as far as its place on the disk is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub hash: String,
    /// Allocated on the disk.
    pub bytes: u64,
    /// When a job last started from it, or else when it was made; milliseconds since the epoch.
    pub used_at: i64,
    /// A VM is just starting from it, so that it stays for now.
    pub is_busy: bool,
}

/// How much may be kept, and for how long without a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub max_bytes: u64,
    pub max_age_ms: i64,
}

/// The hashes of those that go at `now`, in the order in which they do.
pub fn evicted(candidates: &[Candidate], bounds: Bounds, now: i64) -> Vec<String> {
    let mut oldest_first: Vec<&Candidate> = candidates.iter().collect();
    oldest_first.sort_by(|one, other| (one.used_at, &one.hash).cmp(&(other.used_at, &other.hash)));
    let mut kept: u64 = candidates.iter().map(|candidate| candidate.bytes).sum();
    let mut evicted = Vec::new();
    for Candidate { hash, bytes, used_at, is_busy } in oldest_first {
        let is_old = now.saturating_sub(*used_at) > bounds.max_age_ms;
        if !is_busy && (is_old || kept > bounds.max_bytes) {
            kept -= bytes;
            evicted.push(hash.clone());
        }
    }
    evicted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(hash: &str, bytes: u64, used_at: i64) -> Candidate {
        Candidate { hash: hash.into(), bytes, used_at, is_busy: false }
    }

    #[test]
    fn age_counts_first_and_the_least_recently_used_makes_room() {
        let bounds = Bounds { max_bytes: 25, max_age_ms: 100 };
        let all = [candidate("a", 10, 300), candidate("b", 10, 200), candidate("c", 10, 290), candidate("d", 10, 250)];
        assert_eq!(evicted(&all, bounds, 301), ["b", "d"], "`b` is too old, and `d` has not been used for longest");
        assert_eq!(evicted(&all, Bounds { max_bytes: 40, ..bounds }, 300), [""; 0]);
        assert_eq!(evicted(&all, Bounds { max_bytes: 0, ..bounds }, 0), ["b", "d", "c", "a"], "the clock was set back");
        // A clock that went wrong for a while: what was used then is young until somebody uses it, and goes for its size as any other.
        let future = [candidate("a", 10, 9000), candidate("b", 10, 290)];
        assert_eq!(evicted(&future, bounds, 300), [""; 0]);
        assert_eq!(evicted(&future, Bounds { max_bytes: 10, ..bounds }, 300), ["b"]);
        assert_eq!(evicted(&future, bounds, 9200), ["b", "a"], "put forward, everything is old");
        let busy = Candidate { is_busy: true, ..candidate("b", 10, 0) };
        assert_eq!(evicted(&[busy, candidate("c", 30, 290)], bounds, 300), ["c"]);
    }

    proptest! {
        #[test]
        fn what_stays_fits_and_nothing_goes_without_need(
            sizes in proptest::collection::vec((0_u64..50, 0_i64..100, any::<bool>()), 0..12), max_bytes in 0_u64..200, now in 0_i64..150,
        ) {
            let bounds = Bounds { max_bytes, max_age_ms: 60 };
            let all: Vec<Candidate> = sizes.iter().enumerate().map(|(number, &(bytes, used_at, is_busy))| Candidate {
                is_busy, ..candidate(&number.to_string(), bytes, used_at)
            }).collect();
            let gone = evicted(&all, bounds, now);
            let (gone, stayed): (Vec<_>, Vec<_>) = all.iter().partition(|one| gone.contains(&one.hash));
            prop_assert!(gone.iter().all(|one| !one.is_busy));
            let idle: u64 = stayed.iter().filter(|one| !one.is_busy).map(|one| one.bytes).sum();
            let busy: u64 = stayed.iter().filter(|one| one.is_busy).map(|one| one.bytes).sum();
            prop_assert!(idle == 0 || idle + busy <= max_bytes);
            prop_assert!(stayed.iter().all(|one| one.is_busy || now - one.used_at <= 60));
            // The last to go for its size would not have fitted either.
            if let Some(last) = gone.iter().filter(|one| now - one.used_at <= 60).max_by_key(|one| (one.used_at, &one.hash)) {
                let younger: u64 = stayed.iter().map(|one| one.bytes).sum();
                prop_assert!(younger + last.bytes > max_bytes);
            }
        }
    }
}
