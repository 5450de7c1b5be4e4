//! The files by which a step speaks to the steps after it: `GITHUB_ENV`, `GITHUB_OUTPUT`, `GITHUB_PATH`, `GITHUB_STATE` and
//! `GITHUB_STEP_SUMMARY`. Their bytes come from the guest: they are bounded, may be anything, and are only ever data.

use std::fmt;

use super::contexts::is_reserved;

/// Bytes of one file.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Why a file's content is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCommandError {
    /// The variable by which the step knows the file.
    pub file: &'static str,
    /// Counted from 1.
    pub line: Option<usize>,
    pub message: String,
}

impl fmt::Display for FileCommandError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(out, "{}: line {line}: {}", self.file, self.message),
            None => write!(out, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for FileCommandError {}

/// Names and values in the order of the file.
pub type Pairs = Vec<(String, String)>;

/// Variables for the following steps, without `GITHUB_*` and `RUNNER_*`: steps may write those, and they keep their values.
///
/// # Errors
/// Too large, not of the form, or `NODE_OPTIONS`, which steps may not set.
pub fn parse_env(content: &[u8]) -> Result<Pairs, FileCommandError> {
    const FILE: &str = "GITHUB_ENV";
    let mut pairs = Vec::new();
    for Pair { line, name, value } in pairs_of(FILE, content)?.into_iter().filter(|pair| !is_reserved(&pair.name)) {
        check_variable(&name, &value).map_err(|message| FileCommandError { file: FILE, line: Some(line), message })?;
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// Whether a step may set this variable for the steps after it; the error says why not.
pub(super) fn check_variable(name: &str, value: &str) -> Result<(), String> {
    if is_reserved(name) || name.eq_ignore_ascii_case("NODE_OPTIONS") {
        return Err(format!("`{name}` may not be set by a step"));
    }
    if name.contains('\0') || value.contains('\0') {
        return Err("an environment variable cannot contain a NUL character".to_owned());
    }
    Ok(())
}

/// What the step keeps for its own post step.
///
/// # Errors
/// Too large, or not of the form.
pub fn parse_state(content: &[u8]) -> Result<Pairs, FileCommandError> {
    Ok(pairs_of("GITHUB_STATE", content)?.into_iter().map(|pair| (pair.name, pair.value)).collect())
}

/// Outputs of the step.
///
/// # Errors
/// Too large, or not of the form.
pub fn parse_output(content: &[u8]) -> Result<Pairs, FileCommandError> {
    Ok(pairs_of("GITHUB_OUTPUT", content)?.into_iter().map(|pair| (pair.name, pair.value)).collect())
}

/// Directories for `PATH`, one a line, in the order of the file.
///
/// # Errors
/// Too large, or with a NUL character.
pub fn parse_path(content: &[u8]) -> Result<Vec<String>, FileCommandError> {
    const FILE: &str = "GITHUB_PATH";
    let text = text_of(FILE, content)?;
    let mut directories = Vec::new();
    for line in Lines::new(&text) {
        if line.text.contains('\0') {
            let message = "a directory cannot contain a NUL character".to_owned();
            return Err(FileCommandError { file: FILE, line: Some(line.number), message });
        }
        if !line.text.trim().is_empty() {
            directories.push(line.text.to_owned());
        }
    }
    Ok(directories)
}

/// Markdown for people.
///
/// # Errors
/// Too large.
pub fn parse_summary(content: &[u8]) -> Result<String, FileCommandError> {
    text_of("GITHUB_STEP_SUMMARY", content)
}

fn text_of(file: &'static str, content: &[u8]) -> Result<String, FileCommandError> {
    if content.len() > MAX_FILE_BYTES {
        let message = format!("the file has {} bytes, at most {MAX_FILE_BYTES} are read", content.len());
        return Err(FileCommandError { file, line: None, message });
    }
    let text = String::from_utf8_lossy(content);
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
}

struct Pair {
    line: usize,
    name: String,
    value: String,
}

fn pairs_of(file: &'static str, content: &[u8]) -> Result<Vec<Pair>, FileCommandError> {
    let text = text_of(file, content)?;
    let mut lines = Lines::new(&text);
    let mut pairs = Vec::new();
    while let Some(Line { number, text, .. }) = lines.next() {
        if text.is_empty() {
            continue;
        }
        let refuse = |message| Err(FileCommandError { file, line: Some(number), message });
        let (name, value) = match (text.find('='), text.find("<<")) {
            (Some(equals), heredoc) if heredoc.is_none_or(|heredoc| equals < heredoc) => {
                (&text[..equals], text[equals + 1..].to_owned())
            }
            (_, Some(heredoc)) => {
                let delimiter = &text[heredoc + 2..];
                if delimiter.is_empty() {
                    return refuse("the delimiter after `<<` is missing".to_owned());
                }
                match heredoc_value(&mut lines, delimiter) {
                    Some(value) => (&text[..heredoc], value),
                    None => return refuse(format!("no later line is the delimiter `{}`", shorten(delimiter))),
                }
            }
            _ => return refuse(format!("`{}` is neither `NAME=VALUE` nor `NAME<<DELIMITER`", shorten(text))),
        };
        if name.is_empty() {
            return refuse("the name is missing".to_owned());
        }
        pairs.push(Pair { line: number, name: name.to_owned(), value });
    }
    Ok(pairs)
}

/// The lines up to the delimiter, with the line ends that stand between them.
fn heredoc_value(lines: &mut Lines<'_>, delimiter: &str) -> Option<String> {
    let mut value = String::new();
    let mut end_before = "";
    for line in lines {
        if line.text == delimiter {
            return Some(value);
        }
        value.push_str(end_before);
        value.push_str(line.text);
        end_before = line.end;
    }
    None
}

/// Characters of the guest's text that a message quotes.
const QUOTED: usize = 60;

fn shorten(text: &str) -> String {
    let shown: String = text.chars().take(QUOTED).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED).is_some() { shown + "…" } else { shown }
}

struct Line<'t> {
    /// Counted from 1.
    number: usize,
    text: &'t str,
    /// `\n`, `\r\n`, or nothing at the end of the file.
    end: &'t str,
}

struct Lines<'t> {
    rest: &'t str,
    number: usize,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        Self { rest: text, number: 0 }
    }
}

