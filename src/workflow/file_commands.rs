//! The files by which a step speaks to the steps after it: `GITHUB_ENV`, `GITHUB_OUTPUT`, `GITHUB_PATH`, `GITHUB_STATE` and
//! `GITHUB_STEP_SUMMARY`. Their bytes come from the guest: they are bounded, may be anything, and are only ever data.

use std::fmt;

use super::contexts::is_reserved;

/// Bytes of one file.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// What is wrong in a file.
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

/// What a file said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// All that stands before the first mistake.
    pub pairs: Pairs,
    /// The mistake, for which the step fails: the file is too large, or not of the form from a line on.
    pub mistake: Option<FileCommandError>,
    /// What does not count, without being the step's failure.
    pub left_out: Vec<FileCommandError>,
}

/// Variables for the following steps, without those that the runner sets: steps may write them, and they keep their values.
/// `NODE_OPTIONS` is left out, as on GitHub.
pub fn parse_env(content: &[u8]) -> Said {
    const FILE: &str = "GITHUB_ENV";
    let mut said = Said::default();
    let (pairs, mistake) = pairs_of(FILE, content);
    for Pair { line, name, value } in pairs.into_iter().filter(|pair| !is_reserved(&pair.name)) {
        match check_variable(&name, &value) {
            Ok(()) => said.pairs.push((name, value)),
            Err(message) => said.left_out.push(FileCommandError { file: FILE, line: Some(line), message }),
        }
    }
    Said { mistake, ..said }
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
pub fn parse_state(content: &[u8]) -> Said {
    plain("GITHUB_STATE", content)
}

/// Outputs of the step.
pub fn parse_output(content: &[u8]) -> Said {
    plain("GITHUB_OUTPUT", content)
}

fn plain(file: &'static str, content: &[u8]) -> Said {
    let (pairs, mistake) = pairs_of(file, content);
    let pairs = pairs.into_iter().map(|pair| (pair.name, pair.value)).collect();
    Said { pairs, mistake, left_out: Vec::new() }
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
        let text = line.text.strip_suffix('\r').unwrap_or(line.text);
        if text.contains('\0') {
            let message = "a directory cannot contain a NUL character".to_owned();
            return Err(FileCommandError { file: FILE, line: Some(line.number), message });
        }
        if !text.trim().is_empty() {
            directories.push(text.to_owned());
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

/// The pairs up to the first mistake, and that.
fn pairs_of(file: &'static str, content: &[u8]) -> (Vec<Pair>, Option<FileCommandError>) {
    let text = match text_of(file, content) {
        Ok(text) => text,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let mut lines = Lines::new(&text);
    let mut pairs = Vec::new();
    while let Some(Line { number, text }) = lines.next() {
        if text.is_empty() {
            continue;
        }
        match pair_of(text, &mut lines) {
            Ok((name, value)) => pairs.push(Pair { line: number, name, value }),
            Err(message) => return (pairs, Some(FileCommandError { file, line: Some(number), message })),
        }
    }
    (pairs, None)
}

/// Reads the pair that begins with this line, and takes the lines that belong to it.
fn pair_of(text: &str, lines: &mut Lines<'_>) -> Result<(String, String), String> {
    let (name, value) = match (text.find('='), text.find("<<")) {
        (Some(equals), heredoc) if heredoc.is_none_or(|heredoc| equals < heredoc) => {
            (&text[..equals], text[equals + 1..].to_owned())
        }
        (_, Some(heredoc)) => {
            let delimiter = &text[heredoc + 2..];
            if delimiter.is_empty() {
                return Err("the delimiter after `<<` is missing".to_owned());
            }
            let value = heredoc_value(lines, delimiter);
            let value = value.ok_or_else(|| format!("no later line is the delimiter `{}`", shorten(delimiter)))?;
            (&text[..heredoc], value)
        }
        _ => return Err(format!("`{}` is neither `NAME=VALUE` nor `NAME<<DELIMITER`", shorten(text))),
    };
    if name.is_empty() { Err("the name is missing".to_owned()) } else { Ok((name.to_owned(), value)) }
}

/// The lines up to the delimiter.
fn heredoc_value(lines: &mut Lines<'_>, delimiter: &str) -> Option<String> {
    let mut value = String::new();
    for (count, line) in lines.enumerate() {
        if line.text == delimiter {
            return Some(value);
        }
        if count > 0 {
            value.push('\n');
        }
        value.push_str(line.text);
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
}

/// The lines of a file, which end with `\n`. A `\r` before it is a part of the line, as it is for GitHub's runner on Linux.
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
        Some(Line { number: self.number, text: line.strip_suffix('\n').unwrap_or(line) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn outputs(content: &str) -> String {
        told(parse_output(content.as_bytes()))
    }

    fn told(Said { pairs, mistake, left_out }: Said) -> String {
        let errors: Vec<String> = left_out.iter().chain(&mistake).map(ToString::to_string).collect();
        [if pairs.is_empty() { Vec::new() } else { vec![format!("{pairs:?}")] }, errors].concat().join("; ")
    }

    #[test]
    fn both_forms_are_read() {
        insta::assert_snapshot!(outputs("a=1\n\nb==2<<x\r\nc=\n"), @r#"[("a", "1"), ("b", "=2<<x\r"), ("c", "")]"#);
        insta::assert_snapshot!(outputs("a<<EOF\none\r\ntwo\n\nEOF\nb<<=\nx\n="), @r#"[("a", "one\r\ntwo\n"), ("b", "x")]"#);
        insta::assert_snapshot!(outputs("a<<EOF\r\none\r\nEOF\r\n"), @r#"[("a", "one\r")]"#);
        insta::assert_snapshot!(outputs("a<<EOF\nEOF\n"), @r#"[("a", "")]"#);
        insta::assert_snapshot!(outputs("\u{feff}a=1\r"), @r#"[("a", "1\r")]"#);
    }

    #[test]
    fn mistakes_name_file_and_line_and_what_stands_before_them_counts() {
        insta::assert_snapshot!(outputs("a=1\nplain text\n"), @r#"[("a", "1")]; GITHUB_OUTPUT: line 2: `plain text` is neither `NAME=VALUE` nor `NAME<<DELIMITER`"#);
        insta::assert_snapshot!(outputs("a=1\nb<<EOF\nvalue\n EOF\n"), @r#"[("a", "1")]; GITHUB_OUTPUT: line 2: no later line is the delimiter `EOF`"#);
        insta::assert_snapshot!(outputs("b<<EOF\nx\nEOF\r\n"), @"GITHUB_OUTPUT: line 1: no later line is the delimiter `EOF`");
        insta::assert_snapshot!(outputs("\r\n"), @r"GITHUB_OUTPUT: line 1: `\r` is neither `NAME=VALUE` nor `NAME<<DELIMITER`");
        insta::assert_snapshot!(outputs("b<<\n"), @"GITHUB_OUTPUT: line 1: the delimiter after `<<` is missing");
        insta::assert_snapshot!(outputs("=1"), @"GITHUB_OUTPUT: line 1: the name is missing");
        insta::assert_snapshot!(outputs(&"x".repeat(MAX_FILE_BYTES + 1)), @"GITHUB_OUTPUT: the file has 1048577 bytes, at most 1048576 are read");
        insta::assert_snapshot!(told(parse_env(b"A=1\nNODE_OPTIONS=--require x\nB=2")), @r#"[("A", "1"), ("B", "2")]; GITHUB_ENV: line 2: `NODE_OPTIONS` may not be set by a step"#);
        insta::assert_snapshot!(told(parse_env(b"GITHUB_SHA=1\nGITHUB_TOKEN=2\nA=3")), @r#"[("GITHUB_TOKEN", "2"), ("A", "3")]"#);
        insta::assert_snapshot!(told(parse_env(b"A<<X\n\0\nX\n")), @"GITHUB_ENV: line 1: an environment variable cannot contain a NUL character");
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
            prop_assert!(parse_output(&content).pairs.iter().all(|(name, _)| !name.is_empty()));
        }

        #[test]
        fn any_value_passes_through_a_heredoc(value in ".*") {
            let content = format!("name<<-END-\n{value}\n-END-\n");
            prop_assume!(!value.contains("-END-"));
            prop_assert_eq!(parse_output(content.as_bytes()).pairs, [("name".to_owned(), value)]);
        }
    }
}
