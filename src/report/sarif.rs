//! SARIF 2.1.0, what analysers write: `runs` with `results`, whose level may stand with their rule.

use serde::Deserialize;

use super::model::{Level, Sink};

/// Rules of one run that are looked at for a result's level.
const MAX_RULES: usize = 20_000;

#[derive(Debug, Deserialize)]
struct Log {
    runs: Vec<Run>,
}

#[derive(Debug, Deserialize)]
struct Run {
    #[serde(default)]
    tool: Tool,
    #[serde(default)]
    results: Option<Vec<Found>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tool {
    driver: Driver,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Driver {
    rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    id: String,
    default_configuration: Configuration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Configuration {
    level: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Found {
    rule_id: Option<String>,
    rule_index: Option<i64>,
    level: Option<String>,
    kind: Option<String>,
    message: Message,
    locations: Vec<Location>,
    suppressions: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    text: Option<String>,
    markdown: Option<String>,
    id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Location {
    physical_location: Physical,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Physical {
    artifact_location: Artifact,
    region: Option<Region>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Artifact {
    uri: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Region {
    start_line: Option<u32>,
}

pub(super) fn read(text: &str, sink: &mut Sink<'_>) -> Result<(), String> {
    let log: Log = serde_json::from_str(text).map_err(|error| error.to_string())?;
    for run in log.runs {
        let rules = &run.tool.driver.rules;
        for found in run.results.unwrap_or_default() {
            take(&found, rules.get(..MAX_RULES.min(rules.len())).unwrap_or_default(), sink);
        }
    }
    Ok(())
}

fn take(found: &Found, rules: &[Rule], sink: &mut Sink<'_>) {
    // What was looked at and is fine, or was accepted, is no finding.
    let is_fine = found.kind.as_deref().is_some_and(|kind| matches!(kind, "pass" | "notApplicable" | "informational"));
    if is_fine || found.suppressions.as_ref().is_some_and(|suppressions| !suppressions.is_empty()) {
        return;
    }
    let by_index = found.rule_index.and_then(|index| rules.get(usize::try_from(index).ok()?));
    let rule = by_index.or_else(|| rules.iter().find(|rule| found.rule_id.as_ref() == Some(&rule.id)));
    let usual = rule.and_then(|rule| rule.default_configuration.level.as_deref());
    let level = match found.level.as_deref().or(usual) {
        Some("error") => Level::Error,
        Some("note") => Level::Notice,
        Some("none") => return,
        _ => Level::Warning,
    };
    let name = found.rule_id.as_deref().or_else(|| rule.map(|rule| rule.id.as_str())).unwrap_or_default();
    let message = &found.message;
    let text = message.text.as_deref().or(message.markdown.as_deref()).or(message.id.as_deref()).unwrap_or_default();
    let place = found.locations.first().and_then(|location| {
        let Physical { artifact_location, region } = &location.physical_location;
        let line = region.as_ref().and_then(|region| region.start_line);
        sink.place(&decoded(&artifact_location.uri), line)
    });
    sink.finding(level, name, place, text);
}

/// `%20` and its like in an address.
fn decoded(uri: &str) -> String {
    let mut bytes = Vec::with_capacity(uri.len());
    let mut rest = uri.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use crate::report::{Kind, Results, read};

    #[test]
    fn levels_rules_and_places_are_found() {
        let text = r#"{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "lint", "rules": [
            {"id": "no-eval", "defaultConfiguration": {"level": "error"}}, {"id": "style"}]}}, "results": [
            {"ruleId": "no-eval", "message": {"text": "eval is evil"}, "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": "src/a%20b.js"}, "region": {"startLine": 4, "endLine": 5}}}]},
            {"ruleIndex": 1, "message": {"markdown": "two **spaces**"}},
            {"ruleId": "style", "level": "note", "message": {"text": "x"}, "locations": [{"physicalLocation": {"artifactLocation": {"uri": "/etc/x"}}}]},
            {"ruleId": "style", "level": "none", "message": {"text": "x"}},
            {"ruleId": "style", "kind": "pass", "message": {"text": "x"}},
            {"ruleId": "style", "suppressions": [{"kind": "inSource"}], "message": {"text": "x"}}]},
            {"tool": {"driver": {"name": "other"}}, "results": null}]}"#;
        let mut results = Results::default();
        read(Kind::Sarif, "a.sarif", text.as_bytes(), "/w", &mut results);
        let shown: Vec<String> = results
            .findings
            .iter()
            .map(|found| format!("{} {} {:?} {}", found.level.as_str(), found.rule, found.place, found.message))
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        error no-eval Some(Place { file: "src/a b.js", line: Some(4) }) eval is evil
        warning style None two **spaces**
        notice style None x
        "#);
        for text in ["", "[]", "{}", r#"{"runs": 1}"#] {
            let mut results = Results::default();
            read(Kind::Sarif, "a.sarif", text.as_bytes(), "/w", &mut results);
            assert_eq!(results.notes.len(), 1, "{text}");
        }
    }
}
