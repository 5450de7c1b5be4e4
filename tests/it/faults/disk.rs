//! A full disk is told as one, with a hint, and costs one job and not the service.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::command::{Outcome, exec};
use serde_json::Value;

use crate::local_forge::Pushed;
use crate::support::{REPOSITORY, Scene, Settings, eventually, host, job_of, leaks};

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
    assert_eq!((ended.status.state.as_str(), ended.job.verdict()), ("error", ("error", "disk_full")));
    assert!(scene.ask(&["why", &ended.job.id]).contains("a disk of the host was full"));
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

/// Enough for a machine with memory of its own.
const ROOMY: &str = "500m";

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_at_the_end_of_its_preparation_leaves_nothing() {
    if !host::can_run_vms() || !host::can_mount() {
        return;
    }
    let lines = "prepare = { key = [\"README.md\"], run = \"true\" }";
    let settings = Settings::new().with_profile_lines(lines).with_disk_of(ROOMY);
    let Some(mut scene) = Scene::start(settings).await else { return };
    assert!(scene.service.stop().await.success());
    assert!(scene.restart_with(Some("hold@preparation-frozen")).await);
    let sha = scene.forge.commit(REPOSITORY, "main", &[("README.md", "# Changed\n")], "Change").await.unwrap();
    let pushed = Pushed { branch: "main", before: None, after: Some(&sha), changed: &[] };
    scene.forge.deliver("push", &scene.forge.push_payload(REPOSITORY, pushed)).await.unwrap();
    // The state directory, seen as the service sees it.
    let state = scene.service.control_socket().parent().unwrap().to_owned();
    let held = state.join(dayfly::lifecycle::HELD_FILE);
    eventually("the frozen machine", async || held.exists().then_some(())).await;
    // To let it go shall make no room.
    fs::write(&held, "").unwrap();
    let filler = state.join("filler");
    fill(&filler);
    fs::remove_file(held).unwrap();
    eventually("the try to fail", async || {
        let of_disk = |line: &Value| {
            let error = line["fields"]["error"].as_str().unwrap_or_default();
            line["fields"]["message"] == "upkeep did not end well" && error.contains("hint: the host's disk is full")
        };
        scene.service.log().iter().any(of_disk).then_some(())
    })
    .await;
    let left = || fs::read_dir(state.join("prepared")).unwrap().count();
    eventually("what was half made to go", async || (left() == 0).then_some(())).await;

    fs::remove_file(filler).unwrap();
    let pull = scene.pull_request(&job_of("linux", "echo \"fine=yes\"")).await;
    assert_eq!(scene.ended(&pull.sha, "test").await.said("fine"), "yes");
    scene.finish().await;
}

/// Takes all room that there is.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    let chunk = vec![0; 1 << 20];
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&chunk[..size]).is_ok() {}
    }
}
