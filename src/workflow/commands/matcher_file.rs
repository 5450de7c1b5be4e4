//! The JSON that describes problem matchers, read with the strictness of GitHub's runner.

use regex::Regex;
use serde_json::Value;

use super::annotation::Level;
use super::matcher::compile;

/// Bytes of a file of matchers.
pub const MAX_MATCHER_FILE: usize = 256 * 1024;

/// Matchers of a file, and patterns of a matcher.
const MAX_MATCHERS: usize = 32;
const MAX_PATTERNS: usize = 8;

/// Bytes of a compiled pattern.
const MAX_COMPILED: usize = 512 * 1024;

/// Groups of a pattern that can be named.
const MAX_GROUP: u64 = 99;

/// What a pattern can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    File,
    FromPath,
    Line,
    Column,
    Severity,
    Code,
    Message,
}

impl Field {
    pub(super) const COUNT: usize = 7;

    const ALL: [(Self, &'static str); Self::COUNT] = [
        (Self::File, "file"),
        (Self::FromPath, "fromPath"),
        (Self::Line, "line"),
        (Self::Column, "column"),
        (Self::Severity, "severity"),
        (Self::Code, "code"),
        (Self::Message, "message"),
    ];
}

#[derive(Debug, Clone)]
pub(super) struct Matcher {
    pub(super) owner: String,
    /// Where no pattern finds one.
    pub(super) severity: Option<String>,
    /// At least one.
    pub(super) patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pub(super) regexp: Regex,
    pub(super) groups: Vec<(Field, usize)>,
    /// `loop`
    pub(super) repeats: bool,
}

/// The matchers of a file, and for people why others of it are left out: patterns of JavaScript's that cannot be matched in linear
/// time.
#[derive(Debug, Default)]
pub(super) struct Matching {
    pub(super) matchers: Vec<Matcher>,
    pub(super) left_out: Vec<String>,
}

/// What the engine says of patterns that it does not do.
const NOT_DONE: &str = "not supported";

/// Reads a file of matchers.
///
/// # Errors
/// What is wrong with it, for people.
pub(super) fn read(content: &[u8]) -> Result<Matching, String> {
    if content.len() > MAX_MATCHER_FILE {
        return Err(format!("it has more than {MAX_MATCHER_FILE} bytes"));
    }
    let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
    let file: Value = serde_json::from_slice(content).map_err(|error| format!("it is no JSON: {error}"))?;
    let list = member(&file, "problemMatcher").and_then(Value::as_array);
    let list = list.ok_or("`problemMatcher` must be a list")?;
    if list.len() > MAX_MATCHERS {
        return Err(format!("it has more than {MAX_MATCHERS} matchers"));
    }
    let mut matchers: Vec<Matcher> = Vec::new();
    let mut left_out = Vec::new();
    for value in list {
        let matcher = match matcher(value) {
            Err(why) if why.ends_with(NOT_DONE) => {
                left_out.push(why);
                continue;
            }
            other => other?,
        };
        if matchers.iter().any(|other| other.owner.eq_ignore_ascii_case(&matcher.owner)) {
            return Err(format!("two matchers have the owner `{}`", matcher.owner));
        }
        matchers.push(matcher);
    }
    Ok(Matching { matchers, left_out })
}

fn matcher(value: &Value) -> Result<Matcher, String> {
    let owner = member(value, "owner").and_then(Value::as_str).unwrap_or_default();
    if owner.is_empty() {
        return Err("a matcher has no `owner`".to_owned());
    }
    let of = |why: String| format!("the matcher `{owner}`: {why}");
    let severity = member(value, "severity").and_then(Value::as_str).filter(|severity| !severity.is_empty());
    if let Some(unknown) = severity.filter(|severity| Level::named(severity).is_none()) {
        return Err(of(format!("its severity is `{unknown}`, not `error`, `warning` or `notice`")));
    }
    let list = member(value, "pattern").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() || list.len() > MAX_PATTERNS {
        return Err(of(format!("it has {} patterns, not 1 to {MAX_PATTERNS}", list.len())));
    }
    let patterns = list.iter().map(pattern).collect::<Result<Vec<_>, _>>().map_err(of)?;
    check(&patterns).map_err(of)?;
    Ok(Matcher { owner: owner.to_owned(), severity: severity.map(str::to_owned), patterns })
}

fn check(patterns: &[Pattern]) -> Result<(), String> {
    let Some((last, others)) = patterns.split_last() else { return Ok(()) };
    if others.iter().any(|pattern| pattern.repeats) {
        return Err("only the last pattern may have `loop`".to_owned());
    }
    let finds_message = |pattern: &Pattern| pattern.groups.iter().any(|(field, _)| *field == Field::Message);
    if last.repeats && (others.is_empty() || !finds_message(last)) {
        return Err("a pattern with `loop` must have `message`, and a pattern before it".to_owned());
    }
    for (field, name) in Field::ALL {
        let given = patterns.iter().flat_map(|pattern| &pattern.groups).filter(|(other, _)| *other == field);
        match (given.count(), field) {
            (0, Field::Message) => return Err("no pattern has `message`".to_owned()),
            (2.., _) => return Err(format!("`{name}` is found by more than one pattern")),
            _ => {}
        }
    }
    Ok(())
}

fn pattern(value: &Value) -> Result<Pattern, String> {
    let written = member(value, "regexp").and_then(Value::as_str).ok_or("a pattern has no `regexp`")?;
    let regexp = compile(written, MAX_COMPILED).map_err(|why| format!("`{written}` is no pattern: {why}"))?;
    let mut groups = Vec::new();
    for (field, name) in Field::ALL {
        let Some(group) = member(value, name) else { continue };
        // Written as a text by some.
        let number = group.as_u64().or_else(|| group.as_str()?.parse().ok()).filter(|number| *number <= MAX_GROUP);
        let number = number.ok_or_else(|| format!("`{name}` is no number of a group: `{group}`"))?;
        groups.push((field, usize::try_from(number).unwrap_or_default()));
    }
    let repeats = member(value, "loop").is_some_and(|value| value.as_bool() == Some(true));
    Ok(Pattern { regexp, groups, repeats })
}

/// A member by its name in any letter case; null is none.
fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let found = value.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value).filter(|value| !value.is_null())
}

#[cfg(test)]
#[path = "matcher_tests.rs"]
mod tests;
