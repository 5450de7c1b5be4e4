//! The GitHub client against a strict GitHub on loopback, over real HTTP and real git.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};
use std::time::Duration;

use axum::http::Method;
use dayfly::forge::github::{Auth, GitHub, GitHubSettings, SettingsError};
use dayfly::forge::{
    CommitSha, Conclusion, Earlier, ExternalIds, Forge as _, ForgeError, RepoAccess, RepoName, Report, ReportState,
};
use dayfly::ids::ReportId;
use dayfly::workflow::commands::{Annotation, Level};
use secrecy::{ExposeSecret, SecretString};

use crate::local_forge::{APP_PRIVATE_KEY, Fault, FaultKind, Forge, NewPullRequest, Options, WriteKind};

const REPOSITORY: &str = "demo/hello";
const WORKFLOW: &str = ".dayfly/workflows/ci.yml";

struct Scene {
    forge: Forge,
    sha: CommitSha,
}

impl Scene {
    async fn new() -> Self {
        let forge = Forge::start(Options::default()).await.unwrap();
        forge.create_repository(REPOSITORY).await.unwrap();
        let files = [(WORKFLOW, "on: push\n"), ("README.md", "# Hello\n"), (".dayfly/workflows/more/x.yml", "")];
        let sha = forge.commit(REPOSITORY, "main", &files, "Begin").await.unwrap();
        Self { forge, sha: CommitSha::parse(&sha).unwrap() }
    }

    fn client(&self, auth: Auth) -> GitHub {
        let (api_url, url) = (self.forge.api_url().parse().unwrap(), self.forge.url().parse().unwrap());
        GitHub::new(GitHubSettings { api_url, url, auth }).unwrap()
    }

    fn as_app(&self) -> GitHub {
        self.client(Auth::App { id: self.forge.app_id(), private_key: SecretString::from(APP_PRIVATE_KEY) })
    }

    fn as_person(&self) -> GitHub {
        self.client(Auth::Token(SecretString::from(self.forge.plain_token())))
    }

    fn access(&self) -> RepoAccess {
        RepoAccess { repo: RepoName::parse(REPOSITORY).unwrap(), installation: Some(self.forge.installation()) }
    }

    fn report(&self, state: ReportState) -> Report {
        Report {
            id: ReportId::random(),
            access: self.access(),
            sha: self.sha.clone(),
            context: "dayfly/ci/test".to_owned(),
            state,
            title: "Waiting for a machine".to_owned(),
            summary: String::new(),
            log: String::new(),
            annotations: Vec::new(),
            coverage: None,
            place: dayfly::forge::ReportPlace::default(),
            details_url: Some("https://ci.example.com/log/x".to_owned()),
            started_at: None,
            finished_at: None,
        }
    }

    fn fault(&self, method: Method, path_contains: &'static str, kind: FaultKind) {
        self.forge.inject(Fault { method: Some(method), path_contains, kind, times: 1 });
    }

    fn write_kinds(&self) -> Vec<WriteKind> {
        self.forge.writes().iter().map(|write| write.kind).collect()
    }
}

const SUCCESS: ReportState = ReportState::Finished(Conclusion::Success);

#[tokio::test]
async fn an_app_moves_one_check_run_and_sends_each_status_once() {
    let scene = Scene::new().await;
    let github = scene.as_app();
    let mut report = scene.report(ReportState::Queued);
    let queued = github.publish(&report, &ExternalIds::default(), Earlier::None).await.unwrap();
    let id = queued.check_run.unwrap();

    report.state = ReportState::Running;
    report.log = "first line\n".to_owned();
    let running = github.publish(&report, &queued, Earlier::None).await.unwrap();
    report.state = SUCCESS;
    report.title = "Passed in 3 s".to_owned();
    report.finished_at = Some(1_700_000_003_000);
    let finished = github.publish(&report, &running, Earlier::None).await.unwrap();
    github.publish(&report, &finished, Earlier::None).await.unwrap();

    assert_eq!(
        scene.write_kinds(),
        [
            WriteKind::CheckRunCreated { id },
            WriteKind::Status,
            WriteKind::CheckRunUpdated { id },
            WriteKind::CheckRunUpdated { id },
            WriteKind::Status,
            WriteKind::CheckRunUpdated { id },
        ]
    );
    let expected = |status: &crate::local_forge::Status| status.state == "success";
    let status = scene.forge.wait_for_status(scene.sha.as_str(), &report.context, expected, Duration::from_secs(5));
    assert_eq!(status.await.unwrap().description.as_deref(), Some("Passed in 3 s"));
    let run = &scene.forge.check_runs()[0];
    assert_eq!((run.conclusion.as_deref(), run.external_id.as_str()), (Some("success"), report.id.as_str()));
    assert!(run.output["text"].as_str().unwrap().contains("first line"));
}

