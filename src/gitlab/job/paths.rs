//! Which files of a project are meant, by the patterns of `paths` and `exclude`.
//!
//! `*` and `?` stand for letters within one part of a path, `**` for any number of parts, `[…]` for one of some letters, `{a,b}`
//! for either. A pattern of `paths` that names a directory means everything in it; one of `exclude` means what it names and
//! nothing else. Nothing outside of the project's directory is ever meant.

use crate::workflow::file_patterns::PathPattern;

/// Patterns that one with braces stands for, and letters of one.
const MAX_ALTERNATIVES: usize = 1000;
const MAX_PATTERN: usize = 4096;

/// Patterns of one list.
const MAX_PATTERNS: usize = 1000;

/// One list of patterns, `paths` or `exclude`.
#[derive(Debug, Clone, Default)]
pub struct Patterns(Vec<Wanted>);

/// What one line of the list means.
#[derive(Debug, Clone)]
struct Wanted {
    /// As it was given.
    text: String,
    alternatives: Vec<Alternative>,
}

#[derive(Debug, Clone)]
struct Alternative {
    pattern: PathPattern,
    /// The part that is no pattern, where a search begins; empty for the project's own directory.
    root: String,
}

impl Patterns {
    /// Reads a list for the project in that directory; gives with it what is wrong with which line. Variables are put in
    /// already.
    pub fn new(list: &[String], project: &str) -> (Self, Vec<String>) {
        let (mut wanted, mut complaints) = (Vec::new(), Vec::new());
        for text in list.iter().take(MAX_PATTERNS) {
            match Wanted::read(text, project) {
                Ok(read) => wanted.push(read),
                Err(complaint) => complaints.push(complaint),
            }
        }
        if list.len() > MAX_PATTERNS {
            complaints.push(format!("of {} paths only the first {MAX_PATTERNS} are used", list.len()));
        }
        (Self(wanted), complaints)
    }

    /// The places to search, relative to the project, none below another; the project itself is `.`.
    pub fn roots(&self) -> Vec<String> {
        let all = self.0.iter().flat_map(|wanted| &wanted.alternatives).map(|one| one.root.as_str());
        // `.\./` names the directory above only once its letters are read: nothing that is kept is there.
        let mut roots: Vec<&str> = all.filter(|root| root.split('/').all(|part| part != "..")).collect();
        roots.sort_unstable();
        roots.dedup();
        if roots.first() == Some(&"") {
            return vec![".".to_owned()];
        }
        let is_below = |path: &str, root: &str| path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
        let outermost = roots.iter().filter(|path| !roots.iter().any(|root| is_below(path, root)));
        outermost.map(|root| (*root).to_owned()).collect()
    }

    /// Whether a path below the project is meant, by itself or as a part of a directory that is.
    pub fn take(&self, path: &str) -> bool {
        let parts = parts(path);
        self.0.iter().any(|wanted| wanted.takes(&parts))
    }

    /// Whether exactly this path is named.
    pub fn name(&self, path: &str) -> bool {
        let parts = parts(path);
        self.0.iter().flat_map(|wanted| &wanted.alternatives).any(|one| one.pattern.is(&parts))
    }

    /// How many of these paths each line means, in the order of the list.
    pub fn counts<'p>(&self, paths: impl Iterator<Item = &'p str> + Clone) -> Vec<(&str, usize)> {
        let count = |wanted: &Wanted| paths.clone().filter(|path| wanted.takes(&parts(path))).count();
        self.0.iter().map(|wanted| (wanted.text.as_str(), count(wanted))).collect()
    }
}

