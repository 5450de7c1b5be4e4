//! Pull requests of forks: held, approved, pushed to meanwhile. No VM is needed: whether a job exists is what counts.
#![allow(clippy::unwrap_used)]

use axum::http::Method;
use serde_json::{Value, json};

use crate::local_forge::{CheckRun, Fault, FaultKind, NewPullRequest, PullRequest};
use crate::support::{DEADLINE, REPOSITORY, Scene, Settings, WORKFLOW, http, job_of, processed};

const MAINTAINER: &str = "maintainer";

/// Somebody who may write, and somebody who may only read.
async fn scene(github: &str) -> Option<Scene> {
    let scene = Scene::start(Settings::without_vms().with_github(github)).await?;
    scene.forge.set_permission(REPOSITORY, MAINTAINER, "write").unwrap();
    scene.forge.set_permission(REPOSITORY, "reader", "triage").unwrap();
    Some(scene)
}

/// Opens a fork's pull request of which nobody is told yet.
async fn unannounced(scene: &Scene) -> PullRequest {
    let workflow = job_of("linux", "echo owned");
    let files = [(WORKFLOW, workflow.as_str())];
    let new = NewPullRequest { files: &files, author: "stranger", from_fork: true, ..NewPullRequest::default() };
    scene.forge.open_pull_request(REPOSITORY, new).await.unwrap()
}

async fn held(scene: &Scene) -> PullRequest {
    let pull = unannounced(scene).await;
    scene.deliver_opened(&pull).await;
    held_report(scene, &pull).await;
    pull
}

async fn held_report(scene: &Scene, pull: &PullRequest) -> CheckRun {
    let held = |run: &CheckRun| run.head_sha == pull.sha && run.conclusion.as_deref() == Some("action_required");
    scene.forge.wait_for_check_run(held, DEADLINE).await.unwrap()
}

/// A push that nobody is told of yet.
async fn push(scene: &Scene, pull: &PullRequest) -> PullRequest {
    let content = format!("after {}", pull.sha);
    scene.forge.push_to_pull_request(REPOSITORY, pull.number, &[("more", &content)]).await.unwrap()
}

fn synchronize(scene: &Scene, pushed: &PullRequest) -> Value {
    scene.forge.pull_request_payload(pushed, "synchronize")
}

/// Delivers and waits until it is processed; gives why it was ignored, or nothing.
async fn told(scene: &Scene, event: &str, payload: &Value) -> String {
    let answer = scene.forge.deliver(event, payload).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.body);
    processed(scene.state_dir(), &answer.delivery).await.detail
}

/// A comment with the command for this commit.
async fn ask(scene: &Scene, pull: &PullRequest, author: &str, sha: &str) -> String {
    told(scene, "issue_comment", &scene.forge.comment_payload(pull, author, &format!("/dayfly run {sha}"))).await
}

/// The summary of the held report, once these words are in it.
async fn answered(scene: &Scene, pull: &PullRequest, words: &str) {
    let answered = |run: &CheckRun| {
        run.head_sha == pull.sha
            && run.conclusion.as_deref() == Some("action_required")
            && run.output["summary"].as_str().unwrap().contains(words)
    };
    scene.forge.wait_for_check_run(answered, DEADLINE).await.unwrap();
}

async fn approve_on_socket(scene: &Scene, body: Value) -> (u16, Value) {
    http::post_to_socket(&scene.service.control_socket(), "/v1/approvals", &body).await
}

