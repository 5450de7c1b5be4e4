//! `[[registry]]`: package registries that the host reaches for jobs, with credentials that no job sees.

use std::collections::HashMap;
use std::path::Path;

use axum::http::HeaderName;
use url::Url;

use super::repositories::existing_profile;
use super::secrets::{SecretRef, read_ref};
use super::values::{base_url, is_profile_name};
use super::{Config, Forks, Profile, RepositoryPattern};
use crate::document::reader::quoted;
use crate::document::{Complaint, Item, Table, Value};
use crate::forge::RepoName;

/// Registries of one file.
const MAX_REGISTRIES: usize = 64;

/// Scopes of one npm registry.
const MAX_SCOPES: usize = 64;

/// Longest user of a registry, in bytes.
const MAX_USER: usize = 255;

const KEYS: &[&str] = &[
    "name",
    "kind",
    "url",
    "token",
    "user",
    "password",
    "header",
    "value",
    "scopes",
    "others",
    "extra",
    "profiles",
    "repositories",
    "forks",
];

/// One `[[registry]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Registry {
    /// Letters of `[a-z0-9-]`, 1 to 40 of them; unique.
    pub name: String,
    pub kind: RegistryKind,
    /// Everything below it may be read, and nothing else. Ends with a slash.
    pub url: Url,
    pub credential: Option<RegistryCredential<SecretRef>>,
    /// The only profiles whose jobs may use it; `None`: all.
    pub profiles: Option<Vec<String>>,
    /// The only repositories whose jobs may use it; `None`: all.
    pub repositories: Option<Vec<RepositoryPattern>>,
    /// Whether jobs of forks may use it.
    pub forks: bool,
}

/// What speaks to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryKind {
    /// npm and what is like it; `None`: it has every package.
    Npm {
        scoped: Option<Scoped>,
    },
    /// pip and what is like it. `index` is the simple index's path below the address, which ends with a slash or is empty.
    Pypi {
        index: String,
        extra: bool,
    },
    /// Cargo, with a sparse index.
    Cargo {
        extra: bool,
    },
    Maven,
    /// Files that jobs fetch by themselves.
    Generic,
}

/// What a registry of npm has that does not have everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scoped {
    /// It has the packages of these; never empty.
    pub scopes: Vec<String>,
    /// Where machines find all others, by their own means. Ends with a slash.
    pub others: Url,
}

/// How the host shows itself to a registry; `S` is a secret's place before it is resolved and the secret afterwards.
#[derive(Debug, Clone, PartialEq)]
pub enum RegistryCredential<S> {
    /// As the kind of registry takes tokens.
    Token(S),
    Basic {
        user: String,
        password: S,
    },
    /// A header of its own.
    Header {
        name: HeaderName,
        value: S,
    },
}

impl<S> RegistryCredential<S> {
    /// The one secret in it.
    pub fn secret(&self) -> &S {
        match self {
            Self::Token(secret) | Self::Basic { password: secret, .. } | Self::Header { value: secret, .. } => secret,
        }
    }

    /// The same with another representation of the secret.
    pub fn with<T>(&self, secret: T) -> RegistryCredential<T> {
        match self {
            Self::Token(_) => RegistryCredential::Token(secret),
            Self::Basic { user, .. } => RegistryCredential::Basic { user: user.clone(), password: secret },
            Self::Header { name, .. } => RegistryCredential::Header { name: name.clone(), value: secret },
        }
    }
}

impl Registry {
    /// Whether a machine of that profile may use it that runs for `repo`, or for the fork of one. `None` is a repository that the
    /// configuration [has no name for](Config::named): it gets what all do.
    pub fn serves(&self, repo: Option<&RepoName>, profile: &str, is_fork: bool) -> bool {
        (self.forks || !is_fork)
            && self.profiles.as_ref().is_none_or(|allowed| allowed.iter().any(|name| name == profile))
            && self
                .repositories
                .as_ref()
                .is_none_or(|allowed| repo.is_some_and(|repo| allowed.iter().any(|pattern| pattern.matches(repo))))
    }
}

impl Config {
    /// Whether jobs of forks of `repo` may run and must not see what its own jobs of that profile read from registries.
    pub fn keeps_registries_from_forks(&self, forge: &str, repo: &RepoName, profile: &Profile) -> bool {
        let may_run = self.repository(forge, repo).is_some_and(|settings| settings.forks != Forks::Deny);
        let repo = self.named(forge, repo);
        may_run && self.registries.iter().any(|registry| !registry.forks && registry.serves(repo, &profile.name, false))
    }
}

