//! A merge request of a GitLab, in a VM: the same workflow file as on GitHub, with the same result.
#![allow(clippy::unwrap_used)]

use crate::support::lab::Lab;
use crate::support::{Scene, Settings, WORKFLOW};

const CI: &str = r#"
name: CI
on: pull_request
jobs:
  test:
    runs-on: linux
    steps:
      - uses: actions/checkout@v4
      - run: |
          echo "commit=$(git rev-parse HEAD)"
          echo "sha=$GITHUB_SHA"
          echo "event=$GITHUB_EVENT_NAME/${{ github.event.action }}"
          echo "number=${{ github.event.pull_request.number }}"
          echo "head=${{ github.event.pull_request.head.sha }}"
          echo "base=$GITHUB_BASE_REF"
          echo "file=$(cat file)"
      - run: echo "repository=$GITHUB_REPOSITORY"
"#;

/// What the log says behind each of these words.
fn said(log: &str) -> Vec<&str> {
    let keys = ["event", "number", "base", "file"];
    let of = |key: &&str| log.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or("nothing");
    keys.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_workflow_has_the_same_result_on_both_forges() {
    let Some(lab) = Lab::start("sweep = \"off\"", true).await else { return };
    let files = [(WORKFLOW, CI), ("file", "as it was pushed")];
    let request = lab.merge_request(&files, false, "ann").await;
    let status = lab.status(&request.sha, "dayfly/CI/test", "success").await;
    // That it runs is told only of a job that takes longer than the pause between two reports.
    assert_eq!((status.states[0].as_str(), status.state()), ("pending", "success"));
    assert_eq!((status.git_ref.as_str(), lab.api.pipelines(&request.sha)), ("topic", 1));
    let log = lab.log(&status).await;
    for line in [
        format!("commit={}", request.sha),
        format!("sha={}", request.sha),
        format!("head={}", request.sha),
        "repository=acme/app".to_owned(),
    ] {
        assert!(log.contains(&line), "`{line}` is not in\n{log}");
    }
    lab.finish().await;

    let Some(scene) = Scene::start(Settings::new()).await else { return };
    let pull = scene.pull_request_with(&files).await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!(ended.job.verdict(), ("success", ""));
    assert_eq!(said(&log), said(&ended.log));
    assert_eq!(said(&log), ["pull_request/opened", "1", "main", "as it was pushed"]);
    scene.finish().await;
}
