//! Every kind of request that the GitHub client makes, beside GitHub's own description of its API; and the answers of the local forge,
//! so that what works with it has a reason to work there.
//!
//! The description is that of npm's `@octokit/openapi`, and `@stoplight/prism-cli` reads it; see [`crate::support::oracle`].
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use dayfly::forge::github::{Auth, GitHub, GitHubSettings};
use dayfly::forge::{
    CommitSha, Conclusion, Earlier, ExternalIds, Forge as _, NewRunner, RepoAccess, RepoName, Report, ReportState,
    RunnerAccess, RunnerApi as _, RunnerPlace,
};
use dayfly::ids::ReportId;
use dayfly::workflow::commands::{Annotation, Level};
use secrecy::SecretString;
use serde_json::Value;

use crate::local_forge::{APP_PRIVATE_KEY, Exchange, Forge, NewPullRequest, NewWorkflowJob, Options};
use crate::support::oracle::Oracle;

const REPOSITORY: &str = "demo/hello";
const FILE: &str = ".dayfly/workflows/ci #1.yml";

/// Everything that is asked, as GitHub's description calls it. A new kind of request belongs here, and into [`play`].
const OPERATIONS: &[&str] = &[
    "DELETE /orgs/{org}/actions/runners/{runner_id}",
    "DELETE /repos/{owner}/{repo}/actions/runners/{runner_id}",
    "GET /app",
    "GET /app/hook/deliveries",
    "GET /app/installations",
    "GET /installation/repositories",
    "GET /orgs/{org}/actions/runners",
    "GET /orgs/{org}/actions/runners/downloads",
    "GET /repos/{owner}/{repo}",
    "GET /repos/{owner}/{repo}/actions/jobs/{job_id}",
    "GET /repos/{owner}/{repo}/actions/runners",
    "GET /repos/{owner}/{repo}/actions/runners/downloads",
    "GET /repos/{owner}/{repo}/actions/runs",
    "GET /repos/{owner}/{repo}/actions/runs/{run_id}",
    "GET /repos/{owner}/{repo}/actions/runs/{run_id}/jobs",
    "GET /repos/{owner}/{repo}/collaborators/{username}/permission",
    "GET /repos/{owner}/{repo}/commits/{ref}",
    "GET /repos/{owner}/{repo}/commits/{ref}/check-runs",
    "GET /repos/{owner}/{repo}/contents/{path}",
    "GET /repos/{owner}/{repo}/installation",
    "GET /repos/{owner}/{repo}/pulls",
    "GET /repos/{owner}/{repo}/pulls/{pull_number}",
    "GET /user",
    "PATCH /repos/{owner}/{repo}/check-runs/{check_run_id}",
    "POST /app/hook/deliveries/{delivery_id}/attempts",
    "POST /app/installations/{installation_id}/access_tokens",
    "POST /orgs/{org}/actions/runners/generate-jitconfig",
    "POST /repos/{owner}/{repo}/actions/runners/generate-jitconfig",
    "POST /repos/{owner}/{repo}/check-runs",
    "POST /repos/{owner}/{repo}/statuses/{sha}",
];

fn client(forge: &Forge, auth: Auth) -> GitHub {
    let (api_url, url) = (forge.api_url().parse().unwrap(), forge.url().parse().unwrap());
    GitHub::new(GitHubSettings { api_url, url, auth }).unwrap()
}

/// A report with everything that one can have.
fn report(access: &RepoAccess, sha: &CommitSha, state: ReportState) -> Report {
    let mut annotations: Vec<Annotation> =
        (1..=60).map(|number| Annotation::general(Level::Warning, &format!("number {number}"))).collect();
    (annotations[0].file, annotations[0].title) = (Some("src/a.rs".to_owned()), Some("A title".to_owned()));
    Report {
        id: ReportId::random(),
        access: access.clone(),
        sha: sha.clone(),
        context: "dayfly/ci/test (a, \u{e9})".to_owned(),
        state,
        title: "A title".to_owned(),
        summary: "**A summary**".to_owned(),
        log: "a line\n".to_owned(),
        annotations,
        coverage: None,
        place: dayfly::forge::ReportPlace::default(),
        details_url: Some("https://ci.example.com/log/x".to_owned()),
        started_at: Some(1_700_000_000_000),
        finished_at: matches!(state, ReportState::Finished(_)).then_some(1_700_000_003_000),
    }
}

