//! A full disk is told as one, with a hint, and costs one job and not the service.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::command::{Outcome, exec};
use crate::support::{Scene, Settings, host, job_of, leaks};

/// `dayfly exec` of a script where the state directory is on a small disk.
fn exec_on(size: &str, script: &str) -> Outcome {
    let (directory, images) = (host::short_directory(), host::short_directory());
    symlink(host::shared_images(), images.path().join("images")).unwrap();
    let warmed: Outcome = exec(images.path()).args(["--", "true"]).output().unwrap().into();
    assert_eq!(warmed.code, Some(0), "{}", warmed.stderr);

    let mut command = host::on_small_disk(directory.path(), size, Path::new("sh"));
    let link =
        format!("ln -s '{}' '{}/images'; exec \"$@\"", host::shared_images().display(), directory.path().display());
    command.args(["-ec", &link, "sh"]);
    let plain = exec(directory.path());
    command.arg(plain.get_program()).args(plain.get_args()).args(["--timeout", "30s", "--", "sh", "-c", script]);
    let outcome = command.output().unwrap().into();
    assert_eq!(leaks::monitors(directory.path()), []);
    outcome
}

#[test]
fn a_command_names_the_full_disk() {
    if !host::can_run_vms() || !host::can_mount() {
        return;
    }
    let at_start = exec_on("64k", "true");
    assert_eq!(at_start.code, Some(69), "{}", at_start.stderr);
    assert!(at_start.stderr.contains("/scratch`: No space left on device"), "{}", at_start.stderr);
    assert!(at_start.stderr.contains("hint: the host's disk is full"), "{}", at_start.stderr);

    let later = exec_on("8m", "echo began; dd if=/dev/zero of=big bs=1M count=64 conv=fsync; echo went on");
    assert_eq!((later.code, later.stdout.as_str()), (Some(70), "began\n"), "{}", later.stderr);
    assert!(later.stderr.contains("the host's disk is full") && later.stderr.contains("hint:"), "{}", later.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fills_the_hosts_disk_ends_and_the_next_one_runs() {
    if !host::can_run_vms() || !host::can_mount() {
        return;
    }
    let settings = Settings::new().with_profile("forked", "matrix_fork = \"auto\"").with_disk_of("64m");
    let Some(scene) = Scene::start(settings).await else { return };
    let pull =
        scene.pull_request(&job_of("linux", "dd if=/dev/zero of=big bs=1M count=64 conv=fsync; echo went on")).await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!(ended.status.state, "error");
    assert!(ended.title().contains("the host's disk is full"), "{}", ended.title());
    assert!(!ended.log.lines().any(|line| line == "went on"), "{}", ended.log);

    let pull = scene.pull_request(&job_of("linux", "echo \"fine=yes\"")).await;
    assert_eq!(scene.ended(&pull.sha, "test").await.said("fine"), "yes");

    // A machine with memory of its own does not fit, so that each cell has one without.
    let matrix = "    strategy: {matrix: {n: [1, 2]}}\n    steps:\n      - run: echo \"shared=ran\"\n      - run: echo \"n=${{ matrix.n }}\"";
    let workflow = job_of("forked", "true");
    let pull = scene.pull_request(&workflow.replace("    steps:\n", &format!("{matrix}\n"))).await;
    for n in ["1", "2"] {
        let ended = scene.ended(&pull.sha, &format!("test ({n})")).await;
        assert_eq!((ended.said("shared"), ended.said("n"), ended.job.attempt), ("ran", n, 1));
    }
    scene.finish().await;
}
