//! What all formats say, in one model, within limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::document::text::one_line;

/// Tests that are told apart; more are only counted.
const MAX_TESTS: usize = 20_000;

/// Failed tests, and tests that passed only after a failure, that are kept with their texts.
const MAX_KEPT: usize = 200;

/// Findings that are kept.
const MAX_FINDINGS: usize = 500;

/// Files whose coverage is told apart.
const MAX_COVERED: usize = 20_000;

/// Notes of one attempt.
const MAX_NOTES: usize = 20;

/// Characters of a name.
const MAX_NAME: usize = 300;

/// Characters of a message.
const MAX_MESSAGE: usize = 2000;

/// Characters of a path.
const MAX_PATH: usize = 500;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Passed,
    Failed,
    Skipped,
}

/// A place in the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Relative to the repository's top.
    pub file: String,
    /// Counted from 1.
    pub line: Option<u32>,
}

/// A test that did not simply pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    pub suite: String,
    pub name: String,
    pub place: Option<Place>,
    /// May have several lines.
    pub message: String,
}

impl Test {
    /// The test's name for people.
    pub fn full_name(&self) -> String {
        if self.suite.is_empty() { self.name.clone() } else { format!("{} › {}", self.suite, self.name) }
    }

    pub(super) fn id(&self) -> u64 {
        id(&self.suite, &self.name)
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Error,
    Warning,
    Notice,
}

impl Level {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// What an analyser found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub level: Level,
    /// What it is called by the analyser.
    pub rule: String,
    pub place: Option<Place>,
    pub message: String,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ratio {
    pub hit: u64,
    pub of: u64,
}

impl Ratio {
    /// In percent; `None` of nothing.
    #[allow(clippy::cast_precision_loss)]
    pub fn percent(self) -> Option<f64> {
        (self.of > 0).then(|| 100.0 * self.hit as f64 / self.of as f64)
    }

    pub(super) fn count(&mut self, is_hit: bool) {
        self.of = self.of.saturating_add(1);
        self.hit = self.hit.saturating_add(u64::from(is_hit));
    }

    fn add(&mut self, other: Self) {
        self.of = self.of.saturating_add(other.of);
        self.hit = self.hit.saturating_add(other.hit).min(self.of);
    }
}

/// One file's coverage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCoverage {
    pub file: String,
    pub lines: Ratio,
    pub branches: Ratio,
}

/// The coverage of all files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    pub lines: Ratio,
    pub branches: Ratio,
    /// Those with the lowest share of lines come first, after [`Results::settle`].
    pub files: Vec<FileCoverage>,
}

impl Coverage {
    /// The share of lines, in hundredths of a percent; `None` where none were told of.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn share(&self) -> Option<u32> {
        self.lines.percent().map(|percent| (percent * 100.0).round() as u32)
    }
}

/// All reports of one attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    /// The sum of what the tests took, in milliseconds.
    pub took_ms: u64,
    /// The first failed ones.
    pub failures: Vec<Test>,
    /// Those that failed and passed at the same commit, as far as is known.
    pub flaky: Vec<Test>,
    /// Which ones passed, as numbers that tell them apart; sorted after [`Results::settle`].
    pub passed_ids: Vec<u64>,
    /// Findings by their level, and the first of them.
    pub found: BTreeMap<Level, u64>,
    pub findings: Vec<Finding>,
    pub coverage: Coverage,
    /// What could not be read; for people.
    pub notes: Vec<String>,
}

