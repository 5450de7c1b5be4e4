//! Which repositories may use the service, and what each may have.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::values::repository_directory;
use super::{Config, Profile, Repository, egress, given};
use crate::document::reader::quoted;
use crate::document::{Complaint, Item, Table, Value};
use crate::forge::RepoName;
use crate::net::egress::policy::Narrowing;

/// `owner/name`, or `owner/*` for all of an owner's, or of a group's and its subgroups'. Forges do not tell names apart by case, nor does this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryPattern {
    One(RepoName),
    AllOf { owner: String },
}

impl RepositoryPattern {
    /// Reads `owner/name` or `owner/*`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_flat = text.matches('/').count() == 1;
        let read = Self::parse_path(text).ok().filter(|_| is_flat);
        read.ok_or_else(|| format!("`{text}` is neither `owner/name` nor `owner/*`"))
    }

    /// Reads the path of a GitLab project, or that of a group with `/*` behind it: all projects in it, and in its subgroups.
    pub fn parse_path(text: &str) -> Result<Self, String> {
        let read = match text.strip_suffix("/*") {
            // An owner is whatever can stand before a repository's name.
            Some(owner) => RepoName::parse_path(&format!("{owner}/x")).map(|_| Self::AllOf { owner: owner.to_owned() }),
            None => RepoName::parse_path(text).map(Self::One),
        };
        read.map_err(|_| format!("`{text}` is neither `owner/name` nor `owner/*`"))
    }

    /// Whether it is about one repository alone.
    pub fn is_exact(&self) -> bool {
        matches!(self, Self::One(_))
    }

    /// Whether the pattern covers `repo`.
    pub fn matches(&self, repo: &RepoName) -> bool {
        match self {
            Self::One(name) => name.as_str().eq_ignore_ascii_case(repo.as_str()),
            Self::AllOf { owner } => {
                let (groups, rest) = repo.owner().split_at_checked(owner.len()).unwrap_or_default();
                owner.eq_ignore_ascii_case(groups) && (rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => name.fmt(out),
            Self::AllOf { owner } => write!(out, "{owner}/*"),
        }
    }
}

/// What becomes of the pull requests of forks: the code of people who may write nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forks {
    /// Held until somebody with write access approves the commit.
    #[default]
    Approve,
    /// Run like any other.
    Run,
    /// Never run.
    Deny,
}

impl Forks {
    /// Reads one of the three words.
    pub(super) fn read(item: &Item<'_>) -> Option<Self> {
        item.one_of(&[("approve", Self::Approve), ("run", Self::Run), ("deny", Self::Deny)])
    }
}

/// What one repository may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RepositorySettings<'c> {
    /// The directory of its workflows, without slashes at its ends.
    pub workflows_dir: &'c str,
    /// Other repositories that its jobs may fetch.
    pub submodules: &'c [RepoName],
    /// What becomes of the pull requests of its forks.
    pub forks: Forks,
    /// What of a profile's egress its jobs may not have.
    pub egress: Option<&'c Narrowing>,
    profiles: Option<&'c [String]>,
}

impl RepositorySettings<'_> {
    /// Whether its jobs may have `profile`.
    pub fn allows(&self, profile: &Profile) -> bool {
        self.profiles.is_none_or(|allowed| allowed.contains(&profile.name))
    }
}

impl Config {
    /// The settings of a forge's repository, or `None` if its events are to be ignored. An entry for the repository itself wins over one
    /// for all of its owner's.
    pub fn repository(&self, forge: &str, repo: &RepoName) -> Option<RepositorySettings<'_>> {
        let rules = self.rules_of(forge)?;
        let Some(entry) = self.entries_for(forge, repo).pop() else {
            let everybody = RepositorySettings {
                workflows_dir: rules.workflows_dir,
                submodules: &[],
                forks: rules.forks,
                egress: None,
                profiles: None,
            };
            return rules.repositories.is_empty().then_some(everybody);
        };
        Some(RepositorySettings {
            workflows_dir: entry.workflows_dir.as_deref().unwrap_or(rules.workflows_dir),
            submodules: &entry.submodules,
            forks: entry.forks.unwrap_or(rules.forks),
            egress: entry.egress.as_ref(),
            profiles: entry.profiles.as_deref(),
        })
    }
}

