//! From what GitLab sends to a run with one job. Pure, but for the ids that it draws.

use serde_json::{Value, json};
use url::Url;

use super::session::order::Order;
use super::wire::{JobResponse, Token};
use crate::forge::{CommitSha, RepoAccess, RepoName, Report, ReportPlace, ReportState};
use crate::ids::{JobId, LogToken, ReportId, RunId};
use crate::store::{FromPullRequest, NewForeign, NewJob, NewRun, Origin, Telling};

/// Where such a job is planned.
const CI_FILE: &str = ".gitlab-ci.yml";

/// Characters of a job's name that are kept.
const MAX_NAME: usize = 200;

/// Who asked for the job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taker<'a> {
    /// The GitLab's name here.
    pub(super) instance: &'a str,
    pub(super) runner: &'a str,
    pub(super) profile: &'a str,
    pub(super) public_url: &'a Url,
}

/// What is stored of a job.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) run: NewRun,
    pub(super) foreign: NewForeign,
}

/// A job that GitLab gave away and that cannot be run here. GitLab is told why, where it can be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    /// Id and token, if they can be read.
    pub(super) job: Option<(u64, Token)>,
    pub(super) why: String,
}

/// Reads the description of a job.
pub(super) fn read(bytes: &[u8]) -> Result<JobResponse, Unusable> {
    serde_json::from_slice(bytes).map_err(|error| {
        let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let token: Option<Token> = serde_json::from_value(document["token"].clone()).ok();
        let job = document["id"].as_u64().zip(token);
        Unusable { job, why: format!("This runner cannot read the job's description: {error}") }
    })
}

/// The run of a job.
pub(super) fn run_of(taker: Taker<'_>, job: &JobResponse, now: i64) -> Result<Accepted, Unusable> {
    let unusable = |why: String| Unusable { job: Some((job.id, job.token.clone())), why };
    let sha = CommitSha::parse(&job.git_info.sha).map_err(|why| unusable(format!("The job's commit: {why}")))?;
    let repo = project_of(job).map_err(|why| unusable(format!("The job's project: {why}")))?;
    let access = RepoAccess { repo, installation: None };
    let (log_token, name) = (LogToken::random(), name_of(job));
    let report = Report {
        id: ReportId::random(),
        access: access.clone(),
        sha: sha.clone(),
        context: format!("{}/{name}", taker.instance),
        state: ReportState::Queued,
        title: format!("Queued for the profile `{}`", taker.profile),
        summary: String::new(),
        log: String::new(),
        annotations: Vec::new(),
        coverage: None,
        place: ReportPlace::default(),
        details_url: Some(format!("{}/logs/{log_token}", taker.public_url.as_str().trim_end_matches('/'))),
        started_at: None,
        finished_at: None,
    };
    let new_job = NewJob {
        id: JobId::random(),
        key: name.clone(),
        name,
        spec: Value::Null,
        needs: Vec::new(),
        profile: Some(taker.profile.to_owned()),
        log_token,
        report,
        telling: Telling::Never,
        outcome: None,
    };
    let run = NewRun {
        id: RunId::random(),
        forge: taker.instance.to_owned(),
        access,
        event: event_of(job),
        sha,
        workflow_path: CI_FILE.to_owned(),
        workflow_name: shortened(&job.job_info.stage, "GitLab"),
        context: json!({"ref": job.git_info.reference, "ref_type": job.git_info.ref_type}),
        origin: Origin { pull_request: merge_request_of(job), arrived_at: now, ..Origin::default() },
        report: None,
        called: Vec::new(),
        jobs: vec![new_job],
    };
    let foreign = NewForeign {
        source: source_of(taker.instance),
        external_id: job.id.to_string(),
        request: Order::request(taker.instance, taker.runner, job),
    };
    Ok(Accepted { run, foreign })
}

/// Who gives the jobs of an instance away, as the store has it.
pub(super) fn source_of(instance: &str) -> String {
    format!("gitlab:{instance}")
}

fn variable<'a>(job: &'a JobResponse, key: &str) -> Option<&'a str> {
    let found = job.variables.iter().rev().find(|variable| variable.key == key)?;
    Some(found.value.as_str()).filter(|value| !value.is_empty())
}

/// `group/subgroup/project`; instances that do not say it in its own place have it in the address that is fetched from.
fn project_of(job: &JobResponse) -> Result<RepoName, String> {
    if let Some(path) = job.job_info.project_full_path.as_deref().filter(|path| !path.is_empty()) {
        return RepoName::parse_path(path);
    }
    if let Some(path) = variable(job, "CI_PROJECT_PATH") {
        return RepoName::parse_path(path);
    }
    let url = Url::parse(job.git_info.repo_url.expose()).map_err(|_| "it has no address".to_owned())?;
    let path = url.path().trim_matches('/');
    RepoName::parse_path(path.strip_suffix(".git").unwrap_or(path))
}