impl Results {
    /// Whether no report said anything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a note, if there is room.
    pub fn note(&mut self, text: &str) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(one_line(text, MAX_NAME));
        }
    }

    /// For programs: everything but the numbers of tests that passed.
    pub fn to_json(&self) -> serde_json::Value {
        let mut told = serde_json::to_value(self).unwrap_or_default();
        if let Some(told) = told.as_object_mut() {
            told.shift_remove("passed_ids");
        }
        told
    }

    /// All tests.
    pub fn tests(&self) -> u64 {
        self.passed.saturating_add(self.failed).saturating_add(self.skipped)
    }

    /// Brings everything into its order once all reports were read, and forgets files beyond `MAX_KEPT`.
    pub fn settle(&mut self) {
        self.passed_ids.sort_unstable();
        self.passed_ids.dedup();
        self.findings.sort_by_key(|finding| finding.level);
        let share = |file: &FileCoverage| file.lines.percent().unwrap_or(100.0);
        self.coverage.files.sort_by(|a, b| share(a).total_cmp(&share(b)).then_with(|| a.file.cmp(&b.file)));
        self.coverage.files.truncate(MAX_KEPT);
    }

    pub(super) fn has_passed(&self, id: u64) -> bool {
        self.passed_ids.binary_search(&id).is_ok()
    }

    pub(super) fn keep_flaky(&mut self, test: Test) {
        if self.flaky.len() < MAX_KEPT && !self.flaky.iter().any(|known| known.id() == test.id()) {
            self.flaky.push(test);
        }
    }
}

/// Tells tests apart: the same in every attempt, and short.
fn id(suite: &str, name: &str) -> u64 {
    let digest = Sha256::new().chain_update(suite).chain_update([0]).chain_update(name).finalize();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A test as a report tells of it.
#[derive(Debug, Default)]
pub(super) struct Seen<'t> {
    pub(super) suite: &'t str,
    pub(super) name: &'t str,
    pub(super) file: &'t str,
    pub(super) line: Option<u32>,
    pub(super) seconds: f64,
    /// What was said of its failure, or of one that it had before it passed.
    pub(super) message: &'t str,
    pub(super) was_retried: bool,
}

/// Where readers put what they read.
#[derive(Debug)]
pub(super) struct Sink<'r> {
    results: &'r mut Results,
    workspace: &'r str,
}

impl<'r> Sink<'r> {
    pub(super) fn new(results: &'r mut Results, workspace: &'r str) -> Self {
        Self { results, workspace }
    }

    pub(super) fn test(&mut self, seen: &Seen<'_>, status: Status) {
        let results = &mut *self.results;
        if seen.seconds.is_finite() && seen.seconds > 0.0 {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let took = (seen.seconds * 1000.0) as u64;
            results.took_ms = results.took_ms.saturating_add(took);
        }
        let (suite, name) = (one_line(seen.suite, MAX_NAME), one_line(seen.name, MAX_NAME));
        match status {
            Status::Skipped => results.skipped += 1,
            Status::Failed => results.failed += 1,
            Status::Passed => {
                results.passed += 1;
                if results.passed_ids.len() < MAX_TESTS {
                    results.passed_ids.push(id(&suite, &name));
                }
            }
        }
        if status == Status::Failed || (status == Status::Passed && seen.was_retried) {
            let place = self.place(seen.file, seen.line).or_else(|| self.place_in(seen.message));
            let test = Test { suite, name, place, message: message(seen.message) };
            match status {
                Status::Passed => self.results.keep_flaky(test),
                _ if self.results.failures.len() < MAX_KEPT => self.results.failures.push(test),
                _ => {}
            }
        }
    }

    pub(super) fn finding(&mut self, level: Level, rule: &str, place: Option<Place>, text: &str) {
        *self.results.found.entry(level).or_default() += 1;
        if self.results.findings.len() < MAX_FINDINGS {
            let (rule, message) = (one_line(rule, MAX_NAME), message(text));
            self.results.findings.push(Finding { level, rule, place, message });
        }
    }

    /// Counts a file's coverage. Reports of several test programs may each have the same file; then the better one counts.
    pub(super) fn covered(&mut self, file: &str, lines: Ratio, branches: Ratio) {
        let coverage = &mut self.results.coverage;
        let file =
            one_line(file.strip_prefix(self.workspace).map_or(file, |rest| rest.trim_start_matches('/')), MAX_PATH);
        let (lines, branches) = (bounded(lines), bounded(branches));
        coverage.lines.add(lines);
        coverage.branches.add(branches);
        if coverage.files.len() < MAX_COVERED {
            coverage.files.push(FileCoverage { file, lines, branches });
        }
    }

