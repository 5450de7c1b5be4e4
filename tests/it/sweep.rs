//! Events that were lost are recovered, once. No VM is needed: the jobs ask for a profile that nobody offers, and end at once.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use dayfly::store::DeliveryCounts;
use serde_json::json;

use crate::local_forge::{Attempt, Fault, FaultKind, NewPullRequest, PullRequest};
use crate::support::{DEADLINE, REPOSITORY, Scene, Settings, WORKFLOW, eventually, job_of, stored_deliveries};

/// A workflow whose job is in the store as soon as its event is processed.
fn workflow() -> String {
    job_of("nowhere", "true")
}

async fn start(settings: Settings) -> Scene {
    Scene::start(settings).await.expect("it needs no VMs")
}

/// A service whose first sweep, which is the one that waits for nothing, is over. It found one pull request.
async fn swept_often() -> Scene {
    let scene = start(Settings::without_vms().with_sweep("1s", "")).await;
    let first = open(&scene, "first").await;
    has_jobs(&scene, &first, 1).await;
    scene
}

/// Opens a pull request of which the service is not told.
async fn open(scene: &Scene, branch: &str) -> PullRequest {
    let text = workflow();
    // The same content would be the same commit.
    let files = [(WORKFLOW, text.as_str()), ("branch", branch)];
    let new = NewPullRequest { files: &files, branch, ..NewPullRequest::default() };
    scene.forge.open_pull_request(REPOSITORY, new).await.unwrap()
}

/// Waits until the commit has so many jobs.
async fn has_jobs(scene: &Scene, pull: &PullRequest, count: usize) {
    eventually(&format!("{count} jobs of pull request {}", pull.number), async || {
        (scene.jobs(&pull.sha).await.len() == count).then_some(())
    })
    .await;
}

/// Waits until so many deliveries are dealt with, and tells how.
async fn dealt_with(scene: &Scene, count: u64) -> DeliveryCounts {
    eventually(&format!("{count} deliveries to be dealt with"), async || {
        let counts = stored_deliveries(scene.state_dir()).await;
        let dealt_with = counts.processed + counts.ignored + counts.failed + counts.invalid;
        (counts.received == 0 && dealt_with == count).then_some(counts)
    })
    .await
}

