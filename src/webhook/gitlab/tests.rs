//! GitLab's documented shapes, reduced to what matters, and the odd ones that it sends too.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::forge::CommitSha;
use crate::webhook::event::DeliveryId;

const HEAD: &str = "da1560886d4f094c3e6c9ef40349f7d38b5d27d7";
const BEFORE: &str = "95790bf891e76fee5e1747ab589903a6a1f80f22";
const NULL_ID: &str = "0000000000000000000000000000000000000000";

fn parse(payload: &Value) -> Result<Event, PayloadError> {
    parse_gitlab("lab", &EventName::parse("any").unwrap(), payload.to_string().as_bytes())
}

fn envelope(kind: &str, more: Value) -> Value {
    let mut payload = json!({
        "object_kind": kind,
        "user": {"id": 1, "name": "Ann Röhrig", "username": "ann.r", "avatar_url": "https://lab.example.org/a.png"},
        "project": {"id": 15, "name": "App", "path_with_namespace": "acme/tools/app", "default_branch": "trunk",
            "web_url": "https://lab.example.org/acme/tools/app", "git_http_url": "https://lab.example.org/acme/tools/app.git"},
        "repository": {"name": "App", "url": "git@lab.example.org:acme/tools/app.git", "homepage": "x"},
    });
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    payload
}

/// A merge request's event; `more` goes into `object_attributes`.
fn merge_request(action: &str, more: Value) -> Value {
    let mut about = json!({
        "id": 99, "iid": 7, "author_id": 1, "title": "Grüße", "description": "why", "state": "opened", "action": action,
        "source_branch": "feature/ü", "target_branch": "trunk", "source_project_id": 15, "target_project_id": 15,
        "updated_at": "2013-12-03T17:23:34Z", "draft": false, "url": "https://lab.example.org/acme/tools/app/-/merge_requests/7",
        "source": {"path_with_namespace": "acme/tools/app", "web_url": "https://lab.example.org/acme/tools/app"},
        "last_commit": {"id": HEAD, "message": "m"},
    });
    about.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    envelope("merge_request", json!({"event_type": "merge_request", "object_attributes": about, "labels": []}))
}

fn pull(payload: &Value) -> PullRequest {
    match parse(payload).unwrap() {
        Event::PullRequest(pull) => pull,
        other => panic!("{other:?}"),
    }
}

fn push_payload(more: Value) -> Value {
    let mut payload = envelope(
        "push",
        json!({
            "ref": "refs/heads/trunk", "before": BEFORE, "after": HEAD, "checkout_sha": HEAD, "user_username": "ann.r", "user_id": 1,
            "project_id": 15, "total_commits_count": 2,
            "commits": [
                {"id": BEFORE, "message": "a", "added": ["b"], "modified": [], "removed": ["a"]},
                {"id": HEAD, "message": "b", "added": [], "modified": ["a"], "removed": []},
            ],
        }),
    );
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    payload
}

fn pushed(more: Value) -> Push {
    match parse(&push_payload(more)).unwrap() {
        Event::Push(push) => push,
        other => panic!("{other:?}"),
    }
}

fn note(more: Value) -> Value {
    let mut about = json!({
        "id": 1244, "note": format!("/dayfly run {HEAD}"), "noteable_type": "MergeRequest", "author_id": 1, "system": false,
        "action": "create", "created_at": "2015-05-17 18:08:09 UTC", "updated_at": "2015-05-17 18:08:09 UTC",
    });
    about.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    envelope("note", json!({"object_attributes": about, "merge_request": {"iid": 7, "state": "opened"}}))
}

#[test]
fn a_merge_request_is_a_pull_request() {
    let pull = pull(&merge_request("open", json!({})));
    assert_eq!((pull.action.as_str(), pull.number, pull.title.as_str()), ("opened", 7, "Grüße"));
    assert_eq!((pull.head_sha.as_str(), pull.head_ref.as_str(), pull.base_ref.as_str()), (HEAD, "feature/ü", "trunk"));
    assert_eq!((pull.author.as_str(), pull.sender.as_str()), ("ann.r", "ann.r"));
    assert!(!pull.is_fork && !pull.draft && !pull.merged && pull.before.is_none());
    assert_eq!(pull.changed_at, Some(1_386_091_414_000));
    let Repository { forge, access, id, default_branch } = &pull.repository;
    assert_eq!(
        (forge.as_str(), access.repo.as_str(), *id, default_branch.as_str()),
        ("lab", "acme/tools/app", 15, "trunk")
    );
    assert_eq!(pull.git_ref(), "refs/merge-requests/7/head");
}

