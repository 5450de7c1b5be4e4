//! The workflow dialect beside GitHub's own packages for it, and as commands.
//!
//! The packages are an oracle, not a dependency: `DAYFLY_NODE_MODULES` names a `node_modules` directory that has
//! `@actions/expressions` and `@actions/workflow-parser`. Without it, or without node, the comparisons are skipped, loudly.
#![allow(clippy::unwrap_used)]

mod commands;
mod expressions;
mod workflows;

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

const VARIABLE: &str = "DAYFLY_NODE_MODULES";

/// The packages' answers to all questions; `None`, after saying so, where they cannot be asked.
fn ask(test: &str, mode: &str, questions: &[Value]) -> Option<Vec<Value>> {
    let Ok(modules) = std::env::var(VARIABLE) else {
        eprintln!("SKIPPED {test}: {VARIABLE} does not name a directory with the packages of GitHub");
        return None;
    };
    if Command::new("node").arg("--version").output().is_err() {
        eprintln!("SKIPPED {test}: node is not installed");
        return None;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/dialect/oracle.mjs");
    let mut node = Command::new("node")
        .args([script, modules.as_str(), mode])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The script reads all of it before it writes anything.
    node.stdin.take().unwrap().write_all(&serde_json::to_vec(questions).unwrap()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success(), "the oracle failed");
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), questions.len());
    Some(answers)
}