/// Asks everything that Dayfly ever asks.
async fn play(forge: &Forge) {
    forge.create_repository(REPOSITORY).await.unwrap();
    let sha = forge.commit(REPOSITORY, "main", &[(FILE, "on: push\n")], "Begin").await.unwrap();
    let sha = CommitSha::parse(&sha).unwrap();
    let new = NewPullRequest { files: &[("new", "x")], branch: "a-change", ..NewPullRequest::default() };
    let pull = forge.open_pull_request(REPOSITORY, new).await.unwrap();
    let app = client(forge, Auth::App { id: forge.app_id(), private_key: SecretString::from(APP_PRIVATE_KEY) });
    let person = client(forge, Auth::Token(SecretString::from(forge.plain_token())));
    let repo = RepoName::parse(REPOSITORY).unwrap();
    // Without its installation it has to be found.
    let access = RepoAccess { repo: repo.clone(), installation: None };
    for github in [&app, &person] {
        assert!(github.has_commit(&access, &sha).await.unwrap());
        assert_eq!(github.resolve(&access, "heads/main").await.unwrap(), sha);
        github.repository(&access).await.unwrap();
        github.list_directory(&access, ".dayfly/workflows", &sha).await.unwrap();
        github.read_file(&access, FILE, &sha, 100).await.unwrap();
        github.git_upstream(&access).await.unwrap();
        github.permission(&access, "octocat").await.unwrap();
        github.pull_request(&access, pull.number).await.unwrap();
        github.open_pull_requests(&access).await.unwrap();
        github.repositories().await.unwrap();
        github.standing().await.unwrap();
        let mut known = ExternalIds::default();
        for state in [
            ReportState::Queued,
            ReportState::Running,
            ReportState::Held,
            ReportState::Finished(Conclusion::Success),
            ReportState::Finished(Conclusion::Failure),
            ReportState::Finished(Conclusion::Error),
            ReportState::Finished(Conclusion::TimedOut),
            ReportState::Finished(Conclusion::Cancelled),
            ReportState::Finished(Conclusion::Skipped),
        ] {
            let report = report(&access, &sha, state);
            known = github.publish(&report, &known, Earlier::None).await.unwrap();
            github.publish(&report, &ExternalIds::default(), Earlier::Uncertain).await.unwrap();
        }
    }
    for github in [&app, &person] {
        play_runners(forge, github, &access, &sha).await;
    }
    forge.lose_deliveries(1);
    forge.deliver("ping", &forge.ping_payload(REPOSITORY)).await.unwrap();
    let lost = app.failed_deliveries(0).await.unwrap();
    app.redeliver(lost[0].id).await.unwrap();
}

/// Asks everything about GitHub's own jobs. An enterprise is not in this description; its addresses are like an organization's.
async fn play_runners(forge: &Forge, github: &GitHub, access: &RepoAccess, sha: &CommitSha) {
    let job = forge.queue_workflow_job(&NewWorkflowJob {
        repository: REPOSITORY,
        name: "build",
        labels: &["self-hosted", "gh"],
        script: "",
        sha: sha.as_str(),
        is_of_fork: false,
        is_silent: true,
    });
    let found = github.unfinished_jobs(access).await.unwrap();
    assert_eq!(found.iter().find(|one| one.id == job).unwrap().organization.as_deref(), Some("demo"));
    let told = github.workflow_job(access, job).await.unwrap();
    assert!(!github.is_of_fork(access, told.run).await.unwrap());
    for place in [RunnerPlace::Repository(access.repo.clone()), RunnerPlace::Organization("demo".to_owned())] {
        let at = RunnerAccess { place, access: access.clone() };
        let labels = ["self-hosted", "Linux", "X64", "gh"].map(str::to_owned).into();
        let new = NewRunner { name: "dayfly-a-vm-1".to_owned(), group: 1, labels, work_folder: "_work".to_owned() };
        let minted = github.mint_runner(&at, &new).await.unwrap();
        assert_eq!(github.runners(&at).await.unwrap().len(), 1);
        github.newest_runner(&at).await.unwrap();
        github.remove_runner(&at, minted.id).await.unwrap();
    }
}

fn told(exchange: &Exchange, answer: &Value, side: &str) -> Vec<String> {
    let found = answer[side].as_array().unwrap().iter();
    let text = |found: &Value| format!("{side} of {} {}: {}", exchange.method, exchange.path, found.as_str().unwrap());
    found.map(text).collect()
}

#[tokio::test]
async fn what_is_asked_of_github_and_answered_here_is_as_github_describes_it() {
    let forge = Forge::start(Options { is_recorded: true, ..Options::default() }).await.unwrap();
    play(&forge).await;
    let exchanges = forge.exchanges();
    assert!(exchanges.len() >= OPERATIONS.len(), "they are recorded");
    let questions: Vec<Value> = exchanges.iter().map(|exchange| serde_json::to_value(exchange).unwrap()).collect();
    let packages = &["@octokit/openapi", "@stoplight/prism-http"];
    let oracle = Oracle { script: "contract/contract.mjs", arguments: &[], packages };
    let test = "what_is_asked_of_github_and_answered_here_is_as_github_describes_it";
    let Some(answers) = oracle.ask(test, &questions) else { return };
    let pairs = || exchanges.iter().zip(&answers);
    let wrong: BTreeSet<String> = pairs()
        .flat_map(|(exchange, answer)| [told(exchange, answer, "request"), told(exchange, answer, "response")])
        .flatten()
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
    let asked: BTreeSet<&str> = answers.iter().filter_map(|answer| answer["operation"].as_str()).collect();
    assert_eq!(asked.into_iter().collect::<Vec<_>>(), OPERATIONS);
}