const KEYS: &[&str] =
    &["name", "workflows_dir", "profiles", "submodules", "forks", "egress", "vars", "secrets", "environment"];

/// How a forge's repositories stand in the file.
#[derive(Debug)]
pub(super) struct Entries {
    list_hint: &'static str,
    name_hint: &'static str,
    pattern: fn(&str) -> Result<RepositoryPattern, String>,
    name: fn(&str) -> Result<RepoName, String>,
}

/// `[[github.repository]]`.
pub(super) const OF_GITHUB: Entries = Entries {
    list_hint: "write `[[github.repository]]`, once for each of them",
    name_hint: "like `name = \"owner/name\"` or `name = \"owner/*\"`",
    pattern: RepositoryPattern::parse,
    name: RepoName::parse,
};

/// `[[gitlab.project]]`.
pub(super) const OF_GITLAB: Entries = Entries {
    list_hint: "write `[[gitlab.project]]`, once for each of them",
    name_hint: "like `name = \"group/project\"` or `name = \"group/*\"`",
    pattern: RepositoryPattern::parse_path,
    name: RepoName::parse_path,
};

impl Entries {
    /// Reads the list; `profiles` are those that exist.
    pub(super) fn read(&self, list: &Item<'_>, profiles: &[Profile], directory: &Path) -> Option<Vec<Repository>> {
        if let Value::Mapping(_) = list.node().value {
            list.refuse(Complaint::new("repositories are a list").hint(self.list_hint));
            return None;
        }
        let mut first_lines = HashMap::new();
        let mut read = Vec::new();
        for entry in list.list()? {
            let Some(table) = entry.table(KEYS) else { continue };
            let Some((name, repository)) = self.entry(&table, profiles, directory) else { continue };
            let pattern = &repository.pattern;
            if let Some(line) = first_lines.insert(pattern.to_string().to_ascii_lowercase(), name.position().line) {
                let complaint = Complaint::new(format!("`{pattern}` stands here a second time, first in line {line}"));
                name.refuse(complaint.hint("merge the two entries"));
            }
            read.push(repository);
        }
        Some(read)
    }

    /// One entry, and where it says its name; everything in it is looked at, even without a name.
    fn entry<'a>(&self, table: &Table<'a>, profiles: &[Profile], directory: &Path) -> Option<(Item<'a>, Repository)> {
        let name = table.required_hint("name", self.name_hint);
        let pattern = name.as_ref().and_then(|item| item.parse(self.pattern));
        let workflows_dir = table.read("workflows_dir", repository_directory);
        let allowed = table.read("profiles", |item| allowed_profiles(item, profiles));
        let submodules = table
            .read_or("submodules", Vec::new(), |item| item.list()?.iter().map(|name| name.parse(self.name)).collect());
        let forks = table.read("forks", Forks::read);
        let is_its = |profile: &&Profile| allowed.as_ref().is_none_or(|names| names.contains(&profile.name));
        let its_profiles: Vec<&Profile> = profiles.iter().filter(is_its).collect();
        let egress = table.read("egress", |item| egress::narrowing(item, &its_profiles));
        let given = given::read(table, directory);
        let environments = table.read_or("environment", Vec::new(), |item| given::read_environments(item, directory));
        let pattern = pattern?;
        let repository =
            Repository { pattern, workflows_dir, profiles: allowed, submodules, forks, egress, given, environments };
        Some((name?, repository))
    }
}

fn allowed_profiles(item: &Item<'_>, profiles: &[Profile]) -> Option<Vec<String>> {
    let names = item.list()?;
    if names.is_empty() {
        item.refuse(Complaint::new("an empty list allows no profile at all").hint("remove the key to allow all"));
    }
    names.iter().map(|name| existing_profile(name, profiles)).collect()
}

pub(super) fn existing_profile(item: &Item<'_>, profiles: &[Profile]) -> Option<String> {
    item.parse(|name| {
        let names = profiles.iter().map(|profile| profile.name.as_str());
        if names.clone().any(|known| known == name) {
            return Ok(name.to_owned());
        }
        let complaint = Complaint::new(format!("there is no profile {}", quoted(name)));
        Err(complaint.suggest(name, names))
    })
}
