//! The service ends while a job runs, with and without warning.

use crate::local_forge::Status;
use crate::support::{DEADLINE, Scene, Settings, gate, job_of, leaks};

/// Waits until the attempt runs; gives its VM.
async fn running(scene: &Scene, sha: &str, attempt: u32) -> String {
    let job = scene.job(sha, "test", |job| {
        job.attempt == attempt
            && job.events.iter().any(|event| event.kind == "step_started" && event.attempt == attempt)
    });
    job.await.vm.unwrap()
}

/// Waits until the forge shows which attempt runs.
async fn is_told(scene: &Scene, sha: &str, attempt: u32) {
    let words = format!("Running on `linux` (attempt {attempt})");
    let is_told = |status: &Status| status.description.as_deref() == Some(&words);
    scene.forge.wait_for_status(sha, "dayfly/CI/test", is_told, DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlives_the_service_twice_and_ends_once() {
    let Some(mut scene) = Scene::start(Settings::new()).await else { return };
    let script = format!("echo \"attempt=$GITHUB_RUN_ATTEMPT\"\n{}", gate("go"));
    let pull = scene.pull_request(&job_of("linux", &script)).await;

    let first = running(&scene, &pull.sha, 1).await;
    scene.service.kill();
    assert_eq!(leaks::vm_directories(scene.state_dir()), [first.as_str()], "nobody was there to remove it");
    scene.restart().await;
    let second = running(&scene, &pull.sha, 2).await;
    assert_ne!(first, second);
    assert_eq!(leaks::vm_directories(scene.state_dir()), [second.as_str()]);
    assert_eq!(leaks::monitors(scene.state_dir()).len(), 1, "the first VM's monitor is left");

    is_told(&scene, &pull.sha, 2).await;

    assert!(scene.service.stop().await.success());
    leaks::assert_none(scene.state_dir());
    scene.restart().await;
    running(&scene, &pull.sha, 3).await;
    is_told(&scene, &pull.sha, 3).await;
    scene.open_gate("go").await;

    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!((ended.job.verdict(), ended.job.attempt), (("success", ""), 3));
    assert_eq!(ended.said("attempt"), "3");
    assert!(ended.log.contains("This is attempt 3"), "{}", ended.log);
    let statuses = scene.forge.statuses(&pull.sha);
    let told: Vec<&str> = statuses.iter().filter_map(|status| status.description.as_deref()).collect();
    assert_eq!(statuses.iter().filter(|status| status.state != "pending").count(), 1, "{told:#?}");
    assert_eq!(scene.forge.check_runs().len(), 1);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_attempts_left_ends_with_an_error() {
    let Some(mut scene) = Scene::start(Settings::new().with_limits("attempts = 1\n")).await else { return };
    let pull = scene.pull_request(&job_of("linux", &gate("never"))).await;
    running(&scene, &pull.sha, 1).await;
    scene.service.kill();
    scene.restart().await;
    let job = scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    assert_eq!((job.verdict(), job.attempt), (("error", "service_restarted"), 1));
    let is_error = |status: &Status| status.state == "error";
    let status = scene.forge.wait_for_status(&pull.sha, &job.context(), is_error, DEADLINE).await.unwrap();
    assert!(status.description.unwrap().contains("restarted"));
    scene.finish().await;
}
