//! Whether and when a delivery that could not be processed is tried again. Pure.

use std::io::ErrorKind;
use std::time::Duration;

use super::IntakeError;
use crate::forge::{ForgeError, backoff};
use crate::store::{Delivery, StoreError};

/// How often a delivery is tried before it counts as failed. With the back-off this is more than a day.
const MAX_TRIES: u32 = 300;

/// How often a commit or file that the forge does not find is looked for. With the back-off this is about a minute, which is
/// long for replication.
const MAX_LOOKS: u32 = 6;

/// The waits, in seconds, after the forge refused the credential: somebody has to change a permission, within an hour or so.
const REFUSED_WAITS: [u64; 6] = [30, 120, 300, 600, 1200, 1800];

/// How to go on with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) wait: Duration,
    /// The forge answered, with a refusal: this counts towards a lower limit than that of the tries.
    pub(super) denied: bool,
}

/// What to do after `error` in the next try of `delivery`; `None`: nothing will help. `jitter` is between 0 and 1.
pub(super) fn after(error: &IntakeError, delivery: &Delivery, jitter: f64) -> Option<Retry> {
    if delivery.tries >= MAX_TRIES {
        return None;
    }
    let later = |wait| Some(Retry { wait, denied: false });
    let perhaps = |wait: Option<Duration>| wait.map(|wait| Retry { wait, denied: true });
    match error {
        IntakeError::Forge(ForgeError::RateLimited { wait, .. }) => later(*wait),
        IntakeError::Forge(ForgeError::Transient { .. })
        | IntakeError::Elsewhere(_)
        | IntakeError::Store(StoreError::Database { .. }) => later(backoff(delivery.tries, jitter)),
        // A body that is damaged or gone stays so; anything else passes.
        IntakeError::Store(StoreError::Inbox { source, .. })
            if !matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::NotFound) =>
        {
            later(backoff(delivery.tries, jitter))
        }
        IntakeError::Forge(ForgeError::NotFound { .. }) | IntakeError::CommitUnreadable { .. } => {
            perhaps((delivery.denials < MAX_LOOKS).then(|| backoff(delivery.denials, jitter)))
        }
        IntakeError::Forge(ForgeError::Refused { .. }) => {
            perhaps(REFUSED_WAITS.get(delivery.denials as usize).copied().map(Duration::from_secs))
        }
        IntakeError::Forge(ForgeError::Permanent { .. }) | IntakeError::Store(_) | IntakeError::Payload(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::forge::{CommitSha, RepoName};
    use crate::store::{DeliveryKey, DeliveryState};

    fn delivery(tries: u32, denials: u32) -> Delivery {
        Delivery {
            key: DeliveryKey { forge: "github".to_owned(), id: "a".to_owned() },
            event: "push".to_owned(),
            received_at: 0,
            arrived_at: 0,
            state: DeliveryState::Received,
            detail: String::new(),
            tries,
            denials,
            next_try_at: 0,
        }
    }

    /// The waits, in seconds, until the delivery fails.
    fn waits(error: &IntakeError) -> Vec<u64> {
        let tries = (0..=MAX_TRIES).map_while(|tried| {
            let retry = after(error, &delivery(tried, tried), 1.0)?;
            Some(retry.wait.as_secs())
        });
        tries.collect()
    }

    #[test]
    fn what_is_not_found_is_looked_for_a_few_times() {
        let unreadable = IntakeError::CommitUnreadable {
            repo: RepoName::parse("demo/hello").unwrap(),
            sha: CommitSha::parse(&"a1".repeat(20)).unwrap(),
        };
        assert_eq!(waits(&unreadable), [1, 2, 4, 8, 16, 32]);
        let not_found = IntakeError::Forge(ForgeError::NotFound { what: "reading".to_owned() });
        assert_eq!(waits(&not_found), [1, 2, 4, 8, 16, 32]);
    }

    #[test]
    fn a_refusal_gives_an_operator_an_hour() {
        let refused = IntakeError::Forge(ForgeError::Refused { what: "reading".to_owned(), detail: "403".to_owned() });
        let waits = waits(&refused);
        assert_eq!(waits.len(), REFUSED_WAITS.len());
        assert!((3600..2 * 3600).contains(&waits.iter().sum::<u64>()), "{waits:?}");
    }

    #[test]
    fn tries_without_an_answer_use_up_no_chance_of_one_with_a_refusal() {
        let refused = IntakeError::Forge(ForgeError::Refused { what: "reading".to_owned(), detail: "403".to_owned() });
        let retry = after(&refused, &delivery(100, 0), 1.0).unwrap();
        assert_eq!((retry.wait.as_secs(), retry.denied), (REFUSED_WAITS[0], true));
        let down = IntakeError::Forge(ForgeError::Transient { what: "reading".to_owned(), detail: "503".to_owned() });
        assert!(!after(&down, &delivery(100, 6), 1.0).unwrap().denied);
        assert!(waits(&down).iter().sum::<u64>() > 24 * 3600);
    }

    #[test]
    fn what_cannot_change_is_not_tried_again() {
        assert!(waits(&IntakeError::Payload("no JSON".to_owned())).is_empty());
        let permanent = ForgeError::Permanent { what: "reading".to_owned(), detail: "422".to_owned() };
        assert!(waits(&IntakeError::Forge(permanent)).is_empty());
    }
}
