//! What the forge remembers.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use super::Options;
use super::deliveries::Attempt;
use super::faults::Fault;
use super::git::Bare;
use super::pulls::PullRequest;
use super::runners::Runner;
use super::transcript::Exchange;
use super::webhook::Webhook;
use super::workflow_jobs::WorkflowJob;

/// Everything that handlers share.
#[derive(Debug)]
pub struct Shared {
    pub options: Options,
    pub address: SocketAddr,
    pub directory: TempDir,
    pub plain_token: String,
    pub state: Mutex<State>,
    /// Told after every accepted write, for those who wait.
    pub changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
pub struct State {
    pub repositories: Vec<Repository>,
    /// From an earlier name to the repository's id.
    pub renamed: BTreeMap<String, u64>,
    pub tokens: BTreeMap<String, Grant>,
    pub statuses: Vec<Status>,
    pub check_runs: Vec<CheckRun>,
    pub writes: Vec<Write>,
    /// Of the REST API, if they are recorded.
    pub exchanges: Vec<Exchange>,
    pub faults: Vec<Fault>,
    pub webhook: Option<Webhook>,
    pub attempts: Vec<Attempt>,
    pub workflow_jobs: Vec<WorkflowJob>,
    pub runners: Vec<Runner>,
    /// So many of the next attempts do not arrive.
    pub lost_deliveries: usize,
    /// By whose budget it is.
    /// Answers that were known to whoever asked.
    pub unchanged: u64,
    pub calls_left: BTreeMap<&'static str, u64>,
    last_id: u64,
}

#[derive(Debug)]
pub struct Repository {
    pub id: u64,
    pub name: String,
    pub bare: Bare,
    pub pulls: Vec<PullRequest>,
    /// From account, in small letters, to role.
    pub roles: BTreeMap<String, String>,
}

/// What a minted token may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Names of repositories, `None` for all of the installation.
    pub repositories: Option<Vec<String>>,
    /// From permission to `read` or `write`.
    pub permissions: BTreeMap<String, String>,
    pub expires_at: SystemTime,
}

/// A commit status.
#[derive(Debug, Clone)]
pub struct Status {
    pub id: u64,
    pub repository: String,
    pub sha: String,
    pub context: String,
    pub state: String,
    pub description: Option<String>,
    pub target_url: Option<String>,
    pub created_at: SystemTime,
}

/// A check run, its content as the last write left it.
#[derive(Debug, Clone)]
pub struct CheckRun {
    pub id: u64,
    pub repository: String,
    pub head_sha: String,
    pub name: String,
    pub external_id: String,
    pub status: String,
    pub conclusion: Option<String>,
    pub details_url: Option<String>,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
    /// `title`, `summary` and `text`.
    pub output: Value,
}

/// A write that was accepted.
#[derive(Debug, Clone)]
pub struct Write {
    pub at: SystemTime,
    pub kind: WriteKind,
    pub repository: String,
    pub sha: String,
    /// What was sent.
    pub body: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteKind {
    Status,
    CheckRunCreated { id: u64 },
    CheckRunUpdated { id: u64 },
}

impl Shared {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn api_url(&self) -> String {
        format!("{}/api/v3", self.url())
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no handler panics while it holds the state")
    }

    pub fn bare_path(&self, repository: &str) -> PathBuf {
        self.directory.path().join(format!("{repository}.git"))
    }

    pub fn bare(&self, repository: &str) -> io::Result<Bare> {
        let state = self.state();
        let found = state.repository(repository).map(|found| found.bare.clone());
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no repository `{repository}`")))
    }
}

impl State {
    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        1000 + self.last_id
    }

    pub fn repository(&self, name: &str) -> Option<&Repository> {
        self.repositories.iter().find(|repository| repository.name == name)
    }

    pub fn repository_mut(&mut self, name: &str) -> Option<&mut Repository> {
        self.repositories.iter_mut().find(|repository| repository.name == name)
    }

    pub fn record(&mut self, kind: WriteKind, repository: &str, sha: &str, body: Value) {
        let (repository, sha) = (repository.to_owned(), sha.to_owned());
        self.writes.push(Write { at: SystemTime::now(), kind, repository, sha, body });
    }
}

impl Repository {
    /// The repository as GitHub's answers and payloads show it.
    pub fn to_json(&self) -> Value {
        repository_json(self.id, &self.name, false)
    }
}

/// A repository as GitHub's answers and payloads show it.
pub fn repository_json(id: u64, full_name: &str, is_fork: bool) -> Value {
    let (owner, name) = full_name.split_once('/').unwrap_or((full_name, ""));
    json!({
        "id": id, "node_id": format!("R_{id}"), "name": name, "full_name": full_name, "private": false, "fork": is_fork,
        "owner": {"login": owner, "id": 1, "type": "Organization"}, "default_branch": "main", "visibility": "public",
        "archived": false, "disabled": false,
    })
}
