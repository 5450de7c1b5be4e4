//! Under which name a cache is kept, and who may read and write it.
//!
//! GitLab gives the keys of protected refs another end than those of all others, unless a project asks for one cache for all. The
//! host keeps the two apart by itself as well: a ref that anybody may push to neither reads nor writes what protected refs read.

use sha2::{Digest as _, Sha256};

use super::variables::Variables;

/// Characters of a key.
const MAX_KEY: usize = 1024;

/// Keys to fall back on.
const MAX_FALLBACKS: usize = 10;

const PROTECTED: &str = "-protected";
const OPEN: &str = "-non_protected";

/// A cache's key, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

/// Who else sees what is written under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circle {
    /// Jobs of protected refs.
    Protected,
    /// All jobs of the project.
    Open,
}

impl Circle {
    /// The name of the part of the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::Open => "open",
        }
    }
}

/// How a cache is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub pulls: bool,
    pub pushes: bool,
}

impl Policy {
    /// Reads `policy`.
    ///
    /// # Errors
    /// It is none of the known ones.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (pulls, pushes) = match text {
            "" | "pull-push" => (true, true),
            "pull" => (true, false),
            "push" => (false, true),
            other => {
                let other = crate::document::text::one_line(other, 100);
                return Err(format!("unknown cache policy `{other}`: there are `pull`, `push` and `pull-push`"));
            }
        };
        Ok(Self { pulls, pushes })
    }
}

impl Key {
    /// A key with its variables put in and without what leads elsewhere.
    ///
    /// # Errors
    /// Nothing is left of it, or it is too long.
    pub fn new(text: &str, variables: &Variables) -> Result<Self, String> {
        let expanded = variables.expand(text);
        let shown = crate::document::text::one_line(&expanded, 100);
        match clean(&expanded) {
            key if key.is_empty() => Err(format!("the cache's key `{shown}` is empty")),
            key if key.chars().nth(MAX_KEY).is_some() => {
                Err(format!("the cache's key `{shown}` has more than {MAX_KEY} characters"))
            }
            key => Ok(Self(key)),
        }
    }

    /// The key of a cache that has none, which GitLab does not send.
    pub fn of_job(job: &str, git_ref: &str) -> Self {
        Self(clean(&format!("{job}/{git_ref}")))
    }

    /// For people.
    pub fn shown(&self) -> &str {
        &self.0
    }

    /// The name by which it is stored: no other begins with it.
    pub fn stored(&self) -> String {
        hex::encode(Sha256::digest(&self.0))
    }

    /// Who shares it, for a job whose ref is protected or not; `None` if the job may not.
    pub fn circle(&self, is_protected: bool) -> Option<Circle> {
        match (is_protected, self.0.ends_with(PROTECTED), self.0.ends_with(OPEN)) {
            (_, _, true) => Some(Circle::Open),
            (true, _, false) => Some(Circle::Protected),
            (false, false, false) => Some(Circle::Open),
            (false, true, false) => None,
        }
    }
}

/// The keys to fall back on, in order, with what is wrong with others. The last one, of a variable, is no key of protected refs.
pub fn fallbacks(keys: &[String], of_variable: Option<&str>, variables: &Variables) -> (Vec<Key>, Vec<String>) {
    let (mut found, mut complaints) = (Vec::new(), Vec::new());
    for text in keys.iter().take(MAX_FALLBACKS).filter(|text| !text.is_empty()) {
        match Key::new(text, variables) {
            Ok(key) => found.push(key),
            Err(complaint) => complaints.push(complaint),
        }
    }
    match of_variable.map(|text| Key::new(text, variables)) {
        Some(Ok(key)) if key.0.trim_end_matches(['.', ' ']).ends_with(PROTECTED) => {
            complaints.push(format!("CACHE_FALLBACK_KEY `{}` may not end with `{PROTECTED}`", key.shown()));
        }
        Some(Ok(key)) => found.push(key),
        Some(Err(complaint)) => complaints.push(complaint),
        None => {}
    }
    (found, complaints)
}

/// A key without what other systems would read as a way to somewhere else.
fn clean(key: &str) -> String {
    let decoded =
        key.replace("%2f", "/").replace("%2F", "/").replace("%2e", ".").replace("%2E", ".").replace('\\', "/");
    let mut parts: Vec<&str> = Vec::new();
    for part in decoded.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    while let Some(last) = parts.pop() {
        let last = last.trim_end();
        if !last.is_empty() {
            parts.push(last);
            break;
        }
    }
    parts.join("/")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::variables::Variable;
    use super::*;

    fn variables() -> Variables {
        Variables::new(vec![Variable::own("REF", "feature/x"), Variable::own("EMPTY", "")], "/t").unwrap()
    }

    #[test]
    fn keys_lead_nowhere() {
        for (text, key) in [
            ("default-protected", Some("default-protected")),
            ("$REF-1", Some("feature/x-1")),
            ("${REF}/../../..//a\\b", Some("a/b")),
            ("a%2Fb%2e", Some("a/b.")),
            ("a/ / \t", Some("a")),
            ("ключ 1 ", Some("ключ 1")),
            ("$EMPTY", None),
            ("..", None),
            (" ", None),
        ] {
            let found = Key::new(text, &variables()).ok();
            assert_eq!(found.as_ref().map(Key::shown), key, "{text}");
        }
        assert!(Key::new(&"x".repeat(2000), &variables()).is_err());
        assert_eq!(Key::of_job("test: [1]", "main").shown(), "test: [1]/main");
        assert_eq!(Key::of_job("a", "b").stored().len(), 64);
    }

    #[test]
    fn protected_refs_share_with_nobody_unless_they_are_asked_to() {
        for (key, of_protected, of_others) in [
            ("a-protected", Some(Circle::Protected), None),
            ("a-non_protected", Some(Circle::Open), Some(Circle::Open)),
            ("a", Some(Circle::Protected), Some(Circle::Open)),
        ] {
            let key = Key::new(key, &variables()).unwrap();
            assert_eq!((key.circle(true), key.circle(false)), (of_protected, of_others), "{key:?}");
        }
    }

    #[test]
    fn there_are_keys_to_fall_back_on() {
        let keys = ["one-$REF", "", "$EMPTY"].map(str::to_owned);
        let (found, complaints) = fallbacks(&keys, Some("last"), &variables());
        assert_eq!(found.iter().map(Key::shown).collect::<Vec<_>>(), ["one-feature/x", "last"]);
        assert_eq!(complaints, ["the cache's key `` is empty"]);
        let (found, complaints) = fallbacks(&[], Some("main-protected. "), &variables());
        assert!(found.is_empty());
        insta::assert_snapshot!(complaints[0], @"CACHE_FALLBACK_KEY `main-protected.` may not end with `-protected`");
    }

    #[test]
    fn policies_are_known_words() {
        assert_eq!(Policy::parse("pull"), Ok(Policy { pulls: true, pushes: false }));
        assert_eq!(Policy::parse(""), Policy::parse("pull-push"));
        insta::assert_snapshot!(Policy::parse("both").unwrap_err(), @"unknown cache policy `both`: there are `pull`, `push` and `pull-push`");
    }
}
