//! When to ask a forge again: the one retry schedule, so that every caller backs off alike.

use std::time::Duration;

/// The wait after the first failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// How long to wait after the failed try number `tried` (the first is 0): doubling from 1 s up to 5 min, of which the upper
/// half is spread by `jitter` (0.0 ..= 1.0, random), so that callers that failed together do not come back together.
pub fn backoff(tried: u32, jitter: f64) -> Duration {
    let full = FIRST_WAIT.saturating_mul(2u32.saturating_pow(tried)).min(LONGEST_WAIT);
    // A NaN would survive `clamp` and panic below.
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
    full.mul_f64(0.5 + jitter / 2.0).max(FIRST_WAIT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doubles_and_stops_at_five_minutes() {
        let seconds: Vec<u64> = (0..11).map(|tried| backoff(tried, 1.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff(3, 0.0), Duration::from_secs(4));
    }

    proptest! {
        #[test]
        fn every_wait_is_within_its_bounds(tried: u32, jitter in prop::num::f64::ANY) {
            let wait = backoff(tried, jitter);
            prop_assert!((FIRST_WAIT..=LONGEST_WAIT).contains(&wait), "{wait:?}");
        }
    }
}
