//! Re-runs as far as they need no VM: which jobs are made, and what the forge shows. The image is absent, so that jobs end at
//! once.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use crate::local_forge::{CheckRun, PullRequest};
use crate::support::{
    DEADLINE, Job, REPOSITORY, Scene, Settings, WORKFLOW, eventually, forget_end, http, job_of, processed, wishes,
};

/// Two jobs that end at once, one of which the third needs.
const THREE: &str = "name: CI\non: pull_request\njobs:\n  build: {runs-on: linux, steps: [run: x]}\n  \
                     lint: {runs-on: linux, steps: [run: x]}\n  test: {needs: build, runs-on: linux, steps: [run: x]}\n";

async fn rerun(scene: &Scene, job: &str) -> (u16, Value) {
    http::post_to_socket(&scene.service.control_socket(), &format!("/v1/jobs/{job}/rerun"), &json!({})).await
}

async fn told(scene: &Scene, event: &str, payload: &Value) -> String {
    let answer = scene.forge.deliver(event, payload).await.unwrap();
    processed(scene.state_dir(), &answer.delivery).await.detail
}

/// The jobs of a commit once there are so many and all have ended.
async fn all_ended(scene: &Scene, pull: &PullRequest, count: usize) -> Vec<Job> {
    eventually(&format!("{count} jobs to end"), async || {
        let jobs = scene.jobs(&pull.sha).await;
        (jobs.len() == count && jobs.iter().all(Job::is_finished)).then_some(jobs)
    })
    .await
}

