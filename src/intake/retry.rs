//! Whether and when a delivery that could not be processed is tried again. Pure.

use std::time::Duration;

use super::IntakeError;
use crate::forge::{ForgeError, backoff};
use crate::store::{Delivery, StoreError};

/// How often a delivery is tried before it counts as failed. With the back-off this is more than a day.
const MAX_TRIES: u32 = 300;

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
    match error {
        IntakeError::Forge(ForgeError::RateLimited { wait, .. }) => later(*wait),
        IntakeError::Forge(ForgeError::Transient { .. }) | IntakeError::Store(StoreError::Database { .. }) => {
            later(backoff(delivery.tries, jitter))
        }
        IntakeError::Forge(_) | IntakeError::Store(_) | IntakeError::Payload(_) => None,
    }
}
