//! Whether and when what could not be made is tried again. Pure.

use std::time::Duration;

use super::Trouble;
use crate::forge::{ForgeError, backoff};

/// Waits after the tries of a VM: what is downloaded may be there later, and a VM costs minutes.
const WAITS: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(5 * 60), Duration::from_secs(30 * 60)];

/// The wait after a try that had to make room, or was stopped.
const INTERRUPTED: Duration = Duration::from_secs(10);

/// Tries of a question to the forge. With the back-off this is a day.
const MAX_QUESTIONS: u32 = 300;

/// How to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Later {
        wait: Duration,
        /// Whether this try counts.
        counts: bool,
    },
    /// Not before somebody pushes, or the service starts again.
    Never,
}

/// What to do after the try number `tries`, counted from 1, or from 0 for a look. `jitter` is between 0 and 1.
pub(super) fn after(trouble: &Trouble, tries: u32, jitter: f64) -> Next {
    match trouble {
        Trouble::Interrupted => Next::Later { wait: INTERRUPTED, counts: false },
        Trouble::Forge(ForgeError::RateLimited { wait, .. }) => Next::Later { wait: *wait, counts: false },
        Trouble::Forge(ForgeError::Transient { .. } | ForgeError::NotFound { .. } | ForgeError::Refused { .. })
        | Trouble::Store(_)
        | Trouble::Again(_) => {
            let wait = backoff(tries, jitter);
            if tries < MAX_QUESTIONS { Next::Later { wait, counts: true } } else { Next::Never }
        }
        Trouble::Forge(ForgeError::Permanent { .. }) | Trouble::NoKey(_) | Trouble::TooLarge(_) => Next::Never,
        Trouble::Image(error) if error.is_unknown() => Next::Never,
        Trouble::Vm(_) | Trouble::Image(_) | Trouble::Failed(_) => {
            let wait = WAITS.get(tries.saturating_sub(1) as usize).copied();
            wait.map_or(Next::Never, |wait| Next::Later { wait, counts: true })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::image::ImageError;

    /// The waits, in seconds, until it is given up; as many as fit.
    fn waits(trouble: &Trouble) -> Vec<u64> {
        let next = (1..6).map_while(|tries| match after(trouble, tries, 1.0) {
            Next::Later { wait, .. } => Some(wait.as_secs()),
            Next::Never => None,
        });
        next.collect()
    }

    #[test]
    fn a_script_that_fails_is_tried_a_few_times_and_questions_for_long() {
        assert_eq!(waits(&Trouble::Failed("it failed".into())), [60, 300, 1800]);
        assert_eq!(waits(&Trouble::Again("later".into())), [2, 4, 8, 16, 32]);
        assert_eq!(waits(&Trouble::NoKey(super::super::key::NoKey::NotAFile("a".into()))), [0; 0]);
        let limited = Trouble::Forge(ForgeError::RateLimited { what: "x".into(), wait: Duration::from_secs(99) });
        assert_eq!(after(&limited, 1000, 0.0), Next::Later { wait: Duration::from_secs(99), counts: false });
        assert_eq!(after(&Trouble::Again("later".into()), MAX_QUESTIONS, 0.0), Next::Never);
    }

    #[test]
    fn what_cannot_come_to_pass_is_not_tried_again() {
        assert_eq!(waits(&Trouble::TooLarge("it takes too much".into())), [0; 0]);
        let unknown = || ImageError::Unknown { name: "linux".into(), hint: String::new() };
        assert_eq!(waits(&unknown().into()), [0; 0]);
        assert_eq!(waits(&ImageError::Shared(Arc::new(unknown())).into()), [0; 0], "as several who wait are told");
        let broken = ImageError::Shared(Arc::new(ImageError::Unusable("it is broken".into())));
        assert_eq!(waits(&broken.into()), [60, 300, 1800]);
    }

    #[test]
    fn who_makes_room_loses_no_try() {
        assert_eq!(after(&Trouble::Interrupted, 3, 0.0), Next::Later { wait: INTERRUPTED, counts: false });
    }
}