    /// A place in the repository, if it is one: relative, without `..`, or below the workspace.
    pub(super) fn place(&self, file: &str, line: Option<u32>) -> Option<Place> {
        let file = file.strip_prefix("file://").unwrap_or(file);
        let file = match file.strip_prefix(self.workspace) {
            Some(rest) if !self.workspace.is_empty() => rest.strip_prefix('/')?,
            _ => file.trim_start_matches("./"),
        };
        let is_inside = !file.is_empty()
            && file.chars().count() <= MAX_PATH
            && !file.starts_with('/')
            && !file.contains(|letter: char| letter.is_control() || letter == '\\')
            && file.split('/').all(|part| !matches!(part, "" | "." | ".."));
        is_inside.then(|| Place { file: file.to_owned(), line: line.filter(|line| *line > 0) })
    }

    /// The first `FILE:LINE` in a failure's text that is in the repository.
    fn place_in(&self, text: &str) -> Option<Place> {
        text.chars().take(MAX_MESSAGE * 4).collect::<String>().split_whitespace().find_map(|word| {
            let word = word.trim_matches(|letter: char| {
                matches!(letter, '(' | ')' | '[' | ']' | '"' | '\'' | '`' | ',' | '<' | '>')
            });
            let (file, rest) = word.split_once(':')?;
            let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
            let line = digits.parse().ok()?;
            let (_, extension) = file.rsplit_once('.')?;
            let is_file =
                (1..=6).contains(&extension.len()) && extension.chars().all(|letter| letter.is_ascii_alphanumeric());
            if is_file { self.place(file, Some(line)) } else { None }
        })
    }
}

fn bounded(ratio: Ratio) -> Ratio {
    Ratio { hit: ratio.hit.min(ratio.of), of: ratio.of }
}

/// Several lines, without control characters, cut.
fn message(text: &str) -> String {
    let letters = text.trim().chars().map(|letter| if letter.is_control() && letter != '\n' { ' ' } else { letter });
    letters.take(MAX_MESSAGE).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_repository_or_none() {
        let mut results = Results::default();
        let sink = Sink::new(&mut results, "/home/runner/jobs/site");
        let decide = |file: &str| sink.place(file, Some(3)).map(|place| place.file);
        for (file, expected) in [
            ("src/a.rs", Some("src/a.rs")),
            ("./src/a.rs", Some("src/a.rs")),
            ("/home/runner/jobs/site/src/a.rs", Some("src/a.rs")),
            ("file:///home/runner/jobs/site/a b.js", Some("a b.js")),
            ("/home/runner/jobs/site2/a.rs", None),
            ("/etc/passwd", None),
            ("../other/a.rs", None),
            ("a/../../b", None),
            ("", None),
            ("a\nb", None),
        ] {
            assert_eq!(decide(file).as_deref(), expected, "{file:?}");
        }
        let found = |text: &str| sink.place_in(text).map(|place| format!("{}:{}", place.file, place.line.unwrap()));
        for (text, expected) in [
            ("thread 'main' panicked at src/lib.rs:12:5:\nno", Some("src/lib.rs:12")),
            ("tests/test_a.py:7: AssertionError", Some("tests/test_a.py:7")),
            ("at Object.<anonymous> (/home/runner/jobs/site/web/a.test.js:4:9)", Some("web/a.test.js:4")),
            ("see https://example.org:443/x at 12:30", None),
            ("Error: expected 1, got 2", None),
        ] {
            assert_eq!(found(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn there_is_an_end_to_everything() {
        let mut results = Results::default();
        let mut sink = Sink::new(&mut results, "");
        let text = "x".repeat(MAX_MESSAGE + 1);
        let most = MAX_FINDINGS + 5;
        for at in 0..most {
            let name = at.to_string();
            let seen = Seen { name: &name, message: &text, seconds: f64::MAX, ..Seen::default() };
            sink.test(&seen, if at % 2 == 0 { Status::Failed } else { Status::Passed });
            sink.finding(Level::Warning, &text, None, &text);
            sink.covered(&name, Ratio { hit: u64::MAX, of: 1 }, Ratio::default());
        }
        results.settle();
        assert_eq!((results.tests(), results.found[&Level::Warning]), (most as u64, most as u64));
        assert_eq!((results.failures.len(), results.findings.len()), (MAX_KEPT, MAX_FINDINGS));
        assert_eq!(results.coverage.files.len(), MAX_KEPT);
        assert!(serde_json::to_vec(&results).unwrap().len() < 3 << 20);
    }
}