fn counts(processed: u64, ignored: u64) -> DeliveryCounts {
    DeliveryCounts { processed, ignored, ..DeliveryCounts::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_lost_while_the_service_was_down_is_asked_for_at_the_start() {
    // The next sweep is far away: it has to be the first one.
    let mut scene = start(Settings::without_vms().with_sweep("1h", "")).await;
    assert!(scene.service.stop().await.success());
    let pull = open(&scene, "change").await;
    let payload = scene.forge.pull_request_payload(&pull, "opened");
    scene.forge.deliver("pull_request", &payload).await.unwrap_err();
    let guid = scene.forge.attempts()[0].guid.clone();

    scene.restart().await;
    has_jobs(&scene, &pull, 1).await;
    let arrived = |attempt: &Attempt| attempt.guid == guid && attempt.is_redelivery && attempt.status_code == 202;
    scene.forge.wait_for_attempt(arrived, DEADLINE).await.unwrap();
    assert_eq!(dealt_with(&scene, 1).await, counts(1, 0), "it came itself, so nothing was brought in its place");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_lost_while_running_is_asked_for_until_it_comes() {
    let scene = swept_often().await;
    let pull = open(&scene, "change").await;
    // A push, which nothing but its delivery tells of.
    let pushed = crate::local_forge::Pushed { branch: "change", before: None, after: Some(&pull.sha), changed: &[] };
    let payload = scene.forge.push_payload(REPOSITORY, pushed);
    scene.forge.close_pull_request(REPOSITORY, pull.number).unwrap();
    scene.forge.lose_deliveries(3);
    scene.forge.deliver("push", &payload).await.unwrap();
    dealt_with(&scene, 2).await;
    let statuses: Vec<u16> = scene.forge.attempts().iter().map(|attempt| attempt.status_code).collect();
    assert_eq!(statuses, [0, 0, 0, 202]);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_always_fails_is_given_up_and_does_not_hide_the_pull_request() {
    let mut scene = swept_often().await;
    scene.service.kill();
    let pull = open(&scene, "change").await;
    scene.forge.lose_deliveries(usize::MAX);
    scene.deliver_opened(&pull).await;
    scene.restart().await;
    has_jobs(&scene, &pull, 1).await;
    // A later sweep has happened when it found another one.
    let later = open(&scene, "later").await;
    has_jobs(&scene, &later, 1).await;
    let still_later = open(&scene, "still-later").await;
    has_jobs(&scene, &still_later, 1).await;
    let attempts = scene.forge.attempts().len();
    assert!((2..=4).contains(&attempts), "{attempts} attempts");
    assert_eq!(scene.jobs(&pull.sha).await.len(), 1);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_and_comes_late_runs_once_and_what_is_asked_anew_runs_again() {
    let scene = swept_often().await;
    let pull = open(&scene, "change").await;
    has_jobs(&scene, &pull, 1).await;
    assert_eq!(dealt_with(&scene, 2).await, counts(2, 0));

    for action in ["opened", "synchronize"] {
        let late = scene.forge.pull_request_payload(&pull, action);
        assert_eq!(scene.forge.deliver("pull_request", &late).await.unwrap().status, 202);
    }
    assert_eq!(dealt_with(&scene, 4).await, counts(2, 2));
    assert_eq!(scene.jobs(&pull.sha).await.len(), 1);

    scene.forge.close_pull_request(REPOSITORY, pull.number).unwrap();
    let reopened = scene.forge.reopen_pull_request(REPOSITORY, pull.number).unwrap();
    let payload = scene.forge.pull_request_payload(&reopened, "reopened");
    scene.forge.deliver("pull_request", &payload).await.unwrap();
    has_jobs(&scene, &pull, 2).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_asks_for_something_new_runs_a_commit_that_was_found() {
    let scene = swept_often().await;
    let types = "on:\n  pull_request:\n    types: [opened, synchronize, labeled]";
    let text = workflow().replace("on: pull_request", types);
    let pull = scene.open_pull_request(&[(WORKFLOW, &text)]).await;
    has_jobs(&scene, &pull, 1).await;
    let mut labeled = scene.forge.pull_request_payload(&pull, "labeled");
    labeled["label"] = json!({"name": "test-me"});
    scene.forge.deliver("pull_request", &labeled).await.unwrap();
    has_jobs(&scene, &pull, 2).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_is_not_found_and_what_was_found_is_not_found_again() {
    let mut scene = swept_often().await;
    let came = open(&scene, "came").await;
    assert_eq!(scene.deliver_opened(&came).await.status, 202);
    has_jobs(&scene, &came, 1).await;
    // One that no workflow wants is found once, too.
    let new = NewPullRequest { files: &[("README.md", "more")], branch: "plain", ..NewPullRequest::default() };
    scene.forge.open_pull_request(REPOSITORY, new).await.unwrap();
    let found = open(&scene, "found").await;
    has_jobs(&scene, &found, 1).await;
    // On a busy machine the one that came is found, too, before it is processed, and then ignored.
    let before = eventually("both that were found to be dealt with", async || {
        let counts = stored_deliveries(scene.state_dir()).await;
        (counts.received == 0 && (counts.processed, counts.ignored >= 1) == (3, true)).then_some(counts)
    })
    .await;

    scene.service.kill();
    scene.restart().await;
    let later = open(&scene, "later").await;
    has_jobs(&scene, &later, 1).await;
    let after = dealt_with(&scene, before.processed + before.ignored + 1).await;
    assert_eq!(after, counts(before.processed + 1, before.ignored));
    assert_eq!((scene.jobs(&came.sha).await.len(), scene.jobs(&found.sha).await.len()), (1, 1));

    let pushed = scene.forge.push_to_pull_request(REPOSITORY, found.number, &[("new", "1")]).await.unwrap();
    has_jobs(&scene, &pushed, 1).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_and_old_pull_requests_are_left_alone_and_forks_are_held() {
    let mut scene = start(Settings::without_vms().with_sweep("1h", "")).await;
    // Its first sweep might come to see them as they are opened.
    scene.service.kill();
    let (closed, old) = (open(&scene, "closed").await, open(&scene, "old").await);
    scene.forge.close_pull_request(REPOSITORY, closed.number).unwrap();
    scene.forge.age_pull_request(REPOSITORY, old.number, Duration::from_hours(4 * 24)).unwrap();
    let text = workflow();
    let new = NewPullRequest { files: &[(WORKFLOW, &text)], author: "stranger", from_fork: true, ..Default::default() };
    let fork = scene.forge.open_pull_request(REPOSITORY, new).await.unwrap();
    scene.restart().await;

    let is_held = |run: &crate::local_forge::CheckRun| run.conclusion.as_deref() == Some("action_required");
    let held = scene.forge.wait_for_check_run(is_held, DEADLINE).await.unwrap();
    assert_eq!(held.head_sha, fork.sha);
    assert_eq!(dealt_with(&scene, 1).await, counts(1, 0));
    for pull in [closed, old, fork] {
        assert_eq!(scene.jobs(&pull.sha).await.len(), 0);
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_the_repositories_are_those_in_the_configuration() {
    let named = "[[github.repository]]\nname = \"demo/hello\"\n";
    let scene = start(Settings::without_vms().with_plain_token().with_sweep("1s", named)).await;
    let pull = open(&scene, "change").await;
    has_jobs(&scene, &pull, 1).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_the_rate_limit_is_left_to_the_jobs() {
    let mut scene = start(Settings::without_vms().with_sweep("1s", "")).await;
    scene.service.kill();
    let pull = open(&scene, "change").await;
    scene.forge.set_calls_left(900);
    scene.restart().await;
    let short = "the sweep stopped short: less than a fifth of the forge's rate limit is left";
    let says = |text: &str| {
        let lines = scene.service.log();
        (lines.iter().filter(|line| line["fields"]["message"] == text).count() >= 2).then_some(())
    };
    eventually("two sweeps that stop short", async || says(short)).await;
    assert_eq!(scene.jobs(&pull.sha).await.len(), 0);

    scene.service.kill();
    scene.forge.set_calls_left(5000);
    scene.restart().await;
    has_jobs(&scene, &pull, 1).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_that_was_down_is_asked_again_and_complained_about_once_a_time() {
    let mut scene = swept_often().await;
    scene.service.kill();
    for branch in ["a", "b", "c"] {
        open(&scene, branch).await;
    }
    let pull = open(&scene, "d").await;
    let down = |path_contains, times| Fault { method: None, path_contains, kind: FaultKind::Status(502), times };
    scene.forge.inject(down("/app/hook", 1));
    scene.forge.inject(down("/app/installations", 1));
    scene.forge.inject(down("/pulls", 1));
    let slow_down = FaultKind::SecondaryRateLimit { retry_after: 2 };
    scene.forge.inject(Fault { kind: slow_down, ..down("/installation/repositories", 1) });
    scene.restart().await;
    has_jobs(&scene, &pull, 1).await;
    let lines = scene.service.log();
    let complaints: Vec<&str> = lines
        .iter()
        .filter(|line| line["level"] == "WARN")
        .filter_map(|line| line["fields"]["error"].as_str())
        .collect();
    assert_eq!(complaints.len(), 4, "{complaints:#?}");
    // Whatever else asks the forge at a start may be the one that meets a fault.
    let of_the_sweep = |complaint: &&str| complaint.contains("listing the deliveries of the App's webhook");
    assert_eq!(complaints.iter().copied().filter(of_the_sweep).count(), 1, "{complaints:#?}");
    scene.finish().await;
}
