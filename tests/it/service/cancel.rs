//! Jobs that end because somebody, or a newer run, asks for it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::local_forge::PullRequest;
use crate::support::{DEADLINE, Ended, REPOSITORY, Scene, Settings, WORKFLOW, eventually, gate, http};

/// What a step gets to end, and those that always run get once more: enough on a machine with other work.
const GRACE: Duration = Duration::from_secs(4);

fn settings() -> Settings {
    Settings::new().with_grace("4s")
}

/// The first step waits, and does this when it is told to end; the last one always runs.
fn workflow(concurrency: &str, on_term: &str) -> String {
    let gate = gate("go");
    format!(
        r#"
name: CI
on: pull_request
{concurrency}
jobs:
  test:
    runs-on: linux
    steps:
      - name: Work
        run: |
          trap {on_term} TERM INT HUP
          echo "began=yes"
          {gate}
      - name: Never
        run: echo "never=ran"
      - name: Tidy
        if: always()
        run: echo "tidied=yes"
"#
    )
}

/// Waits until the first step does what it will; gives the job's id.
async fn running(scene: &Scene, sha: &str) -> String {
    let job = scene.job(sha, "test", |job| job.state == "running").await;
    eventually("the step to begin", async || scene.log(&job).await.contains("began=yes").then_some(())).await;
    job.id
}

/// Stopped, tidied up, torn down, and told as such.
fn assert_cancelled(ended: &Ended, detail: &str) {
    assert_eq!(ended.job.verdict(), ("cancelled", "cancelled"), "{}", ended.log);
    assert_eq!(ended.job.detail.as_deref(), Some(detail));
    assert_eq!((ended.title(), ended.status.state.as_str()), (detail, "error"));
    assert_eq!(ended.check.as_ref().unwrap().conclusion.as_deref(), Some("cancelled"));
    assert_eq!((ended.said("began"), ended.said("tidied")), ("yes", "yes"));
    assert!(!ended.log.contains("never=ran"), "{}", ended.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_stops_tidies_up_and_says_who_asked() {
    let Some(scene) = Scene::start(settings()).await else { return };
    let pull = scene.pull_request(&workflow("", "''")).await;
    let job = running(&scene, &pull.sha).await;
    let asked = Instant::now();
    let path = format!("/v1/jobs/{job}/cancel");
    assert_eq!(http::post_to_socket(&scene.service.control_socket(), &path, &Value::Null).await.0, 202);
    let ended = scene.ended(&pull.sha, "test").await;
    // The step ignores what it is told, so that it gets its whole time.
    let took = asked.elapsed();
    assert!((GRACE..2 * GRACE + DEADLINE / 2).contains(&took), "it took {took:?}");
    assert_cancelled(&ended, "Cancelled by the operator");
    assert_eq!(http::post_to_socket(&scene.service.control_socket(), &path, &Value::Null).await.0, 409);
    scene.finish().await;
}

async fn push(scene: &Scene, pull: &PullRequest) -> PullRequest {
    let pushed = scene.forge.push_to_pull_request(REPOSITORY, pull.number, &[("more", "")]).await.unwrap();
    let payload = scene.forge.pull_request_payload(&pushed, "synchronize");
    assert_eq!(scene.forge.deliver("pull_request", &payload).await.unwrap().status, 202);
    pushed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_ends_the_run_before_it_where_the_workflow_says_so() {
    let Some(scene) = Scene::start(settings()).await else { return };
    let concurrency = "concurrency: {group: 'ci-${{ github.ref }}', cancel-in-progress: true}";
    let pull = scene.pull_request_with(&[(WORKFLOW, &workflow(concurrency, "'exit 1'"))]).await;
    running(&scene, &pull.sha).await;
    let pushed = push(&scene, &pull).await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_cancelled(&ended, &format!("Cancelled: superseded by run #2 at {}", &pushed.sha[..12]));
    // The newer run begins when the older one is over.
    let newer = running(&scene, &pushed.sha).await;
    scene.open_gate("go").await;
    let ended_newer = scene.ended(&pushed.sha, "test").await;
    assert_eq!((ended_newer.job.id.as_str(), ended_newer.job.verdict()), (newer.as_str(), ("success", "")));
    let at = |ended: &Ended, kind: &str| ended.job.events.iter().find(|event| event.kind == kind).unwrap().at_us;
    assert!(at(&ended, "outcome_stored") <= at(&ended_newer, "vm_requested"));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_group_that_cancels_nothing_one_run_waits_and_the_newest_is_the_one() {
    let Some(scene) = Scene::start(settings()).await else { return };
    let pull = scene.pull_request_with(&[(WORKFLOW, &workflow("concurrency: deploy", "'exit 1'"))]).await;
    running(&scene, &pull.sha).await;
    let second = push(&scene, &pull).await;
    scene.job(&second.sha, "test", |job| job.state == "waiting").await;
    let third = push(&scene, &second).await;
    let superseded = scene.job(&second.sha, "test", |job| job.is_finished()).await;
    assert_eq!((superseded.verdict(), &superseded.vm), (("cancelled", "cancelled"), &None));
    assert!(superseded.detail.as_ref().unwrap().contains("superseded by run #3"), "{superseded:?}");
    assert_eq!(scene.jobs(&third.sha).await[0].state, "waiting");
    scene.open_gate("go").await;
    for pull in [pull, third] {
        assert_eq!(scene.ended(&pull.sha, "test").await.job.verdict(), ("success", ""));
    }
    scene.finish().await;
}
