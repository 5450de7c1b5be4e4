//! What steps say in their output: workflow commands, problems that matchers find, and values that no log may show.
//!
//! A [`Listener`] hears one step. Bytes go in as they arrive, and come out as the text for the log: the same text, but for
//! commands, which are obeyed, and for values that are masked. What holds for all steps of a job, matchers and masks,
//! is its [`Hearing`]. Everything comes from the guest: it is bounded, obeyed only as far as it concerns the job itself, and
//! gives the same however it is cut into pieces.

mod annotation;
mod command;
mod lines;
mod listener;
mod mask;
mod matcher;
mod matcher_file;
mod obey;
mod said;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use annotation::{Annotation, Level, MAX_OF_JOB, MAX_PER_LEVEL};
pub use listener::{Asked, Heard, Listener, Source};
pub use mask::{COVER, Masks, TooManyMasks};
pub use matcher::Matchers;
pub use matcher_file::MAX_MATCHER_FILE;
pub use said::Said;

/// What the steps of a job have said about how those after them are to be heard.
#[derive(Debug, Clone, Default)]
pub struct Hearing {
    pub masks: Masks,
    pub matchers: Matchers,
}

/// A [`Hearing`] of steps that run at the same time: what one says holds for the others from then on. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct SharedHearing(Arc<Mutex<Hearing>>);

impl SharedHearing {
    /// Nobody else hears meanwhile.
    pub fn lock(&self) -> MutexGuard<'_, Hearing> {
        // Masks and matchers are each added whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Hearing> for SharedHearing {
    fn from(hearing: Hearing) -> Self {
        Self(Arc::new(Mutex::new(hearing)))
    }
}

impl Hearing {
    /// Whether lines can only be shown once they are whole.
    fn needs_whole_lines(&self) -> bool {
        !self.masks.is_empty() || !self.matchers.is_empty()
    }

    /// How much of a line that is too long to be kept can be shown: no value may begin in it and end behind it.
    fn showable(&mut self, open: &[u8]) -> usize {
        let end = open.len() - self.masks.longest().saturating_sub(1).min(open.len());
        match self.masks.found(open).into_iter().find(|(start, stop)| *start < end && end < *stop) {
            // Nothing but values from the start on: they are covered as far as they go.
            Some((0, stop)) => stop,
            Some((start, _)) => start,
            None => end,
        }
    }

    /// The text as a log may show it.
    fn cover(&mut self, text: &str) -> String {
        if self.masks.is_empty() { text.to_owned() } else { self.masks.cover_text(text) }
    }
}
