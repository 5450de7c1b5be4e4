//! The workflow dialect beside GitHub's own packages for it, and as commands.
#![allow(clippy::unwrap_used)]

mod commands;
mod expressions;
mod odd;
mod workflows;

use serde_json::Value;

use crate::support::oracle::Oracle;

/// The packages' answers to all questions; `None`, after saying so, where they cannot be asked.
fn ask(test: &str, mode: &str, questions: &[Value]) -> Option<Vec<Value>> {
    let packages = &["@actions/expressions", "@actions/workflow-parser"];
    Oracle { script: "dialect/oracle.mjs", arguments: &[mode], packages }.ask(test, questions)
}
