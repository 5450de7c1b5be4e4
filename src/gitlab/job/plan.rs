//! One job, ready to be run in a machine: where things are in it, and everything that its variables change.

use std::time::Duration;

use url::Url;

use super::containers::Containers;
use super::settings::{DEBUG_SERVICES, DEBUG_TRACE, Settings, Strategy, flag};
use super::sources;
use super::variables::{Variable, Variables};
use super::verdict::FailureReason;
use crate::document::text::one_line;
use crate::gitlab::wire::{self, JobResponse};

/// The directory of all projects in a machine, as in GitLab's own containers.
pub const BUILDS: &str = "/builds";

/// The file, in the directory of temporary ones, of variables that stages leave for later ones.
const LATER: &str = "gitlab_runner_env";

/// The variable by which stages find it.
const LATER_NAME: &str = "GITLAB_ENV";

/// How this runner names its version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// For which machines this program is, in the words of those who name images.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };

/// What the job's instance and runner are to this service.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub instance: &'a Url,
    /// Certificates that the operator trusts for the instance, in PEM.
    pub certificates: Option<&'a str>,
    /// What the machine allows.
    pub limit: Duration,
}

/// A job that is ready.
#[derive(Debug)]
pub struct Plan {
    pub job: JobResponse,
    pub variables: Variables,
    pub settings: Settings,
    /// The path of the project on its instance.
    pub project: String,
    /// Where it is in the machine.
    pub directory: String,
    /// Beside it: what is the job's and not the project's.
    pub temporary: String,
    pub limit: Duration,
    /// What its scripts run in, where the machine has containers.
    pub containers: Containers,
    /// What its author should know before it runs.
    pub remarks: Vec<String>,
}

/// Why a job is not run at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrunnable {
    pub reason: FailureReason,
    /// For its author.
    pub detail: String,
}

impl Unrunnable {
    fn unsupported(detail: impl Into<String>) -> Self {
        Self { reason: FailureReason::RunnerUnsupported, detail: detail.into() }
    }

    fn wrong(detail: impl Into<String>) -> Self {
        Self { reason: FailureReason::RunnerSystemFailure, detail: detail.into() }
    }
}

impl Plan {
    /// Makes a job ready.
    ///
    /// # Errors
    /// It asks for what is not supported, or makes no sense.
    pub fn new(job: JobResponse, facts: Facts<'_>) -> Result<Self, Unrunnable> {
        check_support(&job)?;
        let project = sources::project_of(job.git_info.repo_url.expose(), facts.instance).map_err(Unrunnable::wrong)?;
        let limit = match job.runner_info.timeout {
            0 => facts.limit,
            seconds => facts.limit.min(Duration::from_secs(seconds)),
        };
        // Where the project is to be, a variable may say, which may be made of others.
        let early = variables(&job, facts, limit, "", "")?;
        let (settings, complaints) = Settings::of(&early);
        let is_empty_one = settings.strategy == Strategy::Empty;
        let directory = sources::directory(BUILDS, &project, settings.clone_path.as_deref(), is_empty_one);
        let directory = directory.map_err(Unrunnable::wrong)?;
        let temporary = format!("{directory}.tmp");
        let variables = variables(&job, facts, limit, &directory, &temporary)?;
        let (containers, remarks) = Containers::of(&job, &variables).map_err(Unrunnable::wrong)?;
        let remarks = complaints.into_iter().chain(remarks).collect();
        Ok(Self { job, variables, settings, project, directory, temporary, limit, containers, remarks })
    }

    /// The file of variables that stages leave for later ones.
    pub fn later(&self) -> String {
        format!("{}/{LATER}", self.temporary)
    }

    /// Whether the job is of a ref that only some may push to.
    pub fn is_protected(&self) -> bool {
        self.job.git_info.protected.unwrap_or_else(|| self.variables.value("CI_COMMIT_REF_PROTECTED") == "true")
    }

    /// Whether its code is that of a fork, whose merge request runs in the project that it goes to.
    pub fn is_of_fork(&self) -> bool {
        let source = self.variables.value("CI_MERGE_REQUEST_SOURCE_PROJECT_ID");
        !source.is_empty() && source != self.variables.value("CI_MERGE_REQUEST_PROJECT_ID")
    }

    /// What the log must not show: values, and the job's own credentials, which variables of its may hold in part.
    pub fn masked(&self) -> impl Iterator<Item = &str> {
        let credentials = self.job.credentials.iter().flatten().map(|one| one.password.expose());
        let of_others = self.job.dependencies.iter().flatten().map(|one| one.token.expose());
        let own = std::iter::once(self.job.token.expose());
        self.variables.masked().chain(own).chain(credentials).chain(of_others).filter(|value| !value.is_empty())
    }

