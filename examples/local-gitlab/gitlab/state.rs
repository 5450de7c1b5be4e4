//! Everything that this GitLab knows.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Options;
use super::artifacts::Artifact;
use super::faults::{Chance, Fault};

/// Of what every request shares.
#[derive(Debug)]
pub struct Shared {
    pub address: SocketAddr,
    pub state: Mutex<State>,
    /// Counts changes.
    pub changed: watch::Sender<u64>,
    pub options: Options,
}

#[derive(Debug, Default)]
pub struct State {
    pub runners: Vec<String>,
    pub jobs: Vec<Job>,
    pub violations: Vec<String>,
    /// Method and path of each.
    pub requests: Vec<(String, String)>,
    pub faults: Vec<Fault>,
    pub chance: Option<Chance>,
}

/// What a job is for GitLab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    Pending,
    /// A runner has it, and has not said yet that it runs it.
    WaitingForRunner,
    Running,
    Canceling,
    Success,
    Failed,
    Canceled,
}

impl JobState {
    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending | Self::WaitingForRunner => "pending",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether a runner may say something of it.
    pub fn is_with_runner(self) -> bool {
        matches!(self, Self::WaitingForRunner | Self::Running | Self::Canceling)
    }

    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Canceled)
    }
}

/// One job.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: u64,
    pub token: String,
    pub state: JobState,
    /// What the runner gets.
    pub description: Value,
    pub trace: Vec<u8>,
    /// After a mismatch the trace may begin anew.
    pub may_begin_anew: bool,
    pub failure_reason: Option<String>,
    pub exit_code: Option<i64>,
    /// Final states that were taken. More than one is a violation.
    pub finals: u32,
    /// Final states that were answered by 202.
    pub accepted: u32,
    /// Final states whose checksum did not fit.
    pub mismatches: u32,
    /// When its runner was last heard of.
    pub heard_at: Instant,
    /// States `pending` and `running` that were told.
    pub keep_alives: u32,
    pub artifacts: Vec<Artifact>,
}

impl Job {
    /// The trace as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.trace).into_owned()
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
}

impl State {
    pub fn job(&self, id: u64) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id == id)
    }

    pub fn job_mut(&mut self, id: u64) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.id == id)
    }

    pub fn add_job(&mut self, url: &str, description: Value) -> u64 {
        let id = 1001 + self.jobs.len() as u64;
        let token = random_token("glcbt-");
        let description = described(url, id, &token, description);
        self.jobs.push(Job {
            id,
            token,
            state: JobState::Pending,
            description,
            trace: Vec::new(),
            may_begin_anew: false,
            failure_reason: None,
            exit_code: None,
            finals: 0,
            accepted: 0,
            mismatches: 0,
            heard_at: Instant::now(),
            keep_alives: 0,
            artifacts: Vec::new(),
        });
        id
    }

    pub fn cancel(&mut self, id: u64, gracefully: bool) {
        let Some(job) = self.job_mut(id) else { return };
        job.state = match job.state {
            JobState::Running if gracefully => JobState::Canceling,
            state if state.is_final() => state,
            _ => JobState::Canceled,
        };
    }

    pub fn take_away(&mut self, id: u64) {
        let Some(job) = self.job_mut(id) else { return };
        if job.state == JobState::WaitingForRunner {
            job.token = random_token("glcbt-");
            job.state = JobState::Running;
        }
    }

    /// Jobs come back of whose runner nothing was heard since they were given to it.
    pub fn take_back(&mut self, after: Duration) {
        let is_lost = |job: &&mut Job| job.state == JobState::WaitingForRunner && job.heard_at.elapsed() > after;
        self.jobs.iter_mut().filter(is_lost).for_each(|job| job.state = JobState::Pending);
    }

    pub fn violate(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// The job that a request is about, which shows its token.
    pub fn authenticated(&mut self, id: u64, token: Option<&str>) -> Result<&mut Job, Response> {
        let Some(at) = self.jobs.iter().position(|job| job.id == id) else {
            return Err(refusal(StatusCode::NOT_FOUND, "404 Not found", None));
        };
        if token != Some(self.jobs[at].token.as_str()) {
            if self.jobs[at].state != JobState::Running {
                self.violate(format!("job {id}: a token that is not the job's"));
            }
            return Err(refusal(StatusCode::FORBIDDEN, "403 Forbidden", None));
        }
        let state = self.jobs[at].state;
        if !state.is_with_runner() {
            return Err(refusal(StatusCode::FORBIDDEN, "403 Forbidden - Job is not running", Some(state)));
        }
        Ok(&mut self.jobs[at])
    }
}

