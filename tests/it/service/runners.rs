//! GitHub's own jobs: machines come for jobs that wait, serve one each, and leave nothing at GitHub.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::local_forge::NewWorkflowJob;
use crate::support::{FORGE_PORT, Job, REPOSITORY, Scene, Settings, eventually, http, leaks};

/// The directory with what plays GitHub's runner.
fn fake_runner() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/actions-runner")
}

/// Lines of a profile with that runner.
fn lines(directory: &Path, runner: &str) -> String {
    format!(
        "executor = \"actions-runner\"\nrunner = {{ path = \"/opt/actions-runner\"{runner} }}\n\
         cache = {{ path = \"{}\", mount = \"/opt/actions-runner\" }}\n\
         egress = {{ ports = [{FORGE_PORT}], allow_addresses = [\"127.0.0.0/8\"] }}",
        directory.display()
    )
}

async fn queue(scene: &Scene, label: &str, name: &str, script: &str) -> u64 {
    let sha = scene.forge.branch(REPOSITORY, "main").await.unwrap().unwrap();
    scene.forge.queue_workflow_job(&NewWorkflowJob {
        repository: REPOSITORY,
        name,
        labels: &["self-hosted", "linux", label],
        script,
        sha: &sha,
        is_of_fork: false,
        is_silent: false,
    })
}

async fn tell(scene: &Scene, job: u64, action: &str) {
    let payload = scene.forge.workflow_job_payload(job, action);
    assert_eq!(scene.forge.deliver("workflow_job", &payload).await.unwrap().status, 202);
}

/// The machines that were wanted for a profile, oldest first.
async fn machines(scene: &Scene, profile: &str) -> Vec<Job> {
    let path = format!("/v1/jobs?profile={profile}");
    let mut jobs: Vec<Job> = http::get_from_socket(&scene.service.control_socket(), &path).await.unwrap();
    jobs.reverse();
    jobs
}

async fn ended(scene: &Scene, profile: &str) -> Job {
    let what = format!("the machine of `{profile}` to end");
    eventually(&what, async || machines(scene, profile).await.into_iter().find(Job::is_finished)).await
}

