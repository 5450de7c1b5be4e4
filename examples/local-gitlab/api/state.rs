//! Everything that this GitLab knows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::git::Bare;
use super::requests::MergeRequest;
use super::statuses::Status;
use super::webhook::{Attempt, Webhook};
use super::{Api, BOT};

/// What the API and git take.
pub const TOKEN: &str = "glpat-for-tests-only";

/// Who pushes with [`Api::commit`].
pub const PUSHER: &str = "pusher";

/// Of what every request shares.
#[derive(Debug)]
pub struct Shared {
    pub address: SocketAddr,
    pub directory: tempfile::TempDir,
    pub state: Mutex<State>,
    /// Counts changes.
    pub changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub struct State {
    pub projects: Vec<Project>,
    /// Numbers of accounts by their names.
    pub users: BTreeMap<String, u64>,
    /// Roles by the number of the account.
    pub members: BTreeMap<u64, u64>,
    pub requests: Vec<MergeRequest>,
    pub notes: Vec<Note>,
    pub statuses: Vec<Status>,
    pub pipelines: Vec<Pipeline>,
    pub webhook: Option<Webhook>,
    pub deliveries: u64,
    /// What the webhook was sent, oldest first.
    pub attempts: Vec<Attempt>,
    /// Attempts that get lost on their way, from now on.
    pub lost: usize,
    /// The token may not look at webhooks.
    pub hides_webhooks: bool,
    /// Calls so far, and those that are left where they are limited.
    pub calls: u64,
    pub calls_left: Option<u64>,
    /// Pushes as the list of what happened has them, oldest first.
    pub pushes: Vec<Value>,
}

#[derive(Debug, Clone)]
pub struct Project {
    pub id: u64,
    pub path: String,
    pub bare: Bare,
}

#[derive(Debug, Clone)]
pub struct Note {
    pub id: u64,
    pub iid: u64,
    pub author: String,
    pub body: String,
}

#[derive(Debug, Clone)]
pub struct Pipeline {
    pub id: u64,
    pub sha: String,
    pub git_ref: String,
}

/// A refusal as GitLab words it.
#[derive(Debug)]
pub struct Refusal(pub StatusCode, pub String);

impl Refusal {
    pub fn not_found(what: &str) -> Self {
        Self(StatusCode::NOT_FOUND, format!("404 {what} Not Found"))
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "message": self.1 }))).into_response()
    }
}

impl Shared {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and tells who waits for that.
    pub fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let done = act(&mut self.state());
        self.changed.send_modify(|count| *count += 1);
        done
    }

    /// The project of a request that has the token. Its path may be written with the number, too.
    pub fn project(&self, named: &str, headers: &HeaderMap) -> Result<Project, Refusal> {
        self.authorize(headers)?;
        let state = self.state();
        let is_it = |project: &&Project| project.path == named || project.id.to_string() == named;
        state.projects.iter().find(is_it).cloned().ok_or_else(|| Refusal::not_found("Project"))
    }

    pub fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let is_ours = headers.get("private-token").is_some_and(|token| token.as_bytes() == TOKEN.as_bytes());
        if is_ours { Ok(()) } else { Err(Refusal(StatusCode::UNAUTHORIZED, "401 Unauthorized".to_owned())) }
    }
}

impl State {
    /// The number of an account, which is made if there is none.
    pub fn user(&mut self, name: &str) -> u64 {
        let next = 100 + self.users.len() as u64;
        *self.users.entry(name.to_owned()).or_insert(next)
    }
}

impl Api {
    /// Makes an empty project; gives its number.
    pub async fn create_project(&self, path: &str) -> std::io::Result<u64> {
        let place = self.shared.directory.path().join(format!("{path}.git"));
        std::fs::create_dir_all(place.parent().expect("a project is in a group"))?;
        let bare = Bare::create(place).await?;
        Ok(self.shared.change(|state| {
            state.user(BOT);
            let id = 15 + state.projects.len() as u64;
            state.projects.push(Project { id, path: path.to_owned(), bare });
            id
        }))
    }

    /// Commits files on top of a branch; gives the commit.
    pub async fn commit(&self, path: &str, branch: &str, files: &[(&str, &str)]) -> std::io::Result<String> {
        let bare = self.bare(path);
        let reference = format!("refs/heads/{branch}");
        let parent = bare.resolve(&reference).await?;
        let sha = bare.commit(&reference, parent.as_deref(), files, "A change").await?;
        let data = json!({
            "commit_count": 1, "action": "pushed", "ref_type": "branch", "commit_from": parent, "commit_to": sha, "ref": branch,
        });
        self.shared.change(|state| {
            let author = state.user(PUSHER);
            state.pushes.push(json!({
                "action_name": "pushed to", "author_id": author, "author_username": PUSHER, "push_data": data,
                "created_at": jiff::Timestamp::now().to_string(), "project": path,
            }));
        });
        Ok(sha)
    }

    /// Gives somebody a role: 30 is Developer, 40 Maintainer; 0 takes it away.
    pub fn set_member(&self, name: &str, level: u64) {
        self.shared.change(|state| {
            let user = state.user(name);
            state.members.insert(user, level);
        });
    }

    pub(super) fn bare(&self, path: &str) -> Bare {
        let state = self.shared.state();
        state.projects.iter().find(|project| project.path == path).expect("the project was made").bare.clone()
    }
}
