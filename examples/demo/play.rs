//! The play: a pull request that passes, one that fails.

use std::time::Duration;

use anyhow::Context;
use dayfly::clock;
use dayfly::host::process;
use dayfly::host::uids::Uids;

use crate::control::{Control, Job};
use crate::forge::{CheckRun, NewPullRequest, PullRequest, Status};
use crate::scene::{CONTEXT, REPOSITORY, Scene};
use crate::screen::Screen;
use crate::verdict::{Expected, Verdict};
use crate::watch;

/// For what the forge should have once the VM is gone: it has it already.
const FORGE_LIMIT: Duration = Duration::from_secs(10);

/// A pull request, and what should come of it.
struct Scenario {
    pull: NewPullRequest<'static>,
    expected: Expected,
}

const SCENARIOS: [Scenario; 2] = [
    Scenario {
        pull: NewPullRequest {
            title: "Greet politely",
            files: &[("greet.sh", "echo \"Good day, $1!\"\n")],
            base: "main",
            branch: "polite",
            author: "octocat",
            from_fork: false,
        },
        expected: Expected {
            conclusion: "success",
            steps: &["success", "success", "success"],
            log: &["3 names in /cache", "Read-only file system", "ok    Good day, world!", "ok    Good day, stars!"],
        },
    },
    Scenario {
        pull: NewPullRequest {
            title: "Greet in a hurry",
            files: &[("greet.sh", "echo \"Hi!\"\n")],
            base: "main",
            branch: "hurry",
            author: "octocat",
            from_fork: false,
        },
        expected: Expected {
            conclusion: "failure",
            steps: &["success", "success", "failure"],
            log: &["3 names in /cache", "FAIL  'Hi!' does not greet the world"],
        },
    },
];

/// Plays everything and compares as it goes.
pub(crate) async fn all(scene: &Scene, screen: &Screen, verdict: &mut Verdict) -> anyhow::Result<()> {
    let control = Control::connect(scene)?;
    let mut played = Vec::new();
    for Scenario { pull, expected } in &SCENARIOS {
        let pull = scene.forge.open_pull_request(REPOSITORY, *pull).await?;
        let job = one(scene, &control, &pull, expected, screen, verdict).await?;
        played.push((pull, job, expected));
    }
    // Once more at the end: what should happen once must not have happened again meanwhile.
    for (pull, job, expected) in played {
        verdict.on_forge(&checks(scene, &pull.sha), &scene.forge.statuses(&pull.sha), &job, expected);
    }
    Ok(())
}

async fn one(
    scene: &Scene, control: &Control, pull: &PullRequest, expected: &Expected, screen: &Screen, verdict: &mut Verdict,
) -> anyhow::Result<Job> {
    screen.pull_request(pull);
    let payload = scene.forge.pull_request_payload(pull, "opened");
    let began_us = clock::now_us() as i64;
    let answer = scene.forge.deliver("pull_request", &payload).await.context("delivering the webhook")?;
    verdict.expect((200..300).contains(&answer.status), || {
        format!("the webhook was answered with {}: {}", answer.status, answer.body)
    });
    let seen = watch::job(control, &pull.sha, began_us, screen).await?;
    no_vm_is_left(scene, verdict)?;

    let (check, status) = at_the_forge(scene, pull).await?;
    screen.forge(&check, &status);
    let page = reqwest::get(format!("{}.txt", seen.job.log_url)).await?.error_for_status()?.text().await?;
    let shown = check.output["text"].as_str().unwrap_or_default();
    verdict.on_job(&seen, expected);
    verdict.on_logs([("the streamed log", &seen.log), ("the log page", &page), ("the check run", shown)], expected);
    Ok(seen.job)
}

/// The completed check run and the final status.
async fn at_the_forge(scene: &Scene, pull: &PullRequest) -> anyhow::Result<(CheckRun, Status)> {
    let is_completed = |run: &CheckRun| run.head_sha == pull.sha && run.conclusion.is_some();
    let check = scene.forge.wait_for_check_run(is_completed, FORGE_LIMIT).await.map_err(anyhow::Error::msg)?;
    let is_final = |status: &Status| status.state != "pending";
    let status = scene.forge.wait_for_status(&pull.sha, CONTEXT, is_final, FORGE_LIMIT).await;
    Ok((check, status.map_err(anyhow::Error::msg)?))
}

fn checks(scene: &Scene, sha: &str) -> Vec<CheckRun> {
    scene.forge.check_runs().into_iter().filter(|run| run.head_sha == sha).collect()
}

/// Neither a directory nor a process nor a user of any VM.
pub(crate) fn no_vm_is_left(scene: &Scene, verdict: &mut Verdict) -> anyhow::Result<()> {
    let vms = scene.vms();
    let directories = std::fs::read_dir(&vms)?.count();
    verdict.expect(directories == 0, || format!("{directories} VMs still have a directory in `{}`", vms.display()));
    let place = vms.canonicalize()?;
    let processes = process::marked_below(&place)?;
    verdict.expect(processes.is_empty(), || format!("processes {processes:?} were started in `{}`", place.display()));
    let mut users = Uids::open(scene.config.vm.uids)?.named()?;
    users.retain(|(_, home)| home.starts_with(&place));
    verdict.expect(users.is_empty(), || format!("users {users:?} are still those of VMs"));
    Ok(())
}
