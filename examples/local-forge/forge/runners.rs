//! Runners that are registered for one job each, and what such a runner asks the forge for.
//!
//! Under `/_runner` it speaks a small protocol of its own with the runner that the tests put into machines: what GitHub and its
//! runner say to each other is not documented. What surrounds it is: names are unique, a configuration is good for one session,
//! a runner at a job cannot be removed, and one that did its job is gone.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Forge;
use super::apps::Page;
use super::credentials::{Caller, random_token};
use super::server::ApiError;
use super::state::{Shared, State as Memory};

/// How long a runner waits for a job before it asks again.
const POLL: Duration = Duration::from_secs(20);

/// A registered runner.
#[derive(Debug, Clone)]
pub struct Runner {
    pub id: u64,
    pub name: String,
    /// As in the API's addresses: `repos/OWNER/NAME`, `orgs/NAME`, `enterprises/NAME`.
    pub place: String,
    pub labels: Vec<String>,
    pub token: String,
    /// Its configuration was used.
    pub has_session: bool,
    /// It waits for a job at this moment.
    pub is_online: bool,
    /// The job that it has.
    pub job: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRunner {
    name: String,
    runner_group_id: u64,
    labels: Vec<String>,
    #[serde(default)]
    work_folder: Option<String>,
}

impl Forge {
    /// All runners that are registered now.
    pub fn runners(&self) -> Vec<Runner> {
        self.shared.state().runners.clone()
    }

    /// Registers a runner with a place that nobody will ever run; gives its number.
    pub fn leave_runner(&self, place: &str, name: &str) -> u64 {
        let mut state = self.shared.state();
        let id = state.next_id();
        let (name, place, token) = (name.to_owned(), place.to_owned(), random_token("jit_"));
        let labels = vec!["self-hosted".to_owned()];
        let runner = Runner { id, name, place, labels, token, has_session: false, is_online: false, job: None };
        state.runners.push(runner);
        id
    }
}

pub async fn mint_for_repository(
    State(shared): State<Arc<Shared>>, Path((owner, name)): Path<(String, String)>, headers: HeaderMap,
    Json(new): Json<NewRunner>,
) -> Result<Response, ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "administration", "write")?;
    if shared.state().repository(&repository).is_none() {
        return Err(ApiError::not_found());
    }
    mint(&shared, format!("repos/{repository}"), new)
}

pub async fn mint_for_group(
    State(shared): State<Arc<Shared>>, Path((kind, name)): Path<(String, String)>, headers: HeaderMap,
    Json(new): Json<NewRunner>,
) -> Result<Response, ApiError> {
    let place = group_place(&shared, &headers, &kind, &name)?;
    mint(&shared, place, new)
}

fn group_place(shared: &Shared, headers: &HeaderMap, kind: &str, name: &str) -> Result<String, ApiError> {
    let caller = Caller::of_request(shared, headers)?;
    match kind {
        "orgs" => caller.require_in_organization("organization_self_hosted_runners")?,
        "enterprises" if matches!(caller, Caller::Person) => {}
        "enterprises" => return Err(ApiError::new(StatusCode::FORBIDDEN, "Resource not accessible by integration")),
        _ => return Err(ApiError::not_found()),
    }
    Ok(format!("{kind}/{name}"))
}

