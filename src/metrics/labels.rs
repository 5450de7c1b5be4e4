//! Every label that a metric has, with all its values.

use super::family::Label;
use crate::forge::Conclusion;
use crate::log::Stream;
use crate::net::egress::log::Verdict;
use crate::store::{JobState, Lifecycle, Reason, VmState};

/// Makes an enum a label: one list, so that a new variant does not compile before it has its word.
macro_rules! label {
    ($type:ty, $name:literal { $($variant:ident = $word:literal,)* }) => {
        impl Label for $type {
            fn names() -> Vec<&'static str> {
                vec![$name]
            }

            fn all() -> Vec<Self> {
                vec![$(Self::$variant,)*]
            }

            fn words(self) -> Vec<&'static str> {
                vec![match self { $(Self::$variant => $word,)* }]
            }
        }
    };
}

/// The same for an enum that exists only to be a label.
macro_rules! label_enum {
    ($(#[$doc:meta])* $type:ident, $name:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type { $($(#[$variant_doc])* $variant,)* }

        label!($type, $name { $($variant = $word,)* });
    };
}

label!(Verdict, "verdict" {
    Allowed = "allowed",
    Audited = "audited",
    Refused = "refused",
    Failed = "failed",
});

label_enum!(
    /// From where bytes of a guest's connection came.
    Way, "direction" {
        /// From the guest.
        Sent = "sent",
        /// To the guest.
        Received = "received",
    }
);

label_enum!(
    /// What kind of event a delivery says that it is. The header that says so is anybody's before it is verified.
    EventKind, "event" {
        Ping = "ping",
        PullRequest = "pull_request",
        Push = "push",
        CheckRun = "check_run",
        CheckSuite = "check_suite",
        MergeGroup = "merge_group",
        IssueComment = "issue_comment",
        /// Every other text, or none.
        Other = "other",
    }
);

impl EventKind {
    /// The kind behind the value of a header.
    pub fn of(header: Option<&[u8]>) -> Self {
        let named = |kind: &Self| header == Some(kind.words()[0].as_bytes());
        Self::all().into_iter().find(named).unwrap_or(Self::Other)
    }
}

label_enum!(
    /// What became of a delivery at the door.
    Received, "result" {
        /// It is durable and will be processed.
        Accepted = "accepted",
        /// It was dealt with before.
        Duplicate = "duplicate",
        /// It is not signed with the secret.
        RefusedSignature = "refused_signature",
        /// Its event or delivery header is missing or odd.
        RefusedHeaders = "refused_headers",
        /// It is signed, but not what the forge documents; kept for the operator.
        Unreadable = "unreadable",
        TooLarge = "too_large",
        /// Too many arrived at once.
        TooMany = "too_many",
        /// Its body did not arrive whole, or not in time.
        Incomplete = "incomplete",
        /// The store could not take it.
        NotStored = "not_stored",
    }
);

label_enum!(
    /// From what a job started for which something may be prepared.
    PreparedStart, "result" {
        Hit = "hit",
        /// Its files are others, or nothing is made yet.
        Miss = "miss",
    }
);

label_enum!(
    /// How a try ended of what is kept up.
    Kept, "result" {
        /// It is there.
        Made = "made",
        /// It is tried again.
        Postponed = "postponed",
        Failed = "failed",
    }
);

label_enum!(
    /// What came of looking into a stored delivery.
    Processed, "result" {
        /// Runs are in the store.
        Runs = "runs",
        /// Nothing here reacts to it.
        Ignored = "ignored",
        /// It will be tried again.
        Postponed = "postponed",
        /// Given up.
        Failed = "failed",
    }
);

label_enum!(
    /// The parts of a VM's creation, in their order.
    RestoreStage, "stage" {
        /// Its private disk is in place.
        Disk = "disk",
        /// The monitor answers.
        Monitor = "monitor",
        /// The snapshot's state is loaded.
        State = "state",
        /// The guest's agent answers.
        Agent = "agent",
        /// The guest has an identity, a clock and entropy of its own.
        Identity = "identity",
    }
);

label_enum!(
    /// How a step ended.
    StepResult, "result" {
        Success = "success",
        Failure = "failure",
        Cancelled = "cancelled",
        Skipped = "skipped",
    }
);

impl From<crate::workflow::contexts::Outcome> for StepResult {
    fn from(outcome: crate::workflow::contexts::Outcome) -> Self {
        use crate::workflow::contexts::Outcome;
        match outcome {
            Outcome::Success => Self::Success,
            Outcome::Failure => Self::Failure,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Skipped => Self::Skipped,
        }
    }
}

label_enum!(
    /// Who wrote to a log.
    LogSource, "source" {
        /// The job's programs.
        Job = "job",
        /// Dayfly itself: headings, errors, notes.
        Service = "service",
    }
);

impl LogSource {
    /// Who writes to this stream.
    pub fn of(stream: Stream) -> Self {
        match stream {
            Stream::Stdout | Stream::Stderr => Self::Job,
            Stream::Service | Stream::Heading => Self::Service,
        }
    }
}

label_enum!(
    /// What came of sending a report.
    ReportResult, "result" {
        Sent = "sent",
        /// It will be sent again.
        Postponed = "postponed",
        /// The forge will never take it.
        Abandoned = "abandoned",
    }
);

label_enum!(
    /// How making an image or a snapshot ended.
    Made, "result" {
        Success = "success",
        Failure = "failure",
    }
);

label_enum!(
    /// What a job found at its cache's place.
    CacheFound, "result" {
        Hit = "hit",
        /// There is no generation yet.
        Miss = "miss",
    }
);

label_enum!(
    /// What became of a volume that a producer filled.
    CacheMade, "result" {
        Published = "published",
        /// Another generation made it superfluous.
        Superseded = "superseded",
        /// It is not whole.
        Refused = "refused",
        /// Something of the host or of a VM failed.
        Failure = "failure",
    }
);

impl Made {
    /// Whether there is something.
    pub fn of<T, E>(made: &Result<T, E>) -> Self {
        if made.is_ok() { Self::Success } else { Self::Failure }
    }
}

/// After the macros that they use.
mod forge;
mod gitlab;
mod machines;

pub use self::forge::{ForgeCall, ForgeKind, ForgeResult, Reconciled, SweepEnd};
pub use self::gitlab::{GitLabAnswer, GitLabCall, GitLabJob};

pub use self::machines::{CellStart, MemoryKind, PoolEnd, PoolStage, PoolTake, WaitKind};

label!(Conclusion, "conclusion" {
    Success = "success",
    Failure = "failure",
    Error = "error",
    TimedOut = "timed_out",
    Cancelled = "cancelled",
    Skipped = "skipped",
});

label!(Reason, "reason" {
    Timeout = "timeout",
    OutOfMemory = "out_of_memory",
    VmLost = "vm_lost",
    PoweredOff = "powered_off",
    KernelPanic = "kernel_panic",
    Unresponsive = "unresponsive",
    GuestMisbehaved = "guest_misbehaved",
    GuestDiskFull = "guest_disk_full",
    Cancelled = "cancelled",
    NoProfile = "no_profile",
    Workflow = "workflow",
    Image = "image",
    DiskFull = "disk_full",
    Internal = "internal",
    ServiceRestarted = "service_restarted",
    Runner = "runner",
    Skipped = "skipped",
});

/// How a job ended and why; no reason is the word `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobEnd(pub Conclusion, pub Option<Reason>);

impl JobEnd {
    /// Whether jobs end so. Other pairs would only be series that stay 0 for ever.
    fn is_usual(self) -> bool {
        match (self.0, self.1) {
            (Conclusion::Success | Conclusion::Failure, reason) => reason.is_none(),
            (Conclusion::TimedOut, reason) => reason == Some(Reason::Timeout),
            (Conclusion::Cancelled, reason) => reason == Some(Reason::Cancelled),
            (Conclusion::Skipped, reason) => reason == Some(Reason::Skipped),
            (Conclusion::Error, Some(Reason::Timeout | Reason::Cancelled | Reason::Skipped) | None) => false,
            (Conclusion::Error, Some(_)) => true,
        }
    }
}

impl Label for JobEnd {
    fn names() -> Vec<&'static str> {
        [Conclusion::names(), Reason::names()].concat()
    }

    fn all() -> Vec<Self> {
        let reasons = || Reason::all().into_iter().map(Some).chain([None]);
        let pairs = Conclusion::all().into_iter().flat_map(|end| reasons().map(move |why| Self(end, why)));
        pairs.filter(|end| end.is_usual()).collect()
    }

    fn words(self) -> Vec<&'static str> {
        let reason = self.1.map_or_else(|| vec!["none"], Label::words);
        [self.0.words(), reason].concat()
    }
}

