//! The patterns of `hashFiles`: those of the toolkit's own globs, which are not those of branch and path filters.
//!
//! `*`, `?` and `[…]` stand for letters within one part of a path, a part `**` for any number of parts; names with a leading
//! point are names like any other. A pattern that names a directory takes everything in it. A leading `!` takes matches back,
//! `#` begins a comment, and the last pattern that matches decides. Matching costs at most the product of the lengths.

use crate::document::reader::quoted;

/// Patterns of one call, each on a line of its own.
const MAX_PATTERNS: usize = 1000;

/// Characters of one pattern.
const MAX_PATTERN: usize = 4096;

/// The option of `hashFiles`.
pub const FOLLOW_LINKS: &str = "--follow-symbolic-links";

/// Which files a call of `hashFiles` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePatterns {
    patterns: Vec<Pattern>,
    /// Whether what links to directories lead to is looked at, too.
    pub follows_links: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    negated: bool,
    parts: Vec<Part>,
    /// Whether it ends with `/`: then it means a directory, and no file.
    is_directory: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`
    Any,
    Name(Vec<Letter>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Letter {
    /// `*`
    Many,
    /// `?`
    One,
    This(char),
    /// Inclusive ranges, and whether they are those that do not match.
    Of(Vec<(char, char)>, bool),
}

impl FilePatterns {
    /// Reads the arguments of a call, the first of which may be an option. `root` is the directory's own path: absolute patterns
    /// below it are taken.
    ///
    /// # Errors
    /// Another option than [`FOLLOW_LINKS`], and as [`FilePatterns::of_list`].
    pub fn new(arguments: &[String], root: &str) -> Result<Self, String> {
        match arguments.split_first() {
            Some((option, patterns)) if option.eq_ignore_ascii_case(FOLLOW_LINKS) => {
                Ok(Self { follows_links: true, ..Self::of_list(patterns, root)? })
            }
            Some((option, _)) if option.starts_with("--") => {
                Err(format!("`hashFiles` has no option {}; it has `{FOLLOW_LINKS}`", quoted(option)))
            }
            _ => Self::of_list(arguments, root),
        }
    }

    /// Reads patterns, which are never options.
    ///
    /// # Errors
    /// Parts `.` and `..`, which the toolkit does not have either, and more than a call may say.
    pub fn of_list(arguments: &[String], root: &str) -> Result<Self, String> {
        let mut patterns = Vec::new();
        let lines = arguments.iter().flat_map(|argument| argument.lines()).map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if patterns.len() == MAX_PATTERNS || line.chars().nth(MAX_PATTERN).is_some() {
                return Err(format!(
                    "`hashFiles` takes at most {MAX_PATTERNS} patterns of at most {MAX_PATTERN} characters"
                ));
            }
            patterns.extend(Pattern::read(line, root)?);
        }
        Ok(Self { patterns, follows_links: false })
    }

    /// Whether the file with these parts of its path below the root is meant.
    pub fn take(&self, path: &[&str]) -> bool {
        self.patterns.iter().rev().find(|pattern| pattern.matches(path)).is_some_and(|pattern| !pattern.negated)
    }
}

/// One pattern by itself, in which no first letter means anything: for lists of other dialects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern(Pattern);

impl PathPattern {
    /// Reads a relative pattern; an empty one means everything.
    ///
    /// # Errors
    /// Parts `.` and `..`.
    pub fn new(text: &str) -> Result<Self, String> {
        Ok(Self(Pattern { negated: false, parts: parts(text, text)?, is_directory: false }))
    }

    /// Whether it matches the path with these parts, or a directory that the path is in.
    pub fn has(&self, path: &[&str]) -> bool {
        self.0.matches(path)
    }

    /// Whether it matches exactly this path.
    pub fn is(&self, path: &[&str]) -> bool {
        self.0.fits(path, true)
    }
}

impl Pattern {
    /// `None` for an absolute pattern of elsewhere.
    fn read(line: &str, root: &str) -> Result<Option<Self>, String> {
        let bangs = line.len() - line.trim_start_matches('!').len();
        let text = line[bangs..].trim();
        let text = if text.starts_with('/') {
            match text.strip_prefix(root.trim_end_matches('/')) {
                Some(below) if below.starts_with('/') || below.is_empty() => below,
                _ => return Ok(None),
            }
        } else {
            text.strip_prefix("./").unwrap_or(if text == "." { "" } else { text })
        };
        Ok(Some(Self { negated: bangs % 2 == 1, parts: parts(text, line)?, is_directory: text.ends_with('/') }))
    }

    /// Whether it matches the path, or a directory that the path is in.
    fn matches(&self, path: &[&str]) -> bool {
        self.fits(path, false)
    }

    fn fits(&self, path: &[&str], is_exact: bool) -> bool {
        let mut states = vec![false; self.parts.len() + 1];
        states[0] = true;
        self.pass_gaps(&mut states);
        let is_end = |states: &[bool]| states[self.parts.len()];
        for (place, name) in path.iter().enumerate() {
            if !is_exact && is_end(&states) && (place > 0 || self.parts.is_empty()) {
                return true;
            }
            let mut next = vec![false; states.len()];
            for (at, part) in self.parts.iter().enumerate().filter(|(at, _)| states[*at]) {
                match part {
                    Part::Any => next[at] = true,
                    Part::Name(letters) if fits(letters, name) => next[at + 1] = true,
                    Part::Name(_) => {}
                }
            }
            states = next;
            self.pass_gaps(&mut states);
        }
        is_end(&states) && !self.is_directory
    }

    /// `**` stands for nothing, too.
    fn pass_gaps(&self, states: &mut [bool]) {
        for (at, part) in self.parts.iter().enumerate() {
            if states[at] && *part == Part::Any {
                states[at + 1] = true;
            }
        }
    }
}

/// The parts of a pattern, which stands in that line.
fn parts(text: &str, line: &str) -> Result<Vec<Part>, String> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err(format!("the pattern {} has a part `.` or `..`", quoted(line)));
    }
    Ok(parts.into_iter().map(|part| if part == "**" { Part::Any } else { Part::Name(letters(part)) }).collect())
}

fn letters(part: &str) -> Vec<Letter> {
    let given: Vec<char> = part.chars().collect();
    let (mut letters, mut at) = (Vec::new(), 0);
    while let Some(&letter) = given.get(at) {
        at += 1;
        letters.push(match letter {
            '*' => Letter::Many,
            '?' => Letter::One,
            '\\' if at < given.len() => {
                at += 1;
                Letter::This(given[at - 1])
            }
            '[' => match set(&given[at..]) {
                Some((set, length)) => {
                    at += length;
                    set
                }
                None => Letter::This('['),
            },
            letter => Letter::This(letter),
        });
    }
    letters
}

/// What follows a `[`, with its length; `None` if it is never closed.
fn set(given: &[char]) -> Option<(Letter, usize)> {
    let negated = matches!(given.first(), Some('!' | '^'));
    let first = usize::from(negated);
    // A bracket that comes first is one of the letters.
    let length = given.iter().skip(first + 1).position(|letter| *letter == ']')? + first + 1;
    let inside = &given[first..length];
    let (mut ranges, mut at) = (Vec::new(), 0);
    while let Some(&from) = inside.get(at) {
        match inside.get(at + 2).filter(|_| inside[at + 1] == '-') {
            Some(&to) => {
                ranges.push((from, to));
                at += 3;
            }
            None => {
                ranges.push((from, from));
                at += 1;
            }
        }
    }
    Some((Letter::Of(ranges, negated), length + 1))
}

fn fits(letters: &[Letter], name: &str) -> bool {
    let pass = |states: &mut Vec<bool>| {
        for (at, letter) in letters.iter().enumerate() {
            if states[at] && *letter == Letter::Many {
                states[at + 1] = true;
            }
        }
    };
    let mut states = vec![false; letters.len() + 1];
    states[0] = true;
    pass(&mut states);
    for found in name.chars() {
        let mut next = vec![false; states.len()];
        for (at, letter) in letters.iter().enumerate().filter(|(at, _)| states[*at]) {
            match letter {
                Letter::Many => next[at] = true,
                Letter::One => next[at + 1] = true,
                Letter::This(wanted) => next[at + 1] |= *wanted == found,
                Letter::Of(ranges, negated) => {
                    let has = ranges.iter().any(|(from, to)| (*from..=*to).contains(&found));
                    next[at + 1] |= has != *negated;
                }
            }
        }
        states = next;
        pass(&mut states);
    }
    states[letters.len()]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn takes(patterns: &[&str], path: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        FilePatterns::new(&patterns, "/repo").unwrap().take(&path.split('/').collect::<Vec<_>>())
    }

    #[test]
    fn files_are_taken_as_the_toolkit_takes_them() {
        let table: &[(&[&str], &[&str], &[&str])] = &[
            (&["**/package-lock.json"], &["package-lock.json", "a/b/package-lock.json"], &["package-lock.json5"]),
            (&["*.lock"], &["a.lock", ".lock"], &["a/b.lock", "a.locks"]),
            (&["src"], &["src", "src/a", "src/b/c"], &["srcs", "a/src"]),
            (&["src/"], &["src/a"], &["src"]),
            (&["./src/*.rs", "!src/b.rs"], &["src/a.rs"], &["src/b.rs", "src/x/a.rs"]),
            (&["**", "!**/*.md", "docs/a.md"], &["x", "a/.hidden", "docs/a.md"], &["a.md", "docs/b.md"]),
            (&["a?c[0-9]", "[!x]y"], &["abc1", "zy"], &["ac1", "abcx", "xy"]),
            (&["a\\*", "[", "{a,b}"], &["a*", "[", "{a,b}"], &["ab", "a"]),
            (&["/repo/x", "/other/y"], &["x", "x/y"], &["y", "other/y"]),
            (&["# nothing", "", "a\n!a/b"], &["a/c"], &["a/b", "nothing"]),
            (&["**/test/**/*.js"], &["test/a.js", "x/test/y/z/a.js"], &["tests/a.js"]),
            (&["!a"], &[], &["a", "b"]),
        ];
        for (patterns, taken, left) in table {
            for path in *taken {
                assert!(takes(patterns, path), "{patterns:?} should take {path}");
            }
            for path in *left {
                assert!(!takes(patterns, path), "{patterns:?} should leave {path}");
            }
        }
        insta::assert_snapshot!(FilePatterns::new(&["--x".to_owned()], "/").unwrap_err(), @"`hashFiles` has no option `--x`; it has `--follow-symbolic-links`");
        let follows = |arguments: &[&str]| {
            FilePatterns::new(&arguments.iter().map(|&text| text.to_owned()).collect::<Vec<_>>(), "/")
                .unwrap()
                .follows_links
        };
        assert!(follows(&[FOLLOW_LINKS, "a"]) && !follows(&["a", FOLLOW_LINKS]) && !follows(&[]));
        insta::assert_snapshot!(FilePatterns::new(&["a/../b".to_owned()], "/").unwrap_err(), @"the pattern `a/../b` has a part `.` or `..`");
    }

    proptest! {
        #[test]
        fn any_pattern_is_read_and_matched(pattern in "[a-c*?!/\\[\\]\\\\^.-]{0,20}", path in "[a-c/]{0,20}") {
            if let Ok(patterns) = FilePatterns::new(&[pattern], "/a") {
                patterns.take(&path.split('/').collect::<Vec<_>>());
            }
        }
    }
}
