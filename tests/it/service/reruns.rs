//! Re-runs in real VMs: what the new attempt sees of the earlier one.

use crate::support::{Job, Scene, Settings, eventually, http};

/// `build` says when it ran, and `test` and `other` what they see of it.
const WORKFLOW: &str = r#"
name: CI
on: pull_request
jobs:
  build:
    runs-on: linux
    outputs: {stamp: "${{ steps.stamp.outputs.stamp }}"}
    steps:
      - id: stamp
        run: echo "stamp=$(cat /proc/sys/kernel/random/uuid)" >> "$GITHUB_OUTPUT"
      - run: echo "stamp=${{ steps.stamp.outputs.stamp }}"
  test:
    needs: build
    runs-on: linux
    steps:
      - run: |
          echo "stamp=${{ needs.build.outputs.stamp }} ${{ needs.build.result }}"
          echo "run=$GITHUB_RUN_ID $GITHUB_RUN_NUMBER"
          echo "attempt=$GITHUB_RUN_ATTEMPT"
          echo "asked=$GITHUB_TRIGGERING_ACTOR"
          test "$GITHUB_RUN_ATTEMPT" = 2
"#;

/// What stands in a job's log after `key=`.
fn said<'l>(log: &'l str, key: &str) -> &'l str {
    let line = log.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("`{key}=` is not in the log:\n{log}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_alone_is_run_again_with_what_the_others_gave_it() {
    let Some(scene) = Scene::start(Settings::new()).await else { return };
    let pull = scene.pull_request(WORKFLOW).await;
    let build = scene.ended(&pull.sha, "build").await;
    let first = scene.ended(&pull.sha, "test").await;
    let stamp = format!("{} success", build.said("stamp"));
    assert_eq!(first.job.verdict(), ("failure", ""), "{}", first.log);
    assert_eq!((first.said("stamp"), first.said("attempt"), first.said("asked")), (stamp.as_str(), "1", "octocat"));

    // On the socket nobody is named: whoever caused the event is still the one who did.
    let path = format!("/v1/jobs/{}/rerun", first.job.id);
    assert_eq!(http::post_to_socket(&scene.service.control_socket(), &path, &serde_json::Value::Null).await.0, 202);
    let is_new = |job: &Job| job.name == "test" && job.id != first.job.id && job.is_finished();
    let again = eventually("the job to end again", async || scene.jobs(&pull.sha).await.into_iter().find(is_new)).await;
    assert_eq!(again.verdict(), ("success", ""), "{}", scene.log(&again).await);
    let log = scene.log(&again).await;
    assert_eq!((said(&log, "stamp"), said(&log, "attempt"), said(&log, "asked")), (stamp.as_str(), "2", "octocat"));
    assert_eq!(said(&log, "run"), first.said("run"));
    let is_green = |status: &crate::local_forge::Status| status.state == "success";
    scene.forge.wait_for_status(&pull.sha, "dayfly/CI/test", is_green, crate::support::DEADLINE).await.unwrap();
    assert_eq!(scene.jobs(&pull.sha).await.len(), 3);
    scene.finish().await;
}
