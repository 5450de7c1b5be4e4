//! GitHub's own jobs, and the runners that take them.

use axum::http::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::auth::{Purpose, Scope};
use super::client::{Answer, Call, JSON};
use super::{GitHub, parse, unexpected};
use crate::forge::{
    CommitSha, ForgeError, JobStage, ListedRunner, MintedRunner, NewRunner, RepoAccess, RunnerAccess, RunnerPlace,
    WorkflowJobNow,
};

/// Entries of one page, as many as GitHub gives.
const PER_PAGE: usize = 100;
/// Runners that are looked at.
const MAX_RUNNERS: usize = 5_000;
/// Runs of each state whose jobs are looked at.
const MAX_RUNS: usize = 100;
/// Largest accepted page, in bytes. A run has about 20 KB, most of it addresses.
const MAX_PAGE: usize = 8 * 1024 * 1024;
/// Largest accepted answer with a runner, in bytes. Its configuration has about 5 KB.
const MAX_RUNNER: usize = 256 * 1024;
/// Longest name of a job or a label that is kept, in bytes.
const MAX_NAME: usize = 256;
/// Labels of one job that are kept: GitHub gives a runner no more.
const MAX_LABELS: usize = 100;
/// States of runs that can have jobs which wait for a runner.
const UNFINISHED: [&str; 2] = ["queued", "in_progress"];

#[derive(Deserialize)]
struct MintAnswer {
    runner: RunnerAnswer,
    encoded_jit_config: String,
}

#[derive(Deserialize)]
struct RunnerAnswer {
    id: u64,
    name: String,
    status: String,
    #[serde(default)]
    busy: bool,
}

#[derive(Deserialize)]
struct RunnersAnswer {
    runners: Vec<RunnerAnswer>,
}

/// An archive of the runner.
#[derive(Deserialize)]
struct Download {
    os: String,
    architecture: String,
    filename: String,
}

#[derive(Deserialize)]
struct RunAnswer {
    id: u64,
    repository: RepositoryAnswer,
    /// Absent where the fork is gone.
    head_repository: Option<RepositoryAnswer>,
}

#[derive(Deserialize)]
struct RepositoryAnswer {
    id: u64,
    owner: Option<OwnerAnswer>,
}

#[derive(Deserialize)]
struct OwnerAnswer {
    login: String,
    #[serde(rename = "type", default)]
    kind: String,
}

impl RepositoryAnswer {
    fn organization(&self) -> Option<String> {
        self.owner.as_ref().filter(|owner| owner.kind == "Organization").map(|owner| owner.login.clone())
    }
}

#[derive(Deserialize)]
struct RunsAnswer {
    workflow_runs: Vec<RunAnswer>,
}

#[derive(Deserialize)]
struct JobsAnswer {
    jobs: Vec<JobAnswer>,
}

#[derive(Deserialize)]
struct JobAnswer {
    id: u64,
    run_id: u64,
    name: String,
    head_sha: String,
    status: String,
    conclusion: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    runner_name: Option<String>,
}

pub(super) async fn mint(github: &GitHub, at: &RunnerAccess, new: &NewRunner) -> Result<MintedRunner, ForgeError> {
    let body = json!({
        "name": new.name, "runner_group_id": new.group, "labels": new.labels, "work_folder": new.work_folder,
    });
    let call = Call {
        what: format!("registering a runner with {}", at.place),
        method: Method::POST,
        url: place_url(github, &at.place, &["generate-jitconfig"]),
        accept: JSON,
        body: Some(body),
        limit: MAX_RUNNER,
    };
    let answer = github.ask_within(&scope_of(at), &call).await?;
    // The error of the JSON reader could repeat the configuration.
    let MintAnswer { runner, encoded_jit_config } = serde_json::from_slice(&answer.body)
        .map_err(|_| unexpected(&call.what, &"it has no runner with its configuration"))?;
    Ok(MintedRunner { id: runner.id, config: SecretString::from(encoded_jit_config) })
}

