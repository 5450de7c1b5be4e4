//! Names with values, as people give them to a local run: one by one, or in a file of lines. Pure.
//!
//! The file's form is that of the `.env` files that other tools read: `NAME=VALUE`, perhaps behind `export`, comments behind
//! `#`, values bare, in single quotes (as they are) or in double quotes (with `\n`, `\r`, `\t`, `\"`, `\\` and `\$`), which
//! may have several lines. Nothing is expanded: a value says what it is.

use crate::document::reader::quoted;

/// Bytes of one file.
pub const MAX_FILE: usize = 1 << 20;

/// Pairs of one file.
const MAX_PAIRS: usize = 4096;

/// `NAME=VALUE`, or `NAME` alone, whose value is to be found elsewhere.
///
/// # Errors
/// The name is empty, or has what names do not have.
pub fn pair(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    check_name(name)?;
    if value.is_some_and(|value| value.contains('\0')) {
        return Err(format!("the value of {} has a NUL character", quoted(name)));
    }
    Ok((name.to_owned(), value.map(str::to_owned)))
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if name.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err(format!("{} is no name: it has spaces", quoted(name)));
    }
    Ok(())
}

/// The pairs of a file in its order. A later one goes before an earlier one of the same name; that is the caller's to do.
///
/// # Errors
/// What is wrong, with its line, counted from 1. No value is repeated: it may be a secret.
pub fn file(text: &str) -> Result<Vec<(String, String)>, String> {
    if text.len() > MAX_FILE {
        return Err(format!("the file has more than {} KiB", MAX_FILE >> 10));
    }
    let mut pairs = Vec::new();
    let mut rest = text.trim_start_matches('\u{feff}');
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(pairs);
        }
        let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
        if rest.starts_with('#') {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
            continue;
        }
        let (name, value, after) = entry(rest).map_err(|why| format!("line {line}: {why}"))?;
        pairs.push((name, value));
        if pairs.len() > MAX_PAIRS {
            return Err(format!("line {line}: the file has more than {MAX_PAIRS} names"));
        }
        rest = after;
    }
}

/// The entry at the start of `text`, and what is behind it.
fn entry(text: &str) -> Result<(String, String, &str), String> {
    let line_end = text.find('\n').unwrap_or(text.len());
    let at = text[..line_end].find('=').ok_or("it has no `=`; a line is `NAME=VALUE`")?;
    let name = text[..at].trim();
    let name = name.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).map_or(name, str::trim);
    check_name(name)?;
    let value = text[at + 1..].trim_start_matches([' ', '\t']);
    let (value, after) = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted_value(&value[1..], quote)?,
        _ => bare_value(value),
    };
    if value.contains('\0') {
        return Err(format!("the value of {} has a NUL character", quoted(name)));
    }
    Ok((name.to_owned(), value, after))
}

/// Up to the end of the line, or a comment behind a space.
fn bare_value(text: &str) -> (String, &str) {
    let (line, after) = text.find('\n').map_or((text, ""), |end| text.split_at(end));
    let comment = line.match_indices('#').find(|(at, _)| *at == 0 || line[..*at].ends_with([' ', '\t']));
    let value = comment.map_or(line, |(at, _)| &line[..at]);
    (value.trim_end().to_owned(), after)
}

fn quoted_value(text: &str, quote: char) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            let after = &text[at + 1..];
            let (line, _) = after.split_once('\n').unwrap_or((after, ""));
            let behind = line.trim();
            if !behind.is_empty() && !behind.starts_with('#') {
                return Err("there is something behind the closing quote".to_owned());
            }
            return Ok((value, &after[line.len()..]));
        }
        if letter != '\\' || quote == '\'' {
            value.push(letter);
            continue;
        }
        match letters.next().map(|(_, escaped)| escaped) {
            Some('n') => value.push('\n'),
            Some('r') => value.push('\r'),
            Some('t') => value.push('\t'),
            Some(plain @ ('"' | '\\' | '$')) => value.push(plain),
            Some(other) => value.extend(['\\', other]),
            None => break,
        }
    }
    Err(format!("the quote {quote} is not closed"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_are_read_as_other_tools_read_them() {
        let text = "\u{feff}# names\r\n\nA=1\nB = two words # not this\r\nexport C='as $is \\n'\nD=\"a\\nb \\\"c\\\" \\$x \\d\" # why\nE=\n\
                    F=a#b=c\nG=\"line one\nline two\"\nH=''\nexporter=x\nÜ=ä";
        let pairs = file(text).unwrap();
        let shown: Vec<String> = pairs.iter().map(|(name, value)| format!("{name} {value:?}")).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        A "1"
        B "two words"
        C "as $is \\n"
        D "a\nb \"c\" $x \\d"
        E ""
        F "a#b=c"
        G "line one\nline two"
        H ""
        exporter "x"
        Ü "ä"
        "#);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_without_values() {
        let complaints = ["A=1\nhunter2", "A=1\n\n=hunter2", "a b=1", "A='hunter2", "A=\"hunter2\" x", "A=\0"];
        let complaints = complaints.map(|text| file(text).unwrap_err());
        insta::assert_snapshot!(complaints.join("\n"), @r"
        line 2: it has no `=`; a line is `NAME=VALUE`
        line 3: the name is empty
        line 1: `a b` is no name: it has spaces
        line 1: the quote ' is not closed
        line 1: there is something behind the closing quote
        line 1: the value of `A` has a NUL character
        ");
        assert!(!complaints.join("").contains("hunter2"));
    }

    #[test]
    fn a_pair_may_lack_its_value() {
        assert_eq!(pair("A=b=c"), Ok(("A".to_owned(), Some("b=c".to_owned()))));
        assert_eq!(pair("A="), Ok(("A".to_owned(), Some(String::new()))));
        assert_eq!(pair("A"), Ok(("A".to_owned(), None)));
        assert!(pair("=x").is_err() && pair("a b=c").is_err() && pair("").is_err() && pair("a=\0").is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in any::<String>()) {
            drop(file(&text));
        }

        #[test]
        fn what_is_quoted_comes_back(value in "[^'\0]{0,40}") {
            prop_assert_eq!(file(&format!("A='{value}'\nB=1")).unwrap(), [("A".to_owned(), value), ("B".to_owned(), "1".to_owned())]);
        }
    }
}
