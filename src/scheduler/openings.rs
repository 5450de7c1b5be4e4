//! How many more jobs could start now, for those who ask a forge for jobs: a job that was taken and then waits for room would have
//! been better off with another runner.
//!
//! The scheduler counts at the end of each look. Whoever asks for a job holds a [`Claim`] meanwhile, which counts against every
//! profile, as all share the host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Shared by those who count and those who ask.
#[derive(Debug, Clone)]
pub struct Openings {
    counts: Arc<Mutex<Counts>>,
    renewed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Counts {
    by_profile: HashMap<String, u32>,
    claims: u32,
}

impl Default for Openings {
    fn default() -> Self {
        Self { counts: Arc::default(), renewed: watch::Sender::new(()) }
    }
}

impl Openings {
    /// How many more jobs of the profile could start now, without those that others are asking for.
    pub fn of(&self, profile: &str) -> u32 {
        self.locked(|counts| counts.open(profile))
    }

    /// Whether there is room for nobody else, whichever profile they ask for.
    pub fn are_taken(&self) -> bool {
        self.locked(|counts| counts.by_profile.values().any(|count| *count <= counts.claims))
    }

    /// Keeps room for one job of the profile until the claim is dropped; `None` if there is none.
    /// Drop it once the job is stored, or there is none.
    pub fn claim(&self, profile: &str) -> Option<Claim> {
        self.locked(|counts| {
            if counts.open(profile) == 0 {
                return None;
            }
            counts.claims += 1;
            Some(Claim { openings: self.clone() })
        })
    }

    /// Waits until the numbers may have changed. Look at them first: what changed before the call is not told.
    pub async fn changed(&self) {
        // It cannot fail: this holds the sender.
        _ = self.renewed.subscribe().changed().await;
    }

    /// The scheduler's new count, by profile.
    pub fn renew(&self, by_profile: HashMap<String, u32>) {
        let has_changed = self.locked(|counts| {
            let has_changed = counts.by_profile != by_profile;
            counts.by_profile = by_profile;
            has_changed
        });
        if has_changed {
            self.renewed.send_replace(());
        }
    }

    fn locked<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Counts {
    fn open(&self, profile: &str) -> u32 {
        self.by_profile.get(profile).copied().unwrap_or(0).saturating_sub(self.claims)
    }

    /// A job that was just stored takes its place at once, before the scheduler counts again.
    fn fill(&mut self) {
        self.by_profile.values_mut().for_each(|count| *count = count.saturating_sub(1));
    }
}

/// Room for one job, as long as it is held.
#[derive(Debug)]
pub struct Claim {
    openings: Openings,
}

impl Claim {
    /// The job is stored: its room is taken until the scheduler has counted again.
    pub fn fill(self) {
        self.openings.locked(Counts::fill);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.openings.locked(|counts| counts.claims = counts.claims.saturating_sub(1));
        self.openings.renewed.send_replace(());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_asks_for_more_jobs_than_there_is_room() {
        let openings = Openings::default();
        assert!(openings.claim("linux").is_none(), "nothing was counted yet");
        openings.renew(HashMap::from([("linux".to_owned(), 2), ("big".to_owned(), 1)]));
        let first = openings.claim("linux").unwrap();
        assert_eq!((openings.of("linux"), openings.of("big")), (1, 0), "all share the host");
        assert!(openings.are_taken());
        let second = openings.claim("linux").unwrap();
        assert!(openings.claim("linux").is_none());
        first.fill();
        assert!(openings.claim("linux").is_none(), "its job is there now");
        let changed = openings.changed();
        let dropping = async { drop(second) };
        tokio::join!(changed, dropping);
        assert_eq!(openings.of("linux"), 1);
    }
}
