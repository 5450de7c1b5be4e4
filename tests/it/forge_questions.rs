//! What the GitHub client asks about people, pull requests, deliveries and itself.
#![allow(clippy::unwrap_used)]

use dayfly::forge::github::{Auth, GitHub, GitHubSettings};
use dayfly::forge::{Forge as _, ForgeError, Permission, RepoAccess, RepoName};
use dayfly::webhook::{Event, EventName, parse_github};
use secrecy::SecretString;

use crate::local_forge::{APP_PRIVATE_KEY, Fault, FaultKind, Forge, NewPullRequest, Options, PullRequest};

const REPOSITORY: &str = "demo/hello";

async fn forge() -> Forge {
    let forge = Forge::start(Options::default()).await.unwrap();
    forge.create_repository(REPOSITORY).await.unwrap();
    forge.commit(REPOSITORY, "main", &[("README.md", "# Hello\n")], "Begin").await.unwrap();
    forge
}

fn client(forge: &Forge, auth: Auth) -> GitHub {
    let (api_url, url) = (forge.api_url().parse().unwrap(), forge.url().parse().unwrap());
    GitHub::new(GitHubSettings { api_url, url, auth }).unwrap()
}

fn as_app(forge: &Forge) -> GitHub {
    client(forge, Auth::App { id: forge.app_id(), private_key: SecretString::from(APP_PRIVATE_KEY) })
}

fn as_person(forge: &Forge) -> GitHub {
    client(forge, Auth::Token(SecretString::from(forge.plain_token())))
}

fn access(forge: &Forge) -> RepoAccess {
    RepoAccess { repo: RepoName::parse(REPOSITORY).unwrap(), installation: Some(forge.installation()) }
}

async fn open(forge: &Forge, branch: &str, from_fork: bool) -> PullRequest {
    let author = if from_fork { "stranger" } else { "octocat" };
    let new = NewPullRequest { files: &[("new", branch)], branch, from_fork, author, ..Default::default() };
    forge.open_pull_request(REPOSITORY, new).await.unwrap()
}

#[tokio::test]
async fn people_are_asked_about_at_the_moment_that_counts() {
    let forge = forge().await;
    open(&forge, "own", false).await;
    open(&forge, "theirs", true).await;
    let access = access(&forge);
    for github in [as_app(&forge), as_person(&forge)] {
        let may = async |user| github.permission(&access, user).await.unwrap();
        assert_eq!(may("demo").await, Permission::Admin);
        assert_eq!(may("octocat").await, Permission::Write);
        assert_eq!(may("stranger").await, Permission::Read);
        for nobody in ["nobody", "", "..", "octocat/../demo", "demo?x", "é"] {
            assert_eq!(may(nobody).await, Permission::None, "{nobody}");
        }
        for (role, permission) in [
            ("maintain", Permission::Write),
            ("triage", Permission::Read),
            ("none", Permission::None),
            ("write", Permission::Write),
        ] {
            forge.set_permission(REPOSITORY, "octocat", role).unwrap();
            assert_eq!(may("OctoCat").await, permission, "{role}");
        }
    }
}

#[tokio::test]
async fn a_forge_that_does_not_answer_gives_nobody_a_right() {
    let forge = forge().await;
    let (github, access) = (as_person(&forge), access(&forge));
    for kind in [FaultKind::Status(500), FaultKind::Close, FaultKind::Status(403)] {
        forge.inject(Fault { method: None, path_contains: "/collaborators", kind, times: 1 });
        github.permission(&access, "demo").await.unwrap_err();
    }
}

#[tokio::test]
async fn pull_requests_are_told_as_they_are_now() {
    let forge = forge().await;
    let (own, theirs) = (open(&forge, "own", false).await, open(&forge, "theirs", true).await);
    for access in [access(&forge), RepoAccess { installation: None, ..access(&forge) }] {
        let github = if access.installation.is_some() { as_app(&forge) } else { as_person(&forge) };
        let now = github.pull_request(&access, theirs.number).await.unwrap();
        assert_eq!((now.number, now.head_sha.as_str()), (theirs.number, theirs.sha.as_str()));
        assert!(now.is_open && now.is_fork);
        let Event::PullRequest(event) = parse_github(&EventName::parse("pull_request").unwrap(), &now.event).unwrap()
        else {
            panic!()
        };
        assert_eq!((event.repository.access, event.is_fork), (access.clone(), true));
        assert_eq!(event.author, "stranger");
        assert!(!github.pull_request(&access, own.number).await.unwrap().is_fork);
        let error = github.pull_request(&access, 99).await.unwrap_err();
        assert!(matches!(error, ForgeError::NotFound { .. }), "{error}");
    }
    let pushed = forge.push_to_pull_request(REPOSITORY, own.number, &[("new", "2")]).await.unwrap();
    forge.close_pull_request(REPOSITORY, theirs.number).unwrap();
    let (github, access) = (as_app(&forge), access(&forge));
    assert_eq!(github.pull_request(&access, own.number).await.unwrap().head_sha.as_str(), pushed.sha);
    assert!(!github.pull_request(&access, theirs.number).await.unwrap().is_open);
    let open: Vec<u64> = github.open_pull_requests(&access).await.unwrap().iter().map(|pull| pull.number).collect();
    assert_eq!(open, [own.number]);
}