async fn assert_nothing_ran(scene: &Scene, pull: &PullRequest) {
    assert!(scene.jobs(&pull.sha).await.is_empty(), "code of a stranger ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_may_write_approves_the_commit_that_they_name() {
    let Some(scene) = scene("").await else { return };
    let pull = held(&scene).await;
    let report = held_report(&scene, &pull).await;
    let command = format!("/dayfly run {}", pull.sha);
    assert!(report.output["title"].as_str().unwrap().contains(&command), "{report:?}");
    let status = scene.forge.wait_for_status(&pull.sha, "dayfly", |status| status.state == "pending", DEADLINE).await;
    assert!(status.unwrap().description.unwrap().contains(&command));

    assert_eq!(ask(&scene, &pull, MAINTAINER, &pull.sha).await, "");
    let job = scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    assert_eq!(job.event, "pull_request");
    let approved = |run: &CheckRun| run.id == report.id && run.conclusion.as_deref() == Some("success");
    let report = scene.forge.wait_for_check_run(approved, DEADLINE).await.unwrap();
    assert_eq!(report.output["title"], "Approved by @maintainer");
    scene.forge.wait_for_status(&pull.sha, "dayfly", |status| status.state == "success", DEADLINE).await.unwrap();

    // Nothing of this starts it a second time.
    assert_eq!(ask(&scene, &pull, MAINTAINER, &pull.sha).await, "the commit is approved already");
    let late = told(&scene, "pull_request", &scene.forge.pull_request_payload(&pull, "opened")).await;
    assert!(late.contains("before this event arrived"), "{late}");
    assert_eq!(approve_on_socket(&scene, json!({"sha": pull.sha})).await.0, 404);
    assert_eq!(scene.jobs(&pull.sha).await.len(), 1);
    // Nor can its author, who may have given it another title since.
    let by = |action: &str, person: &str| {
        let mut payload = scene.forge.pull_request_payload(&pull, action);
        payload["sender"]["login"] = person.into();
        payload
    };
    for action in ["reopened", "edited", "ready_for_review"] {
        let why = told(&scene, "pull_request", &by(action, "stranger")).await;
        assert!(why.contains("`@stranger` has no write access"), "{action}: {why}");
    }
    assert_eq!(scene.jobs(&pull.sha).await.len(), 1);
    // But somebody who may write and reopens it asks for another run, as long as this is its head.
    assert_eq!(told(&scene, "pull_request", &by("reopened", MAINTAINER)).await, "");
    assert_eq!(scene.jobs(&pull.sha).await.len(), 2);

    // The next push is another commit.
    let pushed = push(&scene, &pull).await;
    assert_eq!(told(&scene, "pull_request", &synchronize(&scene, &pushed)).await, "");
    held_report(&scene, &pushed).await;
    assert_nothing_ran(&scene, &pushed).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_approves_and_whoever_asks_is_told_why() {
    let Some(scene) = scene("").await else { return };
    let pull = held(&scene).await;
    let command = format!("/dayfly run {}", pull.sha);
    for unclear in [&pull.sha[..12], "", "HEAD"] {
        assert!(ask(&scene, &pull, MAINTAINER, unclear).await.contains("no full commit id"), "{unclear}");
    }
    for person in ["stranger", "reader", "nobody-at-all"] {
        let why = ask(&scene, &pull, person, &pull.sha).await;
        assert!(why.contains(person) && why.contains("no write access"), "{why}");
    }
    answered(&scene, &pull, "`@nobody-at-all`").await;
    let mut edited = scene.forge.comment_payload(&pull, MAINTAINER, &command);
    edited["action"] = "edited".into();
    let mut by_another = scene.forge.comment_payload(&pull, MAINTAINER, &command);
    by_another["sender"]["login"] = "stranger".into();
    let mut on_issue = scene.forge.comment_payload(&pull, MAINTAINER, &command);
    on_issue["issue"].as_object_mut().unwrap().remove("pull_request");
    for (payload, why) in [
        (edited, "only a new comment"),
        (by_another, "not written by"),
        (on_issue, "not on a pull request"),
        (scene.forge.comment_payload(&pull, MAINTAINER, &format!("> {command}")), "no command"),
        (scene.forge.comment_payload(&pull, MAINTAINER, &format!("```\n{command}\n```")), "no command"),
    ] {
        let told = told(&scene, "issue_comment", &payload).await;
        assert!(told.contains(why), "{told}");
    }
    assert_nothing_ran(&scene, &pull).await;

    scene.forge.close_pull_request(REPOSITORY, pull.number).unwrap();
    assert!(ask(&scene, &pull, MAINTAINER, &pull.sha).await.contains("closed"));
    assert_nothing_ran(&scene, &pull).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_before_the_look_at_the_forge_makes_the_approval_one_of_an_old_commit() {
    let Some(scene) = scene("").await else { return };
    let pull = held(&scene).await;
    // The forge knows of the push, Dayfly does not.
    let pushed = push(&scene, &pull).await;
    assert!(ask(&scene, &pull, MAINTAINER, &pull.sha).await.contains("not the head"));
    answered(&scene, &pull, &pushed.sha).await;
    assert_eq!(approve_on_socket(&scene, json!({"repo": REPOSITORY, "sha": pull.sha})).await.0, 202);
    // The new head can be approved before its event arrives, which then starts nothing more.
    assert_eq!(ask(&scene, &pull, MAINTAINER, &pushed.sha).await, "");
    let late = told(&scene, "pull_request", &synchronize(&scene, &pushed)).await;
    assert!(late.contains("before this event arrived"), "{late}");
    assert_nothing_ran(&scene, &pull).await;
    assert_eq!(scene.jobs(&pushed.sha).await.len(), 1);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_while_the_approval_is_processed_voids_it() {
    let Some(scene) = scene("").await else { return };
    let pull = held(&scene).await;
    // The approval is allowed, then cannot go on; meanwhile the event of a push arrives. That the forge still tells of the
    // old head afterwards, as a replica may, changes nothing.
    let fault =
        Fault { method: Some(Method::GET), path_contains: "/contents/", kind: FaultKind::Status(503), times: 1 };
    scene.forge.inject(fault);
    let comment = scene.forge.comment_payload(&pull, MAINTAINER, &format!("/dayfly run {}", pull.sha));
    let asked = scene.forge.deliver("issue_comment", &comment).await.unwrap();
    let pushed = PullRequest { sha: "b2".repeat(20), before: Some(pull.sha.clone()), ..pull.clone() };
    told(&scene, "pull_request", &synchronize(&scene, &pushed)).await;

    let ended = processed(scene.state_dir(), &asked.delivery).await;
    assert!(ended.detail.contains("pushed to meanwhile"), "{}", ended.detail);
    assert_nothing_ran(&scene, &pull).await;
    assert_nothing_ran(&scene, &pushed).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_counts_no_more_after_a_push() {
    let Some(scene) = scene("").await else { return };
    let pull = held(&scene).await;
    ask(&scene, &pull, MAINTAINER, &pull.sha).await;
    scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    let check = |run: &CheckRun| run.head_sha == pull.sha && run.name == "dayfly/CI/test" && run.status == "completed";
    let check = scene.forge.wait_for_check_run(check, DEADLINE).await.unwrap();
    let rerequested = scene.forge.check_run_rerequested_payload(&check);
    assert_eq!(told(&scene, "check_run", &rerequested).await, "");
    assert_eq!(scene.jobs(&pull.sha).await.len(), 2);
    scene.job(&pull.sha, "test", |job| job.is_finished()).await;

    // Whether or not the push's event has arrived.
    let pushed = push(&scene, &pull).await;
    let why = told(&scene, "check_run", &rerequested).await;
    assert!(why.contains("does not count any more"), "{why}");
    told(&scene, "pull_request", &synchronize(&scene, &pushed)).await;
    held_report(&scene, &pushed).await;
    let why = told(&scene, "check_run", &rerequested).await;
    assert!(why.contains("does not count any more"), "{why}");
    assert_eq!(scene.jobs(&pull.sha).await.len(), 2);

    // A held check that is asked for again stays held.
    let held = held_report(&scene, &pushed).await;
    let why = told(&scene, "check_run", &scene.forge.check_run_rerequested_payload(&held)).await;
    assert!(why.contains("by an approval"), "{why}");
    let suite = scene.forge.check_suite_rerequested_payload(REPOSITORY, &pushed.sha, None);
    assert!(told(&scene, "check_suite", &suite).await.contains("no workflow"));
    assert_nothing_ran(&scene, &pushed).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_that_race_run_the_commit_once() {
    let Some(scene) = scene("").await else { return };
    let pull = held(&scene).await;
    let comment = || scene.forge.comment_payload(&pull, MAINTAINER, &format!("/dayfly run {}", pull.sha));
    let (first, second) = (comment(), comment());
    let (one, two, socket) = tokio::join!(
        scene.forge.deliver("issue_comment", &first),
        scene.forge.deliver("issue_comment", &second),
        approve_on_socket(&scene, json!({"sha": pull.sha})),
    );
    let mut ids = vec![one.unwrap().delivery, two.unwrap().delivery];
    // If a comment was faster, nothing is held any more.
    match socket {
        (202, answer) => ids.push(answer["delivery"].as_str().unwrap().to_owned()),
        (status, _) => assert_eq!(status, 404),
    }
    let mut count = 0;
    for id in &ids {
        count += usize::from(processed(scene.state_dir(), id).await.detail.is_empty());
    }
    assert_eq!((count, scene.jobs(&pull.sha).await.len()), (1, 1));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_pushes_and_comments_race_only_what_was_named_by_who_may_runs() {
    let Some(scene) = scene("").await else { return };
    let mut pull = held(&scene).await;
    let mut named = Vec::new();
    for round in 0..6 {
        let pushed = push(&scene, &pull).await;
        let comment =
            |author: &str, sha: &str| scene.forge.comment_payload(&pull, author, &format!("/dayfly run {sha}"));
        let (old, new) = (comment(MAINTAINER, &pull.sha), comment(MAINTAINER, &pushed.sha));
        let (greedy, moved) = (comment("stranger", &pushed.sha), synchronize(&scene, &pushed));
        // The maintainer names the new commit in every second round only.
        let wished = if round % 2 == 0 { &old } else { &new };
        named.push(if round % 2 == 0 { pull.sha.clone() } else { pushed.sha.clone() });
        let (a, b, c) = tokio::join!(
            scene.forge.deliver("issue_comment", wished),
            scene.forge.deliver("pull_request", &moved),
            scene.forge.deliver("issue_comment", &greedy),
        );
        for answer in [a, b, c] {
            processed(scene.state_dir(), &answer.unwrap().delivery).await;
        }
        let jobs = scene.jobs(&pushed.sha).await.len();
        assert!(jobs <= usize::from(named.contains(&pushed.sha)), "round {round}: {jobs} jobs");
        pull = pushed;
    }
    // What a maintainer named while it was the head did run.
    assert_eq!(scene.jobs(&pull.sha).await.len(), 1);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_approves_on_the_control_socket() {
    let Some(scene) = scene("").await else { return };
    let pull = held(&scene).await;
    for (body, status) in [
        (json!({"sha": "b2".repeat(20)}), 404),
        (json!({"repo": "demo/other", "sha": pull.sha}), 404),
        (json!({"sha": &pull.sha[..12]}), 422),
        (json!({"sha": pull.sha, "number": 1}), 422),
    ] {
        assert_eq!(approve_on_socket(&scene, body.clone()).await.0, status, "{body}");
    }
    // A forge that does not answer costs time, nothing else.
    let fault = Fault { method: Some(Method::GET), path_contains: "/pulls/", kind: FaultKind::Status(503), times: 1 };
    scene.forge.inject(fault);
    let (status, answer) = approve_on_socket(&scene, json!({"repo": "Demo/Hello", "sha": pull.sha})).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(processed(scene.state_dir(), answer["delivery"].as_str().unwrap()).await.detail, "");
    scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    let approved = |run: &CheckRun| run.output["title"] == "Approved by the operator";
    scene.forge.wait_for_check_run(approved, DEADLINE).await.unwrap();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_may_deny_forks_or_run_them() {
    let Some(denies) = scene("forks = \"deny\"\n").await else { return };
    let pull = unannounced(&denies).await;
    denies.deliver_opened(&pull).await;
    let skipped = |run: &CheckRun| run.head_sha == pull.sha && run.conclusion.as_deref() == Some("skipped");
    let check = denies.forge.wait_for_check_run(skipped, DEADLINE).await.unwrap();
    assert!(check.output["title"].as_str().unwrap().contains("denies"), "{check:?}");
    assert!(ask(&denies, &pull, MAINTAINER, &pull.sha).await.contains("denied"));
    assert_eq!(approve_on_socket(&denies, json!({"sha": pull.sha})).await.0, 404);
    assert_nothing_ran(&denies, &pull).await;
    denies.finish().await;

    let Some(runs) = scene("forks = \"deny\"\n[[github.repository]]\nname = \"demo/hello\"\nforks = \"run\"\n").await
    else {
        return;
    };
    let pull = unannounced(&runs).await;
    runs.deliver_opened(&pull).await;
    runs.job(&pull.sha, "test", |job| job.is_finished()).await;
    assert!(ask(&runs, &pull, MAINTAINER, &pull.sha).await.contains("without an approval"));
    runs.finish().await;
}
