//! Pull requests, from branches of the repository and from forks.
//!
//! As at GitHub, a fork's commits are in the base repository too: `refs/pull/N/head` is where to fetch them.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::Forge;
use super::credentials::Caller;
use super::server::ApiError;
use super::state::{Shared, repository_json};

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

/// An open pull request.
#[derive(Debug, Clone)]
pub struct PullRequest {
    pub repository: String,
    pub number: u64,
    pub title: String,
    pub author: String,
    /// The head commit.
    pub sha: String,
    pub branch: String,
    /// The id and name of the fork, if it comes from one.
    pub fork: Option<(u64, String)>,
    pub base_sha: String,
    pub base: String,
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
                branch: new.branch.to_owned(),
                fork: new.from_fork.then(|| (fork_id, format!("{}/{name}", new.author))),
                base_sha,
                base: new.base.to_owned(),
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
        let find = || {
            let state = self.shared.state();
            let pulls = state.repository(repository).map(|found| found.pulls.as_slice()).unwrap_or_default();
            pulls.iter().find(|pull| pull.number == number).cloned()
        };
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, format!("`{repository}` has no pull request {number}"));
        let mut pull = find().ok_or_else(missing)?;
        pull.sha = self.commit_to_pull_request(&pull, &pull.sha, files).await?;
        let mut state = self.shared.state();
        let pulls = state.repository_mut(repository).map(|found| found.pulls.iter_mut()).into_iter().flatten();
        pulls.filter(|known| known.number == number).for_each(|known| *known = pull.clone());
        Ok(pull)
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

/// `GET /repos/OWNER/NAME/pulls/NUMBER`
pub async fn show(
    State(shared): State<Arc<Shared>>, Path((owner, name, number)): Path<(String, String, u64)>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "pull_requests", "read")?;
    let state = shared.state();
    let found = state.repository(&repository).ok_or_else(ApiError::not_found)?;
    let pull = found.pulls.iter().find(|pull| pull.number == number).ok_or_else(ApiError::not_found)?;
    Ok(Json(pull_json(pull, found.id)))
}

/// The pull request as GitHub's answers and payloads show it.
pub fn pull_json(pull: &PullRequest, repository_id: u64) -> Value {
    let base_repository = repository_json(repository_id, &pull.repository, false);
    let head_repository = match &pull.fork {
        Some((id, name)) => repository_json(*id, name, true),
        None => base_repository.clone(),
    };
    let owner = |repository: &Value| repository["owner"]["login"].as_str().unwrap_or_default().to_owned();
    let is_owner = owner(&base_repository) == pull.author;
    json!({
        "id": 2_000_000 + pull.number, "number": pull.number, "state": "open", "locked": false, "title": pull.title,
        "user": {"login": pull.author, "id": 583_231, "type": "User"}, "body": null, "draft": false, "merged": false,
        "author_association": if is_owner { "OWNER" } else if pull.fork.is_some() { "NONE" } else { "MEMBER" },
        "merge_commit_sha": null, "mergeable": null, "labels": [],
        "head": {"label": format!("{}:{}", owner(&head_repository), pull.branch), "ref": pull.branch, "sha": pull.sha,
            "repo": head_repository},
        "base": {"label": format!("{}:{}", owner(&base_repository), pull.base), "ref": pull.base, "sha": pull.base_sha,
            "repo": base_repository},
    })
}
