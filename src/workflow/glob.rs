//! The patterns of branch, tag and path filters.
//!
//! `*` is anything within one part of a path, `**` anything at all, `?` and `+` repeat the letter before them (at most once,
//! at least once), `[…]` is one of some letters, `\` takes the next letter as it is, and a leading `!` takes matches back.
//! Patterns come from strangers: matching costs at most the product of the lengths, whatever the pattern.

use serde::{Deserialize, Serialize};

/// Characters of one pattern.
pub const MAX_PATTERN: usize = 1024;

/// Patterns in order, of which the last that matches decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Patterns in the order of the text.
    pub fn new(patterns: Vec<Pattern>) -> Self {
        Self(patterns)
    }

    /// Whether the patterns take `name`.
    pub fn takes(&self, name: &str) -> bool {
        self.0.iter().rev().find(|pattern| pattern.glob_matches(name)).is_some_and(|pattern| !pattern.negated)
    }

    /// Whether every pattern only takes matches back: then nothing is ever taken.
    pub fn are_all_negated(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|pattern| pattern.negated)
    }
}

/// One compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    source: String,
    negated: bool,
    atoms: Vec<Atom>,
}

/// A letter or gap and how often it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Atom {
    letters: Letters,
    fewest: Count,
    repeats: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    Zero,
    One,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Letters {
    One(char),
    Any,
    AnyButSlash,
    /// Inclusive ranges.
    Of(Vec<(char, char)>),
    /// `**/`: nothing, or whole directories with their slash.
    Directories,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(source: &str) -> Result<Self, String> {
        if source.chars().nth(MAX_PATTERN).is_some() {
            return Err(format!("a pattern has at most {MAX_PATTERN} characters"));
        }
        let (negated, text) = source.strip_prefix('!').map_or((false, source), |rest| (true, rest));
        if text.is_empty() {
            return Err(format!("the pattern `{source}` is empty"));
        }
        Ok(Self { source: source.to_owned(), negated, atoms: atoms(text)? })
    }

    fn glob_matches(&self, name: &str) -> bool {
        let letters: Vec<char> = name.chars().collect();
        let mut states = vec![false; self.atoms.len() + 1];
        states[0] = true;
        self.skip_optional(&mut states, None);
        let mut next = vec![false; states.len()];
        for (place, letter) in letters.iter().enumerate() {
            next.fill(false);
            for (at, atom) in self.atoms.iter().enumerate().filter(|(at, _)| states[*at]) {
                if !atom.letters.has(*letter) {
                    continue;
                }
                if atom.letters == Letters::Directories {
                    // Stays inside of the directories; leaves them only behind a slash.
                    next[at] = true;
                    next[at + 1] |= *letter == '/';
                } else {
                    next[at + 1] = true;
                    next[at] |= atom.repeats;
                }
            }
            std::mem::swap(&mut states, &mut next);
            self.skip_optional(&mut states, Some(letters[place]));
        }
        states[self.atoms.len()]
    }

    /// Passes over atoms that may stand for nothing. Directories may only be passed over where one could begin.
    fn skip_optional(&self, states: &mut [bool], before: Option<char>) {
        for (at, atom) in self.atoms.iter().enumerate() {
            let may_pass = atom.letters != Letters::Directories || before.is_none_or(|letter| letter == '/');
            if states[at] && atom.fewest == Count::Zero && may_pass {
                states[at + 1] = true;
            }
        }
    }
}

impl Letters {
    fn has(&self, letter: char) -> bool {
        match self {
            Self::One(only) => *only == letter,
            Self::Any | Self::Directories => true,
            Self::AnyButSlash => letter != '/',
            Self::Of(ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&letter)),
        }
    }
}

fn atoms(text: &str) -> Result<Vec<Atom>, String> {
    let letters: Vec<char> = text.chars().collect();
    let (mut atoms, mut at): (Vec<Atom>, usize) = (Vec::new(), 0);
    while let Some(&letter) = letters.get(at) {
        let starts_part = at == 0 || letters[at - 1] == '/';
        at += 1;
        let once = |letters| Atom { letters, fewest: Count::One, repeats: false };
        let any_number = |letters| Atom { letters, fewest: Count::Zero, repeats: true };
        match letter {
            '*' if letters.get(at) == Some(&'*') && letters.get(at + 1) == Some(&'/') && starts_part => {
                at += 2;
                atoms.push(any_number(Letters::Directories));
            }
            '*' if letters.get(at) == Some(&'*') => {
                at += 1;
                atoms.push(any_number(Letters::Any));
            }
            '*' => atoms.push(any_number(Letters::AnyButSlash)),
            '?' | '+' => {
                let repeated = atoms.last_mut().filter(|atom| atom.fewest == Count::One && !atom.repeats);
                let repeated = repeated
                    .ok_or_else(|| format!("`{letter}` repeats the letter before it, but there is none in `{text}`"))?;
                if letter == '?' { repeated.fewest = Count::Zero } else { repeated.repeats = true }
            }
            '[' => {
                let length = letters[at..].iter().position(|letter| *letter == ']');
                let length = length.filter(|length| *length > 0);
                let length = length.ok_or_else(|| format!("`[` has no letters and `]` after it in `{text}`"))?;
                atoms.push(once(Letters::Of(ranges(&letters[at..at + length], text)?)));
                at += length + 1;
            }
            '\\' => {
                let escaped = letters.get(at).ok_or_else(|| format!("nothing follows `\\` in `{text}`"))?;
                atoms.push(once(Letters::One(*escaped)));
                at += 1;
            }
            letter => atoms.push(once(Letters::One(letter))),
        }
    }
    Ok(atoms)
}