    /// The commands of the hook of that name.
    pub fn hook(&self, name: &str) -> &[String] {
        let hook = self.job.hooks.iter().flatten().find(|hook| hook.name == name);
        hook.map_or(&[], |hook| &hook.script)
    }

    /// Whether GitLab folds the log by marks in it.
    pub fn has_marks(&self) -> bool {
        self.job.features.trace_sections
    }
}

/// What this runner cannot do is refused before anything runs.
fn check_support(job: &JobResponse) -> Result<(), Unrunnable> {
    if job.run.as_ref().is_some_and(|run| !run.is_null()) {
        return Err(Unrunnable::unsupported(
            "the job is written with `run`, which is not supported\n  hint: use `script`",
        ));
    }
    if let Some(name) = job.secrets.iter().flatten().map(|(name, _)| name).next() {
        let name = one_line(name, 100);
        return Err(Unrunnable::unsupported(format!(
            "the job asks for the secret `{name}` of another store, which is not supported\n  hint: fetch it in the `script`, \
             with an ID token"
        )));
    }
    Ok(())
}

/// All variables of the job: those that programs look for everywhere first, what GitLab sends, and what nobody may change.
fn variables(
    job: &JobResponse, facts: Facts<'_>, limit: Duration, directory: &str, temporary: &str,
) -> Result<Variables, Unrunnable> {
    let own = |(key, value): (&str, String)| Variable::own(key, value);
    let first = [
        ("CI_BUILDS_DIR", BUILDS.to_owned()),
        ("CI_PROJECT_DIR", directory.to_owned()),
        ("CI_CONCURRENT_ID", "0".to_owned()),
        ("CI_CONCURRENT_PROJECT_ID", "0".to_owned()),
        ("CI_SERVER", "yes".to_owned()),
        ("CI_JOB_STATUS", "running".to_owned()),
        ("CI_JOB_TIMEOUT", limit.as_secs().to_string()),
    ];
    let image = job.image.as_ref().filter(|image| !image.name.is_empty());
    let image = image.map(|image| Variable { is_raw: false, ..Variable::own("CI_JOB_IMAGE", &image.name) });
    let certificates =
        facts.certificates.map(|text| Variable { is_file: true, ..Variable::own("CI_SERVER_TLS_CA_FILE", text) });
    let last = [
        ("CI_DISPOSABLE_ENVIRONMENT", "true".to_owned()),
        ("CI_RUNNER_VERSION", VERSION.to_owned()),
        ("CI_RUNNER_REVISION", VERSION.to_owned()),
        ("CI_RUNNER_EXECUTABLE_ARCH", ARCHITECTURE.to_owned()),
        ("RUNNER_TEMP_PROJECT_DIR", temporary.to_owned()),
        (LATER_NAME, format!("{temporary}/{LATER}")),
    ];
    let given = first.map(own).into_iter().chain(image).chain(certificates);
    let given = given.chain(job.variables.iter().map(of_wire)).chain(last.map(own)).collect();
    Variables::new(given, temporary).map_err(|error| Unrunnable::wrong(error.to_string()))
}

/// Whether the log of a job with these variables is to be seen by its maintainers only: it may show everything.
pub fn shows_secrets(given: &[wire::Variable]) -> bool {
    let Ok(variables) = Variables::new(given.iter().map(of_wire).collect(), "") else { return true };
    [DEBUG_TRACE, DEBUG_SERVICES].iter().any(|name| flag(variables.value(name)) == Some(true))
}