fn count(jobs: &[Job], name: &str) -> usize {
    jobs.iter().filter(|job| job.name == name).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_run_again_with_those_that_need_it() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let pull = scene.pull_request(THREE).await;
    let jobs = all_ended(&scene, &pull, 3).await;
    let build = jobs.iter().find(|job| job.name == "build").unwrap();
    let (status, answer) = rerun(&scene, &build.id).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(processed(scene.state_dir(), answer["delivery"].as_str().unwrap()).await.detail, "");
    let jobs = all_ended(&scene, &pull, 5).await;
    assert_eq!(["build", "lint", "test"].map(|name| count(&jobs, name)), [2, 1, 2]);
    let again = jobs.iter().find(|job| job.name == "build" && job.id != build.id).unwrap();
    assert_ne!(again.log_url, build.log_url);

    // The forge shows a new check run of the same name.
    let newest = |run: &CheckRun| {
        run.name == "dayfly/CI/build" && run.details_url.as_ref() == Some(&again.log_url) && run.status == "completed"
    };
    let check = scene.forge.wait_for_check_run(newest, DEADLINE).await.unwrap();
    assert_eq!(scene.forge.check_runs().iter().filter(|run| run.name == "dayfly/CI/build").count(), 2);
    // Whichever of a job's check runs is asked for: what counts is the job as it is now.
    let old = scene.forge.check_runs().into_iter().find(|run| run.name == check.name && run.id != check.id).unwrap();
    for (run, jobs) in [(old, 7), (check, 9)] {
        assert_eq!(told(&scene, "check_run", &scene.forge.check_run_rerequested_payload(&run)).await, "");
        all_ended(&scene, &pull, jobs).await;
    }
    let jobs = scene.jobs(&pull.sha).await;
    assert_eq!(["build", "lint", "test"].map(|name| count(&jobs, name)), [4, 1, 4]);

    let suite = scene.forge.check_suite_rerequested_payload(REPOSITORY, &pull.sha, None);
    assert_eq!(told(&scene, "check_suite", &suite).await, "");
    let jobs = all_ended(&scene, &pull, 12).await;
    assert_eq!(["build", "lint", "test"].map(|name| count(&jobs, name)), [5, 2, 5]);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_never_had_jobs_is_planned_anew() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let broken = scene.pull_request("on: {").await;
    let complaint = |run: &CheckRun| run.head_sha == broken.sha && run.status == "completed";
    let complaint = scene.forge.wait_for_check_run(complaint, DEADLINE).await.unwrap();
    // A mistake stays one.
    assert_eq!(told(&scene, "check_run", &scene.forge.check_run_rerequested_payload(&complaint)).await, "");
    let again = |run: &CheckRun| run.name == complaint.name && run.id != complaint.id && run.status == "completed";
    let again = scene.forge.wait_for_check_run(again, DEADLINE).await.unwrap();
    assert_eq!(again.output["title"], complaint.output["title"]);
    let (status, _) = rerun(&scene, "job-222222222222").await;
    assert_eq!(status, 404);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_or_not_there_is_not_run_again() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let pull = scene.pull_request(&job_of("linux", "true")).await;
    let job = all_ended(&scene, &pull, 1).await.remove(0);
    let is_done = |run: &CheckRun| run.head_sha == pull.sha && run.status == "completed";
    let check = scene.forge.wait_for_check_run(is_done, DEADLINE).await.unwrap();
    let of = |change: &dyn Fn(&mut CheckRun)| {
        let mut other = check.clone();
        change(&mut other);
        scene.forge.check_run_rerequested_payload(&other)
    };
    for (payload, why) in [
        (of(&|run| run.external_id = "somebody-else".to_owned()), "not one of Dayfly's"),
        (of(&|run| run.external_id = "rep-222222222222".to_owned()), "not known"),
        (of(&|run| run.head_sha = "b2".repeat(20)), "another repository or commit"),
    ] {
        let told = told(&scene, "check_run", &payload).await;
        assert!(told.contains(why), "{told}");
    }
    // Two people at once: the second finds either the first's re-run, or its end.
    let payload = scene.forge.check_run_rerequested_payload(&check);
    let (one, two) =
        tokio::join!(scene.forge.deliver("check_run", &payload), scene.forge.deliver("check_run", &payload));
    let mut made = 1;
    for answer in [one, two] {
        let ended = processed(scene.state_dir(), &answer.unwrap().delivery).await;
        match ended.detail.as_str() {
            "" => made += 1,
            why => assert!(why.contains("has not finished"), "{why}"),
        }
    }
    let jobs = all_ended(&scene, &pull, made).await;
    assert!(made >= 2 && jobs.iter().any(|other| other.id == job.id));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_read_again_at_the_same_commit() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let files = [(WORKFLOW, "on: {"), (".dayfly/workflows/good.yml", THREE)];
    let pull = scene.pull_request_with(&files).await;
    all_ended(&scene, &pull, 3).await;
    let suite = scene.forge.check_suite_rerequested_payload(REPOSITORY, &pull.sha, Some(&pull.branch));
    assert_eq!(told(&scene, "check_suite", &suite).await, "");
    all_ended(&scene, &pull, 6).await;
    let broken = || scene.forge.check_runs().iter().filter(|run| run.name == "dayfly/ci.yml").count();
    eventually("the broken workflow to be told of again", async || (broken() == 2).then_some(())).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_end_of_a_delivery_makes_no_second_rerun() {
    let Some(mut scene) = Scene::start(Settings::without_vms()).await else { return };
    let pull = scene.pull_request(THREE).await;
    all_ended(&scene, &pull, 3).await;
    let suite = scene.forge.check_suite_rerequested_payload(REPOSITORY, &pull.sha, None);
    let delivery = scene.forge.deliver("check_suite", &suite).await.unwrap().delivery;
    assert_eq!(processed(scene.state_dir(), &delivery).await.detail, "");
    all_ended(&scene, &pull, 6).await;
    assert!(scene.service.stop().await.success());
    // As if the service had died between its wishes, which were granted, and this.
    forget_end(scene.state_dir(), &delivery).await;
    scene.restart().await;
    assert_eq!(processed(scene.state_dir(), &delivery).await.detail, "");
    assert_eq!(wishes(scene.state_dir()).await, 1, "it wished again");
    let jobs = all_ended(&scene, &pull, 6).await;
    assert_eq!(["build", "lint", "test"].map(|name| count(&jobs, name)), [2, 2, 2]);
    scene.finish().await;
}
