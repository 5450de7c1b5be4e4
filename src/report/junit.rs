//! JUnit's XML, as Maven, Gradle, pytest, jest, nextest and many others write it: `testsuite` elements, perhaps in each other
//! or in `testsuites`, with `testcase` elements that have `failure`, `error` or `skipped`. Surefire's `flakyFailure` tells of
//! a test that passed when it was run again.

use super::model::{Seen, Sink, Status};
use super::xml::{self, Element, Node};

/// The test that is being read.
#[derive(Debug, Default)]
struct Case {
    suite: String,
    name: String,
    file: String,
    line: Option<u32>,
    seconds: f64,
    status: Option<Status>,
    was_retried: bool,
    message: String,
    /// Inside an element whose text tells of a failure.
    is_telling: bool,
}

pub(super) fn read(text: &str, sink: &mut Sink<'_>) -> Result<(), String> {
    let mut suites: Vec<(String, String)> = Vec::new();
    let mut case: Option<Case> = None;
    let mut is_report = false;
    let read = xml::read(text, |node| match node {
        Node::Begin(element) => match (element.name.as_str(), &mut case) {
            ("testsuite" | "testsuites", None) => {
                is_report = true;
                suites.push((element.attribute("name").to_owned(), element.attribute("file").to_owned()));
            }
            ("testcase", None) => {
                is_report = true;
                case = Some(begin(&element, &suites));
            }
            (_, Some(case)) => outcome(case, &element),
            _ => {}
        },
        Node::Text(text) => {
            if let Some(case) = case.as_mut().filter(|case| case.is_telling) {
                xml::append(&mut case.message, &text);
            }
        }
        Node::End(name) => match (name.as_str(), &mut case) {
            ("testsuite" | "testsuites", None) => _ = suites.pop(),
            ("testcase", found) => {
                if let Some(case) = found.take() {
                    finish(&case, sink);
                }
            }
            (_, Some(case)) => case.is_telling = false,
            _ => {}
        },
    });
    match read {
        Ok(()) if !is_report => Err("it has neither suites nor tests".to_owned()),
        read => read,
    }
}

fn begin(element: &Element, suites: &[(String, String)]) -> Case {
    let suite = suites.iter().rev().map(|(name, _)| name).find(|name| !name.is_empty());
    let file = suites.iter().rev().map(|(_, file)| file).find(|file| !file.is_empty());
    let or = |own: &str, of_suite: Option<&String>| match own {
        "" => of_suite.cloned().unwrap_or_default(),
        own => own.to_owned(),
    };
    Case {
        suite: or(element.attribute("classname"), suite),
        name: element.attribute("name").to_owned(),
        file: or(element.attribute("file"), file),
        line: element.number("line"),
        // Some programs write `1,234.5`.
        seconds: element.attribute("time").replace(',', "").trim().parse().unwrap_or(0.0),
        ..Case::default()
    }
}

fn outcome(case: &mut Case, element: &Element) {
    match element.name.as_str() {
        "failure" | "error" => case.status = Some(Status::Failed),
        "skipped" => case.status = case.status.or(Some(Status::Skipped)),
        "flakyFailure" | "flakyError" => case.was_retried = true,
        _ => return,
    }
    case.is_telling = element.name != "skipped";
    if case.is_telling {
        let told = element.attribute("message");
        if !case.message.is_empty() && !case.message.ends_with('\n') {
            case.message.push('\n');
        }
        xml::append(&mut case.message, told);
        if !told.is_empty() {
            case.message.push('\n');
        }
    }
}

fn finish(case: &Case, sink: &mut Sink<'_>) {
    let seen = Seen {
        suite: &case.suite,
        name: &case.name,
        file: &case.file,
        line: case.line,
        seconds: case.seconds,
        message: &case.message,
        was_retried: case.was_retried,
    };
    sink.test(&seen, case.status.unwrap_or(Status::Passed));
}

#[cfg(test)]
mod tests {
    use crate::report::{Kind, Results, read};

    fn results(text: &str) -> Results {
        let mut results = Results::default();
        read(Kind::Junit, "junit.xml", text.as_bytes(), "/w", &mut results);
        results.settle();
        results
    }

    #[test]
    fn what_programs_write_is_understood() {
        let results = results(
            r#"<?xml version="1.0" encoding="UTF-8"?>
            <testsuites tests="5"><testsuite name="core" file="tests/core.py">
              <properties><property name="a" value="b"/></properties>
              <testcase classname="core.Add" name="adds &lt;two&gt;" time="0.25"/>
              <testcase name="breaks" line="7" time="1,000.5"><failure message="1 != 2" type="Assert"><![CDATA[at <core>
 line 7]]></failure><system-out>noise</system-out></testcase>
              <testcase name="later"><skipped message="no network"/></testcase>
              <testcase name="throws"><error>/w/src/io.py:12: OSError &amp; more</error></testcase>
              <testcase name="again"><flakyFailure message="timeout"/></testcase>
            </testsuite></testsuites>"#,
        );
        assert_eq!((results.passed, results.failed, results.skipped), (2, 2, 1));
        assert_eq!(results.took_ms, 1_000_750);
        let shown: Vec<String> = results
            .failures
            .iter()
            .chain(&results.flaky)
            .map(|test| format!("{} {:?} {:?}", test.full_name(), test.place, test.message))
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        core › breaks Some(Place { file: "tests/core.py", line: Some(7) }) "1 != 2\nat <core>\n line 7"
        core › throws Some(Place { file: "tests/core.py", line: None }) "/w/src/io.py:12: OSError & more"
        core › again Some(Place { file: "tests/core.py", line: None }) "timeout"
        "#);
        assert!(results.notes.is_empty());
    }

    #[test]
    fn what_is_no_report_is_told_and_what_was_read_stays() {
        let cut = results("<testsuite name='a'><testcase name='b'/><testcase name='c'>");
        assert_eq!(cut.passed, 1);
        let notes = ["", "<html/>", "{}", "<testsuite></wrong>"].map(|text| results(text).notes.join("; "));
        insta::assert_snapshot!([notes.join("\n"), cut.notes.join("; ")].join("\n"), @"
        `junit.xml` is no whole junit report: it has no element
        `junit.xml` is no whole junit report: it has neither suites nor tests
        `junit.xml` is no whole junit report: it has no element
        `junit.xml` is no whole junit report: ill-formed document: expected `</testsuite>`, but `</wrong>` was found (byte 11)
        `junit.xml` is no whole junit report: it ends before its elements do
        ");
    }

    #[test]
    fn entities_mean_nothing() {
        let bomb = r#"<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c SYSTEM "file:///etc/passwd">]>
            <testsuite><testcase name="&b;"><failure>&c;&#65;</failure></testcase></testsuite>"#;
        let results = results(bomb);
        let [failure] = results.failures.as_slice() else { panic!("{results:?}") };
        assert_eq!((failure.name.as_str(), failure.message.as_str()), ("&b;", "&c;A"));
    }
}
