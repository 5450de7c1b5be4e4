//! When to ask a GitLab for the next job. Pure.

use std::time::Duration;

use crate::forge::backoff;

/// Between two questions that found nothing, on average.
pub const INTERVAL: Duration = Duration::from_secs(3);
/// After an answer that only a person can change: the runner was removed, or its token is wrong.
const REFUSED: Duration = Duration::from_secs(5 * 60);
/// After a job went to another runner between GitLab's choice and its answer.
const CONFLICT: Duration = Duration::from_millis(500);

/// What a question came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A job: there may be more.
    Job,
    Nothing,
    /// Another runner was faster.
    Conflict,
    /// No answer, or none that is about jobs.
    Unavailable,
    /// The runner is not, or no longer, one of this GitLab.
    Refused,
}

/// How often in a row GitLab could not answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Polling {
    failed: u32,
}

impl Polling {
    /// How long to wait before the next question, unless something wakes sooner. `jitter` is 0 to 1, random: runners that
    /// heard the same do not come back together.
    pub fn wait_after(&mut self, heard: Heard, jitter: f64) -> Duration {
        if heard == Heard::Unavailable {
            self.failed = self.failed.saturating_add(1);
            return backoff(self.failed, jitter).max(INTERVAL);
        }
        self.failed = 0;
        let spread = 0.8 + 0.4 * if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.5 };
        match heard {
            Heard::Job => Duration::ZERO,
            Heard::Conflict => CONFLICT.mul_f64(spread),
            Heard::Nothing | Heard::Unavailable => INTERVAL.mul_f64(spread),
            Heard::Refused => REFUSED.mul_f64(spread),
        }
    }

    /// Whether a wake, which a webhook causes, shortens the wait: not while GitLab cannot answer, or refuses.
    pub fn may_be_woken(&self, heard: Heard) -> bool {
        !matches!(heard, Heard::Unavailable | Heard::Refused)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heard() -> impl Strategy<Value = Heard> {
        prop::sample::select(vec![Heard::Job, Heard::Nothing, Heard::Conflict, Heard::Unavailable, Heard::Refused])
    }

    #[test]
    fn failures_are_waited_out_longer_and_longer_and_forgotten_at_once() {
        let mut polling = Polling::default();
        let waits: Vec<u64> = (0..10).map(|_| polling.wait_after(Heard::Unavailable, 1.0).as_secs()).collect();
        assert_eq!(waits, [3, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(polling.wait_after(Heard::Nothing, 0.5), INTERVAL);
        assert_eq!(polling.wait_after(Heard::Unavailable, 1.0), INTERVAL);
        assert_eq!(polling.wait_after(Heard::Job, 0.3), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_six_minutes_and_only_jobs_are_followed_at_once(
            all in prop::collection::vec((heard(), prop::num::f64::ANY), 1..50)
        ) {
            let mut polling = Polling::default();
            for (heard, jitter) in all {
                let wait = polling.wait_after(heard, jitter);
                prop_assert!(wait <= Duration::from_secs(6 * 60));
                prop_assert_eq!(wait.is_zero(), heard == Heard::Job);
            }
        }
    }
}
