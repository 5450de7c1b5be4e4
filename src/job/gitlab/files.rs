//! Files of the project in the machine: found by its own `find` and `git`, chosen by the host, moved by its `tar`.

use crate::gitlab::job::artifacts::Choice;
use crate::job::native::guest::{Hands, Trouble, names};

/// Tells everything in the places that are its arguments, below the working directory; directories with a `/` at the end.
const FIND: &str = r#"
for root in "$@"; do
  if [ -e "./$root" ] || [ -L "./$root" ]; then :; else continue; fi
  find "./$root" -type d -exec printf '%s/\0' {} +
  find "./$root" ! -type d -print0
done
exit 0
"#;

/// Tells what git does not know. Where there is no repository, that is nothing.
const UNTRACKED: &str = "git ls-files -o -z 2>/dev/null || exit 0";

/// Sends the files whose names come, and what they are: links stay links. Names begin with `./`.
pub(super) const SEND: &str = r#"
if tar --version 2>/dev/null | grep -q 'GNU tar'; then
  exec tar --format=gnu --hard-dereference --no-recursion -cf - --null -T -
fi
tr '\0' '\n' | grep -v '/$' | tar -cf - -T -
"#;

/// Files that were looked for.
#[derive(Debug)]
pub(super) struct Found {
    /// Relative to the project, each once, in order; directories end with `/`.
    pub(super) kept: Vec<String>,
    /// Lines of the job's list for which there is nothing.
    pub(super) missed: Vec<String>,
    pub(super) said: Vec<String>,
}

/// Looks for what is to be kept.
pub(super) async fn find(hands: &Hands<'_>, choice: &Choice) -> Result<Found, Trouble> {
    let roots = choice.paths.roots();
    let roots: Vec<&str> = roots.iter().map(String::as_str).collect();
    let found = if roots.is_empty() { Vec::new() } else { hands.names_of(FIND, &roots).await? };
    let found: Vec<String> = found.iter().filter_map(|path| plain(path)).collect();
    let untracked = if choice.untracked { hands.names_of(UNTRACKED, &[]).await? } else { Vec::new() };
    let kept = choice.of(&found, &untracked).into_iter().map(str::to_owned).collect();
    let (missed, said) = choice.remarks(&found, &untracked);
    Ok(Found { kept, missed, said })
}

/// Names as `tar` reads them: none looks like an option.
pub(super) fn list(kept: &[String]) -> Vec<u8> {
    names(kept.iter().map(|path| format!("./{path}")).collect::<Vec<_>>().iter().map(String::as_str))
}

/// Of paths in order those that are in none of the others.
pub(super) fn outermost(kept: &[String]) -> Vec<String> {
    let mut outer: Vec<String> = Vec::new();
    for path in kept {
        let is_inside = outer.last().is_some_and(|last| last.ends_with('/') && path.starts_with(last.as_str()));
        if !is_inside {
            outer.push(path.clone());
        }
    }
    outer
}

/// A path without `.` in it; nothing for the project's directory itself.
fn plain(path: &str) -> Option<String> {
    let is_directory = path.ends_with('/');
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() {
        return None;
    }
    Some(format!("{}{}", parts.join("/"), if is_directory { "/" } else { "" }))
}

/// What a path that `tar` sent is called in an archive; `None` for one that leads out of it.
pub(super) fn name_inside(path: &[u8]) -> Option<String> {
    let name = plain(std::str::from_utf8(path).ok()?)?;
    let name = name.strip_suffix('/').unwrap_or(&name);
    crate::depot::unpack::parts(name).is_some().then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_of_something_goes_with_it() {
        let kept = ["a", "a-b/", "a-b/c", "a/", "a/b/", "a/b/c", "ab", "d"].map(str::to_owned);
        assert_eq!(outermost(&kept), ["a", "a-b/", "a/", "ab", "d"]);
    }

    #[test]
    fn names_are_plain() {
        for (path, name) in [
            ("./dist/a", Some("dist/a")),
            ("././dist/", Some("dist")),
            ("./", None),
            ("./../a", None),
            ("/etc/passwd", Some("etc/passwd")),
            ("./-x ä", Some("-x ä")),
            ("./a\\b", None),
        ] {
            assert_eq!(name_inside(path.as_bytes()).as_deref(), name, "{path}");
        }
        assert_eq!(list(&["-x".to_owned(), "d/".to_owned()]), b"./-x\0./d/\0");
        assert_eq!(plain("./a//b/./"), Some("a/b/".to_owned()));
    }
}