pub(super) async fn remove(github: &GitHub, at: &RunnerAccess, id: u64) -> Result<(), ForgeError> {
    let what = format!("removing runner {id} of {}", at.place);
    let url = place_url(github, &at.place, &[&id.to_string()]);
    let call = Call { what, method: Method::DELETE, url, accept: JSON, body: None, limit: MAX_RUNNER };
    github.ask_within(&scope_of(at), &call).await.map(|_| ())
}

pub(super) async fn list(github: &GitHub, at: &RunnerAccess) -> Result<Vec<ListedRunner>, ForgeError> {
    let what = format!("listing the runners of {}", at.place);
    let mut found = Vec::new();
    for page in 1..=MAX_RUNNERS / PER_PAGE {
        let url = paged(place_url(github, &at.place, &[]), page);
        let call = get(&what, url);
        let RunnersAnswer { runners } = parse(&what, &github.ask_within(&scope_of(at), &call).await?.body)?;
        let is_last = runners.len() < PER_PAGE;
        found.extend(runners.into_iter().map(|runner| ListedRunner {
            id: runner.id,
            name: runner.name,
            is_online: runner.status == "online",
            is_busy: runner.busy,
        }));
        if is_last {
            break;
        }
    }
    Ok(found)
}

pub(super) async fn newest(github: &GitHub, at: &RunnerAccess) -> Result<Option<[u32; 3]>, ForgeError> {
    let what = format!("asking for the newest runner for {}", at.place);
    let call = get(&what, place_url(github, &at.place, &["downloads"]));
    let downloads: Vec<Download> = parse(&what, &github.ask_within(&scope_of(at), &call).await?.body)?;
    let ours = downloads.iter().filter(|download| download.os == "linux" && download.architecture == "x64");
    Ok(ours.filter_map(|download| version_in(&download.filename)).max())
}

/// The version in a name such as `actions-runner-linux-x64-2.321.0.tar.gz`.
fn version_in(filename: &str) -> Option<[u32; 3]> {
    let version = filename.strip_suffix(".tar.gz")?.rsplit('-').next()?;
    let numbers: Vec<u32> = version.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    numbers.try_into().ok()
}

pub(super) async fn is_of_fork(github: &GitHub, access: &RepoAccess, run: u64) -> Result<bool, ForgeError> {
    let what = format!("looking at workflow run {run} of {}", access.repo);
    let url = actions_url(github, access, &["runs", &run.to_string()]);
    let run: RunAnswer = parse(&what, &ask_about_jobs(github, access, &get(&what, url)).await?.body)?;
    Ok(run.head_repository.is_none_or(|head| head.id != run.repository.id))
}

pub(super) async fn job(github: &GitHub, access: &RepoAccess, job: u64) -> Result<WorkflowJobNow, ForgeError> {
    let what = format!("looking at workflow job {job} of {}", access.repo);
    let url = actions_url(github, access, &["jobs", &job.to_string()]);
    let answer: JobAnswer = parse(&what, &ask_about_jobs(github, access, &get(&what, url)).await?.body)?;
    read(answer).map_err(|detail| unexpected(&what, &detail))
}

/// A job that cannot be read is left out: it must not hide the others.
pub(super) async fn unfinished(github: &GitHub, access: &RepoAccess) -> Result<Vec<WorkflowJobNow>, ForgeError> {
    let mut found: Vec<WorkflowJobNow> = Vec::new();
    for status in UNFINISHED {
        let what = format!("listing the workflow runs of {} that are {status}", access.repo);
        let mut url = actions_url(github, access, &["runs"]);
        url.query_pairs_mut().append_pair("status", status).append_pair("per_page", &MAX_RUNS.to_string());
        let RunsAnswer { workflow_runs } = parse(&what, &ask_about_jobs(github, access, &get(&what, url)).await?.body)?;
        for run in workflow_runs.into_iter().take(MAX_RUNS) {
            for mut job in jobs_of(github, access, run.id).await? {
                job.organization = run.repository.organization();
                // A run may have gone from one state to the next between the two lists.
                if job.stage != JobStage::Completed && found.iter().all(|known| known.id != job.id) {
                    found.push(job);
                }
            }
        }
    }
    Ok(found)
}