pub(super) fn of_wire(variable: &wire::Variable) -> Variable {
    Variable {
        key: variable.key.clone(),
        value: variable.value.clone(),
        is_file: variable.file,
        is_masked: variable.masked,
        is_raw: variable.raw,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(more: Value) -> Result<Plan, Unrunnable> {
        let mut job = json!({
            "id": 7, "token": "job-token-1", "runner_info": {"timeout": 600},
            "git_info": {"repo_url": "https://gitlab-ci-token:job-token-1@gitlab.example/g/p.git", "sha": "x"},
            "variables": [
                {"key": "CI_PROJECT_DIR", "value": "/elsewhere"},
                {"key": "OUT", "value": "$CI_BUILDS_DIR/out"},
                {"key": "SECRET", "value": "hunter2-secret", "masked": true},
                {"key": "CONFIG", "value": "of $SECRET", "file": true},
                {"key": "RUNNER_TEMP_PROJECT_DIR", "value": "/tmp"},
            ],
        });
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let instance = Url::parse("https://gitlab.example").unwrap();
        let facts = Facts { instance: &instance, certificates: None, limit: Duration::from_secs(3600) };
        Plan::new(serde_json::from_value(job).unwrap(), facts)
    }

    #[test]
    fn things_have_their_places() {
        let plan = plan(json!({})).unwrap();
        assert_eq!((plan.directory.as_str(), plan.temporary.as_str()), ("/builds/g/p", "/builds/g/p.tmp"));
        let shown = |key: &str| plan.variables.get(key).into_owned();
        assert_eq!(shown("CONFIG"), "/builds/g/p.tmp/CONFIG");
        assert_eq!(shown("RUNNER_TEMP_PROJECT_DIR"), "/builds/g/p.tmp", "nobody moves it");
        assert_eq!((shown("OUT"), shown("CI_PROJECT_DIR")), ("/builds/out".to_owned(), "/elsewhere".to_owned()));
        assert_eq!((shown("CI_JOB_TIMEOUT"), plan.limit.as_secs()), ("600".to_owned(), 600));
        assert_eq!(plan.masked().collect::<Vec<_>>(), ["hunter2-secret", "job-token-1"]);
    }

    #[test]
    fn variables_move_the_project() {
        let moved = plan(
            json!({"variables": [{"key": "GIT_CLONE_PATH", "value": "$CI_BUILDS_DIR/$SUB/x"}, {"key": "SUB", "value": "go"}]}),
        );
        assert_eq!(moved.unwrap().directory, "/builds/go/x");
        let out = plan(json!({"variables": [{"key": "GIT_CLONE_PATH", "value": "/etc"}]}));
        assert_eq!(out.unwrap_err().reason, FailureReason::RunnerSystemFailure);
        let empty = plan(json!({"variables": [{"key": "GIT_STRATEGY", "value": "empty"}]}));
        assert_eq!(empty.unwrap().directory, "/builds/g/p-empty");
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        let refused = |more: Value| plan(more).unwrap_err();
        let told = [refused(json!({"run": "[]"})), refused(json!({"secrets": {"DATABASE": {"vault": {}}}}))];
        assert!(told.iter().all(|one| one.reason == FailureReason::RunnerUnsupported));
        insta::assert_snapshot!(told.map(|one| one.detail).join("\n"), @"
        the job is written with `run`, which is not supported
          hint: use `script`
        the job asks for the secret `DATABASE` of another store, which is not supported
          hint: fetch it in the `script`, with an ID token
        ");
    }

    #[test]
    fn the_image_is_a_variable_too() {
        let plan = plan(json!({"image": {"name": "node:$V"}, "variables": [{"key": "V", "value": "20"}]})).unwrap();
        assert_eq!(plan.containers.job.as_ref().unwrap().image, "node:20");
        assert_eq!(plan.variables.get("CI_JOB_IMAGE"), "node:20");
    }

    #[test]
    fn a_log_with_secrets_is_for_maintainers() {
        let of = |given: &[(&str, &str)]| {
            let one =
                |&(key, value): &(&str, &str)| serde_json::from_value(json!({"key": key, "value": value})).unwrap();
            shows_secrets(&given.iter().map(one).collect::<Vec<_>>())
        };
        for value in ["true", "1", "True", "$DEBUG"] {
            assert!(of(&[("DEBUG", "t"), ("CI_DEBUG_TRACE", value)]), "{value}");
        }
        assert!(of(&[("CI_DEBUG_SERVICES", "true")]));
        assert!(!of(&[("CI_DEBUG_TRACE", "true"), ("CI_DEBUG_TRACE", "false")]), "the last one counts");
        assert!(!of(&[("CI_DEBUG_TRACE", "yes"), ("CI_DEBUG_SERVICES", "")]));
    }

    #[test]
    fn a_fork_is_told_by_the_id_of_its_project() {
        let of = |source: &str, target: &str| {
            let ids = [("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", source), ("CI_MERGE_REQUEST_PROJECT_ID", target)];
            plan(json!({"variables": ids.map(|(key, value)| json!({"key": key, "value": value}))}))
                .unwrap()
                .is_of_fork()
        };
        assert!(of("8", "7") && of("8", ""));
        assert!(!of("7", "7") && !of("", "7") && !of("", ""));
    }

    #[test]
    fn a_ref_is_protected_if_gitlab_says_so() {
        let of = |git: Value, value: &str| {
            let mut info = json!({"repo_url": "https://gitlab.example/g/p.git", "sha": "x"});
            info.as_object_mut().unwrap().extend(git.as_object().unwrap().clone());
            plan(json!({"git_info": info, "variables": [{"key": "CI_COMMIT_REF_PROTECTED", "value": value}]}))
                .unwrap()
                .is_protected()
        };
        assert!(of(json!({}), "true") && of(json!({"protected": true}), "false"));
        assert!(!of(json!({}), "false") && !of(json!({"protected": false}), "true"));
    }
}
