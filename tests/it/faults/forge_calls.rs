//! A forge that fails while it is read from, told of the beginning, told of the end.

use axum::http::Method;

use crate::local_forge::{CheckRun, Fault, FaultKind, WriteKind};
use crate::support::{DEADLINE, Ended, Scene, Settings, gate, job_of};

fn inject(scene: &Scene, kind: FaultKind, calls: &[(Method, &'static str)]) {
    for (method, path_contains) in calls.iter().cloned() {
        scene.forge.inject(Fault { method: Some(method), path_contains, kind, times: 1 });
    }
}

/// Runs a job while the first call of each kind fails, before and after it runs; it must have run once.
async fn a_job_through(
    kind: FaultKind, before: &[(Method, &'static str)], after: &[(Method, &'static str)],
) -> Option<Ended> {
    let scene = Scene::start(Settings::new()).await?;
    inject(&scene, kind, before);
    let pull = scene.pull_request(&job_of("linux", &format!("{}\necho \"ran=once\"", gate("go")))).await;
    let is_running = |run: &CheckRun| run.head_sha == pull.sha && run.status == "in_progress";
    scene.forge.wait_for_check_run(is_running, DEADLINE).await.unwrap();
    let is_pending = |status: &crate::local_forge::Status| status.state == "pending";
    scene.forge.wait_for_status(&pull.sha, "dayfly/CI/test", is_pending, DEADLINE).await.unwrap();

    inject(&scene, kind, after);
    scene.open_gate("go").await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!((ended.job.verdict(), ended.job.attempt), (("success", ""), 1));
    assert_eq!(scene.jobs(&pull.sha).await.len(), 1);
    assert_eq!(ended.log.matches("ran=once\n").count(), 1, "{}", ended.log);
    assert_eq!(ended.job.events.iter().filter(|event| event.kind == "vm_requested").count(), 1);
    assert_eq!(scene.forge.check_runs().len(), 1, "{:#?}", scene.forge.check_runs());
    let created = scene.forge.writes().iter().filter(|w| matches!(w.kind, WriteKind::CheckRunCreated { .. })).count();
    assert_eq!(created, 1);
    // Only what may have arrived is said again, and then it is the same.
    let finals = scene.states(&pull.sha, "dayfly/CI/test").iter().filter(|state| *state == "success").count();
    let most = if kind == FaultKind::LoseAnswer { 2 } else { 1 };
    assert!((1..=most).contains(&finals), "{:?}", scene.states(&pull.sha, "dayfly/CI/test"));
    assert!(
        scene.forge.statuses(&pull.sha).iter().all(|status| ["pending", "success"].contains(&status.state.as_str()))
    );
    let ended = Ended {
        job: scene.job(&pull.sha, "test", |job| job.events.iter().any(|e| e.kind == "status_posted")).await,
        ..ended
    };
    scene.finish().await;
    Some(ended)
}

const READ_AND_BEGIN: [(Method, &str); 3] =
    [(Method::GET, "/contents/"), (Method::POST, "/check-runs"), (Method::POST, "/statuses/")];
const END: [(Method, &str); 2] = [(Method::PATCH, "/check-runs/"), (Method::POST, "/statuses/")];

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_with_internal_errors_is_asked_again() {
    a_job_through(FaultKind::Status(502), &READ_AND_BEGIN, &END).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_waited_for() {
    a_job_through(FaultKind::RateLimit { reset_in: 1 }, &READ_AND_BEGIN, &END).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_rate_limit_is_waited_for() {
    a_job_through(FaultKind::SecondaryRateLimit { retry_after: 1 }, &READ_AND_BEGIN, &END).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_makes_nothing_twice() {
    a_job_through(FaultKind::LoseAnswer, &READ_AND_BEGIN, &END).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_that_hangs_does_not_keep_the_vm() {
    let (before, after) = ([(Method::GET, "/contents/")], [(Method::PATCH, "/check-runs/")]);
    let Some(ended) = a_job_through(FaultKind::Hang, &before, &after).await else { return };
    let at = |kind: &str| ended.job.events.iter().find(|event| event.kind == kind).unwrap().at_us;
    assert!(at("vm_destroyed") < at("status_posted"), "{:#?}", ended.job.events);
    let held = at("vm_destroyed") - at("vm_paused");
    assert!((4_000_000..9_000_000).contains(&held), "the VM was held for {held} µs");
}