/// The jobs of the run's last attempt.
async fn jobs_of(github: &GitHub, access: &RepoAccess, run: u64) -> Result<Vec<WorkflowJobNow>, ForgeError> {
    let what = format!("listing the jobs of workflow run {run} of {}", access.repo);
    let mut found = Vec::new();
    // GitHub has at most 256 jobs in a matrix and some hundred in a run.
    for page in 1..=10 {
        let mut url = actions_url(github, access, &["runs", &run.to_string(), "jobs"]);
        url.query_pairs_mut().append_pair("filter", "latest");
        let call = get(&what, paged(url, page));
        let JobsAnswer { jobs } = parse(&what, &ask_about_jobs(github, access, &call).await?.body)?;
        let is_last = jobs.len() < PER_PAGE;
        for job in jobs {
            match read(job) {
                Ok(job) => found.push(job),
                Err(detail) => tracing::warn!(repo = %access.repo, run, detail, "a job in the forge's list is odd"),
            }
        }
        if is_last {
            break;
        }
    }
    Ok(found)
}

fn read(answer: JobAnswer) -> Result<WorkflowJobNow, String> {
    let JobAnswer { id, run_id: run, mut name, head_sha, status, conclusion, labels, runner_name } = answer;
    name.truncate(name.floor_char_boundary(MAX_NAME));
    if labels.len() > MAX_LABELS || labels.iter().any(|label| label.len() > MAX_NAME) {
        return Err(format!("job {id} has more or longer labels than GitHub documents"));
    }
    let stage = match status.as_str() {
        "queued" => JobStage::Queued,
        "in_progress" => JobStage::InProgress,
        "completed" => JobStage::Completed,
        // `waiting`, `pending`, `requested`: no runner gets it yet.
        _ => JobStage::Waiting,
    };
    let runner = runner_name.filter(|name| !name.is_empty() && name.len() <= MAX_NAME);
    let sha = CommitSha::parse(&head_sha)?;
    Ok(WorkflowJobNow { id, run, name, sha, labels, stage, conclusion, runner, organization: None })
}

async fn ask_about_jobs(github: &GitHub, access: &RepoAccess, call: &Call) -> Result<Answer, ForgeError> {
    github.ask_within(&Scope::One(access.clone(), Purpose::Actions), call).await
}

fn get(what: &str, url: Url) -> Call {
    Call { what: what.to_owned(), method: Method::GET, url, accept: JSON, body: None, limit: MAX_PAGE }
}

fn paged(mut url: Url, page: usize) -> Url {
    url.query_pairs_mut().append_pair("per_page", &PER_PAGE.to_string()).append_pair("page", &page.to_string());
    url
}

fn actions_url(github: &GitHub, access: &RepoAccess, rest: &[&str]) -> Url {
    let place = ["repos", access.repo.owner(), access.repo.name(), "actions"];
    github.client.url(place.into_iter().chain(rest.iter().copied()))
}

fn place_url(github: &GitHub, place: &RunnerPlace, rest: &[&str]) -> Url {
    let place: Vec<&str> = match place {
        RunnerPlace::Repository(repo) => vec!["repos", repo.owner(), repo.name()],
        RunnerPlace::Organization(name) => vec!["orgs", name],
        RunnerPlace::Enterprise(slug) => vec!["enterprises", slug],
    };
    github.client.url(place.into_iter().chain(["actions", "runners"]).chain(rest.iter().copied()))
}

fn scope_of(at: &RunnerAccess) -> Scope {
    match &at.place {
        RunnerPlace::Repository(repo) => {
            Scope::One(RepoAccess { repo: repo.clone(), ..at.access.clone() }, Purpose::Runners)
        }
        // An App may do nothing in an enterprise: its refusal says so. A token needs no scope.
        RunnerPlace::Organization(_) | RunnerPlace::Enterprise(_) => Scope::OrganizationRunners(at.access.clone()),
    }
}
