//! `[[gitlab]]`: instances of GitLab, whose workflows this service runs, and the runners that it is for them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::repositories::{OF_GITLAB, existing_profile};
use super::secrets::{SecretRef, read_ref};
use super::sections::{Claimed, SWEEP_INTERVAL, Sections, WORKFLOWS_DIR, sweep_interval};
use super::values::{base_url, is_profile_name, repository_directory};
use super::{Forks, Profile, Repository};
use crate::document::reader::quoted;
use crate::document::{Complaint, Item, Table, Value};

/// Instances of one file.
const MAX_INSTANCES: usize = 16;

/// Runners of one instance.
const MAX_RUNNERS: usize = 64;

/// The name of an instance that has none of its own.
const DEFAULT_NAME: &str = "gitlab";

/// What names forges that are no GitLab.
const TAKEN: [&str; 2] = ["github", "dayfly"];

const KEYS: &[&str] =
    &["name", "url", "ca_bundle", "webhook_secret", "token", "workflows_dir", "forks", "sweep", "project", "runner"];
const RUNNER_KEYS: &[&str] = &["name", "token", "profile", "limit"];

/// One `[[gitlab]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct GitLab {
    /// Letters of `[a-z0-9-]`, 1 to 40 of them; unique.
    pub name: String,
    /// Where people reach it; the API is below it. Ends with a slash.
    pub url: Url,
    /// Certificates to trust beside the usual ones.
    pub ca_bundle: Option<PathBuf>,
    /// What its webhooks are verified by; `None`: it sends none. With `whsec_` at its beginning it is the key of their
    /// signatures, else what they carry in `X-Gitlab-Token`.
    pub webhook_secret: Option<SecretRef>,
    /// What reads projects and sets statuses; `None`: its projects have no workflows of their own, only runners.
    pub token: Option<SecretRef>,
    /// Where workflows live in a project, without slashes at its ends.
    pub workflows_dir: String,
    /// What becomes of the merge requests of forks.
    pub forks: Forks,
    /// How often it is asked for what its webhooks did not bring; `None`: never.
    pub sweep: Option<Duration>,
    /// Whose events count; empty: those of every project that sends a webhook with the secret.
    pub projects: Vec<Repository>,
    /// In the order of the file; names are unique within the instance.
    pub runners: Vec<GitLabRunner>,
}

/// One `[[gitlab.runner]]`: jobs that GitLab plans and this service runs.
#[derive(Debug, Clone, PartialEq)]
pub struct GitLabRunner {
    /// Letters of `[a-z0-9-]`, 1 to 40 of them.
    pub name: String,
    /// The runner's authentication token.
    pub token: SecretRef,
    /// The machine of its jobs. Which jobs come, GitLab decides by the runner's tags.
    pub profile: String,
    /// Jobs at a time; `None`: as many as there is room for.
    pub limit: Option<u32>,
}

/// Reads the list of `[[gitlab]]`; `profiles` are those that exist.
pub(super) fn read(sections: &Sections<'_>, list: &Item<'_>, profiles: &[Profile]) -> Option<Vec<GitLab>> {
    let entries = entries(list, "gitlab", MAX_INSTANCES)?;
    let mut names = HashMap::new();
    let mut read = Vec::new();
    for entry in entries {
        let Some(table) = entry.table(KEYS) else { continue };
        let name = name(&table, &mut names, Some(DEFAULT_NAME.to_owned()));
        let url = table.required_hint("url", "like `url = \"https://gitlab.example.org\"`");
        let url = url.and_then(|item| base_url(&item, "tokens"));
        let ca_bundle = table.read("ca_bundle", |item| sections.existing_path(item, Claimed::Certificates));
        let directory = sections.directory();
        let webhook_secret = table.read("webhook_secret", |item| read_ref(item, directory));
        let token = table.read("token", |item| read_ref(item, directory));
        let workflows_dir = table.read_or("workflows_dir", WORKFLOWS_DIR.into(), repository_directory);
        let forks = table.read_or("forks", Forks::default(), Forks::read);
        let sweep = table.read_or("sweep", Some(SWEEP_INTERVAL), sweep_interval);
        let projects = table.read_or("project", Vec::new(), |item| OF_GITLAB.read(item, profiles, directory));
        let runners = table.read_or("runner", Vec::new(), |item| runners(item, profiles, directory));
        refuse_unread(&table);
        let (Some(name), Some(url)) = (name, url) else { continue };
        let gitlab =
            GitLab { name, url, ca_bundle, webhook_secret, token, workflows_dir, forks, sweep, projects, runners };
        read.push(gitlab);
    }
    Some(read)
}

/// What is said of projects that nothing reads.
fn refuse_unread(table: &Table<'_>) {
    if table.get("token").is_some() || table.is_misspelt("token") {
        return;
    }
    if let Some(projects) = table.get("project") {
        let complaint = Complaint::new("workflows of projects need a `token` that reads them");
        projects.refuse(complaint.hint("like `token = { file = \"gitlab-token\" }`, with the scope `api`"));
    }
}

fn runners(list: &Item<'_>, profiles: &[Profile], directory: &Path) -> Option<Vec<GitLabRunner>> {
    let mut names = HashMap::new();
    let mut read = Vec::new();
    for entry in entries(list, "gitlab.runner", MAX_RUNNERS)? {
        let Some(table) = entry.table(RUNNER_KEYS) else { continue };
        let token = table
            .required_hint(
                "token",
                "the runner's authentication token (`glrt-…`), like `token = { file = \"runner-token\" }`",
            )
            .and_then(|item| read_ref(&item, directory));
        let profile = table
            .required_hint("profile", "the machine of its jobs, like `profile = \"linux\"`")
            .and_then(|item| existing_profile(&item, profiles));
        let limit = table.read("limit", |item| item.integer_in(1..=10_000));
        let name = name(&table, &mut names, profile.clone());
        let (Some(name), Some(token), Some(profile)) = (name, token, profile) else { continue };
        read.push(GitLabRunner { name, token, profile, limit });
    }
    Some(read)
}

/// The elements of a list of tables.
fn entries<'a>(list: &Item<'a>, key: &str, most: usize) -> Option<Vec<Item<'a>>> {
    if let Value::Mapping(_) = list.node().value {
        let complaint = Complaint::new(format!("`{key}` is a list"));
        list.refuse(complaint.hint(format!("write `[[{key}]]`, once for each of them")));
        return None;
    }
    let entries = list.list()?;
    if let Some(excess) = entries.get(most) {
        excess.refuse(format!("more than {most} of `{key}`"));
        return None;
    }
    Some(entries)
}

/// The name of an entry, which no other has; `default` is absent after a complaint about what it would be.
fn name(table: &Table<'_>, first_lines: &mut HashMap<String, u32>, default: Option<String>) -> Option<String> {
    let item = table.get("name");
    let at = item.as_ref().unwrap_or(table.item());
    let name = match &item {
        Some(item) => item.non_empty_string()?.to_owned(),
        None => default?,
    };
    if !is_profile_name(&name) || TAKEN.contains(&name.as_str()) {
        let complaint = Complaint::new(format!("{} cannot be the name of a GitLab or a runner", quoted(&name)));
        at.refuse(complaint.hint("1 to 40 small letters, digits and `-`; not `github` or `dayfly`"));
        return None;
    }
    if let Some(line) = first_lines.insert(name.clone(), at.position().line) {
        let complaint = Complaint::new(format!("{} is the name of the entry in line {line}, too", quoted(&name)));
        at.refuse(complaint.hint("give each a `name` of its own"));
        return None;
    }
    Some(name)
}