async fn no_runner_is_left(scene: &Scene) {
    eventually("no runner to be left", async || scene.forge.runners().is_empty().then_some(())).await;
    eventually("nothing to be left to do", async || {
        let view: Value = http::get_from_socket(&scene.service.control_socket(), "/v1/runners").await?;
        (view["machines"] == serde_json::json!([])).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_githubs_gets_a_machine_which_goes_with_it() {
    let settings = Settings::new()
        .with_profile("gh", &lines(&fake_runner(), ", idle_timeout = \"1s\""))
        .with_profile(
            "bare",
            &lines(&fake_runner(), "").replace("path = \"/opt/actions-runner\" }", "path = \"/opt/none\" }"),
        )
        .with_profile("guarded", &lines(&fake_runner(), ""))
        .with_github("forks = \"deny\"\n");
    let Some(scene) = Scene::start(settings).await else { return };

    let job = queue(&scene, "gh", "build (é)", "echo hello from the job").await;
    tell(&scene, job, "queued").await;
    tell(&scene, job, "queued").await;
    let machine = ended(&scene, "gh").await;
    let detail = machine.detail.as_deref().unwrap_or_default();
    let log = scene.log(&machine).await;
    assert_eq!((machine.verdict(), detail), (("success", ""), "The job `build (é)` succeeded"), "{log}");
    assert_eq!(scene.forge.workflow_job(job).unwrap().conclusion.as_deref(), Some("success"));
    assert!(log.contains("Listening for Jobs") && log.contains("hello from the job"), "{log}");
    assert!(log.contains("the configuration is ***, the token is ***"), "{log}");
    no_runner_is_left(&scene).await;
    assert_eq!(machines(&scene, "gh").await.len(), 1, "one job, one machine, however often it is told");

    // Another runner has it before this one asks.
    let taken = queue(&scene, "gh", "taken", "exit 1").await;
    scene.forge.steal_workflow_job(taken);
    tell(&scene, taken, "queued").await;
    eventually("a runner to wait", async || scene.forge.runners().iter().any(|runner| runner.is_online).then_some(()))
        .await;
    tell(&scene, taken, "completed").await;
    let idle =
        eventually("it to end", async || machines(&scene, "gh").await.into_iter().nth(1).filter(Job::is_finished))
            .await;
    assert_eq!((idle.verdict(), idle.detail.as_deref()), (("skipped", "skipped"), Some("No job came within 1s")));
    no_runner_is_left(&scene).await;

    // What ended before it was told of as waiting makes no demand; nor does a fork's where forks may nothing.
    tell(&scene, taken, "queued").await;
    let sha = scene.forge.branch(REPOSITORY, "main").await.unwrap().unwrap();
    let strange = scene.forge.queue_workflow_job(&NewWorkflowJob {
        repository: REPOSITORY,
        name: "strange",
        labels: &["self-hosted", "guarded"],
        script: "exit 0",
        sha: &sha,
        is_of_fork: true,
        is_silent: false,
    });
    tell(&scene, strange, "queued").await;
    let lacking = queue(&scene, "bare", "lacking", "exit 0").await;
    tell(&scene, lacking, "queued").await;
    let lacks = ended(&scene, "bare").await;
    assert_eq!(lacks.verdict(), ("error", "image"));
    insta::assert_snapshot!(lacks.detail.unwrap(), @"
    the image `base` has no `/opt/none/run.sh`
      hint: put GitHub's runner there, or set `path` of the profile's `runner`; docs/actions-runner.md has a recipe
    ");
    let refused = eventually("the fork's job to be refused", async || {
        let view = scene.ask_json(&["runners"]);
        view["jobs"].as_array().unwrap().iter().find(|job| job["state"] == "refused").cloned()
    })
    .await;
    assert_eq!(refused["why"], "its code is a fork's, and `forks` is `deny`");
    assert!(machines(&scene, "guarded").await.is_empty());
    assert_eq!(machines(&scene, "gh").await.len(), 2);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_events_do_not_tell_github_is_asked() {
    let hangs = tempfile::tempdir().unwrap();
    let script = std::fs::read_to_string(fake_runner().join("run.sh")).unwrap();
    std::fs::write(hangs.path().join("run.sh"), script.replace("${FAKE_RUNNER:-}", "hangs")).unwrap();
    std::fs::set_permissions(hangs.path().join("run.sh"), Permissions::from_mode(0o755)).unwrap();
    let scope = ", scope = \"organization\", registration_timeout = \"30s\"";
    let settings = Settings::new()
        .with_profile("gh", &lines(&fake_runner(), scope))
        .with_profile("stuck", &lines(hangs.path(), scope))
        .with_sweep("1s", "");
    let settings = settings.with_plain_token();
    let Some(mut scene) = Scene::start(settings).await else { return };
    // With a token, the repositories are those that have sent events.
    let known = queue(&scene, "gh", "told", "exit 3").await;
    tell(&scene, known, "queued").await;
    let machine = ended(&scene, "gh").await;
    assert_eq!(machine.verdict(), ("failure", ""), "{}", scene.log(&machine).await);

    let sha = scene.forge.branch(REPOSITORY, "main").await.unwrap().unwrap();
    let silent = NewWorkflowJob {
        repository: REPOSITORY,
        name: "silent",
        labels: &["self-hosted", "gh"],
        script: "echo nobody was told",
        sha: &sha,
        is_of_fork: false,
        is_silent: true,
    };
    let lost = scene.forge.queue_workflow_job(&silent);
    eventually("the job to be found and done", async || {
        (scene.forge.workflow_job(lost)?.status == "completed").then_some(())
    })
    .await;
    no_runner_is_left(&scene).await;
    assert_eq!(machines(&scene, "gh").await.len(), 2, "one for each, although no event told that it was taken");

    // A machine that dies before its runner waits is replaced, and its runner removed.
    let stuck = queue(&scene, "stuck", "stuck", "exit 0").await;
    tell(&scene, stuck, "queued").await;
    let first = eventually("a runner", async || scene.forge.runners().into_iter().next()).await;
    for monitor in leaks::monitors(scene.state_dir()) {
        kill(monitor, Signal::SIGKILL).unwrap();
    }
    let second = eventually("another runner in its place", async || {
        let runners = scene.forge.runners();
        runners.into_iter().find(|runner| runner.name != first.name)
    })
    .await;
    eventually("the first one to be gone", async || {
        scene.forge.runners().iter().all(|runner| runner.name != first.name).then_some(())
    })
    .await;

    // After a restart what was left is removed: the one that is known by its number, and one that nobody remembers.
    scene.forge.steal_workflow_job(stuck);
    tell(&scene, stuck, "completed").await;
    eventually("nothing to wait", async || {
        (scene.ask_json(&["runners"])["jobs"] == serde_json::json!([])).then_some(())
    })
    .await;
    scene.service.kill();
    let own = second.name.split("-vm-").next().unwrap().to_owned();
    scene.forge.leave_runner("orgs/demo", &format!("{own}-vm-000000000000"));
    for name in ["dayfly-builder", "dayfly-000000000000-vm-000000000000"] {
        scene.forge.leave_runner("orgs/demo", name);
    }
    scene.restart().await;
    let left = async || {
        let names: Vec<String> = scene.forge.runners().into_iter().map(|runner| runner.name).collect();
        (names == ["dayfly-builder", "dayfly-000000000000-vm-000000000000"]).then_some(())
    };
    eventually(&format!("`{}` and the forgotten one to be removed", second.name), left).await;
    scene.finish().await;
}