/// The merge request that the job's pipeline is of. Its code is a stranger's if it comes from another project.
fn merge_request_of(job: &JobResponse) -> Option<FromPullRequest> {
    let number = variable(job, "CI_MERGE_REQUEST_IID")?.parse().ok()?;
    let source = variable(job, "CI_MERGE_REQUEST_SOURCE_PROJECT_ID");
    let target = variable(job, "CI_MERGE_REQUEST_PROJECT_ID");
    Some(FromPullRequest { number, is_fork: source.is_some() && source != target })
}

/// Why there is a pipeline, in GitLab's word: `push`, `merge_request_event`, `schedule`, …
fn event_of(job: &JobResponse) -> String {
    let is_word = |text: &&str| text.len() <= 40 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    variable(job, "CI_PIPELINE_SOURCE").filter(is_word).unwrap_or("pipeline").to_owned()
}

fn name_of(job: &JobResponse) -> String {
    shortened(&job.job_info.name, &job.id.to_string())
}

/// A text of a stranger as one short line, or `default` where nothing of it remains.
fn shortened(text: &str, default: &str) -> String {
    let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let line: String = line.chars().take(MAX_NAME).collect();
    if line.is_empty() { default.to_owned() } else { line }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    fn job(own: Value) -> JobResponse {
        let mut description = json!({
            "id": 7, "token": "secret-of-the-job",
            "git_info": {"repo_url": "https://gitlab-ci-token:t@g.example.org/a/b/c.git", "sha": SHA},
        });
        for (key, value) in own.as_object().unwrap() {
            description[key] = value.clone();
        }
        read(description.to_string().as_bytes()).unwrap()
    }

    fn accepted(own: Value) -> Result<Accepted, Unusable> {
        let url = Url::parse("https://ci.example.org/").unwrap();
        run_of(Taker { instance: "gitlab", runner: "r", profile: "linux", public_url: &url }, &job(own), 5)
    }

    #[test]
    fn a_job_becomes_a_run_of_its_project() {
        let Accepted { run, foreign } = accepted(json!({
            "job_info": {"name": " te\u{7}st\n1 ", "stage": "", "project_full_path": "group/sub/project"},
            "variables": [
                {"key": "CI_PIPELINE_SOURCE", "value": "merge_request_event"},
                {"key": "CI_MERGE_REQUEST_IID", "value": "12"},
                {"key": "CI_MERGE_REQUEST_PROJECT_ID", "value": "1"},
                {"key": "CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "value": "2"}],
        }))
        .unwrap();
        assert_eq!(
            (run.access.repo.as_str(), run.event.as_str(), run.sha.as_str()),
            ("group/sub/project", "merge_request_event", SHA)
        );
        assert_eq!(run.origin.pull_request, Some(FromPullRequest { number: 12, is_fork: true }));
        assert_eq!((run.jobs[0].name.as_str(), run.workflow_name.as_str()), ("te st 1", "GitLab"));
        assert!(run.jobs[0].report.details_url.as_ref().unwrap().starts_with("https://ci.example.org/logs/"));
        assert_eq!((foreign.source.as_str(), foreign.external_id.as_str()), ("gitlab:gitlab", "7"));
        let order = Order::read(&foreign.request).unwrap();
        assert_eq!(
            (order.id, order.instance.as_str(), order.runner.as_str(), order.is_debug),
            (7, "gitlab", "r", false)
        );
        assert!(!format!("{order:?}").contains("secret-of-the-job"));
    }

    #[test]
    fn what_an_instance_does_not_say_is_found_elsewhere() {
        let run = accepted(json!({})).unwrap().run;
        assert_eq!(
            (run.access.repo.as_str(), run.event.as_str(), run.jobs[0].name.as_str()),
            ("a/b/c", "pipeline", "7")
        );
        assert_eq!(run.origin.pull_request, None);
    }

    #[test]
    fn what_cannot_be_run_says_why_and_whose_it_is() {
        let of = |result: Result<Accepted, Unusable>| {
            let Unusable { job, why } = result.map(drop).unwrap_err();
            format!("{:?} {why}", job.map(|(id, _)| id))
        };
        let read = |text: &str| of(read(text.as_bytes()).map(|_| unreachable!("it cannot be read")));
        let lines = [
            of(accepted(json!({"job_info": {"project_full_path": "../x"}}))),
            of(accepted(json!({"git_info": {"repo_url": "", "sha": "main"}}))),
            of(accepted(json!({"git_info": {"repo_url": "x", "sha": SHA}}))),
            read(r#"{"id": 9, "token": "t", "git_info": {"repo_url": "x", "sha": 5}}"#),
            read(r#"{"id": 9, "steps": 1}"#),
            read("<html>"),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r"
        Some(7) The job's project: `../x` is not a project's `group/name`
        Some(7) The job's commit: `main` is not a full commit id
        Some(7) The job's project: it has no address
        Some(9) This runner cannot read the job's description: invalid type: integer `5`, expected a string at line 1 column 62
        None This runner cannot read the job's description: invalid type: integer `1`, expected a sequence at line 1 column 20
        None This runner cannot read the job's description: expected value at line 1 column 1
        ");
    }
}
