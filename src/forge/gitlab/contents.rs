//! Reads commits, directories and files of a project.

use serde::Deserialize;
use serde_json::{Value, json};

use super::GitLab;
use super::client::{Call, unexpected};
use crate::forge::{CommitSha, DirectoryEntry, ForgeError, RepoAccess};

/// Largest accepted answer about one thing, in bytes. A commit's message may be long.
const MAX_ANSWER: usize = 1024 * 1024;
/// Entries of one page of a listing, pages that are read, and the largest page in bytes.
const PER_PAGE: usize = 100;
const MAX_PAGES: usize = 10;
const MAX_PAGE: usize = 1024 * 1024;
/// Room for what may stand beside a file's bytes.
const SLACK: usize = 1;

/// Mode of a symbolic link, which is no file of its own.
const SYMLINK: &str = "120000";

#[derive(Deserialize)]
struct Commit {
    id: String,
}

#[derive(Deserialize)]
struct Named {
    commit: Commit,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    mode: String,
}

/// A project, as far as it is asked for.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Project {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) path_with_namespace: String,
    pub(super) default_branch: Option<String>,
    #[serde(default)]
    pub(super) web_url: Value,
    #[serde(default)]
    pub(super) http_url_to_repo: Value,
}

impl Project {
    /// As events of GitLab tell of it.
    pub(super) fn as_event(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "path_with_namespace": self.path_with_namespace,
            "default_branch": self.default_branch,
            "web_url": self.web_url,
            "git_http_url": self.http_url_to_repo,
        })
    }
}

pub(super) async fn has_commit(gitlab: &GitLab, access: &RepoAccess, sha: &CommitSha) -> Result<bool, ForgeError> {
    let what = format!("looking for commit {} of {}", sha.short(), access.repo);
    let url = gitlab.client.of_project(&access.repo, ["repository", "commits", sha.as_str()]);
    match gitlab.client.ask::<Commit>(&Call::get(what, url, MAX_ANSWER)).await {
        Ok(commit) => Ok(commit.id == sha.as_str()),
        Err(ForgeError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) async fn resolve(gitlab: &GitLab, access: &RepoAccess, reference: &str) -> Result<CommitSha, ForgeError> {
    let what = format!("looking for `{reference}` of {}", access.repo);
    let (kind, name) = match (reference.strip_prefix("heads/"), reference.strip_prefix("tags/")) {
        (Some(branch), _) => ("branches", branch),
        (None, Some(tag)) => ("tags", tag),
        (None, None) => return Err(ForgeError::NotFound { what }),
    };
    if matches!(name, "" | "." | "..") {
        return Err(ForgeError::NotFound { what });
    }
    let call = Call::get(what, gitlab.client.of_project(&access.repo, ["repository", kind, name]), MAX_ANSWER);
    let named: Named = gitlab.client.ask(&call).await?;
    CommitSha::parse(&named.commit.id).map_err(|error| unexpected(&call.what, &error))
}

/// What GitLab says of the project.
pub(super) async fn project(gitlab: &GitLab, access: &RepoAccess) -> Result<Project, ForgeError> {
    let what = format!("reading about {}", access.repo);
    gitlab.client.ask(&Call::get(what, gitlab.client.of_project(&access.repo, []), MAX_ANSWER)).await
}

/// In the form that starts without a commit are told in, whatever the forge.
pub(super) async fn repository(gitlab: &GitLab, access: &RepoAccess) -> Result<Value, ForgeError> {
    let project = project(gitlab, access).await?;
    Ok(json!({
        "id": project.id,
        "name": access.repo.name(),
        "full_name": project.path_with_namespace,
        "default_branch": project.default_branch.as_deref().unwrap_or("main"),
        "html_url": project.web_url,
        "clone_url": project.http_url_to_repo,
        "owner": {"login": access.repo.owner(), "name": access.repo.owner()},
    }))
}

pub(super) async fn list_directory(
    gitlab: &GitLab, access: &RepoAccess, directory: &str, sha: &CommitSha,
) -> Result<Vec<DirectoryEntry>, ForgeError> {
    let what = format!("listing `{directory}` of {} at {}", access.repo, sha.short());
    check_path(&what, directory)?;
    let mut found = Vec::new();
    for page in 1..=MAX_PAGES {
        let mut url = gitlab.client.of_project(&access.repo, ["repository", "tree"]);
        url.query_pairs_mut()
            .append_pair("path", directory)
            .append_pair("ref", sha.as_str())
            .append_pair("per_page", &PER_PAGE.to_string())
            .append_pair("page", &page.to_string());
        let entries: Vec<Entry> = gitlab.client.ask(&Call::get(what.clone(), url, MAX_PAGE)).await?;
        let is_last = entries.len() < PER_PAGE;
        found.extend(entries.into_iter().take(PER_PAGE).map(|entry| DirectoryEntry {
            is_file: entry.kind == "blob" && entry.mode != SYMLINK,
            name: entry.name,
            id: entry.id,
        }));
        if is_last {
            break;
        }
    }
    // A directory that is not there is an empty list for older versions, and git keeps no empty ones.
    if found.is_empty() { Err(ForgeError::NotFound { what }) } else { Ok(found) }
}

pub(super) async fn read_file(
    gitlab: &GitLab, access: &RepoAccess, path: &str, sha: &CommitSha, limit: usize,
) -> Result<Vec<u8>, ForgeError> {
    let what = format!("reading `{path}` of {} at {}", access.repo, sha.short());
    check_path(&what, path)?;
    let mut url = gitlab.client.of_project(&access.repo, ["repository", "files", path, "raw"]);
    url.query_pairs_mut().append_pair("ref", sha.as_str());
    let bytes = gitlab.client.send(&Call::get(what.clone(), url, limit + SLACK)).await?.body;
    if bytes.len() > limit {
        return Err(ForgeError::Permanent { what, detail: format!("the file is larger than {limit} bytes") });
    }
    Ok(bytes)
}

fn check_path(what: &str, path: &str) -> Result<(), ForgeError> {
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        let detail = "the path has empty parts, `.` or `..`".to_owned();
        return Err(ForgeError::Permanent { what: what.to_owned(), detail });
    }
    Ok(())
}