#[tokio::test]
async fn a_plain_token_sends_statuses_alone() {
    let scene = Scene::new().await;
    let ids = scene.as_person().publish(&scene.report(SUCCESS), &ExternalIds::default(), Earlier::None).await.unwrap();
    assert_eq!((ids.check_run, scene.write_kinds()), (None, vec![WriteKind::Status]));
}

#[tokio::test]
async fn an_uncertain_status_is_sent_again() {
    let scene = Scene::new().await;
    let github = scene.as_person();
    let mut report = scene.report(ReportState::Running);
    let running = github.publish(&report, &ExternalIds::default(), Earlier::None).await.unwrap();
    report.state = SUCCESS;
    scene.fault(Method::POST, "/statuses", FaultKind::LoseAnswer);
    github.publish(&report, &running, Earlier::None).await.unwrap_err();
    report.state = ReportState::Running;
    github.publish(&report, &running, Earlier::Uncertain).await.unwrap();
    let states: Vec<String> = scene.forge.statuses(scene.sha.as_str()).into_iter().map(|status| status.state).collect();
    assert_eq!(states, ["pending", "success", "pending"]);
}

#[tokio::test]
async fn a_check_run_whose_answer_was_lost_is_found_again() {
    let scene = Scene::new().await;
    let github = scene.as_app();
    let report = scene.report(ReportState::Running);
    scene.fault(Method::POST, "/check-runs", FaultKind::LoseAnswer);
    let error = github.publish(&report, &ExternalIds::default(), Earlier::None).await.unwrap_err();
    assert!(matches!(error, ForgeError::Transient { .. }), "{error}");
    assert_eq!(scene.forge.check_runs().len(), 1, "it was made, only nobody was told");

    let ids = github.publish(&report, &ExternalIds::default(), Earlier::Uncertain).await.unwrap();
    assert_eq!(scene.forge.check_runs().len(), 1);
    assert_eq!(ids.check_run, Some(scene.forge.check_runs()[0].id));
}

#[tokio::test]
async fn a_check_run_that_never_arrived_is_made() {
    let scene = Scene::new().await;
    let github = scene.as_app();
    let other = scene.report(ReportState::Running);
    let other = github.publish(&other, &ExternalIds::default(), Earlier::None).await.unwrap();
    let report = scene.report(ReportState::Running);
    scene.fault(Method::POST, "/check-runs", FaultKind::Close);
    let error = github.publish(&report, &ExternalIds::default(), Earlier::None).await.unwrap_err();
    assert!(matches!(error, ForgeError::Transient { .. }), "{error}");
    let ids = github.publish(&report, &ExternalIds::default(), Earlier::Uncertain).await.unwrap();
    assert_ne!(ids.check_run, other.check_run, "another report's check run of the same name is not taken");
    assert_eq!(scene.forge.check_runs().len(), 2);
}

#[tokio::test]
async fn an_approved_job_gets_a_new_check_run_even_when_its_answer_is_lost() {
    let scene = Scene::new().await;
    let github = scene.as_app();
    let mut report = scene.report(ReportState::Held);
    let held = github.publish(&report, &ExternalIds::default(), Earlier::None).await.unwrap();
    github.publish(&report, &held, Earlier::Uncertain).await.unwrap();
    assert_eq!(scene.forge.check_runs().len(), 1);
    assert_eq!(scene.forge.check_runs()[0].conclusion.as_deref(), Some("action_required"));

    report.state = ReportState::Running;
    scene.fault(Method::POST, "/check-runs", FaultKind::Close);
    github.publish(&report, &held, Earlier::None).await.unwrap_err();
    scene.fault(Method::POST, "/check-runs", FaultKind::LoseAnswer);
    github.publish(&report, &held, Earlier::Uncertain).await.unwrap_err();
    assert_eq!(scene.forge.check_runs().len(), 2, "the held one is found, but not reopened");
    let running = github.publish(&report, &held, Earlier::Uncertain).await.unwrap();
    assert_ne!(running.check_run, held.check_run);
    report.state = ReportState::Finished(Conclusion::Cancelled);
    let ended = github.publish(&report, &held, Earlier::Uncertain).await.unwrap();
    assert_eq!(ended.check_run, running.check_run, "the newest one ends, whatever was known before");
    let runs = scene.forge.check_runs();
    let conclusions: Vec<Option<&str>> = runs.iter().map(|run| run.conclusion.as_deref()).collect();
    assert_eq!(conclusions, [Some("action_required"), Some("cancelled")]);
}