#[test]
fn what_happens_to_a_merge_request_has_githubs_words() {
    let draft = |current: bool| json!({"draft": {"previous": !current, "current": current}});
    let labels = |before: &[&str], after: &[&str]| {
        let list = |titles: &[&str]| titles.iter().map(|title| json!({"id": 1, "title": title})).collect::<Vec<_>>();
        json!({"labels": {"previous": list(before), "current": list(after)}})
    };
    let cases: &[(&str, Value, Value, &str)] = &[
        ("open", json!({}), json!({}), "opened"),
        ("reopen", json!({}), json!({}), "reopened"),
        ("update", json!({"oldrev": BEFORE}), json!({}), "synchronize"),
        // A push counts for more than what changed with it.
        ("update", json!({"oldrev": BEFORE}), draft(false), "synchronize"),
        ("update", json!({"oldrev": NULL_ID}), json!({}), "edited"),
        ("update", json!({}), json!({"title": {"previous": "a", "current": "b"}}), "edited"),
        ("update", json!({}), draft(false), "ready_for_review"),
        ("update", json!({}), draft(true), "converted_to_draft"),
        ("update", json!({}), labels(&["a"], &["a", "b"]), "labeled b"),
        ("update", json!({}), labels(&["a", "b"], &["b"]), "unlabeled a"),
        ("close", json!({"state": "closed"}), json!({}), "closed"),
        ("merge", json!({"state": "merged"}), json!({}), "closed merged"),
    ];
    for (action, more, changes, expected) in cases {
        let mut payload = merge_request(action, more.clone());
        payload["changes"] = changes.clone();
        let pull = pull(&payload);
        let label = pull.label.map(|label| format!(" {label}")).unwrap_or_default();
        let merged = if pull.merged { " merged" } else { "" };
        assert_eq!(format!("{}{label}{merged}", pull.action.as_str()), *expected, "{action} {more} {changes}");
    }
    for action in ["approved", "unapproved", "approval", "unapproval", "something new", ""] {
        let event = parse(&merge_request("open", json!({})).clone()).map(drop);
        assert!(event.is_ok());
        let mut payload = merge_request(action, json!({}));
        if action.is_empty() {
            payload["object_attributes"].as_object_mut().unwrap().remove("action");
        }
        assert!(matches!(parse(&payload).unwrap(), Event::Other { .. }), "{action}");
    }
    let empty = merge_request("open", json!({"last_commit": null}));
    assert!(matches!(parse(&empty).unwrap(), Event::Other { .. }), "no commit, nothing to run");
}

#[test]
fn forks_are_told_by_the_number_of_the_source_project() {
    let fork = pull(&merge_request(
        "open",
        json!({"source_project_id": 16, "author_id": 9, "source": {"path_with_namespace": "stranger/app"}}),
    ));
    assert!(fork.is_fork);
    assert_eq!((fork.head_repo.unwrap().as_str(), fork.author.as_str()), ("stranger/app", "#9"));
    let gone = pull(&merge_request("open", json!({"source_project_id": null, "source": null})));
    assert!(gone.is_fork && gone.head_repo.is_none());
    // A name says nothing: projects are renamed.
    let renamed = pull(&merge_request("open", json!({"source": {"path_with_namespace": "other/name"}})));
    assert!(!renamed.is_fork);
}

#[test]
fn older_versions_are_understood() {
    let mut payload = merge_request("open", json!({"work_in_progress": true, "updated_at": "2013-12-03 17:23:34 UTC"}));
    payload["object_attributes"].as_object_mut().unwrap().remove("draft");
    let pull = pull(&payload);
    assert_eq!((pull.draft, pull.changed_at), (true, Some(1_386_091_414_000)));
    let mut empty = push_payload(json!({}));
    empty["project"]["default_branch"] = Value::Null;
    let Event::Push(push) = parse(&empty).unwrap() else { panic!() };
    assert_eq!(push.repository.default_branch, "main");
}

