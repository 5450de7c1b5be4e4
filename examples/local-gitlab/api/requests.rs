//! Merge requests.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::Api;
use super::state::{Project, Refusal, Shared};

#[derive(Debug, Clone)]
pub struct MergeRequest {
    pub iid: u64,
    pub project: u64,
    /// Another one than `project` for a fork.
    pub source_project: u64,
    pub source_branch: String,
    pub sha: String,
    pub state: &'static str,
    pub author: String,
    pub title: String,
    pub draft: bool,
    pub changed_at: jiff::Timestamp,
}

/// What a person opens.
#[derive(Debug, Clone, Copy)]
pub struct NewMergeRequest<'a> {
    pub branch: &'a str,
    pub files: &'a [(&'a str, &'a str)],
    pub is_fork: bool,
    pub author: &'a str,
}

impl MergeRequest {
    pub fn is_fork(&self) -> bool {
        self.source_project != self.project
    }

    pub fn updated_at(&self) -> String {
        self.changed_at.to_string()
    }
}

impl Api {
    /// Commits `files` on a new branch, of a fork if so asked, and opens a merge request into `main`.
    pub async fn open_merge_request(&self, path: &str, new: NewMergeRequest<'_>) -> std::io::Result<MergeRequest> {
        let bare = self.bare(path);
        let iid = 1 + self.shared.state().requests.len() as u64;
        let main = bare.resolve("refs/heads/main").await?;
        let sha = bare.commit(&head(iid), main.as_deref(), new.files, "A change").await?;
        let project = self.project_of(path).id;
        if !new.is_fork {
            bare.commit(&format!("refs/heads/{}", new.branch), main.as_deref(), new.files, "A change").await?;
        }
        let request = MergeRequest {
            iid,
            project,
            source_project: if new.is_fork { 9000 } else { project },
            source_branch: new.branch.to_owned(),
            sha,
            state: "opened",
            author: new.author.to_owned(),
            title: "A change".to_owned(),
            draft: false,
            changed_at: jiff::Timestamp::now(),
        };
        self.shared.change(|state| {
            state.user(new.author);
            state.requests.push(request.clone());
        });
        Ok(request)
    }

    /// Pushes to a merge request; gives it as it is then.
    pub async fn push_to(&self, path: &str, iid: u64, files: &[(&str, &str)]) -> std::io::Result<MergeRequest> {
        let before = self.merge_request(iid).sha;
        let sha = self.bare(path).commit(&head(iid), Some(&before), files, "More").await?;
        self.change_request(iid, |request| request.sha = sha);
        Ok(self.merge_request(iid))
    }

    /// Closes a merge request.
    pub fn close(&self, iid: u64) {
        self.change_request(iid, |request| request.state = "closed");
    }

    pub fn merge_request(&self, iid: u64) -> MergeRequest {
        let state = self.shared.state();
        state.requests.iter().find(|request| request.iid == iid).expect("it was opened").clone()
    }

    fn change_request(&self, iid: u64, change: impl FnOnce(&mut MergeRequest)) {
        self.shared.change(|state| {
            let request = state.requests.iter_mut().find(|request| request.iid == iid).expect("it was opened");
            request.changed_at = jiff::Timestamp::now();
            change(request);
        });
    }

    pub(super) fn project_of(&self, path: &str) -> Project {
        let state = self.shared.state();
        state.projects.iter().find(|project| project.path == path).expect("the project was made").clone()
    }
}

/// Where GitLab keeps the head of a merge request, in the project that it is for.
fn head(iid: u64) -> String {
    format!("refs/merge-requests/{iid}/head")
}

pub async fn list(
    State(shared): State<Arc<Shared>>, Path(named): Path<String>, headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let project = shared.project(&named, &headers)?;
    let mut state = shared.state();
    let open: Vec<MergeRequest> =
        state.requests.iter().rev().filter(|r| r.project == project.id && r.state == "opened").cloned().collect();
    Ok(Json(open.iter().map(|request| request_json(request, state.user(&request.author))).collect()))
}

pub async fn show(
    State(shared): State<Arc<Shared>>, Path((named, iid)): Path<(String, u64)>, headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let project = shared.project(&named, &headers)?;
    let mut state = shared.state();
    let found = state.requests.iter().find(|r| r.project == project.id && r.iid == iid).cloned();
    let request = found.ok_or_else(|| Refusal::not_found("Merge Request"))?;
    Ok(Json(request_json(&request, state.user(&request.author))))
}

fn request_json(request: &MergeRequest, author: u64) -> Value {
    json!({
        "iid": request.iid, "title": request.title, "description": "", "state": request.state, "draft": request.draft,
        "source_branch": request.source_branch, "target_branch": "main", "source_project_id": request.source_project,
        "target_project_id": request.project, "sha": request.sha, "author": {"id": author, "username": request.author},
        "labels": [], "updated_at": request.updated_at(), "web_url": "",
    })
}
