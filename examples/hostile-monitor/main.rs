//! A program in QEMU's place that tries what a guest would that has taken over its monitor.
//!
//! `dayfly --qemu PATH` starts it as it starts QEMU: with the same arguments, descriptors and confinement. It tries one thing
//! after the other and prints a line for each, `name: got it` or `name: refused (why)`. Then it ends, and Dayfly shows what it
//! printed: it has no other way to tell anybody. What it tries is told it by lines at the end of its own file, because
//! that is the one thing that it can read: `KEY=VALUE`, after a line with the mark.
//!
//! `hostile-monitor groups DIRECTORY` is the host's side instead, for a machine of which nothing else is needed: it puts itself
//! into jails with cgroups, breaks their limits, and prints what became of it.

mod attempts;
mod groups;

use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Before the first of the lines, joined here so that the program's own text has it nowhere else.
fn mark() -> String {
    ["--- what", "to try ---"].join(" ")
}

/// What is known of the host.
struct Targets(HashMap<String, String>);

impl Targets {
    /// Read from the end of this program's file.
    fn read(program: &str) -> Self {
        let bytes = std::fs::read(program).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.rsplit_once(&mark()).map_or("", |(_, lines)| lines).lines();
        Self(lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.into(), value.into())).collect())
    }

    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[1..] {
        // Snapshots belong to a version of QEMU: this one claims to be the one that is installed.
        ["--version"] => {
            let error = Command::new("qemu-system-x86_64").arg("--version").exec();
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        ["-L", "help"] => ExitCode::SUCCESS,
        ["groups", directory] => groups::run(directory.as_ref()),
        ["child", what, ref more @ ..] => groups::child(what, more),
        _ => {
            attempts::run(&Targets::read(words[0]), &arguments);
            ExitCode::FAILURE
        }
    }
}
