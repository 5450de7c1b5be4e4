//! Packages of npm that know better: asked many questions at a time, where they are.
//!
//! They are oracles, not dependencies: `DAYFLY_NODE_MODULES` names a `node_modules` directory that has them. Without it, or without
//! node, the comparisons are skipped, loudly.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

const VARIABLE: &str = "DAYFLY_NODE_MODULES";

/// A script below `tests/it`, which gets the directory of the packages as its first argument.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Oracle<'a> {
    pub(crate) script: &'a str,
    pub(crate) arguments: &'a [&'a str],
    /// What it needs.
    pub(crate) packages: &'a [&'a str],
}

impl Oracle<'_> {
    /// The answers to all questions; `None`, after saying so, where they cannot be asked.
    pub(crate) fn ask(&self, test: &str, questions: &[Value]) -> Option<Vec<Value>> {
        let Ok(modules) = std::env::var(VARIABLE) else {
            eprintln!("SKIPPED {test}: {VARIABLE} does not name a directory with the packages of GitHub");
            return None;
        };
        if let Some(missing) = self.packages.iter().find(|package| !Path::new(&modules).join(package).is_dir()) {
            eprintln!("SKIPPED {test}: {VARIABLE} names a directory without `{missing}`");
            return None;
        }
        if Command::new("node").arg("--version").output().is_err() {
            eprintln!("SKIPPED {test}: node is not installed");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(self.script);
        let mut node = Command::new("node")
            .arg(script)
            .arg(&modules)
            .args(self.arguments)
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
}
