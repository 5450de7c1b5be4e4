//! Results in words: Markdown for forges and pages, lines for terminals, and places to point at.

use std::fmt::Write as _;
use std::time::Duration;

use super::model::{Coverage, Finding, Level, Place, Ratio, Results, Test};
use crate::config::format_duration;
use crate::document::text::{cell, defused, one_line};
use crate::workflow::commands::{self, Annotation};

/// Failed and flaky tests, findings, and files of little coverage that a summary lists; of each so many.
const LISTED: usize = 20;

/// Characters of an annotation's title.
const MAX_TITLE: usize = 255;

/// Lines of one failure's message in a summary.
const MESSAGE_LINES: usize = 12;

/// All results in Markdown; empty where there are none.
pub fn markdown(results: &Results) -> String {
    let mut text = String::new();
    if results.tests() > 0 {
        _ = write!(text, "### Tests\n\n{}.\n", tests_line(results));
        tests_table(&mut text, results);
    }
    if !results.found.is_empty() {
        _ = write!(text, "\n### Findings\n\n{}.\n", findings_line(results));
        findings_table(&mut text, &results.findings);
    }
    if results.coverage.lines.of > 0 {
        _ = write!(text, "\n### Coverage\n\n{}.\n", coverage_line(&results.coverage));
        coverage_table(&mut text, &results.coverage);
    }
    for note in &results.notes {
        _ = write!(text, "\n{}\n", defused(note));
    }
    text
}

/// All results in lines for people, the numbers of each kind and then what failed.
pub fn lines(results: &Results) -> Vec<String> {
    let mut lines = Vec::new();
    if results.tests() > 0 {
        lines.push(format!("tests: {}", tests_line(results)));
    }
    for (word, tests) in [("failed", &results.failures), ("flaky", &results.flaky)] {
        lines.extend(
            tests.iter().take(LISTED).map(|test| format!("{word}: {}{}", test.full_name(), at(test.place.as_ref()))),
        );
    }
    if !results.found.is_empty() {
        lines.push(format!("findings: {}", findings_line(results)));
    }
    if results.coverage.lines.of > 0 {
        lines.push(format!("coverage: {}", coverage_line(&results.coverage)));
    }
    lines.extend(results.notes.iter().map(|note| format!("note: {note}")));
    lines
}

/// What can be shown beside lines of code: failed and flaky tests, and findings, the worst first.
pub fn remarks(results: &Results) -> Vec<Annotation> {
    let failed = results.failures.iter().filter_map(|test| {
        Some((Level::Error, remark(Level::Error, test.place.as_ref()?, &test.full_name(), &test.message)?))
    });
    let flaky = results.flaky.iter().filter_map(|test| {
        let title = format!("Flaky: {}", test.full_name());
        Some((Level::Warning, remark(Level::Warning, test.place.as_ref()?, &title, &test.message)?))
    });
    let found = results.findings.iter().filter_map(|found| {
        Some((found.level, remark(found.level, found.place.as_ref()?, &found.rule, &found.message)?))
    });
    let mut remarks: Vec<(Level, Annotation)> = failed.chain(flaky).chain(found).collect();
    remarks.sort_by_key(|(level, _)| *level);
    remarks.into_iter().map(|(_, remark)| remark).collect()
}

fn remark(level: Level, place: &Place, title: &str, message: &str) -> Option<Annotation> {
    // Beside which line is not known: then it says nothing that the summary does not.
    let line = place.line?;
    let level = match level {
        Level::Error => commands::Level::Error,
        Level::Warning => commands::Level::Warning,
        Level::Notice => commands::Level::Notice,
    };
    Some(Annotation {
        level,
        title: (!title.is_empty()).then(|| one_line(title, MAX_TITLE)),
        message: if message.is_empty() { title } else { message }.to_owned(),
        file: Some(place.file.clone()),
        line: Some(line),
        end_line: Some(line),
        column: None,
        end_column: None,
    })
}

/// Numbers of tests in one line.
pub fn tests_line(results: &Results) -> String {
    let counts = [(results.failed, "failed"), (results.passed, "passed"), (results.skipped, "skipped")];
    let mut parts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if !results.flaky.is_empty() {
        parts.push(format!("{} flaky", results.flaky.len()));
    }
    let took = match results.took_ms {
        0 => String::new(),
        took => format!(" in {}", format_duration(Duration::from_millis(took))),
    };
    format!("{}{took}", parts.join(", "))
}