/// Reads the list of `[[registry]]`; `profiles` are those that exist, and secrets' paths start at `directory`.
pub(super) fn read(list: &Item<'_>, profiles: &[Profile], directory: &Path) -> Option<Vec<Registry>> {
    if let Value::Mapping(_) = list.node().value {
        list.refuse(Complaint::new("registries are a list").hint("write `[[registry]]`, once for each of them"));
        return None;
    }
    let entries = list.list()?;
    if let Some(excess) = entries.get(MAX_REGISTRIES) {
        excess.refuse(format!("more than {MAX_REGISTRIES} registries"));
        return None;
    }
    let mut first_lines = HashMap::new();
    let read: Vec<Option<Registry>> = entries
        .iter()
        .map(|entry| {
            let registry = one(&entry.table(KEYS)?, profiles, directory)?;
            let line = entry.position().line;
            if let Some(first) = first_lines.insert(registry.name.clone(), line) {
                entry.refuse(format!("there is a registry `{}` already, in line {first}", registry.name));
            }
            Some(registry)
        })
        .collect();
    refuse_two_in_one_place(&entries, &read);
    read.into_iter().collect()
}

fn one(table: &Table<'_>, profiles: &[Profile], directory: &Path) -> Option<Registry> {
    let name = table.required_hint("name", "like `name = \"company\"`").and_then(|item| item.parse(registry_name));
    let url = table.required_hint("url", "like `url = \"https://packages.example.org/npm/\"`");
    let url = url.and_then(|item| base_url(&item, "packages and the credential"));
    let kind = kind(table);
    let credential = credential(table, directory);
    let allowed =
        table.read("profiles", |item| item.list()?.iter().map(|name| existing_profile(name, profiles)).collect());
    let repositories = table.read("repositories", |item| {
        item.list()?.iter().map(|name| name.parse(RepositoryPattern::parse_path)).collect()
    });
    let forks = table.read_or("forks", false, |item| item.bool());
    let (kind, url) = placed(kind?, url?);
    Some(Registry { name: name?, kind, url, credential: credential?, profiles: allowed, repositories, forks })
}

fn registry_name(text: &str) -> Result<String, Complaint> {
    if is_profile_name(text) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(format!("{} cannot be a registry's name", quoted(text)))
        .hint("1 to 40 small letters, digits and `-`"))
}

/// Files of a Python registry are beside its index, so that what may be read begins one level higher.
fn placed(kind: RegistryKind, mut url: Url) -> (RegistryKind, Url) {
    let RegistryKind::Pypi { extra, .. } = kind else { return (kind, url) };
    let path = url.path().to_owned();
    let index = ["simple/", "+simple/"].into_iter().find(|index| path.ends_with(&format!("/{index}")));
    let index = index.unwrap_or_default().to_owned();
    url.set_path(&path[..path.len() - index.len()]);
    (RegistryKind::Pypi { index, extra }, url)
}

fn scoped(table: &Table<'_>) -> Option<Scoped> {
    let scopes = table.read("scopes", |item| {
        let items = item.one_or_list();
        if items.is_empty() || items.len() > MAX_SCOPES {
            item.refuse(format!("must name 1 to {MAX_SCOPES} scopes"));
            return None;
        }
        items.iter().map(|item| item.parse(scope)).collect::<Option<Vec<String>>>()
    });
    let others = table.read("others", |item| base_url(item, "packages"));
    Some(Scoped { scopes: scopes?, others: others? })
}

/// npm asks one registry for each scope and one for everything else, so it has to know both.
fn whole_of_npm(table: &Table<'_>) {
    match (table.get("scopes"), table.get("others")) {
        (Some(item), None) => item.refuse(
            Complaint::new("`others` is not set: npm has to find what is in no scope")
                .hint("set it to the address of the registry that has everything else, usually the public one"),
        ),
        (None, Some(item)) => {
            item.refuse(Complaint::new("goes with `scopes` only").hint("name the scopes, or remove it"))
        }
        _ => {}
    }
}

fn kind(table: &Table<'_>) -> Option<RegistryKind> {
    let scoped = scoped(table);
    let extra = table.read_or("extra", false, |item| item.bool());
    let hint = "one of `npm`, `pypi`, `cargo`, `maven` and `generic`";
    let kind = table.required_hint("kind", hint)?.one_of(&[
        ("npm", RegistryKind::Npm { scoped }),
        ("pypi", RegistryKind::Pypi { index: String::new(), extra }),
        ("cargo", RegistryKind::Cargo { extra }),
        ("maven", RegistryKind::Maven),
        ("generic", RegistryKind::Generic),
    ])?;
    let misplaced = |key: &str, of: &str| {
        if let Some(item) = table.get(key) {
            item.refuse(format!("is for registries of kind {of} only"));
        }
    };
    if matches!(kind, RegistryKind::Npm { .. }) {
        whole_of_npm(table);
    } else {
        misplaced("scopes", "`npm`");
        misplaced("others", "`npm`");
    }
    if !matches!(kind, RegistryKind::Pypi { .. } | RegistryKind::Cargo { .. }) {
        misplaced("extra", "`pypi` and `cargo`");
    }
    Some(kind)
}

