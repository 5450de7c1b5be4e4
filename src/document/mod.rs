//! A document with positions: the one shape into which TOML (the operator's configuration) and YAML (a workflow) are read.
//!
//! Both are edited by hand, so every complaint must name the place and help. Readers walk the tree with [`Reader`], which
//! collects all [`Diagnostic`]s instead of stopping at the first, refuses unknown keys and suggests the nearest known one.
//! Loaders bound what they accept (size, depth, nodes, alias expansion) before anything is built from it.

mod complaint;
pub mod reader;
pub(crate) mod text;
pub mod toml;
pub mod yaml;

use std::fmt;

pub use complaint::Complaint;
pub use reader::{Field, Findings, Item, Reader, Table};

/// A place in a text; lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub position: Position,
    pub value: Value,
}

/// The values that TOML and YAML share. Mapping entries keep the order of the text; keys are unique (loaders refuse
/// duplicates).
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    String(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// One `key: value` of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_position: Position,
    pub value: Node,
}

/// One complaint about a document, for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Diagnostic {
    /// The file as the user named it, or its path in the repository.
    pub file: String,
    pub position: Option<Position>,
    /// The key path, such as `profile.linux.memory` or `jobs.test.steps[2].run`; empty for the whole document.
    pub path: String,
    /// What is wrong, with the value in backticks.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What a complaint means for the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is wrong and cannot be used.
    Error,
    /// It is right and cannot be used by this version.
    Unsupported,
    /// It can be used, perhaps not as its author thinks.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Error => "error",
            Self::Unsupported => "unsupported",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for Diagnostic {
    /// `FILE:LINE:COLUMN: PATH: MESSAGE` and, on a line of its own, `hint: …`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.file)?;
        if let Some(Position { line, column }) = self.position {
            write!(out, ":{line}:{column}")?;
        }
        if !self.path.is_empty() {
            write!(out, ": {}", self.path)?;
        }
        write!(out, ": {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(out, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}
