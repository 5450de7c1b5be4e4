//! GitHub's documented shapes, reduced to what matters and then broken in many ways.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::forge::CommitSha;
use crate::ids::ReportId;

const HEAD: &str = "ec26c3e57ca3a959ca5aad62de7213c562f8c821";
const BASE: &str = "f95f852bd8fca8fcc58a9a2d6c842781e32a215e";
const NULL_ID: &str = "0000000000000000000000000000000000000000";

fn event_name(name: &str) -> EventName {
    EventName::parse(name).unwrap()
}

fn parse(name: &str, payload: &Value) -> Result<Event, PayloadError> {
    parse_github(&event_name(name), payload.to_string().as_bytes())
}

fn complaint(name: &str, payload: &Value) -> String {
    parse(name, payload).unwrap_err().to_string()
}

/// The members that every event of a repository has, as an App gets them.
fn envelope(extra: Value) -> Value {
    let mut payload = json!({
        "repository": {"id": 186853002, "node_id": "MDEw", "name": "Hello-World", "full_name": "octocat/Hello-World",
            "private": false, "owner": {"login": "octocat", "id": 21031067}, "fork": false, "default_branch": "main"},
        "sender": {"login": "octocat", "id": 21031067, "type": "User"},
        "installation": {"id": 5, "node_id": "MDIz"},
    });
    payload.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    payload
}

fn pull_request_payload(action: &str) -> Value {
    envelope(json!({
        "action": action, "number": 2,
        "pull_request": {
            "id": 279147437, "number": 2, "state": "open", "title": "Update the README", "draft": false, "merged": false,
            "updated_at": "2023-11-14T22:13:20Z",
            "user": {"login": "octocat", "id": 21031067}, "author_association": "OWNER", "merge_commit_sha": null,
            "head": {"label": "octocat:changes", "ref": "changes", "sha": HEAD,
                "repo": {"id": 186853002, "full_name": "octocat/Hello-World", "fork": false}},
            "base": {"label": "octocat:main", "ref": "main", "sha": BASE,
                "repo": {"id": 186853002, "full_name": "octocat/Hello-World", "fork": false}},
        },
    }))
}

fn pull(payload: &Value) -> PullRequest {
    match parse("pull_request", payload).unwrap() {
        Event::PullRequest(pull) => pull,
        other => panic!("{other:?}"),
    }
}

fn push_payload() -> Value {
    envelope(json!({
        "ref": "refs/heads/main", "before": BASE, "after": HEAD, "created": false, "deleted": false, "forced": false,
        "compare": "https://github.com/octocat/Hello-World/compare/f95f852bd8fc...ec26c3e57ca3",
        "commits": [
            {"id": BASE, "added": ["b"], "modified": ["a"], "removed": []},
            {"id": HEAD, "added": [], "modified": ["a", "docs/é.md"], "removed": ["c"]},
        ],
        "head_commit": {"id": HEAD}, "pusher": {"name": "octocat"},
    }))
}

fn pushed(payload: &Value) -> Push {
    match parse("push", payload).unwrap() {
        Event::Push(push) => push,
        other => panic!("{other:?}"),
    }
}

#[test]
fn headers_are_bounded_and_named() {
    let delivery: Option<&[u8]> = Some(b"72d3162e-cc78-11e3-81ab-4c9367dc0958");
    let headers = GitHubHeaders::parse(Some(b"push"), delivery).unwrap();
    assert_eq!((headers.event.as_str(), headers.delivery.as_str().len()), ("push", 36));
    insta::assert_snapshot!(GitHubHeaders::parse(None, delivery).unwrap_err(), @"the delivery has no `X-GitHub-Event` header");
    insta::assert_snapshot!(GitHubHeaders::parse(Some(b"push"), Some(b"\xff;")).unwrap_err(), @"the `X-GitHub-Delivery` header: `\u{fffd};` is not a delivery's id (letters, digits and `-`)");
}

#[test]
fn a_pull_request_of_the_same_repository() {
    let pull = pull(&pull_request_payload("opened"));
    assert_eq!(pull.action, PullRequestAction::Opened);
    assert_eq!(pull.repository.access.repo.as_str(), "octocat/Hello-World");
    assert_eq!((pull.repository.id, pull.repository.access.installation), (186_853_002, Some(5)));
    assert_eq!((pull.head_sha.as_str(), pull.head_ref.as_str()), (HEAD, "changes"));
    assert_eq!((pull.base_sha.as_ref().map(CommitSha::as_str), pull.base_ref.as_str()), (Some(BASE), "main"));
    assert_eq!((pull.number, pull.is_fork, pull.draft, pull.merged), (2, false, false, false));
    assert_eq!(pull.changed_at, Some(1_700_000_000_000));
    assert_eq!((pull.author.as_str(), pull.author_association), ("octocat", AuthorAssociation::Owner));
}

