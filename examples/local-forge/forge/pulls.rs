//! Pull requests, from branches of the repository and from forks.
//!
//! As at GitHub, a fork's commits are in the base repository too: `refs/pull/N/head` is where to fetch them.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Forge;
use super::apps::Page;
use super::credentials::Caller;
use super::server::ApiError;
use super::state::{Repository, Shared, repository_json};

/// What to open.
#[derive(Debug, Clone, Copy)]
pub struct NewPullRequest<'a> {
    pub title: &'a str,
    /// Changed on top of the base branch, by path.
    pub files: &'a [(&'a str, &'a str)],
    pub base: &'a str,
    pub branch: &'a str,
    pub author: &'a str,
    /// The branch is in the author's fork rather than in the repository.
    pub from_fork: bool,
}

impl Default for NewPullRequest<'_> {
    fn default() -> Self {
        Self { title: "A change", files: &[], base: "main", branch: "change", author: "octocat", from_fork: false }
    }
}

/// A pull request.
#[derive(Debug, Clone)]
pub struct PullRequest {
    pub repository: String,
    pub number: u64,
    pub title: String,
    pub author: String,
    /// The head commit.
    pub sha: String,
    /// The head commit before the last push.
    pub before: Option<String>,
    pub branch: String,
    /// The id and name of the fork, if it comes from one.
    pub fork: Option<(u64, String)>,
    pub base_sha: String,
    pub base: String,
    pub is_open: bool,
    pub created_at: SystemTime,
    /// Each change has a second of its own, so that what came before what can be told.
    pub updated_at: SystemTime,
}

impl Forge {
    /// Commits to a new branch (or fork) and opens a pull request from it.
    pub async fn open_pull_request(&self, repository: &str, new: NewPullRequest<'_>) -> io::Result<PullRequest> {
        let bare = self.shared.bare(repository)?;
        let base = bare.resolve(&format!("refs/heads/{}", new.base)).await?;
        let base_sha = base.ok_or_else(|| io::Error::other(format!("there is no branch `{}`", new.base)))?;
        let mut pull = {
            let mut state = self.shared.state();
            let fork_id = state.next_id();
            let name = repository.rsplit('/').next().unwrap_or_default();
            let known = state.repository(repository).map_or(0, |found| found.pulls.len() as u64);
            PullRequest {
                repository: repository.to_owned(),
                number: known + 1,
                title: new.title.to_owned(),
                author: new.author.to_owned(),
                sha: String::new(),
                before: None,
                branch: new.branch.to_owned(),
                fork: new.from_fork.then(|| (fork_id, format!("{}/{name}", new.author))),
                base_sha,
                base: new.base.to_owned(),
                is_open: true,
                created_at: SystemTime::now(),
                updated_at: SystemTime::now(),
            }
        };
        pull.sha = self.commit_to_pull_request(&pull, &pull.base_sha, new.files).await?;
        if let Some(found) = self.shared.state().repository_mut(repository) {
            found.pulls.push(pull.clone());
        }
        Ok(pull)
    }

    /// Commits on top of a pull request's head, and returns it as it is then.
    pub async fn push_to_pull_request(
        &self, repository: &str, number: u64, files: &[(&str, &str)],
    ) -> io::Result<PullRequest> {
        let pull = self.pull_request(repository, number)?;
        let sha = self.commit_to_pull_request(&pull, &pull.sha, files).await?;
        self.change_pull_request(repository, number, |pull| pull.before = Some(std::mem::replace(&mut pull.sha, sha)))
    }

    /// A pull request as it is now.
    pub fn pull_request(&self, repository: &str, number: u64) -> io::Result<PullRequest> {
        let state = self.shared.state();
        let found =
            state.repository(repository).and_then(|found| found.pulls.iter().find(|pull| pull.number == number));
        found.cloned().ok_or_else(|| missing(repository, number))
    }

    /// Closes a pull request without merging it, and returns it as it is then.
    pub fn close_pull_request(&self, repository: &str, number: u64) -> io::Result<PullRequest> {
        self.change_pull_request(repository, number, |pull| pull.is_open = false)
    }

    /// Opens a closed pull request again, and returns it as it is then.
    pub fn reopen_pull_request(&self, repository: &str, number: u64) -> io::Result<PullRequest> {
        self.change_pull_request(repository, number, |pull| pull.is_open = true)
    }

    /// Makes a pull request one that was opened and changed last so long ago.
    pub fn age_pull_request(&self, repository: &str, number: u64, age: Duration) -> io::Result<PullRequest> {
        self.change_pull_request(repository, number, |pull| {
            pull.created_at = SystemTime::now() - age;
            pull.updated_at = pull.created_at;
        })
    }

