//! `prepare`: what is installed once for many jobs, and the files that tell when it has to be installed anew.
//!
//! `fill` of a cache says the same of its content. It stands in a profile of the operator's configuration, or in a file of a repository's default branch (see
//! [`read_repository_file`]). Both are read by the same code into the same type.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sections::DAY;
use super::units::{duration_between, size_between};
use super::values::repository_file;
use crate::document::reader::quoted;
use crate::document::{Complaint, Diagnostic, Findings, Item, Reader, Table, toml};

/// Files of one key.
pub const MAX_KEY_FILES: usize = 32;

/// Bytes of `run`.
pub const MAX_RUN: usize = 64 << 10;

/// Profiles that one repository's file names.
const MAX_NAMED_PROFILES: usize = 64;

/// The name of a repository's own file, beside the directory of its workflows.
const FILE_NAME: &str = "prepare.toml";

/// What to install, and from which files it follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// Paths in the repository: lock files, mostly. While none of them changes, what was installed is used again.
    pub key: Vec<String>,
    /// A script, run like a step of a workflow.
    pub run: String,
}

/// A repository's own `prepare`, and the profiles that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryPrepare {
    pub prepare: Prepare,
    /// Not checked against the profiles that there are.
    pub profiles: Vec<String>,
}

/// `[prepared]`: how much of what was prepared is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreparedLimits {
    /// Bytes that all prepared snapshots take on the disk; 0: nothing is prepared.
    pub max_size: u64,
    /// How long one is kept that no job starts from.
    pub max_age: Duration,
}

/// Where a repository with workflows in `workflows_dir` may have a `prepare` of its own.
pub fn repository_path(workflows_dir: &str) -> String {
    match workflows_dir.rsplit_once('/') {
        Some((parent, _)) => format!("{parent}/{FILE_NAME}"),
        None => FILE_NAME.to_owned(),
    }
}

/// Reads the text of a repository's own file: the keys of a profile's `prepare`, and `profiles`.
///
/// # Errors
/// All mistakes, in the order of the text.
pub fn read_repository_file(file: &str, text: &str) -> Result<RepositoryPrepare, Vec<Diagnostic>> {
    let toml::Document { root, errors: damaged } = toml::read(file, text)?;
    if !damaged.is_empty() {
        return Err(damaged);
    }
    let reader = Reader::new(file).of_tables();
    let read = reader.root(&root).table(&["key", "run", "profiles"]).and_then(|table| {
        let prepare = fields(&table);
        let profiles = table.required_hint("profiles", "the profiles that it is for, like `profiles = [\"linux\"]`");
        Some(RepositoryPrepare { profiles: profiles.and_then(|item| named_profiles(&item))?, prepare: prepare? })
    });
    let Findings { errors, .. } = reader.finish();
    match read {
        Some(read) if errors.is_empty() => Ok(read),
        _ => Err(errors),
    }
}

fn named_profiles(item: &Item<'_>) -> Option<Vec<String>> {
    let mut names = item.string_or_list()?;
    names.sort();
    names.dedup();
    if names.is_empty() || names.len() > MAX_NAMED_PROFILES {
        item.refuse(format!("must name 1 to {MAX_NAMED_PROFILES} profiles"));
        return None;
    }
    Some(names)
}

/// Reads a profile's `prepare`.
pub(super) fn read(item: &Item<'_>) -> Option<Prepare> {
    fields(&item.table(&["key", "run"])?)
}

fn fields(table: &Table<'_>) -> Option<Prepare> {
    let key = table.required_hint("key", "like `key = [\"package-lock.json\"]`").and_then(|item| key_files(&item));
    let run = table.required_hint("run", "like `run = \"npm ci\"`").and_then(|item| script(&item));
    Some(Prepare { key: key?, run: run? })
}

/// In an order of their own, so that the order in the file does not matter.
fn key_files(item: &Item<'_>) -> Option<Vec<String>> {
    let items = item.one_or_list();
    if items.is_empty() || items.len() > MAX_KEY_FILES {
        item.refuse(
            Complaint::new(format!("must name 1 to {MAX_KEY_FILES} files"))
                .hint("the files that tell what is installed, such as a lock file"),
        );
        return None;
    }
    let files: Vec<Option<String>> = items.iter().map(repository_file).collect();
    let mut files = files.into_iter().collect::<Option<Vec<String>>>()?;
    files.sort();
    files.dedup();
    Some(files)
}