#[test]
fn forks_are_told_by_the_id_of_the_head_repository() {
    let mut payload = pull_request_payload("opened");
    payload["pull_request"]["head"]["repo"] = json!({"id": 7, "full_name": "stranger/Hello-World", "fork": true});
    assert!(pull(&payload).is_fork);
    payload["pull_request"]["head"]["repo"]["fork"] = json!(false);
    assert!(pull(&payload).is_fork, "the flag says nothing about the relation of the two");
    payload["pull_request"]["head"]["repo"] = Value::Null;
    let orphan = pull(&payload);
    assert!(orphan.is_fork && orphan.head_repo.is_none(), "a deleted fork is still a fork");

    let mut payload = pull_request_payload("opened");
    payload["pull_request"]["head"]["repo"]["fork"] = json!(true);
    assert!(!pull(&payload).is_fork, "the base is itself a fork, and the branch is its own");
}

#[test]
fn odd_accounts_and_words_get_the_least_trust() {
    let mut payload = pull_request_payload("a_new_action");
    payload["pull_request"]["user"] = Value::Null;
    payload["pull_request"]["author_association"] = json!("GRAND_DUKE");
    payload["installation"] = Value::Null;
    let pull = pull(&payload);
    assert_eq!(pull.action, PullRequestAction::Other("a_new_action".to_owned()));
    assert_eq!((pull.author.as_str(), pull.author_association), ("ghost", AuthorAssociation::None));
    assert_eq!(pull.repository.access.installation, None);
}

#[test]
fn labels_and_long_titles() {
    let mut payload = pull_request_payload("labeled");
    payload["label"] = json!({"name": "safe to test"});
    payload["pull_request"]["title"] = json!("é".repeat(400));
    let pull = pull(&payload);
    assert_eq!(pull.label.as_deref(), Some("safe to test"));
    assert_eq!(pull.title, "é".repeat(128));
}