impl Wanted {
    fn read(text: &str, project: &str) -> Result<Self, String> {
        let shown = crate::document::text::one_line(text, 200);
        if text.chars().nth(MAX_PATTERN).is_some() {
            return Err(format!("`{shown}`: a path has at most {MAX_PATTERN} characters"));
        }
        let alternatives = alternatives(text).ok_or_else(|| format!("`{shown}`: it stands for too many paths"))?;
        let below = |path: &String| {
            relative(path, project).ok_or_else(|| format!("`{shown}`: it is not below the project's directory"))
        };
        let read = |path: String| {
            let root = path.split('/').filter(|part| !part.is_empty());
            let root: Vec<String> = root.take_while(|part| !is_pattern(part)).map(unescaped).collect();
            let pattern = PathPattern::new(&path).map_err(|complaint| format!("`{shown}`: {complaint}"))?;
            Ok(Alternative { pattern, root: root.join("/") })
        };
        let alternatives = alternatives.iter().map(|path| below(path).and_then(read)).collect::<Result<_, String>>()?;
        Ok(Self { text: shown, alternatives })
    }

    fn takes(&self, parts: &[&str]) -> bool {
        self.alternatives.iter().any(|one| one.pattern.has(parts))
    }
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect()
}

/// Whether it has signs whose meaning nothing takes away.
fn is_pattern(part: &str) -> bool {
    let mut letters = part.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => _ = letters.next(),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// A part without the signs that take others' meaning away.
fn unescaped(part: &str) -> String {
    let (mut letters, mut out) = (part.chars(), String::new());
    while let Some(letter) = letters.next() {
        out.push(if letter == '\\' { letters.next().unwrap_or(letter) } else { letter });
    }
    out
}

/// A path below the project, without `.` and `..`; `None` for one that leads elsewhere or nowhere.
fn relative(path: &str, project: &str) -> Option<String> {
    if path.is_empty() {
        return None;
    }
    let resolved = |path: &str| {
        let mut out: Vec<String> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => _ = out.pop()?,
                part => out.push(part.to_owned()),
            }
        }
        Some(out)
    };
    if !path.starts_with('/') {
        // What leaves the project may come back into it, by its own name.
        let whole = resolved(&format!("{project}/{path}"))?;
        return below(&whole, &resolved(project)?);
    }
    below(&resolved(path)?, &resolved(project)?)
}

fn below(path: &[String], project: &[String]) -> Option<String> {
    path.strip_prefix(project).map(|rest| rest.join("/"))
}

/// The patterns without braces that this one stands for; `None` if they are too many.
fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(text) = open.pop() {
        match first_braces(&text) {
            None => done.push(text),
            Some((before, inside, after)) => {
                open.extend(inside.iter().rev().map(|choice| format!("{before}{choice}{after}")));
            }
        }
        if open.len() + done.len() > MAX_ALTERNATIVES {
            return None;
        }
    }
    Some(done)
}