#[tokio::test]
async fn all_pages_of_open_pull_requests_are_read_newest_first() {
    let forge = forge().await;
    for n in 0..31 {
        open(&forge, &format!("change-{n}"), false).await;
    }
    forge.push_to_pull_request(REPOSITORY, 1, &[("new", "again")]).await.unwrap();
    let pulls = as_person(&forge).open_pull_requests(&access(&forge)).await.unwrap();
    assert_eq!((pulls.len(), pulls[0].number), (31, 1));
    assert!(pulls.windows(2).all(|pair| pair[0].changed_at >= pair[1].changed_at));
}

#[tokio::test]
async fn deliveries_that_never_arrived_are_found_and_asked_for() {
    let forge = forge().await;
    let github = as_app(&forge);
    let ping = forge.ping_payload(REPOSITORY);
    forge.lose_deliveries(101);
    for _ in 0..101 {
        forge.deliver("ping", &ping).await.unwrap();
    }
    let failed = github.failed_deliveries(0).await.unwrap();
    let guids: Vec<String> = forge.attempts().into_iter().rev().map(|attempt| attempt.guid).collect();
    assert_eq!(failed.iter().map(|found| found.guid.clone()).collect::<Vec<_>>(), guids, "over the page's border");
    assert_eq!(github.failed_deliveries(i64::MAX).await.unwrap(), []);

    forge.lose_deliveries(1);
    github.redeliver(failed[0].id).await.unwrap();
    let is_second = |attempt: &crate::local_forge::Attempt| attempt.is_redelivery && attempt.guid == guids[0];
    let second = forge.wait_for_attempt(is_second, crate::support::DEADLINE).await.unwrap();
    let newest = github.failed_deliveries(0).await.unwrap().into_iter().find(|found| found.guid == guids[0]).unwrap();
    assert_eq!(newest.id, second.id, "each delivery is told once, by its newest attempt");
    let error = github.redeliver(1).await.unwrap_err();
    assert!(matches!(error, ForgeError::NotFound { .. }), "{error}");

    let person = as_person(&forge);
    assert_eq!(person.failed_deliveries(0).await.unwrap(), [], "a token has no deliveries of its own");
    person.redeliver(1).await.unwrap_err();
}

#[tokio::test]
async fn dayfly_knows_as_whom_it_speaks_and_what_is_left() {
    let forge = forge().await;
    forge.create_repository("demo/other").await.unwrap();
    let (app, person) = (as_app(&forge), as_person(&forge));
    assert_eq!(app.budgets(), [], "nothing was asked yet");
    let standing = app.standing().await.unwrap();
    assert_eq!(standing.identity, "App `Dayfly`");
    assert_eq!(standing.permissions["checks"], "write");
    assert!(standing.events.contains(&"pull_request".to_owned()));
    let names: Vec<&str> = standing.repositories.iter().map(|access| access.repo.as_str()).collect();
    assert_eq!(names, [REPOSITORY, "demo/other"]);
    assert_eq!(standing.repositories[0], access(&forge));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    assert!((now - standing.server_time.unwrap()).abs() < 60_000);

    let names: Vec<String> = app.budgets().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["App".to_owned(), access(&forge).budget_name()]);
    forge.set_calls_left(100);
    let standing = person.standing().await.unwrap();
    assert_eq!(standing.identity, "token of `ci-account`");
    assert_eq!(standing.permissions.keys().collect::<Vec<_>>(), ["repo", "workflow"]);
    assert!(standing.repositories.is_empty());
    let budgets = person.budgets();
    assert_eq!((budgets[0].0.as_str(), budgets[0].1.limit, budgets[0].1.remaining), ("token", 5000, 99));
    assert_eq!(RepoAccess { installation: None, ..access(&forge) }.budget_name(), budgets[0].0);
}