    fn change_pull_request(
        &self, repository: &str, number: u64, change: impl FnOnce(&mut PullRequest),
    ) -> io::Result<PullRequest> {
        let mut state = self.shared.state();
        let pulls = state.repository_mut(repository).map(|found| found.pulls.as_mut_slice()).unwrap_or_default();
        let found = pulls.iter_mut().find(|pull| pull.number == number);
        let pull = found.ok_or_else(|| missing(repository, number))?;
        pull.updated_at = SystemTime::now().max(pull.updated_at + Duration::from_secs(1));
        change(pull);
        Ok(pull.clone())
    }

    async fn commit_to_pull_request(
        &self, pull: &PullRequest, parent: &str, files: &[(&str, &str)],
    ) -> io::Result<String> {
        let bare = self.shared.bare(&pull.repository)?;
        if pull.fork.is_none() {
            bare.commit(&format!("refs/heads/{}", pull.branch), Some(parent), files, &pull.title).await?;
        }
        bare.commit(&format!("refs/pull/{}/head", pull.number), Some(parent), files, &pull.title).await
    }
}

fn missing(repository: &str, number: u64) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("`{repository}` has no pull request {number}"))
}

/// `GET /repos/OWNER/NAME/pulls/NUMBER`
pub async fn show(
    State(shared): State<Arc<Shared>>, Path((owner, name, number)): Path<(String, String, u64)>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "pull_requests", "read")?;
    let state = shared.state();
    let found = state.repository(&repository).ok_or_else(ApiError::not_found)?;
    let pull = found.pulls.iter().find(|pull| pull.number == number).ok_or_else(ApiError::not_found)?;
    Ok(Json(pull_json(pull, found)))
}

#[derive(Debug, Deserialize)]
pub struct ListFilter {
    #[serde(default = "default_state")]
    state: String,
    #[serde(default = "default_sort")]
    sort: String,
    #[serde(default = "default_direction")]
    direction: String,
}

fn default_state() -> String {
    "open".to_owned()
}

fn default_sort() -> String {
    "created".to_owned()
}

fn default_direction() -> String {
    "desc".to_owned()
}

/// `GET /repos/OWNER/NAME/pulls`
pub async fn list(
    State(shared): State<Arc<Shared>>, Path((owner, name)): Path<(String, String)>, Query(asked): Query<ListFilter>,
    Query(page): Query<Page>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "pull_requests", "read")?;
    let state = shared.state();
    let found = state.repository(&repository).ok_or_else(ApiError::not_found)?;
    let is_asked_for = |pull: &&PullRequest| match asked.state.as_str() {
        "open" => pull.is_open,
        "closed" => !pull.is_open,
        _ => true,
    };
    let mut pulls: Vec<&PullRequest> = found.pulls.iter().filter(is_asked_for).collect();
    match asked.sort.as_str() {
        "created" => pulls.sort_by_key(|pull| pull.created_at),
        "updated" => pulls.sort_by_key(|pull| pull.updated_at),
        other => return Err(ApiError::invalid(&format!("this forge cannot sort by `{other}`"))),
    }
    if asked.direction == "desc" {
        pulls.reverse();
    }
    Ok(Json(page.of(pulls.into_iter()).into_iter().map(|pull| pull_json(pull, found)).collect()))
}

/// The pull request as GitHub's answers and payloads show it.
pub fn pull_json(pull: &PullRequest, repository: &Repository) -> Value {
    let base_repository = repository.to_json();
    let head_repository = match &pull.fork {
        Some((id, name)) => repository_json(*id, name, true),
        None => base_repository.clone(),
    };
    let owner = |repository: &Value| repository["owner"]["login"].as_str().unwrap_or_default().to_owned();
    let time = |at: SystemTime| {
        let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Timestamp::from_second(seconds.cast_signed()).map(|at| at.to_string()).unwrap_or_default()
    };
    json!({
        "id": 2_000_000 + pull.number, "number": pull.number, "state": if pull.is_open { "open" } else { "closed" }, "locked": false, "title": pull.title,
        "user": {"login": pull.author, "id": 583_231, "type": "User"}, "body": null, "draft": false, "merged": false,
        "author_association": repository.association(&pull.author),
        "created_at": time(pull.created_at), "updated_at": time(pull.updated_at),
        "merge_commit_sha": null, "mergeable": null, "labels": [],
        "head": {"label": format!("{}:{}", owner(&head_repository), pull.branch), "ref": pull.branch, "sha": pull.sha,
            "repo": head_repository},
        "base": {"label": format!("{}:{}", owner(&base_repository), pull.base), "ref": pull.base, "sha": pull.base_sha,
            "repo": base_repository},
    })
}