fn mint(shared: &Shared, place: String, new: NewRunner) -> Result<Response, ApiError> {
    let is_label = |label: &String| !label.trim().is_empty() && label.len() <= 256;
    if new.name.is_empty()
        || new.name.len() > 64
        || !(1..=100).contains(&new.labels.len())
        || !new.labels.iter().all(is_label)
    {
        return Err(ApiError::invalid("Validation Failed"));
    }
    if new.runner_group_id != 1 {
        return Err(ApiError::not_found());
    }
    let mut state = shared.state();
    if state.runners.iter().any(|runner| runner.place == place && runner.name == new.name) {
        return Err(ApiError::new(StatusCode::CONFLICT, "Already exists - A runner with the name already exists."));
    }
    let id = state.next_id();
    let token = random_token("jit_");
    let part = |value: Value| STANDARD.encode(value.to_string());
    let config = json!({
        ".runner": part(json!({
            "AgentId": id, "AgentName": new.name, "ServerUrl": shared.url(), "Ephemeral": true,
            "WorkFolder": new.work_folder.unwrap_or_else(|| "_work".to_owned()),
        })),
        ".credentials": part(json!({"Scheme": "OAuth", "Data": {"token": token}})),
        ".credentials_rsaparams": part(json!({"d": token})),
    });
    let runner = Runner {
        id,
        name: new.name,
        place,
        labels: new.labels,
        token,
        has_session: false,
        is_online: false,
        job: None,
    };
    let answer = json!({"runner": runner_json(&runner), "encoded_jit_config": part(config)});
    state.runners.push(runner);
    drop(state);
    shared.changed.send_replace(());
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

fn runner_json(runner: &Runner) -> Value {
    let is_online = runner.is_online || runner.job.is_some();
    let labels: Vec<Value> = runner.labels.iter().map(|label| json!({"name": label, "type": "custom"})).collect();
    json!({
        "id": runner.id, "name": runner.name, "os": "linux", "status": if is_online { "online" } else { "offline" },
        "busy": runner.job.is_some(), "ephemeral": true, "labels": labels,
    })
}

pub async fn list_of_repository(
    State(shared): State<Arc<Shared>>, Path((owner, name)): Path<(String, String)>, Query(page): Query<Page>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "administration", "write")?;
    Ok(list(&shared, &format!("repos/{repository}"), page))
}

pub async fn list_of_group(
    State(shared): State<Arc<Shared>>, Path((kind, name)): Path<(String, String)>, Query(page): Query<Page>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let place = group_place(&shared, &headers, &kind, &name)?;
    Ok(list(&shared, &place, page))
}

fn list(shared: &Shared, place: &str, page: Page) -> Json<Value> {
    let state = shared.state();
    let all: Vec<&Runner> = state.runners.iter().filter(|runner| runner.place == place).collect();
    let count = all.len();
    Json(json!({"total_count": count, "runners": page.of(all.into_iter().map(runner_json))}))
}

pub async fn downloads_of_repository(
    State(shared): State<Arc<Shared>>, Path((owner, name)): Path<(String, String)>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    Caller::of_request(&shared, &headers)?.require(&format!("{owner}/{name}"), "administration", "write")?;
    Ok(downloads())
}

pub async fn downloads_of_group(
    State(shared): State<Arc<Shared>>, Path((kind, name)): Path<(String, String)>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    group_place(&shared, &headers, &kind, &name)?;
    Ok(downloads())
}

/// The runner's newest archives.
fn downloads() -> Json<Value> {
    let archive = |os: &str, architecture: &str| {
        let filename = format!("actions-runner-{os}-{architecture}-2.999.1.tar.gz");
        json!({"os": os, "architecture": architecture, "download_url": format!("https://example.invalid/{filename}"),
            "filename": filename})
    };
    Json(json!([archive("osx", "x64"), archive("linux", "x64"), archive("linux", "arm64")]))
}

pub async fn remove_of_repository(
    State(shared): State<Arc<Shared>>, Path((owner, name, id)): Path<(String, String, u64)>, headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "administration", "write")?;
    remove(&shared, &format!("repos/{repository}"), id)
}

pub async fn remove_of_group(
    State(shared): State<Arc<Shared>>, Path((kind, name, id)): Path<(String, String, u64)>, headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let place = group_place(&shared, &headers, &kind, &name)?;
    remove(&shared, &place, id)
}

fn remove(shared: &Shared, place: &str, id: u64) -> Result<StatusCode, ApiError> {
    let mut state = shared.state();
    let runner = state.runners.iter().find(|runner| runner.place == place && runner.id == id);
    if runner.ok_or_else(ApiError::not_found)?.job.is_some() {
        return Err(ApiError::invalid("Bad request - Runner is currently running a job and cannot be deleted."));
    }
    state.runners.retain(|runner| runner.id != id);
    drop(state);
    shared.changed.send_replace(());
    Ok(StatusCode::NO_CONTENT)
}

fn runner_of<'s>(state: &'s mut Memory, headers: &HeaderMap) -> Result<&'s mut Runner, ApiError> {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let found = state.runners.iter_mut().find(|runner| Some(runner.token.as_str()) == token);
    found.ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "The runner registration has been deleted."))
}

