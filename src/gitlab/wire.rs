//! A job as GitLab gives it away. Pure.
//!
//! What is absent has a default, what is unknown is passed over: instances of several years speak this, and each version adds
//! to it. What is there but of another type refuses the job. Values keep what GitLab says; what follows from it is decided elsewhere.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// One job with all that it takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobResponse {
    pub id: u64,
    /// For this one job, for as long as it runs.
    pub token: Token,
    #[serde(default, deserialize_with = "null_is_default")]
    pub allow_git_fetch: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    pub job_info: JobInfo,
    pub git_info: GitInfo,
    #[serde(default, deserialize_with = "null_is_default")]
    pub runner_info: RunnerInfo,
    #[serde(default, deserialize_with = "null_is_default")]
    pub variables: Vec<Variable>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub steps: Vec<Step>,
    #[serde(default)]
    pub hooks: Option<Vec<Hook>>,
    #[serde(default)]
    pub image: Option<Image>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub services: Vec<Image>,
    #[serde(default)]
    pub artifacts: Option<Vec<Artifact>>,
    #[serde(default)]
    pub cache: Option<Vec<Cache>>,
    #[serde(default)]
    pub credentials: Option<Vec<Credential>>,
    #[serde(default)]
    pub dependencies: Option<Vec<Dependency>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub features: Features,
    /// Of stores outside of GitLab, by the names of their variables.
    #[serde(default)]
    pub secrets: Option<serde_json::Map<String, serde_json::Value>>,
    /// In the place of `steps`: the job is written in GitLab's steps.
    #[serde(default)]
    pub run: Option<serde_json::Value>,
}

/// What the job is called.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobInfo {
    #[serde(deserialize_with = "null_is_default")]
    pub id: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub stage: String,
    #[serde(deserialize_with = "null_is_default")]
    pub project_id: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub project_name: String,
    pub project_full_path: Option<String>,
    /// Seconds that it waited in GitLab's queue.
    pub time_in_queue_seconds: Option<f64>,
}

/// What is checked out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GitInfo {
    /// May hold the job's token; it never goes into a VM.
    pub repo_url: Token,
    #[serde(rename = "ref", default, deserialize_with = "null_is_default")]
    pub reference: String,
    pub sha: String,
    #[serde(default)]
    pub before_sha: Option<String>,
    /// `branch` or `tag`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ref_type: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub refspecs: Vec<String>,
    /// 0: the whole history.
    #[serde(default, deserialize_with = "null_is_default")]
    pub depth: u32,
    #[serde(default)]
    pub repo_object_format: Option<String>,
    /// Whether the ref is a protected one; `None` where the instance does not say.
    #[serde(default)]
    pub protected: Option<bool>,
}

/// What GitLab has the runner keep to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerInfo {
    /// The job's limit in seconds; 0: none.
    #[serde(deserialize_with = "null_is_default")]
    pub timeout: u64,
    pub runner_session_url: Option<String>,
}

/// A secret among what GitLab sends. It is stored with the job, until that has ended, and does not print.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[hidden]")
    }
}

/// A CI/CD variable. Its value does not print unless it is public.
#[derive(Clone, Serialize, Deserialize)]
pub struct Variable {
    pub key: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub value: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub public: bool,
    /// The job sees the path of a file with the value.
    #[serde(default, deserialize_with = "null_is_default")]
    pub file: bool,
    /// Not shown in the log.
    #[serde(default, deserialize_with = "null_is_default")]
    pub masked: bool,
    /// Not expanded.
    #[serde(default, deserialize_with = "null_is_default")]
    pub raw: bool,
}

impl fmt::Debug for Variable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.public && !self.masked { self.value.as_str() } else { "[hidden]" };
        write!(out, "{}={value:?}", self.key)
    }
}

/// A script: `script`, `after_script`, `release`, …
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub script: Vec<String>,
    /// Its limit in seconds; 0: the job's.
    #[serde(default, deserialize_with = "null_is_default")]
    pub timeout: u64,
    #[serde(default, deserialize_with = "null_is_default")]
    pub when: When,
    #[serde(default, deserialize_with = "null_is_default")]
    pub allow_failure: bool,
}

/// In which state of the job something is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    #[default]
    OnSuccess,
    OnFailure,
    Always,
}

/// Commands at a moment of the job, such as `pre_get_sources_script`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hook {
    pub name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub script: Vec<String>,
}

/// A container image, of the job or of a service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// Other names of a service, separated by spaces or commas.
    pub alias: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub command: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub variables: Vec<Variable>,
    #[serde(deserialize_with = "null_is_default")]
    pub ports: Vec<serde_json::Value>,
    #[serde(deserialize_with = "null_is_default")]
    pub pull_policy: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub executor_opts: ExecutorOptions,
}

/// What an [`Image`] says to one kind of executor.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecutorOptions {
    #[serde(deserialize_with = "null_is_default")]
    pub docker: DockerOptions,
}

/// What an [`Image`] says to Docker.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerOptions {
    pub platform: Option<String>,
    pub user: Option<String>,
}

/// Files that go to GitLab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Artifact {
    #[serde(default, deserialize_with = "null_is_default")]
    pub name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub untracked: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    pub paths: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub exclude: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub when: When,
    /// `archive`, or what kind of report it is: `junit`, `dotenv`, `coverage_report`, …
    #[serde(rename = "artifact_type", default, deserialize_with = "null_is_default")]
    pub kind: String,
    /// `zip`, `gzip`, `raw`; empty: what is usual.
    #[serde(rename = "artifact_format", default, deserialize_with = "null_is_default")]
    pub format: String,
    #[serde(default)]
    pub expire_in: Option<String>,
    #[serde(default)]
    pub access: Option<String>,
}

/// Files that stay with the runner for later jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cache {
    #[serde(default, deserialize_with = "null_is_default")]
    pub key: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub untracked: bool,
    /// `pull`, `push` or `pull-push`, perhaps by a variable; empty: both.
    #[serde(default, deserialize_with = "null_is_default")]
    pub policy: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub paths: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub when: When,
    #[serde(default, deserialize_with = "null_is_default")]
    pub fallback_keys: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub unprotect: bool,
}

/// Of a registry of images.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Credential {
    #[serde(rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    #[serde(deserialize_with = "null_is_default")]
    pub url: String,
    #[serde(deserialize_with = "null_is_default")]
    pub username: String,
    #[serde(deserialize_with = "null_is_default")]
    pub password: Token,
}

/// An earlier job whose artifacts this one gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dependency {
    pub id: u64,
    #[serde(default, deserialize_with = "null_is_default")]
    pub name: String,
    pub token: Token,
    #[serde(default)]
    pub artifacts_file: Option<ArtifactsFile>,
}

/// The archive of a [`Dependency`]; without one there is nothing to fetch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ArtifactsFile {
    #[serde(default, deserialize_with = "null_is_default")]
    pub filename: String,
    /// Bytes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub size: u64,
}

/// What the instance can do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Features {
    #[serde(deserialize_with = "null_is_default")]
    pub trace_sections: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub token_mask_prefixes: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub failure_reasons: Vec<String>,
    /// The job is ours only once the runner has said so.
    #[serde(deserialize_with = "null_is_default")]
    pub two_phase_job_commit: bool,
}

/// GitLab writes `null` for some empty lists and texts.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
