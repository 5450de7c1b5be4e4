//! What paths and patterns of caches and artifacts mean: where to look in the guest, what of it is taken, and what it is
//! called in an artifact. Pure.

use crate::workflow::file_patterns::FilePatterns;

/// The patterns of one input, each with the place where its search begins.
#[derive(Debug)]
pub(super) struct Search {
    patterns: FilePatterns,
    /// Absolute paths in the guest, none below another.
    roots: Vec<String>,
}

impl Search {
    /// Patterns are relative to the workspace; `~` is the account's home.
    ///
    /// # Errors
    /// Patterns that mean nothing, in words.
    pub(super) fn new(patterns: &[String], workspace: &str, home: &str) -> Result<Self, String> {
        let absolute: Vec<String> =
            patterns.iter().filter(|line| !line.starts_with('#')).map(|line| absolute(line, workspace, home)).collect();
        let patterns =
            FilePatterns::of_list(&absolute, "/").map_err(|error| error.replace("`hashFiles` takes", "there are"))?;
        let wanted = absolute.iter().filter(|pattern| !pattern.starts_with('!'));
        let mut roots: Vec<String> = wanted.map(|pattern| literal(pattern)).collect();
        roots.sort();
        roots.dedup();
        let below = |root: &String, other: &String| root != other && is_below(root, other);
        let kept = roots.iter().filter(|root| !roots.iter().any(|other| below(root, other)));
        let roots = kept.cloned().collect();
        Ok(Self { patterns, roots })
    }

    /// Where to look.
    pub(super) fn roots(&self) -> &[String] {
        &self.roots
    }

    /// Whether an absolute path is meant.
    pub(super) fn takes(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        self.patterns.take(&parts)
    }

    /// Whether a part of the path, from the place where its search began, begins with a point.
    pub(super) fn is_hidden(&self, path: &str) -> bool {
        let root = self.roots.iter().find(|root| is_below(path, root)).map_or("", String::as_str);
        let parent = root.rsplit_once('/').map_or("", |(parent, _)| parent);
        path.strip_prefix(parent).unwrap_or(path).split('/').any(|part| part.starts_with('.'))
    }

    /// What the paths of these files in an artifact are relative to: what all searches have in common; for a single file
    /// that was named, its directory.
    pub(super) fn base(&self, files: &[String]) -> String {
        match (self.roots.as_slice(), files) {
            ([root], [file]) if root == file => file.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned(),
            ([root], _) => root.trim_end_matches('/').to_owned(),
            (roots, _) => common(roots),
        }
    }
}

/// Of paths in the order of a search those that are taken, without what is below one that is.
pub(super) fn outermost<'p>(search: &Search, paths: impl IntoIterator<Item = &'p str>) -> Vec<&'p str> {
    let mut taken: Vec<&str> = paths.into_iter().filter(|path| search.takes(path)).collect();
    taken.sort_unstable();
    taken.dedup();
    let mut kept: Vec<&str> = Vec::new();
    // Whatever is below a path follows it, but not at once: `a-b` comes between `a` and `a/b`.
    for path in taken {
        let is_inside = path.match_indices('/').any(|(at, _)| kept.binary_search(&&path[..at]).is_ok());
        if !is_inside {
            kept.push(path);
        }
    }
    kept
}

/// A path as tools in the workspace would name it.
pub(super) fn relative<'p>(path: &'p str, workspace: &str) -> &'p str {
    match path.strip_prefix(workspace) {
        Some("") => ".",
        Some(rest) => rest.strip_prefix('/').unwrap_or(path),
        None => path,
    }
}

