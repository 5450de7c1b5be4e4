//! What is wrong with a document, in words that help: bounded quotations, and suggestions of what was meant.

use std::fmt;

use super::{Diagnostic, Position};

/// Characters of a value or key that a complaint quotes.
pub(super) const MAX_QUOTED: usize = 80;

/// Words longer than this get no suggestion: nobody mistypes them, and comparing costs the product of the lengths.
pub(super) const MAX_SUGGESTED: usize = 64;

/// Similarity (0 to 1) from which on another word counts as what was meant.
const SIMILAR: f64 = 0.75;

/// What is wrong and what to do about it, before it is known where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    message: String,
    hint: Option<String>,
}

impl fmt::Display for Complaint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(out, "\n  hint: {hint}"))
    }
}

impl Complaint {
    /// A complaint without a hint. Values in `message` stand in backticks; [`quoted`] puts them there.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds "did you mean" if `word` resembles one of `known`; otherwise lists `known` when it is short enough to help.
    pub fn suggest<'k>(self, word: &str, known: impl IntoIterator<Item = &'k str>) -> Self {
        const LISTED: usize = 24;
        let known: Vec<&str> = known.into_iter().collect();
        match nearest(word, known.iter().copied()) {
            Some(meant) => self.hint(format!("did you mean {}?", quoted(meant))),
            None if (1..=LISTED).contains(&known.len()) => {
                let list: Vec<String> = known.into_iter().map(quoted).collect();
                self.hint(format!("known here: {}", list.join(", ")))
            }
            None => self,
        }
    }

    /// The complaint, now that its place is known.
    pub fn at(self, file: &str, position: Option<Position>, path: &str) -> Diagnostic {
        Diagnostic { file: file.to_owned(), position, path: path.to_owned(), message: self.message, hint: self.hint }
    }
}

impl From<String> for Complaint {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for Complaint {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

/// `text` in backticks, on one line and cut to a length that a message bears.
pub fn quoted(text: &str) -> String {
    let mut shown = String::from("`");
    for (index, letter) in text.chars().enumerate() {
        if index == MAX_QUOTED {
            shown.push('…');
            break;
        }
        if letter.is_control() { shown.extend(letter.escape_default()) } else { shown.push(letter) }
    }
    shown.push('`');
    shown
}

/// The word of `known` that `word` was probably meant to be.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if word.len() > MAX_SUGGESTED {
        return None;
    }
    let word = word.to_lowercase();
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_SUGGESTED)
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
