//! TAP, the Test Anything Protocol, versions 12 to 14: lines that begin with `ok` or `not ok`. Subtests are indented; their
//! own result stands in the line behind them, so only the outermost lines count. A YAML block behind a failure is its message.

use super::model::{Seen, Sink, Status};

/// Lines of one report.
const MAX_LINES: usize = 2_000_000;

/// Bytes of a failure's block that are kept.
const MAX_BLOCK: usize = 8 << 10;

/// One result.
#[derive(Debug, Default)]
struct Result<'t> {
    number: u64,
    name: &'t str,
    status: Option<Status>,
    block: String,
}

pub(super) fn read(text: &str, file: &str, sink: &mut Sink<'_>) -> std::result::Result<(), String> {
    // The report has no other name for what its tests belong to.
    let suite = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".tap");
    let (mut plan, mut last, mut is_in_block, mut is_behind) = (None, None, false, false);
    let mut open: Option<Result<'_>> = None;
    for line in text.lines().take(MAX_LINES) {
        let trimmed = line.trim();
        let is_indented = line.starts_with([' ', '\t']);
        if is_indented && let Some(result) = &mut open {
            match trimmed {
                // One that stands elsewhere is of a subtest.
                "---" if !is_in_block => is_in_block = is_behind && result.block.is_empty(),
                "..." => is_in_block = false,
                more if is_in_block && result.block.len() + more.len() < MAX_BLOCK => {
                    result.block.push_str(more);
                    result.block.push('\n');
                }
                _ => {}
            }
            is_behind = false;
            continue;
        }
        if is_indented {
            continue;
        }
        is_behind = false;
        if let Some(result) = result(trimmed, last.unwrap_or(0u64).saturating_add(1)) {
            finish(open.take(), suite, sink);
            (is_in_block, is_behind) = (false, true);
            last = Some(result.number);
            open = Some(result);
        } else if let Some(tests) = trimmed.strip_prefix("1..") {
            plan = tests.split_whitespace().next().and_then(|count| count.parse::<u64>().ok());
        } else if let Some(why) = trimmed.strip_prefix("Bail out!") {
            finish(open.take(), suite, sink);
            return Err(format!("it was given up: {}", why.trim()));
        }
    }
    finish(open.take(), suite, sink);
    match (plan, last) {
        (None, None) => Err("it has neither a plan nor results".to_owned()),
        (Some(plan), last) if plan > last.unwrap_or(0) => {
            Err(format!("{plan} tests were planned, and the last is number {}", last.unwrap_or(0)))
        }
        _ => Ok(()),
    }
}

fn result(line: &str, next: u64) -> Option<Result<'_>> {
    let (is_ok, rest) = match line.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok")?),
    };
    if !rest.is_empty() && !rest.starts_with([' ', '\t', '-']) {
        return None;
    }
    let rest = rest.trim_start();
    let digits = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let number = rest[..digits].parse().unwrap_or(next);
    let rest = rest[digits..].trim_start();
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    let (name, directive) = split_directive(rest);
    let is_excused = ["skip", "todo"]
        .iter()
        .any(|word| directive.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)));
    let status = match (is_excused, is_ok) {
        (true, _) => Status::Skipped,
        (false, true) => Status::Passed,
        (false, false) => Status::Failed,
    };
    Some(Result { number, name: name.trim(), status: Some(status), block: String::new() })
}

/// What stands before and behind the first ` #` that no backslash escapes.
fn split_directive(text: &str) -> (&str, &str) {
    let at = text.match_indices('#').map(|(at, _)| at).find(|at| !text[..*at].ends_with('\\'));
    at.map_or((text, ""), |at| (&text[..at], text[at + 1..].trim_start()))
}

fn finish(result: Option<Result<'_>>, suite: &str, sink: &mut Sink<'_>) {
    let Some(Result { number, name, status: Some(status), block }) = result else { return };
    let numbered = format!("test {number}");
    let seconds = value(&block, "duration_ms").and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / 1000.0;
    let (file, line) = place(&block);
    let seen = Seen {
        suite,
        name: if name.is_empty() { &numbered } else { name },
        file,
        line,
        seconds,
        message: &block,
        ..Seen::default()
    };
    sink.test(&seen, status);
}

/// The scalar behind a key of a block.
fn value<'b>(block: &'b str, key: &str) -> Option<&'b str> {
    let found = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    found.map(|value| value.trim().trim_matches(['"', '\'']))
}

/// `at: FILE:LINE`, `location: FILE:LINE:COLUMN`, or `file:` and `line:`.
fn place(block: &str) -> (&str, Option<u32>) {
    let number = |text: &str| text.parse::<u32>().ok();
    if let Some(file) = value(block, "file") {
        return (file, value(block, "line").and_then(number));
    }
    let Some(place) = value(block, "location").or_else(|| value(block, "at")) else { return ("", None) };
    let mut parts = place.split(':');
    let file = parts.next().unwrap_or_default();
    (file, parts.next().and_then(number))
}

#[cfg(test)]
mod tests {
    use crate::report::{Kind, Results, read};

    fn results(text: &str) -> Results {
        let mut results = Results::default();
        read(Kind::Tap, "out/unit.tap", text.as_bytes(), "/w", &mut results);
        results
    }

    #[test]
    fn results_directives_blocks_and_subtests_are_told_apart() {
        let results = results(
            "TAP version 14\n1..7\nok 1 - adds\n# a comment\nnot ok 2 - breaks\n  ---\n  message: \"1 != 2\"\n  duration_ms: 1500.5\n  \
             location: '/w/test/a.js:3:1'\n  ...\nok 3 - later # SKIP no network\nnot ok 4 some day # TODO\n    ok 1 - inner\n    not ok 2 - \
             inner\n    1..2\nok 5 - outer\nnot ok\nok 7 - a \\# in its name\nokay then\n",
        );
        assert_eq!((results.passed, results.failed, results.skipped, results.took_ms), (3, 2, 2, 1500));
        let shown: Vec<String> = results
            .failures
            .iter()
            .map(|test| {
                format!("{} {:?} {:?}", test.full_name(), test.place, test.message.lines().next().unwrap_or(""))
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        unit › breaks Some(Place { file: "test/a.js", line: Some(3) }) "message: \"1 != 2\""
        unit › test 6 None ""
        "#);
        assert!(results.notes.is_empty(), "{:?}", results.notes);
    }

    #[test]
    fn a_block_belongs_to_the_line_before_it() {
        let results = results(
            "1..2\nnot ok 1 - a\n    not ok 1 - inner\n      ---\n      message: of inner\n      ...\n    1..1\nnot ok 2 - b\n  ---\n  \
             message: of b\n  ...\n",
        );
        let messages: Vec<&str> = results.failures.iter().map(|test| test.message.trim()).collect();
        assert_eq!(messages, ["", "message: of b"]);
    }

    #[test]
    fn what_is_not_whole_is_told() {
        let notes = ["", "1..3\nok 1\n", "ok 1\nBail out! no database\n"].map(|text| results(text).notes.join("; "));
        insta::assert_snapshot!(notes.join("\n"), @"
        `out/unit.tap` is no whole tap report: it has neither a plan nor results
        `out/unit.tap` is no whole tap report: 3 tests were planned, and the last is number 1
        `out/unit.tap` is no whole tap report: it was given up: no database
        ");
        assert!(results("1..0 # SKIP nothing to do\n").notes.is_empty());
        assert_eq!(results(&format!("ok {}\nok\n", u64::MAX)).passed, 2, "no number comes after the last one");
    }
}