#[tokio::test]
async fn everything_oversized_is_cut_to_what_the_forge_accepts() {
    let scene = Scene::new().await;
    let mut report = scene.report(ReportState::Finished(Conclusion::TimedOut));
    report.title = "é".repeat(5_000);
    report.summary = "🦀".repeat(50_000);
    report.log = "```` é\n".repeat(300_000) + "the end";
    scene.as_app().publish(&report, &ExternalIds::default(), Earlier::None).await.unwrap();
    let text = scene.forge.check_runs()[0].output["text"].as_str().unwrap().to_owned();
    assert!(text.contains("the end") && text.starts_with("The first "), "{}", &text[..200]);
}

#[tokio::test]
async fn annotations_come_in_several_requests_and_each_of_them_once() {
    let scene = Scene::new().await;
    let github = scene.as_app();
    let mut report = scene.report(ReportState::Finished(Conclusion::Failure));
    report.annotations =
        (1..=120).map(|number| Annotation::general(Level::Error, &format!("number {number}"))).collect();
    report.annotations[0].file = Some("src/a.rs".to_owned());
    let shown = || scene.forge.check_runs()[0].output["annotations"].as_array().unwrap().len();
    scene.fault(Method::PATCH, "/check-runs", FaultKind::Status(502));
    github.publish(&report, &ExternalIds::default(), Earlier::None).await.unwrap_err();
    assert_eq!(shown(), 50, "the second request failed");
    let ids = github.publish(&report, &ExternalIds::default(), Earlier::Uncertain).await.unwrap();
    assert_eq!((shown(), ids.annotations), (120, 120));
    github.publish(&report, &ids, Earlier::None).await.unwrap();
    github.publish(&report, &ids, Earlier::Uncertain).await.unwrap();
    assert_eq!((shown(), scene.forge.check_runs().len()), (120, 1));
    let first = &scene.forge.check_runs()[0].output["annotations"][0];
    assert_eq!(
        (&first["path"], &first["start_line"], &first["annotation_level"]),
        (&"src/a.rs".into(), &1.into(), &"failure".into())
    );
}

#[tokio::test]
async fn a_check_run_closes_without_annotations_that_the_forge_refuses() {
    let scene = Scene::new().await;
    let github = scene.as_app();
    let mut report = scene.report(ReportState::Running);
    let ids = github.publish(&report, &ExternalIds::default(), Earlier::None).await.unwrap();
    report.state = ReportState::Finished(Conclusion::Failure);
    report.summary = "How it ended".to_owned();
    report.annotations =
        (1..=60).map(|number| Annotation::general(Level::Error, &format!("number {number}"))).collect();
    scene.fault(Method::PATCH, "/check-runs", FaultKind::Status(422));
    let ids = github.publish(&report, &ids, Earlier::None).await.unwrap();
    let shown = scene.forge.check_runs().remove(0);
    assert_eq!((shown.status.as_str(), shown.conclusion.as_deref()), ("completed", Some("failure")));
    assert_eq!(shown.output["annotations"], serde_json::Value::Null);
    let summary = shown.output["summary"].as_str().unwrap();
    assert!(summary.contains("Annotations are missing here") && summary.contains("How it ended"), "{summary}");
    assert_eq!(ids.annotations, 60, "they are not tried again");
    // What is wrong with the rest of it is told all the same.
    scene.fault(Method::PATCH, "/check-runs", FaultKind::Status(422));
    github.publish(&report, &ids, Earlier::None).await.unwrap_err();
}

