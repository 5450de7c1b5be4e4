//! SARIF 2.1.0, what analysers write: `runs` with `results`, whose level may stand with their rule.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::model::{Level, Sink};

/// Rules of one run that are looked at for a result's level.
const MAX_RULES: usize = 20_000;

#[derive(Debug, Deserialize)]
struct Log {
    runs: Vec<Run>,
}

#[derive(Debug, Deserialize)]
struct Run {
    #[serde(default, deserialize_with = "or_nothing")]
    tool: Tool,
    #[serde(default)]
    results: Option<Vec<Option<Found>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tool {
    #[serde(deserialize_with = "or_nothing")]
    driver: Component,
    #[serde(deserialize_with = "or_nothing")]
    extensions: Vec<Component>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Component {
    #[serde(deserialize_with = "or_nothing")]
    rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    #[serde(deserialize_with = "or_nothing")]
    id: String,
    #[serde(deserialize_with = "or_nothing")]
    default_configuration: Configuration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Configuration {
    #[serde(deserialize_with = "or_nothing")]
    level: Option<String>,
}

/// A rule as a result names it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Reference {
    #[serde(deserialize_with = "or_nothing")]
    id: Option<String>,
    #[serde(deserialize_with = "or_nothing")]
    index: Option<i64>,
    #[serde(deserialize_with = "or_nothing")]
    tool_component: Option<Extension>,
}

/// Whose rule it is; without a number, the driver's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Extension {
    #[serde(deserialize_with = "or_nothing")]
    index: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Found {
    #[serde(deserialize_with = "or_nothing")]
    rule_id: Option<String>,
    #[serde(deserialize_with = "or_nothing")]
    rule_index: Option<i64>,
    #[serde(deserialize_with = "or_nothing")]
    rule: Reference,
    #[serde(deserialize_with = "or_nothing")]
    level: Option<String>,
    #[serde(deserialize_with = "or_nothing")]
    kind: Option<String>,
    #[serde(deserialize_with = "or_nothing")]
    message: Message,
    #[serde(deserialize_with = "or_nothing")]
    locations: Vec<Location>,
    #[serde(deserialize_with = "or_nothing")]
    suppressions: Vec<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    #[serde(deserialize_with = "or_nothing")]
    text: Option<String>,
    #[serde(deserialize_with = "or_nothing")]
    markdown: Option<String>,
    #[serde(deserialize_with = "or_nothing")]
    id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Location {
    #[serde(deserialize_with = "or_nothing")]
    physical_location: Physical,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Physical {
    #[serde(deserialize_with = "or_nothing")]
    artifact_location: Artifact,
    #[serde(deserialize_with = "or_nothing")]
    region: Region,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Artifact {
    #[serde(deserialize_with = "or_nothing")]
    uri: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Region {
    #[serde(deserialize_with = "or_nothing")]
    start_line: Option<u32>,
}

/// What has another type than it should counts as left out: the rest of a report is worth reading.
fn or_nothing<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(source: D) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(source)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

pub(super) fn read(text: &str, sink: &mut Sink<'_>) -> Result<(), String> {
    let log: Log = serde_json::from_str(text).map_err(|error| error.to_string())?;
    for run in log.runs {
        for found in run.results.into_iter().flatten().flatten() {
            take(&found, &run.tool, sink);
        }
    }
    Ok(())
}

impl Tool {
    /// The rule that a result is of.
    fn rule(&self, found: &Found) -> Option<&Rule> {
        let at = |index: i64| usize::try_from(index).ok();
        let of_extension = found.rule.tool_component.as_ref().and_then(|component| at(component.index?));
        let component = of_extension.map_or(Some(&self.driver), |index| self.extensions.get(index))?;
        let rules = &component.rules[..component.rules.len().min(MAX_RULES)];
        let by_index = found.rule.index.or(found.rule_index).and_then(|index| rules.get(at(index)?));
        by_index.or_else(|| rules.iter().find(|rule| found.id() == Some(&rule.id)))
    }
}

impl Found {
    fn id(&self) -> Option<&str> {
        self.rule_id.as_deref().or(self.rule.id.as_deref())
    }
}

fn take(found: &Found, tool: &Tool, sink: &mut Sink<'_>) {
    // What was looked at and is fine, or was accepted, is no finding.
    let is_fine = found.kind.as_deref().is_some_and(|kind| matches!(kind, "pass" | "notApplicable" | "informational"));
    if is_fine || !found.suppressions.is_empty() {
        return;
    }
    let rule = tool.rule(found);
    let usual = rule.and_then(|rule| rule.default_configuration.level.as_deref());
    let level = match found.level.as_deref().or(usual) {
        Some("error") => Level::Error,
        Some("note") => Level::Notice,
        Some("none") => return,
        _ => Level::Warning,
    };
    let name = found.id().or_else(|| rule.map(|rule| rule.id.as_str())).unwrap_or_default();
    let message = &found.message;
    let text = message.text.as_deref().or(message.markdown.as_deref()).or(message.id.as_deref()).unwrap_or_default();
    let place = found.locations.first().and_then(|location| {
        let Physical { artifact_location, region } = &location.physical_location;
        sink.place(&decoded(&artifact_location.uri), region.start_line)
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
        let odd = r#"{"runs": [{"tool": {"driver": {"rules": null}, "extensions": [{"rules": [{"id": "deep",
            "defaultConfiguration": {"level": "error"}}]}]}, "results": [null,
            {"ruleId": "x", "locations": null, "suppressions": null, "message": {"text": "one"}},
            {"ruleIndex": 0, "rule": {"id": "deep", "toolComponent": {"index": 0}}, "message": {"text": "two"}, "locations":
                [{"physicalLocation": {"artifactLocation": {"uri": "a.c"}, "region": {"startLine": -1}}}]}]}]}"#;
        let mut results = Results::default();
        read(Kind::Sarif, "a.sarif", odd.as_bytes(), "/w", &mut results);
        let shown =
            results.findings.iter().map(|found| format!("{} {} {}", found.level.as_str(), found.rule, found.message));
        insta::assert_snapshot!(shown.collect::<Vec<_>>().join("\n"), @r"
        warning x one
        error deep two
        ");
        for text in ["", "[]", "{}", r#"{"runs": 1}"#] {
            let mut results = Results::default();
            read(Kind::Sarif, "a.sarif", text.as_bytes(), "/w", &mut results);
            assert_eq!(results.notes.len(), 1, "{text}");
        }
    }
}
