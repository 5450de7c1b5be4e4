//! `dayfly workflow`: what Dayfly thinks of workflow files, without running them.

mod calls;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::terminal::one_line;
use super::{EXIT_REFUSED, EXIT_USAGE, say};
use crate::document::yaml::MAX_BYTES;
use crate::document::{Diagnostic, Severity};
use crate::workflow::{Reading, examine};

const CHECK_HELP: &str = "\
Severities:
  error        the file is no valid workflow
  unsupported  it is valid, but this version does not run it
  warning      it runs, perhaps not as its author thinks

Exit codes: 0 every file would run; 1 one has errors or asks for what is not supported;
64 a file cannot be read.";

#[derive(Debug, Subcommand)]
pub(super) enum WorkflowCommand {
    /// Check workflow files: everything that is wrong or not supported, at once
    #[command(after_long_help = CHECK_HELP)]
    Check {
        /// Print JSON: an array of diagnostics
        #[arg(long)]
        json: bool,
        /// Workflow files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// One diagnostic as JSON.
#[derive(Serialize)]
struct Told<'a> {
    file: &'a str,
    line: Option<u32>,
    column: Option<u32>,
    severity: Severity,
    path: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
}

pub(super) fn run(command: &WorkflowCommand) -> anyhow::Result<u8> {
    let WorkflowCommand::Check { json, files } = command;
    let mut found = Vec::new();
    for file in files {
        let name = file.display().to_string();
        match read(file) {
            Ok(text) => {
                let Reading { workflow, findings } = examine(&name, &text);
                found.extend(findings.into_sorted());
                found.extend(workflow.iter().flat_map(|workflow| calls::check(file, workflow)));
            }
            Err(error) => {
                eprintln!("error: `{}`: {error}", one_line(&name));
                return Ok(EXIT_USAGE);
            }
        }
    }
    if *json {
        let told: Vec<Told<'_>> = found.iter().map(|(severity, diagnostic)| told(*severity, diagnostic)).collect();
        say(serde_json::to_string(&told)?)?;
    } else {
        for (severity, diagnostic) in &found {
            say(with_severity(*severity, diagnostic))?;
        }
        say(summary(files.len(), &found))?;
    }
    let is_fine = found.iter().all(|(severity, _)| *severity == Severity::Warning);
    Ok(if is_fine { 0 } else { EXIT_REFUSED })
}

/// A file that is too large is read as far as it takes to say so.
fn read(file: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|_| std::io::Error::other("the file is not UTF-8"))
}

fn told(severity: Severity, diagnostic: &Diagnostic) -> Told<'_> {
    Told {
        file: &diagnostic.file,
        line: diagnostic.position.map(|position| position.line),
        column: diagnostic.position.map(|position| position.column),
        severity,
        path: &diagnostic.path,
        message: &diagnostic.message,
        hint: diagnostic.hint.as_deref(),
    }
}

/// `FILE:LINE:COLUMN: SEVERITY: PATH: MESSAGE`, as compilers say it and editors read it.
fn with_severity(severity: Severity, diagnostic: &Diagnostic) -> String {
    let text = diagnostic.to_string();
    let place = match diagnostic.position {
        Some(position) => format!("{}:{}:{}", diagnostic.file, position.line, position.column),
        None => diagnostic.file.clone(),
    };
    let rest = text.strip_prefix(&place).unwrap_or(&text);
    let lines: Vec<String> = format!("{place}: {severity}{rest}").lines().map(one_line_of_text).collect();
    lines.join("\n")
}

/// Without what a name could tell the terminal; the indentation of hints stays.
fn one_line_of_text(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    format!("{}{}", &line[..indent], one_line(line.trim_start()))
}

fn summary(files: usize, found: &[(Severity, Diagnostic)]) -> String {
    let count = |wanted| found.iter().filter(|(severity, _)| *severity == wanted).count();
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    format!(
        "{}: {}, {} unsupported, {}",
        plural(files, "file"),
        plural(count(Severity::Error), "error"),
        count(Severity::Unsupported),
        plural(count(Severity::Warning), "warning"),
    )
}