fn ranges(letters: &[char], text: &str) -> Result<Vec<(char, char)>, String> {
    let (mut ranges, mut at) = (Vec::new(), 0);
    while let Some(&first) = letters.get(at) {
        let last = letters.get(at + 2).copied().filter(|_| letters[at + 1] == '-');
        match last {
            Some(last) if last < first => return Err(format!("the range `{first}-{last}` in `{text}` is empty")),
            Some(last) => {
                ranges.push((first, last));
                at += 3;
            }
            None => {
                ranges.push((first, first));
                at += 1;
            }
        }
    }
    Ok(ranges)
}

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(source: String) -> Result<Self, String> {
        Self::parse(&source)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.source
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn takes(patterns: &[&str], name: &str) -> bool {
        Patterns::new(patterns.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect()).takes(name)
    }

    #[test]
    fn patterns_match_as_documented() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("feature/*", &["feature/a", "feature/"], &["feature/a/b", "feature"]),
            ("feature/**", &["feature/a", "feature/a/b"], &["features/a"]),
            ("main", &["main"], &["main2", "Main", ""]),
            ("*", &["main", ""], &["a/b"]),
            ("**", &["main", "a/b/c"], &[]),
            ("*feature", &["my-feature", "feature"], &["a/feature"]),
            ("v2*", &["v2", "v2.0"], &["v3"]),
            ("v[12].[0-9]+.[0-9]+", &["v1.10.1", "v2.0.0"], &["v3.1.1", "v1.1", "v1..1"]),
            ("*.jsx?", &["page.js", "page.jsx"], &["page.jsxx", "a/page.js"]),
            ("**.js", &["index.js", "src/js/app.js"], &["index.jsx"]),
            ("docs/*", &["docs/a.md"], &["docs/a/b.md"]),
            ("docs/**/*.md", &["docs/a.md", "docs/b/a.md", "docs/c/b/a.md"], &["docs/a.txt", "xdocs/a.md"]),
            ("**/docs/**", &["docs/a", "x/docs/a", "x/y/docs/b/c"], &["mydocs/a", "docs"]),
            ("**/README.md", &["README.md", "js/README.md"], &["myREADME.md"]),
            ("**/*src/**", &["a/src/app.js", "my-src/code/app.js"], &["src"]),
            ("a**/b", &["a/b", "ax/y/b"], &["ab"]),
            ("\\*\\?", &["*?"], &["a?"]),
            ("[a-cx]", &["b", "x"], &["d", "-"]),
        ];
        for (pattern, taken, left) in table {
            for name in *taken {
                assert!(takes(&[pattern], name), "{pattern} takes {name}");
            }
            for name in *left {
                assert!(!takes(&[pattern], name), "{pattern} leaves {name}");
            }
        }
    }

    #[test]
    fn the_last_match_decides() {
        let patterns = ["releases/**", "!releases/**-alpha", "releases/9-alpha"];
        assert!(takes(&patterns, "releases/10"));
        assert!(!takes(&patterns, "releases/10-alpha"));
        assert!(takes(&patterns, "releases/9-alpha"));
        assert!(!takes(&["!a"], "b"));
    }

    #[test]
    fn bad_patterns_say_what_is_wrong() {
        let complaint = |text: &str| Pattern::parse(text).unwrap_err();
        insta::assert_snapshot!(complaint("+a"), @"`+` repeats the letter before it, but there is none in `+a`");
        insta::assert_snapshot!(complaint("a[b"), @"`[` has no letters and `]` after it in `a[b`");
        insta::assert_snapshot!(complaint("[z-a]"), @"the range `z-a` in `[z-a]` is empty");
        insta::assert_snapshot!(complaint("!"), @"the pattern `!` is empty");
        insta::assert_snapshot!(complaint("a\\"), @r"nothing follows `\` in `a\`");
    }

    #[test]
    fn matching_takes_no_exponential_time() {
        let started = Instant::now();
        assert!(!takes(&[&"**a*".repeat(200)], &"a".repeat(4000).replace("aaaa", "aaab/")));
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    proptest! {
        #[test]
        fn any_pattern_and_name_are_decided(pattern in "[a-c*?+\\[\\]\\\\/!-]{0,12}", name in "[a-c/-]{0,12}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                Patterns::new(vec![pattern]).takes(&name);
            }
        }

        #[test]
        fn an_escaped_name_matches_itself_only(name in "[ -~é]{1,12}", other in "[ -~é]{1,12}") {
            let escaped: String = name.chars().flat_map(|letter| ['\\', letter]).collect();
            prop_assert!(takes(&[&escaped], &name));
            prop_assert_eq!(takes(&[&escaped], &other), name == other);
        }
    }
}