fn findings_line(results: &Results) -> String {
    let part =
        |(level, count): (&Level, &u64)| format!("{count} {}{}", level.as_str(), if *count == 1 { "" } else { "s" });
    results.found.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// The share of lines, and of branches where there are any.
pub fn coverage_line(coverage: &Coverage) -> String {
    let share = |ratio: Ratio, what: &str| Some(format!("{} of {} {what}", percent(ratio)?, ratio.of));
    let parts = [share(coverage.lines, "lines"), share(coverage.branches, "branches")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Rounded down, so that only what is whole is 100 %.
fn percent(ratio: Ratio) -> Option<String> {
    ratio.percent().map(|share| format!("{:.1} %", (share * 10.0).floor() / 10.0))
}

fn tests_table(text: &mut String, results: &Results) {
    let rows = [("failed", &results.failures, results.failed), ("flaky", &results.flaky, results.flaky.len() as u64)];
    if rows.iter().all(|(_, tests, _)| tests.is_empty()) {
        return;
    }
    text.push_str("\n| | Test | Where |\n|---|---|---|\n");
    for (word, tests, _) in rows {
        for test in tests.iter().take(LISTED) {
            _ = writeln!(text, "| {word} | {} | {} |", cell(&test.full_name()), cell(&place(test.place.as_ref())));
        }
    }
    for (word, tests, all) in rows {
        rest(text, all, tests.len().min(LISTED), word);
    }
    for test in results.failures.iter().take(LISTED).filter(|test| !test.message.is_empty()) {
        message(text, test);
    }
}

/// A block that is indented cannot be closed by what is in it.
fn message(text: &mut String, test: &Test) {
    _ = write!(text, "\n{}\n\n", defused(&test.full_name()));
    let lines = test.message.lines().count();
    for line in test.message.lines().take(MESSAGE_LINES) {
        _ = writeln!(text, "    {}", defused(line));
    }
    if lines > MESSAGE_LINES {
        _ = writeln!(text, "    … and {} more lines", lines - MESSAGE_LINES);
    }
}

fn findings_table(text: &mut String, findings: &[Finding]) {
    text.push_str("\n| | Rule | Where | |\n|---|---|---|---|\n");
    for found in findings.iter().take(LISTED) {
        let first = found.message.lines().next().unwrap_or_default();
        let (level, rule) = (found.level.as_str(), cell(&found.rule));
        _ = writeln!(text, "| {level} | {rule} | {} | {} |", cell(&place(found.place.as_ref())), cell(first));
    }
    rest(text, findings.len() as u64, findings.len().min(LISTED), "findings");
}

fn coverage_table(text: &mut String, coverage: &Coverage) {
    let least = coverage.files.iter().filter(|file| file.lines.hit < file.lines.of).take(LISTED);
    let rows: Vec<String> = least
        .filter_map(|file| Some(format!("| {} | {} | {} |\n", cell(&file.file), percent(file.lines)?, file.lines.of)))
        .collect();
    if !rows.is_empty() {
        text.push_str("\n| File | Covered | Lines |\n|---|---:|---:|\n");
        text.extend(rows);
    }
}

fn rest(text: &mut String, all: u64, listed: usize, what: &str) {
    let more = all.saturating_sub(listed as u64);
    if more > 0 {
        _ = write!(text, "\n{more} more {what} are not listed.\n");
    }
}

fn place(place: Option<&Place>) -> String {
    match place {
        None => String::new(),
        Some(Place { file, line: None }) => file.clone(),
        Some(Place { file, line: Some(line) }) => format!("{file}:{line}"),
    }
}

fn at(found: Option<&Place>) -> String {
    if found.is_none() { String::new() } else { format!(" ({})", place(found)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Kind, read};

    fn results() -> Results {
        let mut results = Results::default();
        for (kind, text) in [
            (
                Kind::Junit,
                "<testsuite name='core'><testcase name='a|b' file='src/a.rs' line='3' time='1.5'><failure message='&lt;!-- @ada'>\
                 two\nlines</failure></testcase><testcase name='ok'/><testcase name='later'><skipped/></testcase></testsuite>",
            ),
            (
                Kind::Sarif,
                r#"{"runs": [{"results": [{"ruleId": "r1", "level": "error", "message": {"text": "bad"}, "locations": [{"physicalLocation":
                {"artifactLocation": {"uri": "src/b.rs"}, "region": {"startLine": 9}}}]}, {"message": {"text": "no place"}}]}]}"#,
            ),
            (Kind::Lcov, "SF:src/a.rs\nLF:3\nLH:2\nend_of_record\nSF:src/b.rs\nLF:1\nLH:1\nend_of_record\n"),
            (Kind::Tap, ""),
        ] {
            read(kind, "r", text.as_bytes(), "/w", &mut results);
        }
        results.settle();
        results
    }

    #[test]
    fn results_are_told_in_markdown_that_they_cannot_break() {
        insta::assert_snapshot!(markdown(&results()).replace('\u{200b}', "·"), @r"
        ### Tests

        1 failed, 1 passed, 1 skipped in 1s 500ms.

        | | Test | Where |
        |---|---|---|
        | failed | core › a\|b | src/a.rs:3 |

        core › a|b

            <·!-- @·ada
            two
            lines

        ### Findings

        1 error, 1 warning.

        | | Rule | Where | |
        |---|---|---|---|
        | error | r1 | src/b.rs:9 | bad |
        | warning |  |  | no place |

        ### Coverage

        75.0 % of 4 lines.

        | File | Covered | Lines |
        |---|---:|---:|
        | src/a.rs | 66.6 % | 3 |

        `r` is no whole tap report: it has neither a plan nor results
        ");
    }

    #[test]
    fn results_are_told_in_lines() {
        insta::assert_snapshot!(lines(&results()).join("\n"), @"
        tests: 1 failed, 1 passed, 1 skipped in 1s 500ms
        failed: core › a|b (src/a.rs:3)
        findings: 1 error, 1 warning
        coverage: 75.0 % of 4 lines
        note: `r` is no whole tap report: it has neither a plan nor results
        ");
        assert!(lines(&Results::default()).is_empty() && markdown(&Results::default()).is_empty());
    }

    #[test]
    fn only_what_has_a_line_is_a_remark() {
        let shown: Vec<String> = remarks(&results())
            .iter()
            .map(|remark| format!("{:?} {:?} {:?} {:?}", remark.file, remark.line, remark.title, remark.message))
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        Some("src/a.rs") Some(3) Some("core › a|b") "<!-- @ada\ntwo\nlines"
        Some("src/b.rs") Some(9) Some("r1") "bad"
        "#);
    }
}