/// States as the store has them; the last one of each is an end, which nothing counts for ever.
macro_rules! state_label {
    ($type:ty, $end:path) => {
        impl Label for $type {
            fn names() -> Vec<&'static str> {
                vec!["state"]
            }

            fn all() -> Vec<Self> {
                <Self as Lifecycle>::ALL.iter().copied().filter(|state| *state != $end).collect()
            }

            fn words(self) -> Vec<&'static str> {
                vec![self.as_str()]
            }
        }
    };
}

state_label!(JobState, JobState::Finished);
state_label!(VmState, VmState::Gone);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_of_events_are_labels() {
        assert_eq!(EventKind::of(Some(b"push")), EventKind::Push);
        for hostile in [None, Some(&b""[..]), Some(b"Push"), Some(b"push\n"), Some(b"\xFF"), Some(&[b'x'; 9000])] {
            assert_eq!(EventKind::of(hostile), EventKind::Other);
        }
    }

    #[test]
    fn words_tell_the_values_of_a_label_apart() {
        fn check<L: Label>() {
            let mut words: Vec<_> = L::all().into_iter().map(Label::words).collect();
            let count = words.len();
            words.sort();
            words.dedup();
            assert_eq!(words.len(), count);
            assert!(words.iter().all(|words| words.len() == L::names().len()));
        }
        check::<(EventKind, Received)>();
        check::<JobEnd>();
        check::<(ForgeCall, ForgeResult)>();
        check::<RestoreStage>();
        check::<(GitLabCall, GitLabAnswer)>();
        check::<GitLabJob>();
        check::<JobState>();
    }
}
