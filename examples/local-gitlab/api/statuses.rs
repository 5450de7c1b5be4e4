//! Commit statuses and the pipelines that they make, with GitLab's rules of what may follow what.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State as Shown};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::state::{Pipeline, Refusal, Shared, State};

/// What a pipeline takes to be made, in which another request may make one, too.
const MAKING: Duration = Duration::from_millis(20);

const STATES: [&str; 6] = ["pending", "running", "success", "failed", "canceled", "skipped"];

/// The status of one name in a pipeline, with all states that it was in.
#[derive(Debug, Clone)]
pub struct Status {
    pub id: u64,
    pub sha: String,
    pub name: String,
    pub git_ref: String,
    pub pipeline: u64,
    pub states: Vec<String>,
    pub description: Option<String>,
    pub target_url: Option<String>,
    pub coverage: Option<f64>,
}

impl Status {
    pub fn state(&self) -> &str {
        self.states.last().map_or("", String::as_str)
    }
}

#[derive(Debug, Deserialize)]
pub struct Asked {
    state: String,
    name: String,
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    description: Option<String>,
    target_url: Option<String>,
    coverage: Option<f64>,
    pipeline_id: Option<u64>,
}

pub async fn set(
    Shown(shared): Shown<Arc<Shared>>, Path((named, sha)): Path<(String, String)>, headers: HeaderMap,
    Json(asked): Json<Asked>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let project = shared.project(&named, &headers)?;
    let bad = |text: &str| Refusal(StatusCode::BAD_REQUEST, text.to_owned());
    if !STATES.contains(&asked.state.as_str()) {
        return Err(bad("state does not have a valid value"));
    }
    let texts = [Some(&asked.name), asked.description.as_ref(), asked.target_url.as_ref()];
    if texts.into_iter().flatten().any(|text| text.chars().count() > 255) {
        return Err(bad("is too long (maximum is 255 characters)"));
    }
    if project.bare.resolve(&sha).await?.as_deref() != Some(sha.as_str()) {
        return Err(Refusal::not_found("Commit"));
    }
    let git_ref = asked.git_ref.clone().unwrap_or_else(|| "main".to_owned());
    let pipeline = pipeline_of(&shared, &sha, &git_ref, asked.pipeline_id).await?;
    let status = shared.change(|state| state.set_status(&sha, git_ref, pipeline, asked))?;
    Ok((StatusCode::CREATED, Json(status_json(&status))))
}

async fn pipeline_of(shared: &Shared, sha: &str, git_ref: &str, named: Option<u64>) -> Result<u64, Refusal> {
    let is_it = |pipeline: &&Pipeline| match named {
        Some(id) => pipeline.id == id && pipeline.sha == sha,
        None => pipeline.sha == sha && pipeline.git_ref == git_ref,
    };
    let found = shared.state().pipelines.iter().rev().find(is_it).map(|pipeline| pipeline.id);
    match found {
        Some(id) => Ok(id),
        None if named.is_some() => Err(Refusal::not_found("Pipeline")),
        None => {
            tokio::time::sleep(MAKING).await;
            Ok(shared.change(|state| {
                let id = 500 + state.pipelines.len() as u64;
                state.pipelines.push(Pipeline { id, sha: sha.to_owned(), git_ref: git_ref.to_owned() });
                id
            }))
        }
    }
}

impl State {
    /// One that waits or runs goes on; one that has ended is followed by another of the same name.
    fn set_status(&mut self, sha: &str, git_ref: String, pipeline: u64, asked: Asked) -> Result<Status, Refusal> {
        let id = 9000 + self.statuses.len() as u64;
        let is_open = |status: &&mut Status| {
            status.pipeline == pipeline && status.name == asked.name && matches!(status.state(), "pending" | "running")
        };
        let Some(open) = self.statuses.iter_mut().find(is_open) else {
            let Asked { state, name, description, target_url, coverage, .. } = asked;
            let (sha, states) = (sha.to_owned(), vec![state]);
            let new = Status { id, sha, name, git_ref, pipeline, states, description, target_url, coverage };
            self.statuses.push(new.clone());
            return Ok(new);
        };
        let step = (open.state(), asked.state.as_str());
        if matches!(step, ("running", "pending" | "running") | ("pending", "pending")) {
            let text = format!("Cannot transition status via :{} from :{}", asked.state, open.state());
            return Err(Refusal(StatusCode::BAD_REQUEST, text));
        }
        open.states.push(asked.state);
        open.description = asked.description.or(open.description.take());
        open.target_url = asked.target_url.or(open.target_url.take());
        open.coverage = asked.coverage.or(open.coverage);
        Ok(open.clone())
    }
}

pub async fn list(
    Shown(shared): Shown<Arc<Shared>>, Path((named, sha)): Path<(String, String)>,
    Query(asked): Query<HashMap<String, String>>, headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    shared.project(&named, &headers)?;
    let state = shared.state();
    let is_asked = |status: &&Status| {
        status.sha == sha
            && asked.get("name").is_none_or(|name| *name == status.name)
            && asked.get("ref").is_none_or(|git_ref| *git_ref == status.git_ref)
    };
    Ok(Json(state.statuses.iter().rev().filter(is_asked).map(status_json).collect()))
}

fn status_json(status: &Status) -> Value {
    json!({
        "id": status.id, "sha": status.sha, "ref": status.git_ref, "status": status.state(), "name": status.name,
        "target_url": status.target_url, "description": status.description, "coverage": status.coverage,
        "pipeline_id": status.pipeline,
    })
}

impl Api {
    /// The statuses at a commit, oldest first.
    pub fn statuses(&self, sha: &str) -> Vec<Status> {
        self.shared.state().statuses.iter().filter(|status| status.sha == sha).cloned().collect()
    }

    /// How many pipelines a commit has.
    pub fn pipelines(&self, sha: &str) -> usize {
        self.shared.state().pipelines.iter().filter(|pipeline| pipeline.sha == sha).count()
    }
}
