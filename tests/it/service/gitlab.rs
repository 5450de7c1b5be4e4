//! Jobs of a GitLab in real VMs: from its queue to its acknowledgement.

use serde_json::{Value, json};

use crate::local_gitlab::{GitLab, Job, JobState, Options};
use crate::support::{DEADLINE, Scene, Settings, eventually, leaks};

/// A service that is a runner of this GitLab.
fn settings(gitlab: &GitLab) -> Settings {
    let section = format!(
        "[[gitlab]]\nurl = \"{}\"\n[[gitlab.runner]]\ntoken = {{ file = \"runner\" }}\nprofile = \"linux\"\n",
        gitlab.url()
    );
    Settings::new().with_section(&section).with_secret("runner", &gitlab.add_runner())
}

/// A job without sources.
fn job(name: &str, script: &[&str]) -> Value {
    json!({
        "job_info": {"name": name},
        "more_variables": [{"key": "GIT_STRATEGY", "value": "none", "public": true}],
        "steps": [{"name": "script", "script": script, "timeout": 3600, "when": "on_success", "allow_failure": false}],
    })
}

/// One that goes on until somebody ends it.
const ENDLESS: &[&str] = &["n=0; while :; do n=$((n + 1)); echo \"tick $n.\"; sleep 0.2; done"];

async fn ended(gitlab: &GitLab, id: u64) -> Job {
    gitlab.wait_for_job(id, |job| job.state.is_final(), DEADLINE).await.unwrap()
}

async fn ticks(gitlab: &GitLab, id: u64) {
    gitlab.wait_for_job(id, |job| job.text().contains("tick 5."), DEADLINE).await.unwrap();
}

/// The numbers of all ticks.
fn numbers(job: &Job) -> Vec<u32> {
    let text = job.text();
    let numbers = text.split("tick ").skip(1).filter_map(|rest| rest.split('.').next()?.parse().ok());
    numbers.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gitlab_job_is_run_in_a_vm_cancelled_and_broken_off() {
    let gitlab = GitLab::start(Options { two_phase: true, ..Options::default() }).await.unwrap();
    let Some(mut scene) = Scene::start(settings(&gitlab)).await else { return };

    let fails = gitlab.add_job(job("fails", &["echo \"in $(uname -s) as job $CI_JOB_ID\"", "(exit 7)"]));
    let done = ended(&gitlab, fails).await;
    assert_eq!(
        (done.state, done.failure_reason.as_deref(), done.exit_code),
        (JobState::Failed, Some("script_failure"), Some(7))
    );
    assert!(done.text().contains(&format!("in Linux as job {fails}")), "{}", done.text());

    // The operator ends one.
    let cancelled = gitlab.add_job(job("cancelled", ENDLESS));
    ticks(&gitlab, cancelled).await;
    let listed = scene.ask(&["jobs"]);
    let ours = listed.lines().find(|line| line.contains("cancelled")).unwrap_or_else(|| panic!("{listed}"));
    let id = ours.split_whitespace().find(|word| word.starts_with("job-")).unwrap_or_else(|| panic!("{ours}"));
    scene.ask(&["cancel", id]);
    let done = ended(&gitlab, cancelled).await;
    assert_eq!((done.state, done.finals), (JobState::Failed, 1));

    // The service is killed under one, and the next start tells of it.
    let broken = gitlab.add_job(job("broken", ENDLESS));
    ticks(&gitlab, broken).await;
    scene.service.kill();
    scene.restart().await;
    let done = ended(&gitlab, broken).await;
    assert_eq!((done.failure_reason.as_deref(), done.finals), (Some("runner_system_failure"), 1));
    assert!(done.text().contains("the service restarted while it ran"), "{}", done.text());
    let numbers = numbers(&done);
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "each line once: {numbers:?}");

    let told = async || leaks::vm_directories(scene.state_dir()).is_empty().then_some(());
    eventually("the VMs to be gone", told).await;
    assert_eq!(gitlab.violations(), Vec::<String>::new());
    scene.finish().await;
}