#[test]
fn pushes_name_the_commit_that_is_checked_out() {
    let push = pushed(json!({}));
    assert_eq!((push.after.as_ref().map(CommitSha::as_str), push.sender.as_str()), (Some(HEAD), "ann.r"));
    assert_eq!(push.changed_paths.unwrap(), ["a", "b"]);
    let tag = "82b3d5ae55f7080f1e6022629cdb57bfae7cccc7";
    let annotated =
        pushed(json!({"object_kind": "tag_push", "ref": "refs/tags/v1.0", "before": NULL_ID, "after": tag}));
    assert_eq!((annotated.after.unwrap().as_str(), annotated.target), (HEAD, PushTarget::Tag("v1.0".to_owned())));
    let deleted = pushed(json!({"after": NULL_ID, "checkout_sha": null}));
    assert!(deleted.deleted && deleted.after.is_none());
    let created = pushed(json!({"before": NULL_ID}));
    assert!(created.created && created.changed_paths.is_none());
    for incomplete in [json!({"total_commits_count": 21}), json!({"commits": [], "total_commits_count": 0})] {
        assert_eq!(pushed(incomplete.clone()).changed_paths, None, "{incomplete}");
    }
}

#[test]
fn only_a_persons_note_on_a_merge_request_is_a_comment() {
    let read = |more: Value| parse(&note(more)).unwrap();
    let Event::IssueComment(comment) = read(json!({})) else { panic!() };
    assert_eq!((comment.number, comment.action, comment.author.as_str()), (7, IssueCommentAction::Created, "ann.r"));
    assert!(comment.is_pull_request && comment.body.ends_with(HEAD));
    for (more, action) in [
        (json!({"action": "update"}), IssueCommentAction::Edited),
        (json!({"action": null}), IssueCommentAction::Created),
        (json!({"action": null, "updated_at": "2015-05-17 18:09:09 UTC"}), IssueCommentAction::Edited),
    ] {
        let Event::IssueComment(comment) = read(more) else { panic!() };
        assert_eq!(comment.action, action);
    }
    let Event::IssueComment(of_another) = read(json!({"author_id": 5})) else { panic!() };
    assert_ne!(of_another.author, of_another.sender);
    for other in [json!({"system": true}), json!({"noteable_type": "Issue"}), json!({"noteable_type": "Commit"})] {
        assert!(matches!(read(other), Event::Other { .. }));
    }
}

#[test]
fn what_is_unknown_is_no_error_and_what_is_odd_names_its_place() {
    for kind in ["pipeline", "build", "issue", "wiki_page", "something_new"] {
        assert!(matches!(parse(&envelope(kind, json!({}))).unwrap(), Event::Other { .. }), "{kind}");
    }
    assert!(matches!(parse(&json!({"event_name": "project_create"})).unwrap(), Event::Other { .. }), "a system hook");
    let complaint = |payload: &Value| parse(payload).unwrap_err().to_string();
    insta::assert_snapshot!(complaint(&merge_request("open", json!({"last_commit": {"id": "HEAD"}}))), @"`object_attributes.last_commit.id`: `HEAD` is not a full commit id");
    insta::assert_snapshot!(complaint(&merge_request("open", json!({"iid": "7"}))), @"`object_attributes.iid`: `7` is not a whole number");
    let mut evil = merge_request("open", json!({}));
    evil["project"]["path_with_namespace"] = "../../etc".into();
    insta::assert_snapshot!(complaint(&evil), @"`project.path_with_namespace`: `../../etc` is not a project's `group/name`");
}

