//! What names a prepared thing: everything that it follows from. Pure.
//!
//! The recipe is always the one of the default branch; only the contents of the key's files are those of the commit at hand.
//! So a pull request can choose among what was made, by having the same lock files or others, and can change nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::config::Prepare;
use crate::forge::{DirectoryEntry, RepoName};
use crate::store::UpkeepKind;

/// Changes with the way in which things are prepared: what older versions made is not used any more.
const FORMAT: u32 = 1;

/// Entries from which on a forge's listing may lack some: what is not in it may be there nevertheless.
const FULL_LISTING: usize = 1000;

/// Whom something is prepared for, and on what it stands.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    pub kind: UpkeepKind,
    pub forge: &'a str,
    /// Nothing is shared between repositories.
    pub repo: &'a RepoName,
    pub profile: &'a str,
    /// The key of the bake, which stands for image, shape, monitor and this program. Empty for what does not depend on it.
    pub bake: &'a str,
}

/// Contents of a key's files at one commit, by path; those that are not there are not in here.
pub type Contents = BTreeMap<String, String>;

/// Why a commit has no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    #[error("none of the key's files ({0}) is there")]
    NoFile(String),
    #[error("`{0}` of the key is not a file")]
    NotAFile(String),
    #[error("the directory of `{0}` has too many entries to tell whether it is there")]
    TooManyEntries(String),
}

/// The hash of what `recipe` makes where the key's files have these contents: 32 hexadecimal digits.
///
/// # Errors
/// Where there is none of the files: nothing would tell one commit from another.
pub fn hash(base: &Base<'_>, recipe: &Prepare, contents: &Contents) -> Result<String, NoKey> {
    if contents.is_empty() {
        return Err(NoKey::NoFile(recipe.key.join(", ")));
    }
    let files: Vec<(&str, Option<&str>)> =
        recipe.key.iter().map(|path| (path.as_str(), contents.get(path).map(String::as_str))).collect();
    let Base { kind, forge, repo, profile, bake } = base;
    let repo = repo.as_str().to_ascii_lowercase();
    let parts = (FORMAT, kind.as_str(), forge, repo, profile, bake, &recipe.run, files);
    let text = serde_json::to_vec(&parts).expect("the parts of a key are plain data");
    Ok(hex::encode(&Sha256::digest(text)[..16]))
}

/// The directories in which the key's files are, without slashes at their ends; the repository's own is empty.
pub fn directories(recipe: &Prepare) -> BTreeSet<&str> {
    recipe.key.iter().map(|path| split(path).0).collect()
}

/// The contents of the key's files in the listings of their directories. A directory without a listing is not there.
pub fn contents(recipe: &Prepare, listings: &BTreeMap<&str, Vec<DirectoryEntry>>) -> Result<Contents, NoKey> {
    let mut contents = Contents::new();
    for path in &recipe.key {
        let (directory, name) = split(path);
        let Some(listing) = listings.get(directory) else { continue };
        match listing.iter().find(|entry| entry.name == name) {
            Some(entry) if entry.is_file && !entry.id.is_empty() => {
                contents.insert(path.clone(), entry.id.clone());
            }
            Some(_) => return Err(NoKey::NotAFile(path.clone())),
            None if listing.len() >= FULL_LISTING => return Err(NoKey::TooManyEntries(path.clone())),
            None => {}
        }
    }
    Ok(contents)
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recipe(key: &[&str]) -> Prepare {
        Prepare { key: key.iter().map(|&path| path.to_owned()).collect(), run: "make deps".into() }
    }

    fn file(name: &str, id: &str) -> DirectoryEntry {
        DirectoryEntry { name: name.into(), is_file: true, id: id.into() }
    }

    fn contents_of(pairs: &[(&str, &str)]) -> Contents {
        pairs.iter().map(|&(path, id)| (path.to_owned(), id.to_owned())).collect()
    }

    #[test]
    fn files_are_found_where_they_are_and_what_is_no_file_is_refused() {
        let wanted = recipe(&["a.lock", "web/a.lock", "web/b.lock", "gone/c.lock"]);
        assert_eq!(directories(&wanted), ["", "gone", "web"].into());
        let listings =
            BTreeMap::from([("", vec![file("a.lock", "1"), file("b.lock", "2")]), ("web", vec![file("a.lock", "3")])]);
        assert_eq!(contents(&wanted, &listings), Ok(contents_of(&[("a.lock", "1"), ("web/a.lock", "3")])));
        let directory = DirectoryEntry { is_file: false, ..file("a.lock", "9") };
        let listings = BTreeMap::from([("", vec![directory])]);
        assert_eq!(contents(&wanted, &listings), Err(NoKey::NotAFile("a.lock".into())));
        let many = (0..FULL_LISTING).map(|number| file(&number.to_string(), "1")).collect();
        let listings = BTreeMap::from([("", many)]);
        assert_eq!(contents(&wanted, &listings), Err(NoKey::TooManyEntries("a.lock".into())));
    }

    #[test]
    fn without_any_of_its_files_there_is_no_key() {
        let repo = RepoName::parse("demo/hello").unwrap();
        let base = Base { kind: UpkeepKind::Prepare, forge: "github", repo: &repo, profile: "linux", bake: "b" };
        let error = hash(&base, &recipe(&["a.lock", "b.lock"]), &Contents::new()).unwrap_err();
        assert_eq!(error.to_string(), "none of the key's files (a.lock, b.lock) is there");
        assert!(hash(&base, &recipe(&["a.lock", "b.lock"]), &contents_of(&[("b.lock", "1")])).is_ok());
    }

    /// Everything that a hash is made of.
    #[derive(Debug, Clone, PartialEq)]
    struct Parts {
        is_fill: bool,
        repo: String,
        profile: String,
        bake: String,
        run: String,
        files: Vec<(String, Option<String>)>,
    }

    impl Parts {
        fn hash(&self) -> Option<String> {
            let repo = RepoName::parse(&self.repo).unwrap();
            let kind = if self.is_fill { UpkeepKind::Fill } else { UpkeepKind::Prepare };
            let base = Base { kind, forge: "github", repo: &repo, profile: &self.profile, bake: &self.bake };
            let recipe =
                Prepare { key: self.files.iter().map(|(path, _)| path.clone()).collect(), run: self.run.clone() };
            let contents = self.files.iter().filter_map(|(path, id)| Some((path.clone(), id.clone()?))).collect();
            hash(&base, &recipe, &contents).ok()
        }
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let files = proptest::collection::btree_map("[ab]", proptest::option::of("[01]"), 1..3);
        let strategy = (any::<bool>(), "[ab]/[ab]", "[ab]", "[ab]", "[ab]{1,2}", files);
        strategy.prop_map(|(is_fill, repo, profile, bake, run, files)| Parts {
            is_fill,
            repo,
            profile,
            bake,
            run,
            files: files.into_iter().collect(),
        })
    }

    proptest! {
        /// Few values, so that equal ones come often.
        #[test]
        fn two_hashes_are_the_same_exactly_if_all_parts_are(one in parts(), other in parts()) {
            if let (Some(first), Some(second)) = (one.hash(), other.hash()) {
                prop_assert_eq!(one == other, first == second);
            }
            prop_assert_eq!(one.hash().is_none(), one.files.iter().all(|(_, id)| id.is_none()));
        }
    }
}