#[test]
fn complaints_name_the_path() {
    let mut payload = pull_request_payload("opened");
    payload["pull_request"]["head"]["sha"] = json!("ec26c3e");
    insta::assert_snapshot!(complaint("pull_request", &payload), @"`pull_request.head.sha`: `ec26c3e` is not a full commit id");
    let mut payload = pull_request_payload("opened");
    payload["repository"]["full_name"] = json!("octocat/../etc");
    insta::assert_snapshot!(complaint("pull_request", &payload), @"`repository.full_name`: `octocat/../etc` is not a repository's `owner/name`");
    let mut payload = pull_request_payload("opened");
    payload["pull_request"]["base"].as_object_mut().unwrap().remove("ref");
    insta::assert_snapshot!(complaint("pull_request", &payload), @"`pull_request.base.ref`: is missing; expected a text");
    let mut payload = pull_request_payload("opened");
    payload["pull_request"]["head"]["ref"] = json!("a\u{1b}[31m");
    insta::assert_snapshot!(complaint("pull_request", &payload), @r"`pull_request.head.ref`: `a\u{1b}[31m` is not 1 to 1024 bytes without control characters");
    insta::assert_snapshot!(parse_github(&event_name("push"), b"payload=%7B%7D").unwrap_err(), @r"
    the delivery's body is not JSON: expected value at line 1 column 1
      hint: the webhook's content type must be `application/json`
    ");
    let huge = vec![b' '; MAX_BODY + 1];
    insta::assert_snapshot!(parse_github(&event_name("push"), &huge).unwrap_err(), @"the delivery's body has 26214401 bytes; at most 26214400 are read");
}

#[test]
fn a_push_to_a_branch() {
    let push = pushed(&push_payload());
    assert_eq!(push.target, PushTarget::Branch("main".to_owned()));
    assert_eq!(push.before.unwrap().as_str(), BASE);
    assert_eq!(push.after.unwrap().as_str(), HEAD);
    assert_eq!(push.changed_paths.unwrap(), ["a", "b", "c", "docs/é.md"]);
}

#[test]
fn created_and_deleted_refs() {
    let mut payload = push_payload();
    payload["ref"] = json!("refs/tags/v1");
    payload["before"] = json!(NULL_ID);
    payload["created"] = json!(true);
    let push = pushed(&payload);
    assert_eq!((push.target, push.before, push.changed_paths), (PushTarget::Tag("v1".to_owned()), None, None));

    let mut payload = push_payload();
    payload["after"] = json!(NULL_ID);
    payload["deleted"] = json!(true);
    let push = pushed(&payload);
    assert_eq!((push.after, push.deleted, push.changed_paths), (None, true, None));
}

#[test]
fn changed_paths_are_unknown_rather_than_incomplete() {
    let mut forced = push_payload();
    forced["forced"] = json!(true);
    let mut many_commits = push_payload();
    many_commits["commits"] = json!(vec![json!({"added": [], "modified": [], "removed": []}); LISTED_COMMITS]);
    let files: Vec<String> = (0..LISTED_FILES_PER_COMMIT).map(|n| format!("file{n}")).collect();
    let mut many_files = push_payload();
    many_files["commits"] = json!([{"added": files, "modified": [], "removed": []}]);
    let mut odd = push_payload();
    odd["commits"] = json!([{"added": [1], "modified": [], "removed": []}]);
    for payload in [forced, many_commits, many_files, odd] {
        assert_eq!(pushed(&payload).changed_paths, None);
    }
}

#[test]
fn rerequested_checks() {
    let report = ReportId::random();
    let mut payload = envelope(json!({
        "action": "rerequested",
        "check_run": {"id": 128620228, "name": "dayfly/ci/test", "head_sha": HEAD, "external_id": report.as_str(),
            "status": "completed", "conclusion": "failure", "check_suite": {"id": 118578147}},
    }));
    let Event::CheckRunRerequested(rerequested) = parse("check_run", &payload).unwrap() else { panic!() };
    assert_eq!((rerequested.check_run_id, rerequested.external_id), (128_620_228, Some(report)));
    payload["check_run"]["external_id"] = json!("of another application");
    let Event::CheckRunRerequested(foreign) = parse("check_run", &payload).unwrap() else { panic!() };
    assert_eq!(foreign.external_id, None);
    payload["action"] = json!("completed");
    assert!(matches!(parse("check_run", &payload).unwrap(), Event::Other { action: Some(a), .. } if a == "completed"));

    let payload = envelope(json!({
        "action": "rerequested", "check_suite": {"id": 118578147, "head_branch": null, "head_sha": HEAD},
    }));
    let Event::CheckSuiteRerequested(suite) = parse("check_suite", &payload).unwrap() else { panic!() };
    assert_eq!((suite.head_sha.as_str(), suite.head_branch), (HEAD, None));
}

#[test]
fn merge_groups() {
    let payload = envelope(json!({
        "action": "checks_requested",
        "merge_group": {"head_sha": HEAD, "head_ref": "refs/heads/gh-readonly-queue/main/pr-2-f95f852",
            "base_sha": BASE, "base_ref": "refs/heads/main"},
    }));
    let Event::MergeGroup(group) = parse("merge_group", &payload).unwrap() else { panic!() };
    assert_eq!((group.action, group.head_sha.as_str()), (MergeGroupAction::ChecksRequested, HEAD));
}

#[test]
fn comments_on_pull_requests_and_issues() {
    let mut payload = envelope(json!({
        "action": "created",
        "issue": {"number": 2, "pull_request": {"url": "https://api.github.com/repos/octocat/Hello-World/pulls/2"}},
        "comment": {"id": 9, "body": "/dayfly run", "user": {"login": "octocat"}, "author_association": "MEMBER"},
    }));
    let Event::IssueComment(comment) = parse("issue_comment", &payload).unwrap() else { panic!() };
    assert!(comment.is_pull_request);
    assert_eq!((comment.number, comment.body.as_str()), (2, "/dayfly run"));
    assert_eq!(comment.author_association, AuthorAssociation::Member);

    payload["issue"] = json!({"number": 3});
    payload["comment"]["body"] = json!("x".repeat(MAX_COMMENT + 5));
    let Event::IssueComment(comment) = parse("issue_comment", &payload).unwrap() else { panic!() };
    assert_eq!((comment.is_pull_request, comment.body.len()), (false, MAX_COMMENT));
}

#[test]
fn unknown_events_are_no_errors() {
    assert_eq!(parse("ping", &json!({"zen": "Design for failure.", "hook_id": 1})).unwrap(), Event::Ping);
    let expected = Event::Other { name: event_name("star"), action: Some("created".to_owned()) };
    assert_eq!(parse("star", &json!({"action": "created"})).unwrap(), expected);
    assert!(matches!(parse("pull_request", &json!([])).unwrap(), Event::Other { action: None, .. }));
}

#[test]
fn events_survive_storage() {
    for (name, payload) in [("pull_request", pull_request_payload("edited")), ("push", push_payload())] {
        let event = parse(name, &payload).unwrap();
        let stored = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&stored).unwrap(), event);
    }
}