#[test]
fn workflows_find_what_they_know_from_github() {
    let payload = merge_request("update", json!({"oldrev": BEFORE}));
    let event = parse(&payload).unwrap();
    let told = as_event(&event, payload.clone());
    let at = |place: &str| told.pointer(place).cloned().unwrap_or_default();
    assert_eq!(at("/action"), "synchronize");
    assert_eq!(at("/before"), BEFORE);
    assert_eq!(at("/pull_request/number"), 7);
    assert_eq!(at("/pull_request/head/sha"), HEAD);
    assert_eq!(at("/pull_request/head/repo/full_name"), "acme/tools/app");
    assert_eq!(at("/pull_request/base/ref"), "trunk");
    assert_eq!(at("/pull_request/user/login"), "ann.r");
    assert_eq!(at("/repository/full_name"), "acme/tools/app");
    assert_eq!(at("/repository/default_branch"), "trunk");
    assert_eq!(at("/repository/homepage"), "x", "GitLab's own members stay");
    assert_eq!(at("/object_attributes/iid"), 7);
    assert_eq!(at("/sender/login"), "ann.r");
    // What is stored with a run is read once more when it is run again.
    assert_eq!(parse(&told).unwrap(), event);
    assert_eq!(as_event(&event, told.clone()), told);
    let payload = push_payload(json!({}));
    let told = as_event(&parse(&payload).unwrap(), payload);
    assert_eq!((&told["head_commit"]["message"], &told["pusher"]["name"]), (&json!("b"), &json!("ann.r")));
}

#[test]
fn a_delivery_is_named_by_what_stays_when_it_is_repeated() {
    let read = |headers: &[(&str, &'static str)]| {
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes());
        GitLabHeaders::parse(header, b"body").unwrap()
    };
    let (key, id, uuid) = ("idempotency-key", "webhook-id", "x-gitlab-event-uuid");
    let full = read(&[("x-gitlab-event", "Merge Request Hook"), (key, "f5e5f430-f57b"), (id, "other"), (uuid, "u")]);
    assert_eq!((full.event.as_str(), full.delivery.as_str()), ("merge_request", "f5e5f430-f57b"));
    assert_eq!(read(&[(id, "9a1c-1")]).delivery, DeliveryId::parse("9a1c-1").unwrap());
    // Not in the letters of an id, so a digest of it stands for it.
    let odd = read(&[(id, "msg_p5jXN8AQM9LWM0D4loKWxJek")]);
    assert_eq!(odd.delivery.as_str().len(), 32);
    assert_ne!(odd.delivery, read(&[(id, "msg_other")]).delivery);
    // One event may have several deliveries: of different bodies.
    let of_body = |body: &[u8]| GitLabHeaders::parse(|name| (name == uuid).then_some(b"u".as_slice()), body).unwrap();
    assert_eq!(of_body(b"a"), of_body(b"a"));
    assert_ne!(of_body(b"a"), of_body(b"b"));
    for (header, kind) in [
        ("Push Hook", "push"),
        ("Tag Push Hook", "tag_push"),
        ("System Hook", "system"),
        ("Pipeline Hook", "pipeline"),
        ("Job Hook", "job"),
        ("", "unknown"),
        ("Ümläut\u{7}", "unknown"),
    ] {
        assert_eq!(kind_of(Some(header.as_bytes())), kind);
    }
    assert_eq!((kind_of(None), kind_of(Some(b"\xFF"))), ("unknown".to_owned(), "unknown".to_owned()));
}

proptest! {
    #[test]
    fn no_body_panics(body: Vec<u8>, kind in "merge_request|push|tag_push|note|pipeline", more in "[a-z0-9\":{}, ]{0,200}") {
        let name = EventName::parse("any").unwrap();
        drop(parse_gitlab("lab", &name, &body));
        drop(parse_gitlab("lab", &name, format!("{{\"object_kind\": \"{kind}\", {more}}}").as_bytes()));
    }

    #[test]
    fn whatever_member_is_missing_or_odd_nothing_panics(
        at in prop::sample::select(vec!["user", "project", "object_attributes", "changes", "labels", "commits", "merge_request"]),
        value in prop::sample::select(vec![json!(null), json!(1), json!("x"), json!([]), json!({}), json!([{"title": 1}])]),
    ) {
        for mut payload in [merge_request("update", json!({})), push_payload(json!({})), note(json!({}))] {
            payload[at] = value.clone();
            if let Ok(event) = parse(&payload) {
                as_event(&event, payload);
            }
        }
    }
}