/// A refusal in GitLab's form.
pub fn refusal(status: StatusCode, message: &str, state: Option<JobState>) -> Response {
    let mut headers = HeaderMap::new();
    if let Some(state) = state {
        headers.insert("job-status", HeaderValue::from_static(state.as_str()));
    }
    (status, headers, axum::Json(json!({"message": message}))).into_response()
}

/// The token of a job in its header.
pub fn job_token(headers: &HeaderMap) -> Option<&str> {
    headers.get("job-token").and_then(|value| value.to_str().ok())
}

/// What every job has, with what `own` says in its place.
fn described(url: &str, id: u64, token: &str, own: Value) -> Value {
    let mut description = json!({
        "allow_git_fetch": true,
        "job_info": {"id": id, "name": "test", "stage": "test", "project_id": 7, "project_name": "hello",
            "project_full_path": "demo/hello", "time_in_queue_seconds": 1.5},
        "git_info": {"repo_url": format!("{}/demo/hello.git", url.replace("://", &format!("://gitlab-ci-token:{token}@"))),
            "ref": "main", "sha": "0123456789abcdef0123456789abcdef01234567",
            "before_sha": "0000000000000000000000000000000000000000", "ref_type": "branch",
            "refspecs": ["+refs/heads/main:refs/remotes/origin/main"], "depth": 20},
        "runner_info": {"timeout": 3600},
        "variables": [
            {"key": "CI", "value": "true", "public": true, "masked": false, "file": false, "raw": true},
            {"key": "CI_JOB_ID", "value": id.to_string(), "public": true, "masked": false},
            {"key": "CI_JOB_TOKEN", "value": token, "public": false, "masked": true},
            {"key": "CI_SERVER_URL", "value": url, "public": true, "masked": false},
            {"key": "CI_PROJECT_PATH", "value": "demo/hello", "public": true, "masked": false},
            {"key": "CI_PIPELINE_SOURCE", "value": "push", "public": true, "masked": false}],
        "steps": [{"name": "script", "script": ["echo hello"], "timeout": 3600, "when": "on_success",
            "allow_failure": false}],
        "hooks": [], "image": null, "services": [], "artifacts": null, "cache": [], "credentials": [],
        "dependencies": [],
        "features": {"trace_sections": true, "token_mask_prefixes": ["glpat-"],
            "failure_reasons": ["unknown_failure", "script_failure", "api_failure", "job_execution_timeout",
                "runner_system_failure", "runner_unsupported", "image_pull_failure", "job_canceled"]},
    });
    merge(&mut description, own);
    description["id"] = json!(id);
    description["token"] = json!(token);
    description
}

/// Mappings are joined, all else is replaced; a list `more_variables` is added to the variables.
fn merge(into: &mut Value, own: Value) {
    match (into, own) {
        (Value::Object(into), Value::Object(own)) => {
            for (key, value) in own {
                match (key.as_str(), value) {
                    ("more_variables", Value::Array(more)) => {
                        if let Some(Value::Array(variables)) = into.get_mut("variables") {
                            variables.extend(more);
                        }
                    }
                    (_, value) => merge(into.entry(key).or_insert(Value::Null), value),
                }
            }
        }
        (into, own) => *into = own,
    }
}

pub fn random_token(prefix: &str) -> String {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).expect("this machine has randomness");
    format!("{prefix}{}", hex::encode(bytes))
}
