//! What the service's control socket tells about jobs.

use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::scene::Scene;

const ANSWER_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) conclusion: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) log_url: String,
    /// Only in the answer about one job; oldest first.
    #[serde(default)]
    pub(crate) events: Vec<Event>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Event {
    /// Microseconds since the epoch.
    pub(crate) at_us: i64,
    pub(crate) kind: String,
    pub(crate) detail: Option<String>,
}

impl Event {
    /// The number and the rest of a detail such as `2 success`.
    pub(crate) fn step(&self) -> Option<(u32, &str)> {
        let (number, rest) = self.detail.as_deref()?.split_once(' ')?;
        Some((number.parse().ok()?, rest))
    }
}

/// A client of the control socket.
#[derive(Debug)]
pub(crate) struct Control(reqwest::Client);

impl Control {
    pub(crate) fn connect(scene: &Scene) -> anyhow::Result<Self> {
        let socket = scene.config.server.control_socket();
        Ok(Self(reqwest::Client::builder().unix_socket(socket).timeout(ANSWER_LIMIT).build()?))
    }

    /// The jobs of a commit.
    pub(crate) async fn jobs(&self, sha: &str) -> anyhow::Result<Vec<Job>> {
        self.get(&format!("/v1/jobs?sha={sha}")).await
    }

    /// One job with its events.
    pub(crate) async fn job(&self, id: &str) -> anyhow::Result<Job> {
        self.get(&format!("/v1/jobs/{id}")).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let what = || format!("asking the control socket for `{path}`");
        let answer = self.0.get(format!("http://dayfly{path}")).send().await.with_context(what)?;
        let status = answer.status();
        let body = answer.text().await.with_context(what)?;
        if !status.is_success() {
            bail!("{}: {status}: {body}", what());
        }
        serde_json::from_str(&body).with_context(what)
    }
}
