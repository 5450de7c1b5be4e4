//! Which state may follow which: the whole truth about the life of a delivery, a job, a VM and a wish for upkeep, in tables without a
//! catch-all, so that a new state does not compile before its place is decided. Pure.

use std::fmt;

use super::StoreError;

/// Defines an enum whose values are stored as the given words.
macro_rules! stored_enum {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl Lifecycle for $name {
            const WHAT: &'static str = $what;
            const ALL: &'static [Self] = &[$(Self::$variant,)*];
            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
            fn may_become(self, next: Self) -> bool {
                self.may_be_followed_by(next)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.as_str())
            }
        }
    };
}

/// A stored state with its table of legal successors.
pub trait Lifecycle: Copy + 'static {
    /// What has this state, for messages.
    const WHAT: &'static str;
    /// Every state.
    const ALL: &'static [Self];
    /// The word in the database and in messages.
    fn as_str(self) -> &'static str;
    /// Whether `next` may follow.
    fn may_become(self, next: Self) -> bool;

    /// The state behind a stored word.
    fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == word)
    }

    /// The error that names both states, unless `next` may follow.
    fn check(self, id: &impl fmt::Display, next: Self) -> Result<(), StoreError> {
        if self.may_become(next) {
            return Ok(());
        }
        Err(StoreError::Illegal { what: Self::WHAT, id: id.to_string(), from: self.as_str(), to: next.as_str() })
    }
}

stored_enum!(
    /// How far a webhook delivery got.
    DeliveryState, "delivery" {
        /// Durable, not yet looked at.
        Received = "received",
        /// Its runs, if it asked for any, are in the store.
        Processed = "processed",
        /// Nothing here reacts to it; looked at again when it is delivered again.
        Ignored = "ignored",
        /// Processing failed; kept for the operator, and processed again when it is delivered again.
        Failed = "failed",
        /// Signed properly, but not what the forge documents; kept for the operator.
        Invalid = "invalid",
    }
);

impl DeliveryState {
    fn may_be_followed_by(self, next: Self) -> bool {
        use DeliveryState::{Failed, Ignored, Invalid, Processed, Received};
        match (self, next) {
            (Received, Processed | Ignored | Failed | Invalid) | (Failed | Ignored, Received) => true,
            (Received, Received)
            | (Failed | Ignored, Processed | Ignored | Failed | Invalid)
            | (Processed | Invalid, Received | Processed | Ignored | Failed | Invalid) => false,
        }
    }
}

stored_enum!(
    /// How far a job got.
    JobState, "job" {
        /// Some job that it needs has not finished, or its condition has not been looked at.
        Waiting = "waiting",
        /// Could start; waits for capacity.
        Queued = "queued",
        /// A VM is being made for it.
        Leased = "leased",
        /// Its steps run.
        Running = "running",
        /// Has its outcome.
        Finished = "finished",
    }
);

impl JobState {
    fn may_be_followed_by(self, next: Self) -> bool {
        use JobState::{Finished, Leased, Queued, Running, Waiting};
        match (self, next) {
            (Waiting, Queued | Finished)
            | (Queued, Leased | Finished)
            | (Leased, Running | Queued | Finished)
            | (Running, Queued | Finished) => true,
            (Waiting, Waiting | Leased | Running)
            | (Queued, Waiting | Queued | Running)
            | (Leased, Waiting | Leased)
            | (Running, Waiting | Leased | Running)
            | (Finished, Waiting | Queued | Leased | Running | Finished) => false,
        }
    }
}

stored_enum!(
    /// What is known of a VM. Only [`VmState::Gone`] frees its capacity.
    VmState, "VM" {
        /// Decided; parts of it may exist.
        Creating = "creating",
        /// Answered.
        Running = "running",
        /// Being torn down.
        Stopping = "stopping",
        /// Verified to be absent.
        Gone = "gone",
    }
);

impl VmState {
    /// Teardown may run twice, so its two states may follow themselves.
    fn may_be_followed_by(self, next: Self) -> bool {
        use VmState::{Creating, Gone, Running, Stopping};
        match (self, next) {
            (Creating, Running | Stopping) | (Running, Stopping) | (Stopping, Stopping | Gone) | (Gone, Gone) => true,
            (Creating, Creating | Gone)
            | (Running, Creating | Running | Gone)
            | (Stopping, Creating | Running)
            | (Gone, Creating | Running | Stopping) => false,
        }
    }
}

stored_enum!(
    /// How far something got that is kept up for a repository.
    UpkeepState, "upkeep" {
        /// To be done, or under way.
        Wanted = "wanted",
        Done = "done",
        /// Not tried again before somebody asks anew.
        Failed = "failed",
    }
);

impl UpkeepState {
    fn may_be_followed_by(self, next: Self) -> bool {
        use UpkeepState::{Done, Failed, Wanted};
        match (self, next) {
            (Wanted, Done | Failed | Wanted) | (Done | Failed, Wanted) => true,
            (Done | Failed, Done | Failed) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table<S: Lifecycle>() -> String {
        let mut text = String::new();
        for from in S::ALL {
            let next: Vec<_> = S::ALL.iter().filter(|to| from.may_become(**to)).map(|to| to.as_str()).collect();
            text.push_str(&format!("{} → {}\n", from.as_str(), next.join(", ")));
        }
        text
    }

    #[test]
    fn the_tables_are_these() {
        insta::assert_snapshot!(table::<DeliveryState>(), @r"
        received → processed, ignored, failed, invalid
        processed → 
        ignored → received
        failed → received
        invalid → 
        ");
        insta::assert_snapshot!(table::<JobState>(), @r"
        waiting → queued, finished
        queued → leased, finished
        leased → queued, running, finished
        running → queued, finished
        finished → 
        ");
        insta::assert_snapshot!(table::<VmState>(), @r"
        creating → running, stopping
        running → stopping
        stopping → stopping, gone
        gone → gone
        ");
        insta::assert_snapshot!(table::<UpkeepState>(), @r"
        wanted → wanted, done, failed
        done → wanted
        failed → wanted
        ");
    }

    #[test]
    fn words_survive_the_database() {
        for state in JobState::ALL {
            assert_eq!(JobState::parse(state.as_str()), Some(*state));
        }
        assert_eq!(JobState::parse("done"), None);
    }

    #[test]
    fn a_refusal_names_both_states() {
        let refused = JobState::Finished.check(&"job-0", JobState::Queued).expect_err("a finished job stays finished");
        insta::assert_snapshot!(refused, @"job `job-0` cannot go from `finished` to `queued`");
    }
}