fn is_below(path: &str, root: &str) -> bool {
    let root = root.trim_end_matches('/');
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn absolute(line: &str, workspace: &str, home: &str) -> String {
    let bangs = line.len() - line.trim_start_matches('!').len();
    let (bangs, pattern) = line.split_at(bangs);
    let pattern = pattern.trim();
    let path = match pattern {
        "~" => home.to_owned(),
        "." => workspace.to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => match path.strip_prefix("~/") {
            Some(rest) => format!("{home}/{rest}"),
            None => format!("{workspace}/{}", path.strip_prefix("./").unwrap_or(path)),
        },
    };
    format!("{}{path}", if bangs.len() % 2 == 1 { "!" } else { "" })
}

/// What of a pattern comes before its first part that is one.
fn literal(pattern: &str) -> String {
    let parts = pattern.split('/').filter(|part| !part.is_empty());
    let plain = parts.take_while(|part| !part.contains(['*', '?', '[']));
    plain.fold(String::new(), |path, part| format!("{path}/{}", unescaped(part)))
}

/// A part without the characters that take others' meaning away.
fn unescaped(part: &str) -> String {
    let mut letters = part.chars();
    let mut out = String::new();
    while let Some(letter) = letters.next() {
        out.push(if letter == '\\' { letters.next().unwrap_or(letter) } else { letter });
    }
    out
}

/// The directory that all paths are below, or the path that all are.
fn common(paths: &[String]) -> String {
    let mut paths = paths.iter().map(|path| path.split('/').collect::<Vec<_>>());
    let first = paths.next().unwrap_or_default();
    let shared = paths.fold(first, |shared, path| {
        let equal = shared.iter().zip(&path).take_while(|(one, other)| one == other).count();
        shared[..equal].to_vec()
    });
    shared.join("/")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn search(patterns: &[&str]) -> Search {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Search::new(&patterns, "/w/site", "/home/ci").unwrap()
    }

    #[test]
    fn searches_begin_where_patterns_stop_being_paths() {
        for (patterns, roots) in [
            (&["dist"][..], &["/w/site/dist"][..]),
            (&["./dist/", "~/.npm"], &["/home/ci/.npm", "/w/site/dist"]),
            (&["**/target", "deps/*.json"], &["/w/site"]),
            (&["dist/a/b.txt", "dist/**", "!dist/c"], &["/w/site/dist"]),
            (&["/opt/x?/y", "a[1]/b"], &["/opt", "/w/site"]),
            (&["dist", "dist-2"], &["/w/site/dist", "/w/site/dist-2"]),
        ] {
            assert_eq!(search(patterns).roots(), roots, "{patterns:?}");
        }
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let search = search(&["dist/**", "!dist/**/*.map", "~/logs"]);
        for (path, is_taken) in [
            ("/w/site/dist/a.js", true),
            ("/w/site/dist/b/a.js.map", false),
            ("/home/ci/logs/x/y", true),
            ("/w/site/src/a.js", false),
        ] {
            assert_eq!(search.takes(path), is_taken, "{path}");
        }
        assert!(Search::new(&["../x".to_owned()], "/w/site", "/home/ci").is_err());
    }

    #[test]
    fn names_in_an_artifact_are_relative_to_what_was_asked_for() {
        let base = |patterns: &[&str], files: &[&str]| {
            search(patterns).base(&files.iter().map(|&file| file.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(base(&["dist/a.txt"], &["/w/site/dist/a.txt"]), "/w/site/dist");
        assert_eq!(base(&["dist"], &["/w/site/dist/a.txt"]), "/w/site/dist");
        assert_eq!(base(&["dist/*.txt"], &["/w/site/dist/a.txt"]), "/w/site/dist");
        assert_eq!(base(&["dist", "docs/x"], &["/w/site/dist/a", "/w/site/docs/x"]), "/w/site");
        assert_eq!(base(&["dist/a", "/opt/b"], &["/w/site/dist/a", "/opt/b"]), "");
    }

    #[test]
    fn hidden_is_what_is_hidden_below_the_search() {
        let of_home = Search::new(&["out".to_owned()], "/home/.ci/site", "/home/.ci").unwrap();
        assert!(!of_home.is_hidden("/home/.ci/site/out/a"));
        assert!(of_home.is_hidden("/home/.ci/site/out/.git/a") && of_home.is_hidden("/home/.ci/site/out/.env"));
        assert!(search(&[".cache"]).is_hidden("/w/site/.cache/a"));
    }

    #[test]
    fn of_what_is_taken_only_the_outermost_is_packed() {
        let search = search(&["a", "**/b"]);
        let paths = ["/w/site/a", "/w/site/a/b", "/w/site/a-b", "/w/site/c/b", "/w/site/c/b/d", "/w/site/c"];
        assert_eq!(outermost(&search, paths), ["/w/site/a", "/w/site/c/b"]);
        assert_eq!(
            ["/w/site/a", "/w/site", "/opt/x", "/w/site-2"].map(|path| relative(path, "/w/site")),
            ["a", ".", "/opt/x", "/w/site-2"]
        );
    }
}
