//! Which files are reports: paths with `*`, `?` and `**`, relative to the workspace or absolute.

use crate::artifact::name::{matches, parts};
use crate::document::reader::quoted;

/// Stands for any number of directories, none included.
const ANY_DEPTH: &str = "**";

/// A pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    written: String,
    parts: Vec<String>,
    is_absolute: bool,
}

impl Pattern {
    /// Accepts relative and absolute paths whose parts may have `*` and `?`, or be `**`.
    ///
    /// # Errors
    /// What cannot be a pattern, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("{} {why}", quoted(text)));
        if text.contains(['[', '\\', '{']) {
            return refuse("has `[`, `{` or `\\`: the patterns here are `*`, `?` and `**`");
        }
        let Some(mut parts) = parts(text.as_bytes()) else {
            return refuse("cannot be a report: no `..`, no control characters, no very long names");
        };
        parts.dedup_by(|a, b| *a == ANY_DEPTH && *b == ANY_DEPTH);
        if parts.is_empty() {
            return refuse("names no file");
        }
        let parts = parts.into_iter().map(str::to_owned).collect();
        Ok(Self { written: text.to_owned(), parts, is_absolute: text.starts_with('/') })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The directory in the guest to look in, as a path that no option of a program begins like: all parts before the first
    /// that has a wildcard.
    pub fn directory(&self) -> String {
        let fixed = self.parts[..self.parts.len() - 1].iter().take_while(|part| !part.contains(['*', '?']));
        let start = if self.is_absolute { "/" } else { "./" };
        format!("{start}{}", fixed.map(String::as_str).collect::<Vec<_>>().join("/"))
    }

    /// What the name of a file must fit, as `find -name` has it.
    pub fn name(&self) -> &str {
        match self.parts.last().map(String::as_str) {
            Some(ANY_DEPTH) | None => "*",
            Some(name) => name,
        }
    }

    /// Whether a path of the guest fits: relative paths to a relative pattern, others to an absolute one.
    pub fn takes(&self, path: &[u8]) -> bool {
        parts(path).is_some_and(|path| fits(&self.parts, &path))
    }
}

/// Dynamic programming over the parts, so that several `**` do not multiply.
fn fits(pattern: &[String], path: &[&str]) -> bool {
    let mut reachable = vec![false; path.len() + 1];
    reachable[0] = true;
    for part in pattern {
        let mut next = vec![false; path.len() + 1];
        if part == ANY_DEPTH {
            let mut is_reached = false;
            for (at, reached) in reachable.iter().enumerate() {
                is_reached |= reached;
                next[at] = is_reached;
            }
        } else {
            for (at, name) in path.iter().enumerate() {
                next[at + 1] = reachable[at] && matches(part.as_bytes(), name.as_bytes());
            }
        }
        reachable = next;
    }
    reachable[path.len()]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn files_fit_as_in_shells_with_globstar() {
        let takes = |pattern: &str, path: &str| Pattern::parse(pattern).unwrap().takes(path.as_bytes());
        for (pattern, path, expected) in [
            ("target/**/junit.xml", "target/junit.xml", true),
            ("target/**/junit.xml", "./target/nextest/default/junit.xml", true),
            ("target/**/junit.xml", "target/junit.xml.bak", false),
            ("target/**/junit.xml", "other/junit.xml", false),
            ("**/*.xml", "a.xml", true),
            ("**/*.xml", "a/.hidden/b.xml", true),
            ("**/*.xml", "a/.b.xml", false),
            ("**/reports/**/TEST-*.xml", "app/build/reports/x/y/TEST-a.xml", true),
            ("reports/**", "reports/a/b", true),
            ("lcov.info", "lcov.info", true),
            ("lcov.info", "sub/lcov.info", false),
            ("/tmp/*.tap", "tmp/a.tap", true),
            ("a/?.tap", "a/é.tap", true),
            ("**/**/**/a", &format!("{}a", "x/".repeat(60)), true),
            ("**/a", "a/../a", false),
        ] {
            assert_eq!(takes(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn only_a_directory_that_is_certain_is_searched() {
        let look = |text: &str| {
            let pattern = Pattern::parse(text).unwrap();
            format!("{} {}", pattern.directory(), pattern.name())
        };
        assert_eq!(look("target/**/junit.xml"), "./target junit.xml");
        assert_eq!(look("junit.xml"), "./ junit.xml");
        assert_eq!(look("-rf/*.xml"), "./-rf *.xml");
        assert_eq!(look("/tmp/r*/a/b.tap"), "/tmp b.tap");
        assert_eq!(look("a/b/**"), "./a/b *");
        for text in ["", "/", "../a", "a[1]", "a\nb", "{a,b}"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
