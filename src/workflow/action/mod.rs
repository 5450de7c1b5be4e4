//! Actions: what `uses` names, who may be named, and what an `action.yml` says.
//!
//! An action's files come from a repository, and often from a guest: their reader is bounded, and says what is wrong with its
//! place. What an action gets ([`inputs`]) and where its steps stand among the job's ([`super::run`]) is decided from values;
//! nothing here fetches, reads or starts anything.

pub mod inputs;
pub mod manifest;
pub mod policy;
mod reference;
pub mod version;

use super::model::{Action, Step};

pub use manifest::Manifest;
pub use reference::{ActionRef, RemoteAction};

/// Composite actions that may be inside of each other, with the first.
pub const MAX_LEVELS: usize = 10;

/// The actions that steps use.
pub fn used(steps: &[Step]) -> impl Iterator<Item = &ActionRef> {
    steps.iter().filter_map(|step| match &step.action {
        Action::Uses { reference, .. } => Some(reference),
        Action::Run { .. } | Action::Checkout(_) | Action::Native(_) | Action::Steer(_) => None,
    })
}
