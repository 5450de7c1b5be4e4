//! Cobertura's XML: `class` elements with a file and `line` elements with hits and, for branches, `50% (1/2)`. Classes of one
//! file stand beside each other, and methods repeat the lines of their class.

use std::collections::BTreeMap;

use super::model::{Ratio, Sink};
use super::xml::{self, Element, Node};

/// Lines of one report that are told apart.
const MAX_LINES: usize = 5_000_000;

/// Whether a line was hit, and its branches.
type Lines = BTreeMap<u32, (bool, Ratio)>;

pub(super) fn read(text: &str, sink: &mut Sink<'_>) -> Result<(), String> {
    let mut files: BTreeMap<String, Lines> = BTreeMap::new();
    let mut class: Option<String> = None;
    let (mut is_report, mut lines) = (false, 0);
    let (mut is_in_source, mut sources) = (false, Vec::new());
    let read = xml::read(text, |node| match node {
        Node::Begin(element) => match element.name.as_str() {
            "coverage" => is_report = true,
            "source" => is_in_source = true,
            "class" => {
                let file = element.attribute("filename").to_owned();
                files.entry(file.clone()).or_default();
                class = Some(file);
            }
            "line" if lines < MAX_LINES => {
                lines += 1;
                if let Some(file) = class.as_ref().and_then(|class| files.get_mut(class)) {
                    line(file, &element);
                }
            }
            _ => {}
        },
        Node::Text(text) if is_in_source && sources.len() < 2 => sources.push(text.trim().to_owned()),
        Node::Text(_) => {}
        Node::End(name) => match name.as_str() {
            "class" => class = None,
            "source" => is_in_source = false,
            _ => {}
        },
    });
    // Files are relative to the sources; with one, it is known to which.
    let source = match sources.as_slice() {
        [source] if source != "." => source.trim_end_matches('/'),
        _ => "",
    };
    for (file, lines) in files {
        let (mut hit, mut branches) = (Ratio::default(), Ratio::default());
        for (is_hit, of_line) in lines.into_values() {
            hit.count(is_hit);
            branches.hit = branches.hit.saturating_add(of_line.hit);
            branches.of = branches.of.saturating_add(of_line.of);
        }
        let is_whole = source.is_empty() || file.starts_with('/');
        sink.covered(&if is_whole { file } else { format!("{source}/{file}") }, hit, branches);
    }
    match read {
        Ok(()) if !is_report => Err("it has no `coverage`".to_owned()),
        read => read,
    }
}

fn line(lines: &mut Lines, element: &Element) {
    let Some(number) = element.number::<u32>("number") else { return };
    let (is_hit, branches) = lines.entry(number).or_default();
    *is_hit |= element.number::<u64>("hits").unwrap_or(0) > 0;
    if element.attribute("branch").eq_ignore_ascii_case("true")
        && let Some(ratio) = conditions(element.attribute("condition-coverage"))
        && ratio.hit >= branches.hit
    {
        *branches = ratio;
    }
}

/// `50% (1/2)`.
fn conditions(text: &str) -> Option<Ratio> {
    let (hit, of) = text.split_once('(')?.1.split_once(')')?.0.split_once('/')?;
    let (hit, of) = (hit.trim().parse().ok()?, of.trim().parse().ok()?);
    (hit <= of).then_some(Ratio { hit, of })
}

#[cfg(test)]
mod tests {
    use crate::report::{FileCoverage, Kind, Ratio, Results, read};

    #[test]
    fn lines_of_methods_and_classes_count_once() {
        let text = r#"<?xml version="1.0" ?>
            <!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/xml/coverage-04.dtd">
            <coverage line-rate="0.5"><sources><source>/w/src</source></sources><packages><package name="p"><classes>
            <class name="A" filename="a.py"><methods><method name="f"><lines><line number="1" hits="2"/></lines></method></methods>
              <lines><line number="1" hits="2"/><line number="2" hits="0" branch="true" condition-coverage="50% (1/2)"/></lines></class>
            <class name="A$Inner" filename="a.py"><lines><line number="9" hits="0"/></lines></class>
            <class name="B" filename="b.py"><lines/></class>
            </classes></package></packages></coverage>"#;
        let mut results = Results::default();
        read(Kind::Cobertura, "coverage.xml", text.as_bytes(), "/w", &mut results);
        results.settle();
        let first = FileCoverage {
            file: "src/a.py".to_owned(),
            lines: Ratio { hit: 1, of: 3 },
            branches: Ratio { hit: 1, of: 2 },
        };
        assert_eq!(results.coverage.files.first(), Some(&first));
        assert_eq!(results.coverage.lines, Ratio { hit: 1, of: 3 });
        assert!(results.notes.is_empty(), "{:?}", results.notes);
    }
}
