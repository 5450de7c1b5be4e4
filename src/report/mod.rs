//! Reports that a job's programs write: results of tests, findings of analysers, coverage. Pure.
//!
//! Each format has a module that reads it into one model, [`Results`]. A report is a stranger's file: it is bounded in bytes,
//! depth and entries, nothing of it is followed or fetched (no entities, no document types, no addresses), and its texts are
//! cut, put on one line and never taken for more than texts. What cannot be read is a note, and not the end of the others.

mod cobertura;
pub mod flaky;
mod junit;
mod lcov;
mod model;
pub mod pattern;
mod sarif;
pub mod summary;
mod tap;
mod xml;

use serde::{Deserialize, Serialize};

pub use model::{Coverage, FileCoverage, Finding, Level, Place, Ratio, Results, Status, Test};

use self::pattern::Pattern;

/// Bytes of one report.
pub const MAX_REPORT: u64 = 16 << 20;

/// Bytes of all reports of one attempt.
pub const MAX_REPORTS: u64 = 64 << 20;

/// Files of one attempt.
pub const MAX_FILES: u32 = 1000;

/// Entries of `reports` in a profile.
pub const MAX_ENTRIES: usize = 32;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Junit,
    Tap,
    Sarif,
    Cobertura,
    Lcov,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Junit, Self::Tap, Self::Sarif, Self::Cobertura, Self::Lcov];

    /// The word for it in configurations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Junit => "junit",
            Self::Tap => "tap",
            Self::Sarif => "sarif",
            Self::Cobertura => "cobertura",
            Self::Lcov => "lcov",
        }
    }

    /// The format of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// One entry of `reports`: which files are of which format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub kind: Kind,
    pub path: Pattern,
}

/// Reads one report into `results`. `workspace` is the directory that the repository's files are in, for paths that begin with
/// it; `file` names the report where something is wrong with it. What was read before a mistake stays.
pub fn read(kind: Kind, file: &str, bytes: &[u8], workspace: &str, results: &mut Results) {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}');
    let mut sink = model::Sink::new(results, workspace);
    let read = match kind {
        Kind::Junit => junit::read(text, &mut sink),
        Kind::Tap => tap::read(text, file, &mut sink),
        Kind::Sarif => sarif::read(text, &mut sink),
        Kind::Cobertura => cobertura::read(text, &mut sink),
        Kind::Lcov => lcov::read(text, &mut sink),
    };
    if let Err(why) = read {
        results.note(&format!("`{file}` is no whole {} report: {why}", kind.as_str()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..Kind::ALL.len()) {
            let mut results = Results::default();
            read(Kind::ALL[kind], "r", &bytes, "/w", &mut results);
            prop_assert!(results.notes.len() <= 1);
        }

        #[test]
        fn nothing_that_looks_like_a_report_is_too_odd(
            parts in prop::collection::vec(prop::sample::select(vec![
                "<testsuites>", "<testsuite name='a'>", "<testcase name='b' time='1e9'>", "<failure>", "</failure>", "</testcase>",
                "<line number='4' hits='-1' branch='true' condition-coverage='50% (1/2)'/>", "<class filename='x'>", "</class>",
                "<![CDATA[", "]]>", "<!-- ", "-->", "&amp;", "&#0;", "&bomb;", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "TAP version 13\n",
                "1..99999999999999999999\n", "ok 1 - x # SKIP\n", "not ok\n", "  ---\n", "  ...\n", "SF:a\n", "DA:1,1\n", "LF:9\n",
                "BRDA:1,0,0,-\n", "end_of_record\n", "{\"runs\": [", "{}", "]}", "\u{0}", "é",
            ]), 0..24),
            kind in 0..Kind::ALL.len(),
        ) {
            read(Kind::ALL[kind], "r", parts.concat().as_bytes(), "/w", &mut Results::default());
        }
    }

    #[test]
    fn formats_have_their_names() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::parse("JUnit"), None);
    }
}