fn scope(text: &str) -> Result<String, Complaint> {
    let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.' | b'~');
    let named = text.strip_prefix('@').filter(|name| !name.is_empty() && name.bytes().all(is_letter));
    named.map(|_| text.to_owned()).ok_or_else(|| {
        Complaint::new(format!("{} is not a scope", quoted(text))).hint("like `@company`, in small letters")
    })
}

/// Nothing inside: there is none. Nothing outside: after a complaint.
fn credential(table: &Table<'_>, directory: &Path) -> Option<Option<RegistryCredential<SecretRef>>> {
    let secret = |key: &str| table.get(key).map(|item| read_ref(&item, directory));
    let (token, password, value) = (secret("token"), secret("password"), secret("value"));
    let user = table.get("user").map(|item| item.parse(user_name));
    let header = table.get("header").map(|item| item.parse(header_name));
    match (token, (user, password), (header, value)) {
        (None, (None, None), (None, None)) => Some(None),
        (Some(token), (None, None), (None, None)) => Some(Some(RegistryCredential::Token(token?))),
        (None, (Some(user), Some(password)), (None, None)) => {
            let (user, password) = (user?, password?);
            Some(Some(RegistryCredential::Basic { user, password }))
        }
        (None, (None, None), (Some(name), Some(value))) => {
            let (name, value) = (name?, value?);
            Some(Some(RegistryCredential::Header { name, value }))
        }
        _ => {
            let hint = "either `token`, or `user` and `password`, or `header` and `value`";
            table.item().refuse(Complaint::new("the keys of the credential do not go together").hint(hint));
            None
        }
    }
}

fn user_name(text: &str) -> Result<String, Complaint> {
    let is_name = (1..=MAX_USER).contains(&text.len()) && !text.chars().any(|c| c == ':' || c.is_control());
    is_name
        .then(|| text.to_owned())
        .ok_or_else(|| Complaint::new(format!("must have 1 to {MAX_USER} bytes, no control character and no `:`")))
}

fn header_name(text: &str) -> Result<HeaderName, Complaint> {
    const SET_BY_DAYFLY: [&str; 6] = ["accept", "connection", "content-length", "host", "range", "transfer-encoding"];
    let name = HeaderName::from_bytes(text.as_bytes()).ok();
    name.filter(|name| !SET_BY_DAYFLY.contains(&name.as_str())).ok_or_else(|| {
        Complaint::new(format!("{} cannot be the header of a credential", quoted(text))).hint("like `X-Api-Key`")
    })
}

/// Which of two registries a tool would ask must not be an accident.
fn refuse_two_in_one_place(entries: &[Item<'_>], read: &[Option<Registry>]) {
    let mut first_with: Vec<(&'static str, Option<String>, &Registry)> = Vec::new();
    for (entry, registry) in entries.iter().zip(read) {
        let Some(registry) = registry else { continue };
        for (place, scope) in places(&registry.kind) {
            let in_same = |known: &&(&'static str, Option<String>, &Registry)| {
                known.0 == place && known.1 == scope && may_meet(known.2, registry)
            };
            if let Some((_, _, first)) = first_with.iter().find(in_same) {
                let what = scope.as_ref().map_or_else(|| place.to_owned(), |scope| format!("{place} for `{scope}`"));
                let complaint = Complaint::new(format!("`{}` is {what} already for some profile", first.name));
                entry.refuse(
                    complaint
                        .hint("give each `profiles` of its own; or `scopes` (npm) or `extra = true` (pypi, cargo)"),
                );
                break;
            }
            first_with.push((place, scope, registry));
        }
    }
}

/// What a registry is to its tools, of which there can be only one.
fn places(kind: &RegistryKind) -> Vec<(&'static str, Option<String>)> {
    match kind {
        RegistryKind::Npm { scoped: None } => vec![("the registry of npm", None)],
        RegistryKind::Npm { scoped: Some(scoped) } => {
            scoped.scopes.iter().map(|scope| ("the registry of npm", Some(scope.clone()))).collect()
        }
        RegistryKind::Pypi { extra: false, .. } => vec![("the index of pip", None)],
        RegistryKind::Cargo { extra: false } => vec![("the registry of Cargo", None)],
        RegistryKind::Maven => vec![("the mirror of Maven", None)],
        RegistryKind::Pypi { .. } | RegistryKind::Cargo { .. } | RegistryKind::Generic => Vec::new(),
    }
}

/// Whether one machine may have both; repositories are not compared, as their patterns overlap.
fn may_meet(one: &Registry, other: &Registry) -> bool {
    match (&one.profiles, &other.profiles) {
        (Some(one), Some(other)) => one.iter().any(|name| other.contains(name)),
        _ => one.repositories.is_none() || other.repositories.is_none(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