/// `POST /_runner/sessions`: once.
pub async fn begin_session(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<StatusCode, ApiError> {
    let mut state = shared.state();
    let runner = runner_of(&mut state, &headers)?;
    if std::mem::replace(&mut runner.has_session, true) {
        return Err(ApiError::new(StatusCode::CONFLICT, "A session for this runner already exists."));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Says that a runner waits, as long as it does.
struct Online {
    shared: Arc<Shared>,
    id: u64,
}

impl Online {
    fn set(&self, is_online: bool) {
        let mut state = self.shared.state();
        state.runners.iter_mut().filter(|runner| runner.id == self.id).for_each(|runner| runner.is_online = is_online);
        drop(state);
        self.shared.changed.send_replace(());
    }
}

impl Drop for Online {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// `GET /_runner/message`: the next job with the runner's labels, or nothing for now.
pub async fn next_message(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Response, ApiError> {
    let id = {
        let mut state = shared.state();
        let runner = runner_of(&mut state, &headers)?;
        if !runner.has_session {
            return Err(ApiError::new(StatusCode::FORBIDDEN, "There is no session."));
        }
        runner.id
    };
    let mut changed = shared.changed.subscribe();
    let online = Online { shared: Arc::clone(&shared), id };
    online.set(true);
    let waiting = async {
        loop {
            runner_of(&mut shared.state(), &headers)?;
            if let Some(message) = assign(&shared, id) {
                return Ok(Json(message).into_response());
            }
            changed.changed().await.expect("the sender lives as long as the forge");
        }
    };
    tokio::time::timeout(POLL, waiting).await.unwrap_or_else(|_| Ok(StatusCode::NO_CONTENT.into_response()))
}

/// Gives the runner the first job that waits and has no other labels than the runner.
fn assign(shared: &Arc<Shared>, id: u64) -> Option<Value> {
    let mut state = shared.state();
    let runner = state.runners.iter().find(|runner| runner.id == id)?.clone();
    let has = |label: &String| runner.labels.iter().any(|own| own.eq_ignore_ascii_case(label));
    let reaches = |repository: &str| match runner.place.split_once('/') {
        Some(("repos", own)) => own == repository,
        Some(("orgs", organization)) => repository.split_once('/').is_some_and(|(owner, _)| owner == organization),
        _ => true,
    };
    let fits = |job: &&mut super::WorkflowJob| {
        job.status == "queued" && reaches(&job.repository) && job.labels.iter().all(has)
    };
    let job = state.workflow_jobs.iter_mut().find(fits)?;
    (job.status, job.runner) = ("in_progress", Some(runner.name.clone()));
    let (number, message) = (job.id, json!({"id": job.id, "name": job.name, "script": job.script}));
    let is_silent = job.is_silent;
    state.runners.iter_mut().filter(|other| other.id == id).for_each(|runner| runner.job = Some(number));
    drop(state);
    tell(shared, number, "in_progress", is_silent);
    Some(message)
}

/// `POST /_runner/complete`: the job is done, and so is the runner.
pub async fn complete(
    State(shared): State<Arc<Shared>>, headers: HeaderMap, Json(done): Json<Value>,
) -> Result<StatusCode, ApiError> {
    let mut state = shared.state();
    let runner = runner_of(&mut state, &headers)?.clone();
    let number = runner.job.ok_or_else(|| ApiError::invalid("The runner has no job."))?;
    state.runners.retain(|other| other.id != runner.id);
    drop(state);
    let conclusion = if done["result"] == "Succeeded" { "success" } else { "failure" };
    shared.change_workflow_job(number, |job| (job.status, job.conclusion) = ("completed", Some(conclusion.to_owned())));
    let is_silent = shared.state().workflow_jobs.iter().any(|job| job.id == number && job.is_silent);
    tell(&shared, number, "completed", is_silent);
    Ok(StatusCode::NO_CONTENT)
}

/// Delivers the event, beside everything else.
fn tell(shared: &Arc<Shared>, job: u64, action: &'static str, is_silent: bool) {
    let forge = Forge { shared: Arc::clone(shared) };
    if !is_silent {
        let payload = forge.workflow_job_payload(job, action);
        // How it went is recorded with the attempt.
        tokio::spawn(async move { forge.deliver("workflow_job", &payload).await.ok() });
    }
    shared.changed.send_replace(());
}