impl<'t> Iterator for Lines<'t> {
    type Item = Line<'t>;

    fn next(&mut self) -> Option<Line<'t>> {
        if self.rest.is_empty() {
            return None;
        }
        self.number += 1;
        let length = self.rest.find('\n').map_or(self.rest.len(), |end| end + 1);
        let (line, rest) = self.rest.split_at(length);
        self.rest = rest;
        let without_feed = line.strip_suffix('\n').unwrap_or(line);
        let text = if line.len() > without_feed.len() {
            without_feed.strip_suffix('\r').unwrap_or(without_feed)
        } else {
            without_feed
        };
        Some(Line { number: self.number, text, end: &line[text.len()..] })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn outputs(content: &str) -> String {
        match parse_output(content.as_bytes()) {
            Ok(pairs) => format!("{pairs:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn both_forms_are_read() {
        insta::assert_snapshot!(outputs("a=1\n\nb==2<<x\r\nc=\n"), @r#"[("a", "1"), ("b", "=2<<x"), ("c", "")]"#);
        insta::assert_snapshot!(outputs("a<<EOF\none\r\ntwo\n\nEOF\nb<<=\nx\n="), @r#"[("a", "one\r\ntwo\n"), ("b", "x")]"#);
        insta::assert_snapshot!(outputs("a<<EOF\nEOF\n"), @r#"[("a", "")]"#);
        insta::assert_snapshot!(outputs("\u{feff}a=1\r"), @r#"[("a", "1\r")]"#);
    }

    #[test]
    fn mistakes_name_file_and_line() {
        insta::assert_snapshot!(outputs("a=1\nplain text\n"), @"GITHUB_OUTPUT: line 2: `plain text` is neither `NAME=VALUE` nor `NAME<<DELIMITER`");
        insta::assert_snapshot!(outputs("a=1\nb<<EOF\nvalue\n EOF\n"), @"GITHUB_OUTPUT: line 2: no later line is the delimiter `EOF`");
        insta::assert_snapshot!(outputs("b<<\n"), @"GITHUB_OUTPUT: line 1: the delimiter after `<<` is missing");
        insta::assert_snapshot!(outputs("=1"), @"GITHUB_OUTPUT: line 1: the name is missing");
        insta::assert_snapshot!(outputs(&"x".repeat(MAX_FILE_BYTES + 1)), @"GITHUB_OUTPUT: the file has 1048577 bytes, at most 1048576 are read");
        insta::assert_snapshot!(parse_env(b"A=1\nNODE_OPTIONS=--require x").unwrap_err(), @"GITHUB_ENV: line 2: `NODE_OPTIONS` may not be set by a step");
        assert_eq!(parse_env(b"github_sha=1\nRUNNER_X=2\nA=3").unwrap(), [("A".to_owned(), "3".to_owned())]);
        insta::assert_snapshot!(parse_env(b"A<<X\n\0\nX\n").unwrap_err(), @"GITHUB_ENV: line 1: an environment variable cannot contain a NUL character");
        insta::assert_snapshot!(parse_path(b"/bin\n\0").unwrap_err(), @"GITHUB_PATH: line 2: a directory cannot contain a NUL character");
    }

    #[test]
    fn paths_are_lines() {
        assert_eq!(parse_path(b"/a b\r\n\n/c").unwrap(), ["/a b", "/c"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(content in prop_oneof![
            any::<Vec<u8>>(), "[a<=\r\n]{0,40}".prop_map(String::into_bytes)]) {
            drop(parse_env(&content));
            drop(parse_path(&content));
            drop(parse_summary(&content));
            if let Ok(pairs) = parse_output(&content) {
                prop_assert!(pairs.iter().all(|(name, _)| !name.is_empty()));
            }
        }

        #[test]
        fn any_value_passes_through_a_heredoc(value in "[^\r]*") {
            let content = format!("name<<-END-\n{value}\n-END-\n");
            prop_assume!(!value.contains("-END-"));
            prop_assert_eq!(parse_output(content.as_bytes()).unwrap(), [("name".to_owned(), value)]);
        }
    }
}
