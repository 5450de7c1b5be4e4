//! What a job knows about why and where it runs: one description, from which both the `github` and `runner` contexts of
//! expressions and the standard environment variables are made, so that the two never disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::expression::{Object, Value};

/// How a job or a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Success,
    Failure,
    Cancelled,
    Skipped,
}

impl Outcome {
    /// The word that expressions see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// The event, the commit and the run. Texts that do not apply are empty, as the dialect has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GithubContext {
    pub event_name: String,
    /// The event's payload.
    pub event: Value,
    /// The pinned commit.
    pub sha: String,
    /// The full ref, such as `refs/heads/main` or `refs/pull/7/head`.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// The short ref.
    pub ref_name: String,
    /// `branch` or `tag`.
    pub ref_type: String,
    /// Source branch of a pull request.
    pub head_ref: String,
    /// Target branch of a pull request.
    pub base_ref: String,
    /// `owner/name`.
    pub repository: String,
    pub repository_id: String,
    pub repository_owner: String,
    pub repository_owner_id: String,
    /// Who caused the event.
    pub actor: String,
    pub actor_id: String,
    pub triggering_actor: String,
    /// The workflow's name.
    pub workflow: String,
    /// `owner/name/path@ref` of the workflow's file.
    pub workflow_ref: String,
    pub workflow_sha: String,
    /// The job's id in the workflow.
    pub job: String,
    pub run_id: String,
    pub run_number: String,
    pub run_attempt: String,
    /// The forge's address, without a slash at the end.
    pub server_url: String,
    pub api_url: String,
    pub graphql_url: String,
    /// Where the repository is checked out in the VM.
    pub workspace: String,
    /// The file in the VM that holds the event's payload.
    pub event_path: String,
    pub retention_days: String,
    pub ref_protected: bool,
}

impl GithubContext {
    /// Every text member by the name that expressions use. The variable is the same in capitals behind `GITHUB_`.
    fn texts(&self) -> [(&'static str, &str); 27] {
        [
            ("event_name", &self.event_name),
            ("sha", &self.sha),
            ("ref", &self.git_ref),
            ("ref_name", &self.ref_name),
            ("ref_type", &self.ref_type),
            ("head_ref", &self.head_ref),
            ("base_ref", &self.base_ref),
            ("repository", &self.repository),
            ("repository_id", &self.repository_id),
            ("repository_owner", &self.repository_owner),
            ("repository_owner_id", &self.repository_owner_id),
            ("actor", &self.actor),
            ("actor_id", &self.actor_id),
            ("triggering_actor", &self.triggering_actor),
            ("workflow", &self.workflow),
            ("workflow_ref", &self.workflow_ref),
            ("workflow_sha", &self.workflow_sha),
            ("job", &self.job),
            ("run_id", &self.run_id),
            ("run_number", &self.run_number),
            ("run_attempt", &self.run_attempt),
            ("server_url", &self.server_url),
            ("api_url", &self.api_url),
            ("graphql_url", &self.graphql_url),
            ("workspace", &self.workspace),
            ("event_path", &self.event_path),
            ("retention_days", &self.retention_days),
        ]
    }

    /// The `github` context. It has no token: none enters a VM.
    pub fn to_value(&self) -> Value {
        self.object().into()
    }

    /// The members of the `github` context.
    pub(super) fn object(&self) -> Object {
        let mut object: Object = self.texts().into_iter().collect();
        object.insert("ref_protected", self.ref_protected);
        object.insert("event", self.event.clone());
        object
    }
}

/// The machine that runs a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunnerContext {
    pub name: String,
    /// `Linux`.
    pub os: String,
    /// `X64` or `ARM64`.
    pub arch: String,
    /// A directory for temporary files in the VM, without a slash at the end.
    pub temp: String,
    pub tool_cache: String,
}

impl RunnerContext {
    fn texts(&self) -> [(&'static str, &str); 6] {
        [
            ("name", &self.name),
            ("os", &self.os),
            ("arch", &self.arch),
            ("temp", &self.temp),
            ("tool_cache", &self.tool_cache),
            ("environment", "self-hosted"),
        ]
    }

    /// The `runner` context.
    pub fn to_value(&self) -> Value {
        self.texts().into_iter().collect::<Object>().into()
    }
}

/// The one standard variable that a workflow may change.
pub const CI: &str = "CI";

/// The variables that every step has, whatever the workflow sets: `CI`, `GITHUB_*` and `RUNNER_*`.
pub fn standard_env(github: &GithubContext, runner: &RunnerContext) -> BTreeMap<String, String> {
    let variable = |prefix: &str, (name, value): (&str, &str)| {
        (format!("{prefix}_{}", name.to_ascii_uppercase()), value.to_owned())
    };
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    env.extend(github.texts().into_iter().map(|text| variable("GITHUB", text)));
    env.extend(runner.texts().into_iter().map(|text| variable("RUNNER", text)));
    env.insert("GITHUB_REF_PROTECTED".to_owned(), github.ref_protected.to_string());
    env.insert("GITHUB_ACTIONS".to_owned(), "true".to_owned());
    env.insert(CI.to_owned(), "true".to_owned());
    env
}

/// Variables beside those of [`standard_env`] that every step, or every step of an action, has from the runner.
const OF_STEPS: [&str; 9] = [
    "GITHUB_ACTION",
    "GITHUB_ACTION_PATH",
    "GITHUB_ACTION_REF",
    "GITHUB_ACTION_REPOSITORY",
    "GITHUB_ENV",
    "GITHUB_OUTPUT",
    "GITHUB_PATH",
    "GITHUB_STATE",
    "GITHUB_STEP_SUMMARY",
];

/// Whether a workflow may not set this variable, because [`standard_env`] or the runner does. Others that begin like these, such
/// as `GITHUB_TOKEN`, are the workflow's.
pub fn is_reserved(variable: &str) -> bool {
    static NAMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let standard = standard_env(&GithubContext::default(), &RunnerContext::default());
        standard.into_keys().filter(|name| name != CI).chain(OF_STEPS.map(str::to_owned)).collect()
    });
    NAMES.contains(variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_and_environment_agree() {
        let github = GithubContext {
            sha: "abc".into(),
            git_ref: "refs/heads/main".into(),
            event: Value::from(serde_json::json!({"number": 7})),
            ref_protected: true,
            ..GithubContext::default()
        };
        let runner = RunnerContext {
            name: "vm".into(),
            os: "Linux".into(),
            arch: "X64".into(),
            temp: "/tmp".into(),
            tool_cache: "/opt".into(),
        };
        let env = standard_env(&github, &runner);
        assert_eq!(env["GITHUB_REF"], "refs/heads/main");
        assert_eq!(env["RUNNER_ARCH"], "X64");
        assert_eq!(env["CI"], "true");
        for (name, value) in github.object().iter().filter(|(name, _)| *name != "event") {
            assert_eq!(env[&format!("GITHUB_{}", name.to_uppercase())], &*value.to_text(), "{name}");
        }
        assert_eq!(github.to_value().member("event").member("number"), Value::Number(7.0));
    }

    #[test]
    fn the_runners_own_variables_are_known_by_name() {
        assert!(["GITHUB_SHA", "RUNNER_TEMP", "GITHUB_ENV", "GITHUB_ACTIONS"].iter().all(|name| is_reserved(name)));
        let others = ["GITHUB_TOKEN", "GITHUB_FOO", "RUNNER_X", "github_sha", "CI", "MY_GITHUB_SHA", "é", ""];
        assert!(!others.iter().any(|name| is_reserved(name)));
    }
}
