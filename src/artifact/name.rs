//! Which names of a guest's files are taken, and what they are called on the host. Pure.

use std::fmt;

use crate::document::reader::quoted;

/// Bytes of one part of a path, as file systems have it.
const MAX_PART: usize = 255;

/// Bytes of a path.
const MAX_PATH: usize = 4096;

/// Directories in a path.
const MAX_DEPTH: usize = 64;

/// A path, or a pattern of paths, that the caller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    written: String,
    parts: Vec<String>,
    is_absolute: bool,
}

/// Why a guest's name is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not what was asked for.
    Unasked,
    /// It has `..`, control characters or bytes that are no text, or is too long.
    Unsafe,
}

impl Wanted {
    /// Accepts relative and absolute paths whose parts may have `*` and `?`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("{} {why}", quoted(text)));
        if text.contains(['[', '\\']) {
            return refuse("has `[` or `\\`: the patterns here are `*` and `?`");
        }
        match parts(text.as_bytes()) {
            Some(parts) if parts.is_empty() => refuse("names no file"),
            Some(parts) => Ok(Self {
                written: text.to_owned(),
                is_absolute: text.starts_with('/'),
                parts: parts.into_iter().map(str::to_owned).collect(),
            }),
            None => refuse("cannot be an artifact: no `..`, no control characters, no very long names"),
        }
    }

    /// For the guest's shell: relative to [`Wanted::directory`].
    pub fn pattern(&self) -> String {
        self.parts.join("/")
    }

    /// Where the guest looks, if the command runs in `working`.
    pub fn directory<'a>(&self, working: &'a str) -> &'a str {
        if self.is_absolute { "/" } else { working }
    }

    /// The parts of a guest's path, if it is what was asked for or lies in it.
    pub fn admit<'p>(&self, path: &'p [u8]) -> Result<Vec<&'p str>, Refusal> {
        let path = parts(path).ok_or(Refusal::Unsafe)?;
        let is_asked = path.len() >= self.parts.len()
            && self.parts.iter().zip(&path).all(|(pattern, part)| matches(pattern.as_bytes(), part.as_bytes()));
        if is_asked { Ok(path) } else { Err(Refusal::Unasked) }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.written)
    }
}

/// The parts of a path, without `.` and empty ones; `None` for a path that nobody should make.
pub(crate) fn parts(path: &[u8]) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(path).ok().filter(|text| text.len() <= MAX_PATH)?;
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let is_safe = |part: &&str| *part != ".." && part.len() <= MAX_PART && !part.contains(char::is_control);
    (parts.len() <= MAX_DEPTH && parts.iter().all(is_safe)).then_some(parts)
}

/// Whether a part fits a pattern of `*` and `?`, as shells have it: neither stands for a dot at the start.
pub(crate) fn matches(pattern: &[u8], part: &[u8]) -> bool {
    if part.starts_with(b".") && !pattern.starts_with(b".") {
        return false;
    }
    // One place to go back to is enough: a later star can take what an earlier one could.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < part.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            // One character, which may have several bytes.
            Some(b'?') => {
                p += 1;
                t += 1;
                while part.get(t).is_some_and(|byte| byte & 0xc0 == 0x80) {
                    t += 1;
                }
            }
            Some(byte) if *byte == part[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    (p, t) = (at + 1, taken + 1);
                    star = Some((at, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_guest_writes_only_where_it_was_asked_to() {
        let decide = |wanted: &str, path: &str| match Wanted::parse(wanted).unwrap().admit(path.as_bytes()) {
            Ok(parts) => parts.join("/"),
            Err(refusal) => format!("{refusal:?}"),
        };
        for (wanted, path, expected) in [
            ("dist", "dist", "dist"),
            ("dist", "dist/a/b", "dist/a/b"),
            ("dist/", "./dist//a", "dist/a"),
            ("dist", "dist2", "Unasked"),
            ("dist", "Makefile", "Unasked"),
            ("dist", ".git/hooks/post-checkout", "Unasked"),
            ("dist", "dist/../Makefile", "Unsafe"),
            ("dist", "dist/a\nb", "Unsafe"),
            ("dist", "/dist/a", "dist/a"),
            ("out/*.bin", "out/a.bin", "out/a.bin"),
            ("out/*.bin", "out/.bin", "Unasked"),
            ("out/*.bin", "out/a.txt", "Unasked"),
            ("out/*.bin", "out", "Unasked"),
            ("*", "anything", "anything"),
            ("*", ".bashrc", "Unasked"),
            (".config/?", ".config/é", ".config/é"),
            ("/var/log/x.log", "var/log/x.log", "var/log/x.log"),
        ] {
            assert_eq!(decide(wanted, path), expected, "{wanted} {path:?}");
        }
    }

    #[test]
    fn what_cannot_be_wanted_is_refused_with_its_reason() {
        let complaints = ["", "/", "a/../b", "a[1]", "a\tb"].map(|text| Wanted::parse(text).unwrap_err());
        insta::assert_snapshot!(complaints.join("\n"), @r"
        `` names no file
        `/` names no file
        `a/../b` cannot be an artifact: no `..`, no control characters, no very long names
        `a[1]` has `[` or `\`: the patterns here are `*` and `?`
        `a\tb` cannot be an artifact: no `..`, no control characters, no very long names
        ");
    }

    proptest! {
        #[test]
        fn a_name_fits_itself_and_its_stars(name in "[a-z]{1,12}", cut in 0..12_usize) {
            let at = cut.min(name.len());
            prop_assert!(matches(name.as_bytes(), name.as_bytes()));
            let star = format!("{}*{}", &name[..at], &name[at..]);
            prop_assert!(matches(star.as_bytes(), name.as_bytes()));
            let longer = format!("{name}x");
            prop_assert!(!matches(name.as_bytes(), longer.as_bytes()));
        }

        #[test]
        fn what_is_admitted_stays_below(path in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(parts) = Wanted::parse("*").unwrap().admit(&path) {
                prop_assert!(!parts.is_empty());
                prop_assert!(parts.iter().all(|part| !part.is_empty() && *part != "." && *part != ".." && !part.contains('/')));
            }
        }
    }
}
