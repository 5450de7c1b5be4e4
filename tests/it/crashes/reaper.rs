//! What nobody owns goes; what somebody owns stays, whoever that is.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dayfly::ids::VmId;
use nix::sys::signal::{Signal, kill};

use crate::support::{Scene, Settings, command, eventually, gate, host, job_of, leaks};

/// A `dayfly exec` that gives back its input; it has its VM when this returns.
fn command_with_a_vm(state_dir: &Path) -> Child {
    std::os::unix::fs::symlink(host::shared_images(), state_dir.join("images")).unwrap();
    let mut command = command::exec(state_dir);
    command.args(["-i", "--", "sh", "-c", "echo began; cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut word = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    assert_eq!(&word, b"began\n");
    child
}

/// A process like a monitor, started in the home of a VM that is not there any more.
fn monitor_without_a_home(state_dir: &Path) -> Child {
    let id = VmId::random();
    let home = state_dir.join("vms").join(id.as_str());
    fs::create_dir(&home).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "read line", "sh", "-name", &format!("dayfly-{id}")]).current_dir(&home);
    let child = command.stdin(Stdio::piped()).process_group(0).spawn().unwrap();
    fs::remove_dir(home).unwrap();
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vms_of_commands_stay_and_what_nobody_owns_goes() {
    let Some(mut scene) = Scene::start(Settings::new()).await else { return };
    let mut command = command_with_a_vm(scene.state_dir());
    let owned = leaks::vm_directories(scene.state_dir());
    assert_eq!(owned.len(), 1);

    let pull = scene.pull_request(&job_of("linux", &gate("never"))).await;
    scene.job(&pull.sha, "test", |job| job.state == "running").await;
    scene.service.kill();
    let mut lost = monitor_without_a_home(scene.state_dir());
    let nameless =
        [".new-", ".gone-"].map(|prefix| scene.state_dir().join("vms").join(format!("{prefix}{}", VmId::random())));
    nameless.iter().for_each(|directory| fs::create_dir(directory).unwrap());

    scene.restart().await;
    assert_eq!(lost.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
    assert!(!nameless.iter().any(|directory| directory.exists()));
    // The job's next VM may be there already; the one of the killed service is not.
    assert!(leaks::vm_directories(scene.state_dir()).contains(&owned[0]));
    assert!(scene.service.stop().await.success());
    assert_eq!(leaks::vm_directories(scene.state_dir()), owned);
    assert_eq!(leaks::monitors(scene.state_dir()).len(), 1);

    command.stdin.take().unwrap().write_all(b"still here\n").unwrap();
    let ended = command.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(0), b"still here\n".as_slice()));
    leaks::assert_none(scene.state_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_is_killed_costs_an_attempt_before_the_job_began_and_the_job_after_that() {
    let Some(mut scene) = Scene::start(Settings::new()).await else { return };
    assert!(scene.service.stop().await.success());
    assert!(scene.restart_with(Some("hold@state-loaded")).await);
    let pull = scene.pull_request(&job_of("linux", "true")).await;
    let held = scene.state_dir().join(dayfly::lifecycle::HELD_FILE);
    eventually("the snapshot to be loaded", async || held.exists().then_some(())).await;
    kill_monitor(&scene);
    fs::remove_file(held).unwrap();
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!((ended.job.verdict(), ended.job.attempt), (("success", ""), 2));

    let pull = scene.pull_request(&job_of("linux", &format!("echo began\n{}", gate("never")))).await;
    let has_begun = |event: &crate::support::Event| event.kind == "step_started";
    scene.job(&pull.sha, "test", |job| job.events.iter().any(has_begun)).await;
    kill_monitor(&scene);
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!((ended.job.verdict(), ended.job.attempt), (("error", "vm_lost"), 1));
    assert!(ended.title().contains("the virtual machine monitor ended"), "{}", ended.title());
    scene.finish().await;
}

fn kill_monitor(scene: &Scene) {
    let monitors = leaks::monitors(scene.state_dir());
    assert_eq!(monitors.len(), 1);
    kill(monitors[0], Signal::SIGKILL).unwrap();
}
