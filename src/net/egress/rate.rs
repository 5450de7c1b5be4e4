//! How fast bytes may pass: a rate with a little room for bursts, shared by all connections of a job. Pure.

use core::time::Duration;

/// What may pass at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// Who comes next, in time since some beginning.
#[derive(Debug)]
pub(super) struct Rate {
    bytes_per_second: u64,
    /// When everything that was let pass so far would have passed at exactly the rate.
    passed_at: Duration,
}

impl Rate {
    /// At least one byte per second.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), passed_at: Duration::ZERO }
    }

    /// Lets so many bytes pass, after the time that is given. Whoever asks first waits the shortest.
    pub(super) fn reserve(&mut self, now: Duration, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.passed_at = self.passed_at.max(now).saturating_add(takes);
        self.passed_at.saturating_sub(now).saturating_sub(BURST)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut rate = Rate::new(1000);
        assert_eq!(rate.reserve(Duration::ZERO, 100), Duration::ZERO);
        assert_eq!(rate.reserve(Duration::ZERO, 500), Duration::from_millis(500));
        assert_eq!(rate.reserve(Duration::from_secs(9), 100), Duration::ZERO, "what was not used is not saved up");
        assert_eq!(rate.reserve(Duration::from_secs(9), 1000), Duration::from_secs(1));
    }

    proptest! {
        /// In no order of questions more passes than the rate and one burst allow.
        #[test]
        fn the_rate_is_never_exceeded(asks in proptest::collection::vec((0u64..50, 1u64..5000), 1..60)) {
            let mut rate = Rate::new(10_000);
            let (mut now, mut total, mut last) = (Duration::ZERO, 0, Duration::ZERO);
            for (pause, bytes) in asks {
                now += Duration::from_millis(pause);
                last = last.max(now + rate.reserve(now, bytes));
                total += bytes;
                let most = (last + BURST).as_secs_f64() * 10_000.0 + 1.0;
                prop_assert!(total as f64 <= most, "{total} bytes by {last:?}");
            }
        }
    }
}
