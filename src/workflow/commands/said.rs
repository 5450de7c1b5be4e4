//! What a step said, within the limits of one step.

use super::annotation::{Annotation, Level, MAX_PER_LEVEL};
use crate::workflow::file_commands::{MAX_FILE_BYTES, Pairs};

/// What went wrong with commands of one step that is told.
const MAX_FAILURES: usize = 10;

/// What a step said beside the text for the log. Within it, no value that has to be masked is in what people see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Variables for the steps after it.
    pub env: Pairs,
    /// Directories for their `PATH`.
    pub path: Vec<String>,
    pub outputs: Pairs,
    /// For its own post step.
    pub state: Pairs,
    /// At most [`MAX_PER_LEVEL`] of each level.
    pub annotations: Vec<Annotation>,
    /// Commands that could not be obeyed: the step fails.
    pub failures: Vec<String>,
    bytes: usize,
    /// Commands of which it was said that they will go.
    deprecated: Vec<&'static str>,
}

impl Said {
    /// Keeps an annotation, if there is room for one of its level.
    pub(super) fn note(&mut self, annotation: Annotation) {
        if self.has_room_for(annotation.level) && !annotation.message.trim().is_empty() {
            self.annotations.push(annotation);
        }
    }

    fn has_room_for(&self, level: Level) -> bool {
        self.annotations.iter().filter(|annotation| annotation.level == level).count() < MAX_PER_LEVEL
    }

    pub(super) fn fail(&mut self, why: String) {
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(why);
        }
    }

    /// Whether there is room for so many bytes more; they are counted.
    pub(super) fn count(&mut self, bytes: usize) -> bool {
        let fits = self.bytes + bytes <= MAX_FILE_BYTES;
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    /// Whether this is the first time that a command of this name is warned about.
    pub(super) fn is_first(&mut self, command: &'static str) -> bool {
        let is_first = !self.deprecated.contains(&command);
        if is_first {
            self.deprecated.push(command);
        }
        is_first
    }
}
