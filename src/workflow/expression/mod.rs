//! The expression language of the workflow dialect: `${{ … }}` and `if:`.
//!
//! An expression is parsed once, against the contexts and functions that its place offers, and evaluated later against
//! values. Everything in it may come from a stranger's pull request, so parsing is bounded in length and depth, and
//! evaluation in the memory and the text that it touches; evaluation has no side effects and always ends.
//!
//! Stored specifications keep the source text and parse it again when they are read.

mod evaluator;
mod functions;
mod json;
mod lexer;
mod number;
mod parser;
mod template;
mod value;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod properties;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use evaluator::{Effort, Environment, FileHashes, MAX_EFFORT, MAX_MEMORY, NoFiles, Status};
pub use template::{MAX_TEMPLATE_BYTES, Template};
pub use value::{Object, Value};

use evaluator::Budget;
use parser::Ast;

use crate::document::reader::quoted;
use crate::document::{Diagnostic, Position};

/// Characters of one expression.
pub const MAX_LENGTH: usize = 21_000;

/// Levels of one expression's tree; parentheses may nest as deep.
pub const MAX_DEPTH: usize = 50;

/// What an expression may use in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// Names of contexts.
    pub contexts: &'a [&'a str],
    /// Whether `always`, `success`, `failure` and `cancelled` may be called.
    pub status_functions: bool,
    /// Whether `hashFiles` may be called.
    pub hash_files: bool,
}

/// The rule a text broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Something is no token of the language.
    Lexing,
    /// The tokens make no expression, or it uses what its place does not offer, or it is too large.
    Parsing,
    /// The values do not fit.
    Evaluation,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Lexing => "lexing",
            Self::Parsing => "parsing",
            Self::Evaluation => "evaluation",
        })
    }
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    pub kind: ErrorKind,
    /// The character, counted from 1 behind the white space at the start.
    pub position: Option<usize>,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ExpressionError {
    fn new(kind: ErrorKind, position: Option<usize>, message: String) -> Self {
        Self { kind, position, message, hint: None }
    }

    fn parsing(position: usize, message: String) -> Self {
        Self::new(ErrorKind::Parsing, Some(position), message)
    }

    pub(super) fn evaluation(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Evaluation, None, message.into())
    }

    /// Names the expression: for places that may have several, or that show no text of their own.
    pub(super) fn within(mut self, source: &str) -> Self {
        self.message = format!("in the expression {}: {}", quoted(source.trim()), self.message);
        self
    }

    /// The error as a complaint about a workflow that was accepted before.
    pub(super) fn at(self, file: &str, position: Position, path: String) -> Diagnostic {
        Diagnostic { file: file.to_owned(), position: Some(position), path, message: self.to_string(), hint: self.hint }
    }

    /// The message and, on a line of its own, the hint.
    pub(super) fn with_its_hint(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{self}\n  hint: {hint}"),
            None => self.to_string(),
        }
    }

    fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)?;
        if let Some(position) = self.position {
            write!(out, " (character {position} of the expression)")?;
        }
        Ok(())
    }
}

impl std::error::Error for ExpressionError {}

/// A parsed expression.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression {
    source: String,
    root: Ast,
}

impl Expression {
    /// Parses `source`, the text without `${{` and `}}`. Nothing at all is null.
    ///
    /// # Errors
    /// [`ErrorKind::Lexing`] and [`ErrorKind::Parsing`], with the position.
    pub fn parse(source: &str, scope: &Scope<'_>) -> Result<Self, ExpressionError> {
        Self::parse_checked(source, Some(scope))
    }

    /// Without a scope every name is accepted: for what was checked before it was stored.
    fn parse_checked(source: &str, scope: Option<&Scope<'_>>) -> Result<Self, ExpressionError> {
        if source.chars().nth(MAX_LENGTH).is_some() {
            let message = format!("the expression is longer than {MAX_LENGTH} characters");
            return Err(ExpressionError::new(ErrorKind::Parsing, None, message));
        }
        let source = source.trim();
        Ok(Self { source: source.to_owned(), root: parser::parse(source, scope)? })
    }

    /// The text of the expression.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether `always`, `success`, `failure` or `cancelled` is called anywhere in it. If not, an `if:` also asks for
    /// success.
    pub fn asks_for_status(&self) -> bool {
        self.root.asks_for_status()
    }

    /// Whether one of these contexts is named anywhere in it.
    pub fn uses(&self, contexts: &[&str]) -> bool {
        self.root.uses(contexts)
    }

    /// Whether this member of a context is named in it, as `context.member` or `context['member']`.
    pub fn uses_member(&self, context: &str, member: &str) -> bool {
        self.root.uses_member(context, member)
    }

    /// The value.
    ///
    /// # Errors
    /// [`ErrorKind::Evaluation`]: values that do not fit, or more than [`MAX_MEMORY`].
    pub fn evaluate(&self, environment: &Environment<'_>) -> Result<Value, ExpressionError> {
        evaluator::evaluate(&self.root, environment, &mut Budget::new(MAX_MEMORY, environment))
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl TryFrom<String> for Expression {
    type Error = ExpressionError;
    fn try_from(source: String) -> Result<Self, ExpressionError> {
        Self::parse_checked(&source, None)
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> String {
        expression.source
    }
}