#[tokio::test]
async fn failures_say_what_callers_must_do() {
    let scene = Scene::new().await;
    let github = scene.as_app();
    let report = scene.report(ReportState::Queued);
    let publish = async || github.publish(&report, &ExternalIds::default(), Earlier::None).await;

    scene.fault(Method::POST, "/check-runs", FaultKind::RateLimit { reset_in: 120 });
    let ForgeError::RateLimited { wait, .. } = publish().await.unwrap_err() else { panic!() };
    assert!((115..=120).contains(&wait.as_secs()), "{wait:?}");
    scene.fault(Method::POST, "/statuses", FaultKind::SecondaryRateLimit { retry_after: 9 });
    let ForgeError::RateLimited { wait, .. } = publish().await.unwrap_err() else { panic!() };
    assert_eq!(wait.as_secs(), 9);
    for kind in [FaultKind::Status(500), FaultKind::Status(502), FaultKind::Close] {
        scene.fault(Method::POST, "/check-runs", kind);
        let error = publish().await.unwrap_err();
        assert!(matches!(error, ForgeError::Transient { .. }), "{kind:?}: {error}");
    }
    publish().await.unwrap();

    let mut unknown = report.clone();
    unknown.sha = CommitSha::parse(&"a".repeat(40)).unwrap();
    let error = github.publish(&unknown, &ExternalIds::default(), Earlier::None).await.unwrap_err();
    insta::assert_snapshot!(error, @"setting the check run `dayfly/ci/test` at aaaaaaaaaaaa: HTTP 422 Unprocessable Entity: No commit found for SHA: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    let gone = ExternalIds { check_run: Some(1), ..ExternalIds::default() };
    let error = github.publish(&report, &gone, Earlier::None).await.unwrap_err();
    assert!(matches!(error, ForgeError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_forge_that_hangs_is_given_up() {
    let scene = Scene::new().await;
    scene.fault(Method::POST, "/statuses", FaultKind::Hang);
    let github = scene.as_person().with_call_timeout(Duration::from_millis(300));
    let report = scene.report(ReportState::Queued);
    let error = github.publish(&report, &ExternalIds::default(), Earlier::None).await.unwrap_err();
    assert!(matches!(error, ForgeError::Transient { .. }), "{error}");
    assert!(error.to_string().contains("no complete answer within 300 ms"), "{error}");
}

#[tokio::test]
async fn a_forge_that_is_not_there_is_a_transient_failure() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url: url::Url = format!("http://{unused}").parse().unwrap();
    let auth = Auth::Token(SecretString::from("secret-token"));
    let github = GitHub::new(GitHubSettings { api_url: url.clone(), url, auth }).unwrap();
    let access = RepoAccess { repo: RepoName::parse(REPOSITORY).unwrap(), installation: None };
    let sha = CommitSha::parse(&"a".repeat(40)).unwrap();
    let error = github.list_directory(&access, "", &sha).await.unwrap_err();
    assert!(matches!(error, ForgeError::Transient { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "it names the cause: {error}");
    assert!(!format!("{github:?} {error:?}").contains("secret-token"));
}

#[tokio::test]
async fn directories_and_files_are_read_at_a_commit() {
    let scene = Scene::new().await;
    let later = scene.forge.commit(REPOSITORY, "main", &[(WORKFLOW, "on: pull_request\n")], "Change").await.unwrap();
    let (access, later) = (scene.access(), CommitSha::parse(&later).unwrap());
    for github in [scene.as_app(), scene.as_person()] {
        let entries = github.list_directory(&access, ".dayfly/workflows", &scene.sha).await.unwrap();
        let entries: Vec<(&str, bool)> = entries.iter().map(|entry| (entry.name.as_str(), entry.is_file)).collect();
        assert_eq!(entries, [("ci.yml", true), ("more", false)]);
        assert_eq!(github.list_directory(&access, "", &scene.sha).await.unwrap().len(), 2);
        assert_eq!(github.read_file(&access, WORKFLOW, &scene.sha, 100).await.unwrap(), b"on: push\n");
        assert_eq!(github.read_file(&access, WORKFLOW, &later, 100).await.unwrap(), b"on: pull_request\n");
    }

    let github = scene.as_person();
    let message = async |path, limit| github.read_file(&access, path, &scene.sha, limit).await.unwrap_err().to_string();
    let at = scene.sha.short();
    assert_eq!(
        message("nothing", 100).await,
        format!("reading `nothing` of demo/hello at {at}: not found at the forge")
    );
    assert_eq!(message(".dayfly", 100).await, format!("reading `.dayfly` of demo/hello at {at}: it is a directory"));
    assert!(message(WORKFLOW, 8).await.ends_with("the file is larger than 8 bytes"));
    assert!(message("../hello", 8).await.ends_with("the path has empty parts, `.` or `..`"));
    let error = github.list_directory(&access, "README.md", &scene.sha).await.unwrap_err().to_string();
    assert!(error.ends_with("it is not a directory"), "{error}");
    let error = github.list_directory(&access, "nothing", &scene.sha).await.unwrap_err();
    assert!(matches!(error, ForgeError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_commit_that_cannot_be_read_is_told_from_a_missing_directory() {
    let scene = Scene::new().await;
    let (access, absent) = (scene.access(), CommitSha::parse(&"b".repeat(40)).unwrap());
    for github in [scene.as_app(), scene.as_person()] {
        assert!(github.has_commit(&access, &scene.sha).await.unwrap());
        assert!(!github.has_commit(&access, &absent).await.unwrap());
    }
    let elsewhere = RepoAccess { repo: RepoName::parse("demo/nothing").unwrap(), ..access };
    assert!(!scene.as_person().has_commit(&elsewhere, &scene.sha).await.unwrap());
}

#[tokio::test]
async fn big_files_and_odd_names_arrive_whole() {
    let scene = Scene::new().await;
    let big = "0123456789abcde\n".repeat(100_000);
    let odd = "a dir/%2e%2e#?é.yml";
    let sha = scene.forge.commit(REPOSITORY, "main", &[("big", &big), (odd, "x"), ("empty", "")], "Big").await.unwrap();
    let (github, access, sha) = (scene.as_app(), scene.access(), CommitSha::parse(&sha).unwrap());
    assert!(github.read_file(&access, "big", &sha, big.len()).await.unwrap() == big.as_bytes());
    assert!(github.read_file(&access, "big", &sha, big.len() - 1).await.is_err());
    assert_eq!(github.read_file(&access, odd, &sha, 10).await.unwrap(), b"x");
    assert_eq!(github.read_file(&access, "empty", &sha, 10).await.unwrap(), b"");
}

#[tokio::test]
async fn tokens_are_minted_once_per_purpose_and_replaced_when_revoked() {
    let scene = Scene::new().await;
    let github = scene.as_app();
    let access = scene.access();
    for _ in 0..3 {
        github.list_directory(&access, "", &scene.sha).await.unwrap();
        github.git_upstream(&access).await.unwrap();
    }
    let grants = scene.forge.grants();
    assert_eq!(grants.len(), 2);
    assert!(grants.iter().all(|grant| grant.repositories.as_deref() == Some(&["hello".to_owned()])));
    let git_only = |grant: &&crate::local_forge::Grant| !grant.permissions.contains_key("statuses");
    let git_only: Vec<(&str, &str)> = grants
        .iter()
        .find(git_only)
        .unwrap()
        .permissions
        .iter()
        .map(|(name, level)| (name.as_str(), level.as_str()))
        .collect();
    assert_eq!(git_only, [("contents", "read"), ("metadata", "read")], "every token may read metadata");

    scene.forge.revoke_tokens();
    github.list_directory(&access, "", &scene.sha).await.unwrap();
    assert_eq!(scene.forge.grants().len(), 1);

    let without_installation = RepoAccess { installation: None, ..access };
    scene.as_app().list_directory(&without_installation, "", &scene.sha).await.unwrap();
}

#[tokio::test]
async fn an_installation_that_is_gone_is_asked_for_anew() {
    let scene = Scene::new().await;
    let github = scene.as_app();
    let before = RepoAccess { installation: Some(1), ..scene.access() };
    assert!(!github.list_directory(&before, "", &scene.sha).await.unwrap().is_empty());
    let of_nobody = RepoAccess { repo: RepoName::parse("demo/nothing").unwrap(), ..before };
    let error = github.list_directory(&of_nobody, "", &scene.sha).await.unwrap_err();
    assert!(matches!(error, ForgeError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_renamed_repository_is_found_by_its_number() {
    let scene = Scene::new().await;
    // One that has a token from before, and one that has none.
    let (early, late) = (scene.as_app(), scene.as_app());
    let access = scene.access();
    early.list_directory(&access, "", &scene.sha).await.unwrap();
    scene.forge.rename_repository(REPOSITORY, "demo/other");
    let report = scene.report(ReportState::Queued);
    for github in [&early, &late] {
        assert!(!github.list_directory(&access, "", &scene.sha).await.unwrap().is_empty());
        github.publish(&report, &ExternalIds::default(), Earlier::None).await.unwrap();
    }
    assert_eq!(scene.forge.check_runs().len(), 2);
    let upstream = late.git_upstream(&access).await.unwrap();
    assert!(upstream.url.path().ends_with("/demo/other"), "{}", upstream.url);
    let new = RepoAccess { repo: RepoName::parse("demo/other").unwrap(), ..access };
    assert!(!late.list_directory(&new, "", &scene.sha).await.unwrap().is_empty());
}

#[tokio::test]
async fn wrong_identities_are_refused() {
    let scene = Scene::new().await;
    let stranger = scene.client(Auth::App { id: 1, private_key: SecretString::from(APP_PRIVATE_KEY) });
    let error = stranger.list_directory(&scene.access(), "", &scene.sha).await.unwrap_err();
    insta::assert_snapshot!(error, @"
    getting a token for demo/hello: the forge refused it: HTTP 401 Unauthorized: 'Issuer' claim ('iss') must be the App's id
      hint: the App needs `checks` and `statuses` to write, `contents` and `pull_requests` to read, and the repository among those of its installation; a token needs the same without `checks`
    ");
    let nobody = scene.client(Auth::Token(SecretString::from("ghp_wrong")));
    let error = nobody.list_directory(&scene.access(), "", &scene.sha).await.unwrap_err();
    assert!(matches!(error, ForgeError::Refused { .. }), "{error}");
    let garbled = scene.client(Auth::Token(SecretString::from("with\nnewline")));
    let error = garbled.list_directory(&scene.access(), "", &scene.sha).await.unwrap_err();
    assert!(matches!(error, ForgeError::Permanent { .. }), "{error}");

    let url: url::Url = scene.forge.url().parse().unwrap();
    let settings = |api_url: &url::Url, key: &str| {
        let auth = Auth::App { id: 1, private_key: SecretString::from(key) };
        GitHub::new(GitHubSettings { api_url: api_url.clone(), url: url.clone(), auth }).unwrap_err()
    };
    assert!(matches!(settings(&url, "no key"), SettingsError::PrivateKey { .. }));
    let truncated = APP_PRIVATE_KEY.lines().take(4).chain(["-----END RSA PRIVATE KEY-----"]).collect::<Vec<_>>();
    assert!(matches!(settings(&url, &truncated.join("\n")), SettingsError::PrivateKey { .. }));
    for address in ["ftp://example.com", "http://example.com", "http://localhost.example.com"] {
        let error = settings(&address.parse().unwrap(), APP_PRIVATE_KEY);
        assert!(matches!(error, SettingsError::Address { .. }), "{address}: {error}");
    }
}

/// Git in an empty directory, with nobody's settings and an optional credential.
fn git(directory: &std::path::Path, authorization: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new("git");
    command.current_dir(directory).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_TERMINAL_PROMPT", "0");
    if let Some(authorization) = authorization {
        command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "http.extraHeader");
        command.env("GIT_CONFIG_VALUE_0", format!("Authorization: {authorization}"));
    }
    command.args(arguments).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn git_fetches_a_forks_commit_with_the_minted_credential_only() {
    let scene = Scene::new().await;
    let new =
        NewPullRequest { files: &[("new", "from afar")], from_fork: true, author: "stranger", ..Default::default() };
    let pull = scene.forge.open_pull_request(REPOSITORY, new).await.unwrap();
    let upstream = scene.as_app().git_upstream(&scene.access()).await.unwrap();
    assert_eq!(upstream.url.as_str(), format!("{}/demo/hello", scene.forge.url()));
    let authorization = upstream.authorization.unwrap();
    let authorization = authorization.expose_secret();

    let directory = tempfile::tempdir().unwrap();
    assert!(git(directory.path(), None, &["init", "--quiet"]).status.success());
    let fetch = ["fetch", "--quiet", "--depth=1", upstream.url.as_str(), pull.sha.as_str()];
    let fetched = git(directory.path(), Some(authorization), &fetch);
    assert!(fetched.status.success(), "{fetched:?}");
    let shown = git(directory.path(), None, &["show", &format!("{}:new", pull.sha)]);
    assert_eq!(shown.stdout, b"from afar");

    assert!(!git(directory.path(), None, &fetch).status.success(), "a credential is needed");
    let push = ["push", upstream.url.as_str(), &format!("{}:refs/heads/main", pull.sha)];
    assert!(!git(directory.path(), Some(authorization), &push).status.success(), "fetching is all there is");
}
