//! Stops that somebody planned: jobs get the time that the operator gives them, and what does not end runs again.

use nix::sys::signal::Signal;

use crate::local_forge::{PullRequest, Status};
use crate::support::{DEADLINE, Scene, Settings, WORKFLOW, eventually, gate, host, job_of, leaks};

/// A job that waits for the gate `go`, once it runs.
async fn waiting_job(scene: &Scene) -> PullRequest {
    let script = format!("echo \"attempt=$GITHUB_RUN_ATTEMPT\"\n{}", gate("go"));
    let pull = scene.pull_request(&job_of("linux", &script)).await;
    runs(scene, &pull, 1).await;
    pull
}

async fn runs(scene: &Scene, pull: &PullRequest, attempt: u32) {
    let has_begun = |event: &crate::support::Event| event.kind == "step_started" && event.attempt == attempt;
    scene.job(&pull.sha, "test", |job| job.events.iter().any(has_begun)).await;
}

async fn has_logged(scene: &Scene, words: &str) {
    eventually(words, async || scene.service.has_logged(words).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_end_while_webhooks_are_still_taken() {
    let Some(mut scene) = Scene::start(Settings::new().with_drain("10m")).await else { return };
    let running = waiting_job(&scene).await;
    scene.service.signal(Signal::SIGTERM);
    has_logged(&scene, "draining: 1 job runs, up to 10m").await;

    let later = scene.pull_request(&job_of("linux", "echo \"attempt=$GITHUB_RUN_ATTEMPT\" # later")).await;
    let queued = scene.job(&later.sha, "test", |job| job.state == "queued").await;
    scene.open_gate("go").await;
    assert!(scene.service.ended().await.success());
    leaks::assert_none(scene.state_dir());
    assert!(scene.service.has_logged("draining: no job runs"));
    assert_eq!(scene.states(&running.sha, &queued.context()).last().unwrap(), "success");

    scene.restart().await;
    let ended = scene.ended(&later.sha, "test").await;
    assert_eq!((ended.job.verdict(), ended.said("attempt")), (("success", ""), "1"));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_in_time_runs_again_without_losing_an_attempt() {
    let Some(mut scene) = Scene::start(Settings::new().with_drain("1s").with_limits("attempts = 1\n")).await else {
        return;
    };
    let pull = waiting_job(&scene).await;
    assert!(scene.service.stop().await.success());
    is_put_back(&scene, &pull, 2).await;

    // The second signal ends what the first one would wait for.
    scene.restart_as(Settings::new().with_drain("1h").with_limits("attempts = 1\n")).await;
    runs(&scene, &pull, 2).await;
    scene.service.signal(Signal::SIGINT);
    has_logged(&scene, "draining: 1 job runs, up to 1h").await;
    assert!(scene.service.stop().await.success());
    is_put_back(&scene, &pull, 3).await;

    scene.restart().await;
    scene.open_gate("go").await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!((ended.job.verdict(), ended.said("attempt")), (("success", ""), "3"));
    assert_eq!(scene.states(&pull.sha, &ended.job.context()).iter().filter(|state| *state != "pending").count(), 1);
    scene.finish().await;
}

/// Nothing is left of the attempt before, and the forge was told while the service still ran.
async fn is_put_back(scene: &Scene, pull: &PullRequest, next: u32) {
    leaks::assert_none(scene.state_dir());
    leaks::assert_tidy(scene.state_dir());
    let words = format!("Queued again (attempt {next}): the service was stopped while it ran");
    let is_told = |status: &Status| status.description.as_deref() == Some(&words);
    assert!(scene.forge.statuses(&pull.sha).last().is_some_and(is_told), "{:#?}", scene.forge.statuses(&pull.sha));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_a_vm_is_made_leaves_nothing() {
    let Some(mut scene) = Scene::start(Settings::new()).await else { return };
    assert!(scene.service.stop().await.success());
    assert!(scene.restart_with(Some("hold@monitor-started")).await);
    let pull = scene.pull_request(&job_of("linux", "true")).await;
    let held = scene.state_dir().join(dayfly::lifecycle::HELD_FILE);
    eventually("the monitor to start", async || held.exists().then_some(())).await;
    assert_eq!(leaks::monitors(scene.state_dir()).len(), 1);
    assert!(scene.service.stop().await.success());
    std::fs::remove_file(held).unwrap();
    is_put_back(&scene, &pull, 2).await;
    scene.restart().await;
    assert_eq!(scene.ended(&pull.sha, "test").await.job.verdict(), ("success", ""));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_a_bake_leaves_nothing() {
    let Some(mut scene) = Scene::start(Settings::new()).await else { return };
    assert!(scene.service.stop().await.success());
    bakes_something_new(&mut scene).await;
    assert!(scene.service.stop().await.success());
    leaks::assert_none(scene.state_dir());
    leaks::assert_tidy(scene.state_dir());

    // Without a chance to tidy up: the monitor ends with the service, the next start removes the rest.
    bakes_something_new(&mut scene).await;
    scene.service.kill();
    let has_ended = async || leaks::monitors(scene.state_dir()).is_empty().then_some(());
    eventually("the monitor to end", has_ended).await;
    scene.restart_as(Settings::new()).await;
    leaks::assert_none(scene.state_dir());
    // Other tests may bake at the same time; they end.
    eventually("no bake to be left half-way", async || host::unfinished_images().is_empty().then_some(())).await;
    scene.finish().await;
}

/// Starts the service, and waits until it bakes.
async fn bakes_something_new(scene: &mut Scene) {
    // A shape that nothing else has.
    let memory = 257 + std::process::id() % 200;
    scene.restart_as(Settings::new().with_profile("odd", &format!("memory = \"{memory} MiB\""))).await;
    let is_baking = async || (!leaks::monitors(scene.state_dir()).is_empty()).then_some(());
    eventually("the VM of the bake", is_baking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_that_hangs_does_not_keep_the_service() {
    use crate::local_forge::{Fault, FaultKind};

    let Some(mut scene) = Scene::start(Settings::without_vms()).await else { return };
    for path_contains in ["/check-runs", "/statuses/"] {
        scene.forge.inject(Fault { method: None, path_contains, kind: FaultKind::Hang, times: 1000 });
    }
    let pull = scene.pull_request_with(&[(WORKFLOW, &job_of("linux", "true"))]).await;
    scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    assert!(scene.service.stop().await.success());
    assert!(scene.service.has_logged("the forge does not answer"));

    scene.forge.clear_faults();
    scene.restart().await;
    let is_told = |status: &Status| status.state == "error";
    scene.forge.wait_for_status(&pull.sha, "dayfly/CI/test", is_told, DEADLINE).await.unwrap();
    assert_eq!(scene.forge.check_runs().len(), 1);
    scene.finish().await;
}
