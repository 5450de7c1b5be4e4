//! What a step says about a place of the code: shown beside it by the forge, on the job's page and in its summary.

use serde::{Deserialize, Serialize};

/// Annotations of one level that one step may make; more are only in the log.
pub const MAX_PER_LEVEL: usize = 10;

/// Annotations of a job.
pub const MAX_OF_JOB: usize = 500;

/// Bytes of a message, of a title, and of a path; the rest is cut.
const MAX_MESSAGE: usize = 4096;
const MAX_TITLE: usize = 255;
const MAX_FILE: usize = 1024;

/// How much an annotation matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Notice,
    Warning,
    Error,
}

impl Level {
    /// The word of the command and of problem matchers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// The level of this name, in any letter case.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Notice, Self::Warning, Self::Error].into_iter().find(|level| level.as_str().eq_ignore_ascii_case(name))
    }
}

/// A message, and where it belongs. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    pub level: Level,
    pub title: Option<String>,
    pub message: String,
    /// Relative to the repository; `None` for what is about the job as a whole.
    pub file: Option<String>,
    pub line: Option<u32>,
    pub end_line: Option<u32>,
    /// Only where both ends are on one line.
    pub column: Option<u32>,
    pub end_column: Option<u32>,
}

/// Where something is, as a step said it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said<'t> {
    pub(super) title: Option<&'t str>,
    pub(super) file: Option<&'t str>,
    pub(super) line: Option<&'t str>,
    pub(super) end_line: Option<&'t str>,
    pub(super) column: Option<&'t str>,
    pub(super) end_column: Option<&'t str>,
}

/// The largest line or column: forges keep them in signed numbers of 32 bits.
const MAX_PLACE: u32 = i32::MAX as u32;

impl Annotation {
    /// About the job as a whole.
    pub fn general(level: Level, message: &str) -> Self {
        Self::new(level, message, Said::default(), "")
    }

    /// Within the limits, and with the places that make sense together.
    pub(super) fn new(level: Level, message: &str, said: Said<'_>, workspace: &str) -> Self {
        let is_place = |number: &u32| (1..=MAX_PLACE).contains(number);
        let number = |text: Option<&str>| text.and_then(|text| text.trim().parse().ok()).filter(is_place);
        let file = said.file.and_then(|file| relative(file, workspace));
        let end_line: Option<u32> = number(said.end_line);
        let line: Option<u32> = number(said.line).or(end_line);
        let end_line = end_line.filter(|end| line.is_some_and(|line| *end >= line));
        let is_one_line = line.is_some() && end_line.is_none_or(|end| Some(end) == line);
        let column: Option<u32> = number(said.column).or(number(said.end_column)).filter(|_| is_one_line);
        let end_column = number(said.end_column).filter(|end| column.is_some_and(|column| *end >= column));
        Self {
            level,
            title: said.title.map(|title| cut(title, MAX_TITLE)).filter(|title| !title.trim().is_empty()),
            message: cut(message, MAX_MESSAGE),
            file,
            line,
            end_line,
            column,
            end_column,
        }
    }
}

/// A path below the workspace, without its detours; `None` for what is elsewhere.
fn relative(file: &str, workspace: &str) -> Option<String> {
    let file = file.trim();
    let below = match file.strip_prefix('/') {
        None => file,
        Some(_) => file.strip_prefix(workspace).filter(|_| !workspace.is_empty())?.strip_prefix('/')?,
    };
    let mut parts = Vec::new();
    for part in below.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    (!path.is_empty() && path.len() <= MAX_FILE && !path.contains(char::is_control)).then_some(path)
}

fn cut(text: &str, limit: usize) -> String {
    let text = text.trim_end();
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(limit - '…'.len_utf8())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_make_sense_together() {
        let place = |line, end_line, column, end_column| {
            let said = Said { line, end_line, column, end_column, ..Said::default() };
            let made = Annotation::new(Level::Error, "m", said, "/w");
            (made.line, made.end_line, made.column, made.end_column)
        };
        assert_eq!(place(Some("3"), Some("3"), Some("1"), Some("9")), (Some(3), Some(3), Some(1), Some(9)));
        assert_eq!(place(Some("3"), Some("5"), Some("1"), Some("9")), (Some(3), Some(5), None, None));
        assert_eq!(place(None, Some("5"), None, None), (Some(5), Some(5), None, None));
        assert_eq!(place(Some("5"), Some("3"), Some("7"), Some("2")), (Some(5), None, Some(7), None));
        assert_eq!(place(None, None, Some("7"), None), (None, None, None, None));
        assert_eq!(place(Some("0"), None, None, None), (None, None, None, None));
        assert_eq!(place(Some("x"), Some("-1"), None, None), (None, None, None, None));
    }

    #[test]
    fn paths_are_those_of_the_repository() {
        for (said, path) in [
            ("src/a.rs", Some("src/a.rs")),
            ("./src//x/../a.rs", Some("src/a.rs")),
            ("/w/r/src/a.rs", Some("src/a.rs")),
            ("/w/r", None),
            ("/w/rest/a", None),
            ("/etc/passwd", None),
            ("../a", None),
            ("a\nb", None),
            ("", None),
        ] {
            assert_eq!(relative(said, "/w/r").as_deref(), path, "{said}");
        }
    }

    #[test]
    fn long_texts_are_cut() {
        let said = Said { title: Some(&"é".repeat(300)), ..Said::default() };
        let made = Annotation::new(Level::Notice, &"x".repeat(9999), said, "");
        assert_eq!(made.message.len(), MAX_MESSAGE);
        assert!(made.title.is_some_and(|title| title.len() <= MAX_TITLE && title.ends_with('…')));
        assert_eq!(Level::named("WARNING"), Some(Level::Warning));
    }
}