fn script(item: &Item<'_>) -> Option<String> {
    let text = item.non_empty_string()?;
    if text.len() > MAX_RUN || text.contains('\0') {
        let complaint = Complaint::new(format!("must have at most {MAX_RUN} bytes, none of them NUL"));
        item.refuse(complaint.hint("put the script into the repository, and call it here"));
        return None;
    }
    Some(text.to_owned())
}

/// Reads `[prepared]`.
pub(super) fn limits(root: &Table<'_>) -> Option<PreparedLimits> {
    let table = root.section("prepared", &["max_size", "max_age"])?;
    Some(PreparedLimits {
        max_size: table.read_or("max_size", 20 << 30, |item| size_between(item, 0, 1 << 50)),
        max_age: table.read_or("max_age", 14 * DAY, |item| duration_between(item, DAY / 24, 3650 * DAY)),
    })
}

/// The complaint about a profile that a repository's file names and may not have.
pub fn no_such_profile(file: &str, name: &str, known: &[&str]) -> Diagnostic {
    let complaint = Complaint::new(format!("there is no profile {} for this repository", quoted(name)));
    complaint.suggest(name, known.iter().copied()).at(file, None, "profiles")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> String {
        let errors = read_repository_file(".dayfly/prepare.toml", text).unwrap_err();
        errors.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_repositorys_file_is_beside_its_workflows() {
        assert_eq!(repository_path(".dayfly/workflows"), ".dayfly/prepare.toml");
        assert_eq!(repository_path("ci/dayfly/jobs"), "ci/dayfly/prepare.toml");
        assert_eq!(repository_path("workflows"), "prepare.toml");
    }

    #[test]
    fn one_file_or_profile_needs_no_list_and_the_order_does_not_matter() {
        let one = read_repository_file("f", "key = \"a.lock\"\nrun = \"make deps\"\nprofiles = \"linux\"").unwrap();
        assert_eq!(one.prepare, Prepare { key: vec!["a.lock".into()], run: "make deps".into() });
        assert_eq!(one.profiles, ["linux"]);
        let two =
            |key: &str| read_repository_file("f", &format!("key = {key}\nrun = \"x\"\nprofiles = [\"b\", \"a\"]"));
        assert_eq!(two("[\"b\", \"a/c\"]"), two("[\"a/c\", \"b\", \"b\"]"));
    }

    #[test]
    fn every_mistake_of_a_repository_is_told_at_once() {
        insta::assert_snapshot!(mistakes("key = [\"../secret\", \"/etc/passwd\", \"a//b\"]\nruns = \"npm ci\"\nprofiles = []"), @"
        .dayfly/prepare.toml:1:8: key[0]: `../secret` is not a file inside a repository
          hint: write it relative to the repository, like `web/package-lock.json`; no patterns
        .dayfly/prepare.toml:1:21: key[1]: `/etc/passwd` is not a file inside a repository
          hint: write it relative to the repository, like `web/package-lock.json`; no patterns
        .dayfly/prepare.toml:1:36: key[2]: `a//b` is not a file inside a repository
          hint: write it relative to the repository, like `web/package-lock.json`; no patterns
        .dayfly/prepare.toml:2:1: runs: unknown key `runs`
          hint: did you mean `run`?
        .dayfly/prepare.toml:3:12: profiles: must name 1 to 64 profiles
        ");
        insta::assert_snapshot!(mistakes("key = []\nrun = \"\""), @r#"
        .dayfly/prepare.toml:1:1: profiles: missing key `profiles`
          hint: the profiles that it is for, like `profiles = ["linux"]`
        .dayfly/prepare.toml:1:7: key: must name 1 to 32 files
          hint: the files that tell what is installed, such as a lock file
        .dayfly/prepare.toml:2:7: run: must not be empty
        "#);
        insta::assert_snapshot!(mistakes("key = ["), @"
        .dayfly/prepare.toml:1:8: unclosed array, expected `]`
          hint: what follows is looked at when this is mended
        ");
        let long = format!("key = \"a\"\nprofiles = \"linux\"\nrun = \"{}\"", "x".repeat(MAX_RUN + 1));
        assert!(mistakes(&long).contains("at most 65536 bytes"));
    }
}
