//! Versions of tools, and which of them a workflow's author means: `20`, `3.12.x`, `^18.2`, `>=3.9 <3.13`, `lts/*`.

use std::cmp::Ordering;

/// Bytes of what a workflow asks for.
const MAX_RANGE: usize = 200;

/// A released version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    /// Reads `v20.19.2` or `3.13.5`; what is more than that, such as a pre-release, is no released version.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.').map(str::parse);
        let version = Self { major: parts.next()?.ok()?, minor: parts.next()?.ok()?, patch: parts.next()?.ok()? };
        parts.next().is_none().then_some(version)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What a workflow asks for: one of several sets of conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range(Vec<Vec<Condition>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    AtLeast(Version),
    Below(Version),
    /// Of an even major version, as Node.js has its long-term support.
    Even,
}

/// A version whose last parts may be left open.
#[derive(Debug, Clone, Copy)]
struct Partial {
    parts: [Option<u32>; 3],
}

impl Range {
    /// Reads a range as npm understands it, with the names that Node.js has for its lines. `None` for what has another meaning, such
    /// as another implementation or a pre-release.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_RANGE {
            return None;
        }
        text.split("||").map(|part| conditions(part.trim())).collect::<Option<_>>().map(Self)
    }

    /// Whether the version is one that was asked for.
    pub fn contains(&self, version: Version) -> bool {
        let holds = |condition: &Condition| match condition {
            Condition::AtLeast(least) => version.cmp(least) != Ordering::Less,
            Condition::Below(limit) => version.cmp(limit) == Ordering::Less,
            Condition::Even => version.major % 2 == 0,
        };
        self.0.iter().any(|conditions| conditions.iter().all(holds))
    }
}

fn conditions(text: &str) -> Option<Vec<Condition>> {
    match text {
        "" | "*" | "x" | "latest" | "node" | "current" => return Some(Vec::new()),
        "lts/*" => return Some(vec![Condition::Even]),
        _ => {}
    }
    if let Some((from, to)) = text.split_once(" - ") {
        return Some(vec![Condition::AtLeast(Partial::parse(from)?.lowest()), below(Partial::parse(to)?)]);
    }
    let mut conditions = Vec::new();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let end = word.find(|letter: char| !"<>=^~".contains(letter)).unwrap_or(word.len());
        let (operator, rest) = word.split_at(end);
        // `>= 3.9` as well as `>=3.9`.
        let partial = Partial::parse(if rest.is_empty() { words.next()? } else { rest })?;
        let lowest = partial.lowest();
        match operator {
            "" | "=" | "==" => conditions.extend([Condition::AtLeast(lowest), below(partial)]),
            ">=" => conditions.push(Condition::AtLeast(lowest)),
            "<" => conditions.push(Condition::Below(lowest)),
            "<=" => conditions.push(below(partial)),
            ">" => match below(partial) {
                Condition::Below(next) => conditions.push(Condition::AtLeast(next)),
                _ => return None,
            },
            "~" | "~>" => conditions.extend([Condition::AtLeast(lowest), Condition::Below(partial.next(1))]),
            "^" => {
                let first_that_counts = [lowest.major, lowest.minor].iter().position(|part| *part != 0).unwrap_or(2);
                conditions.extend([Condition::AtLeast(lowest), Condition::Below(partial.next(first_that_counts))]);
            }
            _ => return None,
        }
    }
    Some(conditions)
}

/// Up to the version, all that is left open in it included.
fn below(partial: Partial) -> Condition {
    Condition::Below(partial.next(2))
}

impl Partial {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut parts = [None; 3];
        let mut is_open = false;
        for (place, part) in text.strip_prefix('v').unwrap_or(text).split('.').enumerate() {
            let known = parts.get_mut(place)?;
            match part {
                "x" | "X" | "*" => is_open = true,
                _ if is_open => return None,
                number => *known = Some(number.parse().ok().filter(|number| *number < 1_000_000)?),
            }
        }
        Some(Self { parts })
    }

    fn lowest(self) -> Version {
        let [major, minor, patch] = self.parts.map(Option::unwrap_or_default);
        Version { major, minor, patch }
    }

    /// The first version that differs in the part at `place`, or in the last one that is known.
    fn next(self, place: usize) -> Version {
        let known = self.parts.iter().take_while(|part| part.is_some()).count();
        let Version { major, minor, patch } = self.lowest();
        match (place + 1).min(known) {
            0 => Version { major: u32::MAX, minor: 0, patch: 0 },
            1 => Version { major: major + 1, minor: 0, patch: 0 },
            2 => Version { major, minor: minor + 1, patch: 0 },
            _ => Version { major, minor, patch: patch + 1 },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_mean_what_they_mean_to_npm() {
        for (range, yes, no) in [
            ("20", &["20.0.0", "20.19.2"][..], &["21.0.0", "19.9.9"][..]),
            ("20.x", &["20.5.0"], &["21.0.0"]),
            ("v20.1", &["20.1.7"], &["20.2.0", "20.0.9"]),
            ("3.13.5", &["3.13.5"], &["3.13.4", "3.13.6"]),
            ("^18.2", &["18.2.0", "18.9.1"], &["18.1.9", "19.0.0"]),
            ("^0.3.1", &["0.3.9"], &["0.4.0", "0.3.0"]),
            ("~3.12.1", &["3.12.9"], &["3.13.0", "3.12.0"]),
            ("~3.12", &["3.12.0", "3.12.9"], &["3.13.0"]),
            ("~3", &["3.1.0"], &["4.0.0"]),
            (">=3.9 <3.13", &["3.9.0", "3.12.9"], &["3.13.0", "3.8.9"]),
            (">= 3.9 < 4", &["3.9.0"], &["4.0.0"]),
            (">20", &["21.0.0"], &["20.9.9"]),
            ("<=3.12", &["3.12.9"], &["3.13.0"]),
            ("3.10 - 3.12", &["3.10.0", "3.12.9"], &["3.13.0"]),
            ("18 || 20", &["18.1.0", "20.1.0"], &["19.1.0"]),
            ("lts/*", &["20.1.0"], &["21.1.0"]),
            ("latest", &["1.2.3"], &[]),
            ("3.x", &["3.99.0"], &["2.9.9"]),
            ("*", &["1.0.0"], &[]),
        ] {
            let parsed = Range::parse(range);
            for version in yes {
                assert!(parsed.as_ref().unwrap().contains(Version::parse(version).unwrap()), "{range} {version}");
            }
            for version in no {
                assert!(!parsed.as_ref().unwrap().contains(Version::parse(version).unwrap()), "{range} {version}");
            }
        }
        for text in
            ["lts/iron", "pypy3.10", "3.14-dev", "3.13t", "graalpy-24", "20.x.1", "=>3", "1.2.3.4", ">=", "99999999999"]
        {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_written_there_panics(text in "[0-9vx.*<>=^~| -]{0,24}", major: u32, minor: u32) {
            if let Some(range) = Range::parse(&text) {
                range.contains(Version { major, minor, patch: 0 });
            }
        }
    }
}