/// The first braces that are closed: what is before, the choices in them, what is behind.
fn first_braces(text: &str) -> Option<(&str, Vec<&str>, &str)> {
    let (mut depth, mut begin, mut choice, mut choices, mut is_escaped) = (0_usize, 0, 0, Vec::new(), false);
    for (at, letter) in text.char_indices() {
        if std::mem::take(&mut is_escaped) {
            continue;
        }
        match letter {
            '\\' => is_escaped = true,
            '{' => {
                if depth == 0 {
                    (begin, choice) = (at, at + 1);
                }
                depth += 1;
            }
            ',' if depth == 1 => {
                choices.push(&text[choice..at]);
                choice = at + 1;
            }
            '}' if depth == 1 => {
                choices.push(&text[choice..at]);
                return Some((&text[..begin], choices, &text[at + 1..]));
            }
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns(list: &[&str]) -> Patterns {
        let list: Vec<String> = list.iter().map(|&line| line.to_owned()).collect();
        let (patterns, complaints) = Patterns::new(&list, "/builds/g/p");
        assert_eq!(complaints, [""; 0]);
        patterns
    }

    #[test]
    fn paths_mean_files_and_whole_directories() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("dist", &["dist", "dist/a", "dist/b/c"], &["dist2", "a/dist"]),
            ("dist/", &["dist", "dist/a"], &["distance"]),
            ("./dist//a", &["dist/a"], &["dist"]),
            ("*.txt", &["a.txt", ".txt"], &["b/a.txt", "a.txt2"]),
            ("**/*.txt", &["a.txt", "b/c/a.txt"], &["a.tx"]),
            ("build/**", &["build/a/b"], &["builds"]),
            ("a/**/b", &["a/b", "a/x/y/b", "a/x/b/c"], &["b"]),
            ("*", &["a", "a/b", ".git/x"], &[]),
            (".", &["a", ".git/x"], &[]),
            ("/builds/g/p", &["a"], &[]),
            ("/builds/g/p/x", &["x/y"], &["y"]),
            ("{a,b/{c,d}}.log", &["a.log", "b/c.log", "b/d.log"], &["c.log", "{a,b}.log"]),
            ("x{}y", &["xy"], &["x{}y"]),
            ("a{b", &["a{b"], &["ab"]),
            ("\\{a,b\\}", &["{a,b}"], &["a"]),
            ("[ab]?", &["ax", "b1"], &["c1", "a"]),
            ("ä b/ü", &["ä b/ü"], &["ü"]),
            ("a/../b", &["b"], &["a"]),
            ("../p/b", &["b"], &["p/b"]),
            ("!x", &["!x"], &["x"]),
            ("#x", &["#x"], &["x"]),
        ];
        for (pattern, taken, left) in table {
            let patterns = patterns(&[pattern]);
            for path in *taken {
                assert!(patterns.take(path), "{pattern} should take {path}");
            }
            for path in *left {
                assert!(!patterns.take(path), "{pattern} should leave {path}");
            }
        }
    }

    #[test]
    fn excluded_is_what_is_named_itself() {
        let excluded = patterns(&["dist", "tmp/**/*", "**/*.o"]);
        for (path, is_named) in
            [("dist", true), ("dist/a", false), ("tmp/a", true), ("tmp/a/b", true), ("x/y.o", true), ("tmp", false)]
        {
            assert_eq!(excluded.name(path), is_named, "{path}");
        }
    }

    #[test]
    fn searches_begin_where_patterns_stop_being_paths() {
        for (list, roots) in [
            (&["dist/a", "dist"][..], &["dist"][..]),
            (&["dist", "dist-2", "dist/x/*"], &["dist", "dist-2"]),
            (&["dist/*.txt", "*.txt"], &["."]),
            (&["a\\*b/{c,d}/**"], &["a*b/c", "a*b/d"]),
            (&["."], &["."]),
            (&[], &[]),
        ] {
            assert_eq!(patterns(list).roots(), roots, "{list:?}");
        }
        let counts = patterns(&["a", "*.b", "c"]);
        assert_eq!(counts.counts(["a", "a/x", "y.b"].into_iter()), [("a", 2), ("*.b", 1), ("c", 0)]);
    }

    #[test]
    fn nothing_elsewhere_is_meant() {
        let list = ["../other", "/etc/passwd", "", "/builds/g/p2", "a/../../../..", "fine"].map(str::to_owned);
        let (patterns, complaints) = Patterns::new(&list, "/builds/g/p");
        insta::assert_snapshot!(complaints.join("\n"), @"
        `../other`: it is not below the project's directory
        `/etc/passwd`: it is not below the project's directory
        ``: it is not below the project's directory
        `/builds/g/p2`: it is not below the project's directory
        `a/../../../..`: it is not below the project's directory
        ");
        assert_eq!(patterns.roots(), ["fine"]);
        let many = format!("{}x", "{a,b}".repeat(20));
        assert_eq!(Patterns::new(&[many], "/builds/g/p").1.len(), 1);
    }

    #[test]
    fn what_is_written_differently_leads_nowhere_else_either() {
        let list = [r".\./", "c"].map(str::to_owned);
        assert_eq!(Patterns::new(&list, "/builds/g/p").0.roots(), ["c"]);
    }

    proptest! {
        #[test]
        fn roots_lead_nowhere_else(list in prop::collection::vec("[a-c./*{},\\\\?\\[\\]!]{0,14}", 0..4), path in "[a-c/.]{0,12}") {
            let (patterns, _complaints) = Patterns::new(&list, "/builds/g/p");
            for root in patterns.roots() {
                prop_assert!(!root.starts_with('/') && root.split('/').all(|part| part != ".."), "{}", root);
            }
            patterns.take(&path);
        }
    }
}