/// Replaces the value at the `index`-th position of a depth-first walk.
fn replace(value: &mut Value, index: &mut usize, with: &Value) {
    if *index == 0 {
        *value = with.clone();
    }
    *index = index.wrapping_sub(1);
    match value {
        Value::Object(members) => members.values_mut().for_each(|member| replace(member, index, with)),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, index, with)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn no_body_panics(name in "pull_request|push|check_run|check_suite|merge_group|issue_comment", body: Vec<u8>) {
        drop(parse_github(&event_name(&name), &body));
    }

    #[test]
    fn no_single_odd_value_panics_and_every_error_names_a_path(
        index in 0usize..60, with in prop::sample::select(vec![json!(null), json!(-1), json!("\u{0}"), json!([]), json!({}), json!(true)]),
    ) {
        for (name, mut payload) in [("pull_request", pull_request_payload("opened")), ("push", push_payload())] {
            replace(&mut payload, &mut index.clone(), &with);
            if let Err(error) = parse(name, &payload) {
                let is_named = matches!(&error, PayloadError::Field { path, .. } if !path.is_empty());
                prop_assert!(is_named, "{error}");
            }
        }
    }
}

#[test]
fn a_time_that_does_not_read_is_as_good_as_none() {
    for odd in [json!("yesterday"), json!(5), Value::Null, json!("2023-11-14T22:13:20")] {
        let mut payload = pull_request_payload("opened");
        payload["pull_request"]["updated_at"] = odd.clone();
        assert_eq!(pull(&payload).changed_at, None, "{odd}");
    }
}

fn workflow_job_payload(action: &str) -> Value {
    envelope(json!({
        "action": action,
        "workflow_job": {"id": 2832853555u64, "run_id": 940463255, "run_attempt": 1, "head_sha": HEAD, "status": "queued",
            "conclusion": null, "name": "Test workflow", "labels": ["self-hosted", "Größe"], "runner_id": null,
            "runner_name": null, "runner_group_id": null, "steps": []},
        "organization": {"login": "Octocat-Inc", "id": 1},
    }))
}

#[test]
fn workflow_jobs_tell_how_far_they_are() {
    let read = |payload: &Value| match parse("workflow_job", payload) {
        Ok(Event::WorkflowJob(job)) => job,
        other => panic!("{other:?}"),
    };
    let queued = read(&workflow_job_payload("queued"));
    assert_eq!((queued.id, queued.run, queued.stage), (2_832_853_555, 940_463_255, JobStage::Queued));
    assert_eq!((queued.labels.as_slice(), queued.runner), (&["self-hosted".to_owned(), "Größe".to_owned()][..], None));
    assert_eq!(queued.organization.as_deref(), Some("Octocat-Inc"));

    let mut payload = workflow_job_payload("completed");
    payload["workflow_job"]["runner_name"] = "dayfly-vm-1".into();
    payload["workflow_job"]["conclusion"] = "timed_out".into();
    payload.as_object_mut().unwrap().remove("organization");
    let completed = read(&payload);
    assert_eq!(
        (completed.runner.as_deref(), completed.conclusion.as_deref()),
        (Some("dayfly-vm-1"), Some("timed_out"))
    );
    assert_eq!((completed.stage, completed.organization), (JobStage::Completed, None));

    payload["action"] = "in_progress".into();
    payload["workflow_job"]["runner_name"] = "".into();
    assert_eq!((read(&payload).stage, read(&payload).runner), (JobStage::InProgress, None));
    assert_eq!(read(&workflow_job_payload("waiting")).stage, JobStage::Waiting);
    assert!(matches!(parse("workflow_job", &workflow_job_payload("retried")), Ok(Event::Other { .. })));
    payload["workflow_job"]["labels"] = json!(["a", 1]);
    insta::assert_snapshot!(complaint("workflow_job", &payload), @"`workflow_job.labels.1`: `1` is not a text");
    payload["workflow_job"]["labels"] = vec!["a"; 101].into();
    insta::assert_snapshot!(complaint("workflow_job", &payload), @"`workflow_job.labels`: is a list; expected a list of at most 100");
}
