//! Jobs that attack their machine, the host, and each other, in real VMs. Whatever they do, each ends with an outcome that
//! names it, its VM is gone, the service stays as it was, and a job beside them sees nothing.
//!
//! docs/hostile-guests.md lists what is tried here and in `src/vm/hostile_tests.rs`, where the guest is a fake one.
#![allow(clippy::unwrap_used)]

mod ends;
mod files;
mod floods;
mod git;
mod shortages;

use crate::support::{Ended, Scene, Settings, gate, leaks};

/// The most memory that the service may have needed, in MiB. Half of it is what a build for tests takes by itself.
const MOST_MEMORY_MIB: u64 = 192;

/// A job of a workflow: its name, its profile, the scripts of its steps.
struct Attack<'a> {
    name: &'a str,
    profile: &'a str,
    steps: &'a [&'a str],
}

/// The job that must not notice anything.
const NEIGHBOUR: &str = "neighbour";

fn workflow(attacks: &[Attack<'_>]) -> String {
    let mut text = "name: CI\non: pull_request\njobs:\n".to_owned();
    let neighbour =
        format!("for n in $(seq 1000); do echo \"line=$n\"; done\n{}\necho \"whole=$((6 * 7))\"", gate("go"));
    let neighbour = [neighbour.as_str()];
    let last = Attack { name: NEIGHBOUR, profile: "linux", steps: &neighbour };
    for Attack { name, profile, steps } in std::iter::once(&last).chain(attacks) {
        text.push_str(&format!("  {name}:\n    runs-on: {profile}\n    steps:\n"));
        for step in *steps {
            let lines = step.lines().map(|line| format!("          {line}\n")).collect::<String>();
            text.push_str(&format!("      - run: |\n{lines}"));
        }
    }
    text
}

/// Machines for attacks, some with little time; three at once, so that the neighbour always has one.
fn settings() -> Settings {
    Settings::new()
        .with_limits("max_vms = 3\n")
        .with_profile("short", "timeout = \"8s\"")
        .with_profile("terse", "log_limit = \"1 MiB\"")
}

/// Runs all of them beside the neighbour, which lives until the last has ended, and gives how each ended. `None` where VMs
/// cannot be run.
async fn under_attack(attacks: &[Attack<'_>]) -> Option<Vec<Ended>> {
    let scene = Scene::start(settings()).await?;
    let pull = scene.pull_request(&workflow(attacks)).await;
    let mut ends = Vec::new();
    for attack in attacks {
        ends.push(scene.ended(&pull.sha, attack.name).await);
    }
    assert_eq!(leaks::vm_directories(scene.state_dir()).len(), 1, "only the neighbour has a VM");
    assert_eq!(leaks::monitors(scene.state_dir()).len(), 1, "only the neighbour has a monitor");
    scene.open_gate("go").await;
    let neighbour = scene.ended(&pull.sha, NEIGHBOUR).await;
    assert_eq!((neighbour.job.verdict(), neighbour.job.attempt), (("success", ""), 1), "{}", neighbour.log);
    assert_eq!(neighbour.said("whole"), "42");
    assert_eq!(neighbour.log.lines().filter(|line| line.starts_with("line=")).count(), 1000);
    let peak = scene.service.peak_memory_mib();
    assert!(peak < MOST_MEMORY_MIB, "the service needed {peak} MiB");
    assert_eq!(scene.service.zombies(), 0);
    scene.finish().await;
    Some(ends)
}
