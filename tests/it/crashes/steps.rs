//! Every step of the table, by itself: the service is killed there, started again, killed there again if it comes by, and
//! started again. The job gets one outcome, and nothing is left of its VMs.

use dayfly::lifecycle::{STEPS, Step, StepInfo};

use crate::local_forge::PullRequest;
use crate::support::{Job, Scene, Settings, WORKFLOW, eventually, job_of, leaks, stored_vms};

/// The steps are shared out among so many tests, so that some run beside each other.
const SHARES: usize = 4;

/// Steps that every job comes by; `forks` and `prepared` visit the others.
fn usual_steps() -> impl Iterator<Item = &'static StepInfo> {
    STEPS.iter().filter(|info| info.step.is_of_a_job())
}

/// A workflow that differs from step to step, as do the commits then.
fn workflow(name: &str) -> String {
    job_of("linux", &format!("echo \"attempt=$GITHUB_RUN_ATTEMPT\" # {name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_share_1() {
    kill_at(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_share_2() {
    kill_at(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_share_3() {
    kill_at(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_share_4() {
    kill_at(3).await;
}

async fn kill_at(share: usize) {
    let Some(mut scene) = Scene::start(Settings::new()).await else { return };
    assert!(scene.service.stop().await.success());
    for info in usual_steps().skip(share).step_by(SHARES) {
        kill_twice_at(&mut scene, info).await;
    }
}

/// Begins and ends without a service that runs.
async fn kill_twice_at(scene: &mut Scene, info: &StepInfo) {
    let name = info.name;
    let fault = format!("kill@{name}");
    let pull = scene.open_pull_request(&[(WORKFLOW, &workflow(name))]).await;
    let mut is_delivered = false;
    let mut deaths = 0;
    // Some steps are only reached after a loss.
    let first = if info.step == Step::JobRequeued { "kill@step-begun" } else { &fault };
    for fault in [first, &fault] {
        let has_started = scene.restart_with(Some(fault)).await;
        if has_started {
            // Whatever had no answer is delivered again, as somebody at the forge would.
            is_delivered = is_delivered || scene.redeliver_opened(&pull, name).await;
        }
        if !has_started || has_died(scene, &pull).await || !scene.service.stop().await.success() {
            deaths += 1;
        }
    }
    // Before and after these, a restart goes on where the service was, and does not come by again.
    let costs_an_attempt = (Step::LeaseStored.number()..=Step::LogFinished.number()).contains(&info.step.number());
    assert!(deaths == 2 || (deaths == 1 && !costs_an_attempt), "{name}: the service died {deaths} times");

    scene.restart().await;
    assert!(is_delivered || scene.redeliver_opened(&pull, name).await, "{name}");
    assert!(!has_died(scene, &pull).await, "{name}");
    let jobs = scene.jobs(&pull.sha).await;
    let [job] = jobs.as_slice() else { panic!("{name}: {jobs:#?}") };
    let log = scene.log(job).await;
    assert!(scene.service.stop().await.success());
    let attempts = if costs_an_attempt { 3..=3 } else { 1..=3 };
    assert!(attempts.contains(&job.attempt), "{name}: attempt {}", job.attempt);
    assert_one_outcome(scene, job, &log, &pull.sha, (info.step, deaths));
    leaks::assert_none(scene.state_dir());
    leaks::assert_tidy(scene.state_dir());
    assert_eq!(stored_vms(scene.state_dir()).await, [], "{name}");
}

/// Waits until the service has died, or nothing more will happen: the forge knows the end, and the VM is gone, also for the store.
async fn has_died(scene: &mut Scene, pull: &PullRequest) -> bool {
    eventually("an end of the service or of the job", async || {
        if scene.service.has_ended() {
            return Some(true);
        }
        let is_told = scene.forge.statuses(&pull.sha).iter().any(|status| status.state != "pending");
        let has_vm = !leaks::vm_directories(scene.state_dir()).is_empty();
        let has_vm = has_vm || !stored_vms(scene.state_dir()).await.is_empty();
        (is_told && !has_vm && scene.forge.check_runs().iter().all(|run| run.status == "completed")).then_some(false)
    })
    .await
}

/// One success, told once, with the log of the attempt that had it.
fn assert_one_outcome(scene: &Scene, job: &Job, log: &str, sha: &str, (step, deaths): (Step, usize)) {
    let name = step.info().name;
    assert_eq!(job.verdict(), ("success", ""), "{name}: {job:#?}");
    let states = scene.states(sha, &job.context());
    let first_end = states.iter().position(|state| state != "pending").unwrap();
    let ends = &states[first_end..];
    // What may have arrived is said again, and then it is the same.
    let most = if step == Step::LastReportTaken { 1 + deaths } else { 1 };
    assert!(ends.iter().all(|state| state == "success") && ends.len() <= most, "{name}: {states:?}");
    let checks: Vec<_> = scene.forge.check_runs().into_iter().filter(|run| run.head_sha == sha).collect();
    assert_eq!(checks.len(), 1, "{name}: {checks:#?}");
    assert_eq!(checks[0].conclusion.as_deref(), Some("success"), "{name}");
    assert!(log.contains(&format!("attempt={}\n", job.attempt)), "{name}: {log}");
    let says_which = log.contains(&format!("This is attempt {}", job.attempt));
    assert_eq!(says_which, job.attempt > 1, "{name}: {log}");
}

/// Making a VM fails at each step of that: another one is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_costs_one_attempt() {
    let Some(mut scene) = Scene::start(Settings::new()).await else { return };
    for info in usual_steps().filter(|info| info.may_fail) {
        assert!(scene.service.stop().await.success());
        assert!(scene.restart_with(Some(&format!("fail@{}", info.name))).await);
        let pull = scene.pull_request(&workflow(info.name)).await;
        let ended = scene.ended(&pull.sha, "test").await;
        assert_eq!((ended.job.verdict(), ended.job.attempt), (("success", ""), 2), "{}", info.name);
        leaks::assert_none(scene.state_dir());
    }
    scene.finish().await;
}
