//! `dayfly exec`: one command in one fresh VM, as a person uses it.
#![allow(clippy::unwrap_used)]

mod actions;
mod calls;
mod clone;
pub(crate) mod containers;
mod monitor;
mod nat;
mod node;
mod python;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::command::{self, Outcome, run_with_input};
use crate::support::repository::Repository;
use crate::support::{eventually, host, leaks};

/// A state directory that uses the images of all tests.
struct State(tempfile::TempDir);

impl State {
    fn new() -> Option<Self> {
        host::can_run_vms().then(|| {
            let directory = host::short_directory();
            std::os::unix::fs::symlink(host::shared_images(), directory.path().join("images")).unwrap();
            Self(directory)
        })
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command::exec(self.path());
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.command(arguments).output().unwrap().into()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        leaks::end_all(self.path());
    }
}

#[test]
fn streams_and_exit_codes_pass_through() {
    let Some(state) = State::new() else { return };
    let script = "echo out; echo err >&2; echo $NAME $USER $PWD; exit 42";
    let done = state.run(&["--env", "NAME=a value", "--", "sh", "-c", script]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(42), "out\na value runner /home/runner\n"));
    assert_eq!(done.stderr.lines().last(), Some("err"));

    let root = state.run(&["--root", "--", "sh", "-c", "id -un; kill -9 $$"]);
    assert_eq!((root.code, root.stdout.as_str()), (Some(128 + 9), "root\n"), "{}", root.stderr);
    let missing = state.run(&["--", "no-such-program"]);
    assert_eq!(missing.code, Some(127));
    assert!(missing.stderr.contains("no-such-program"), "{}", missing.stderr);
    leaks::assert_none(state.path());
}

#[test]
fn input_reaches_the_command_whole() {
    let Some(state) = State::new() else { return };
    // More than any buffer on the way holds.
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let done = run_with_input(state.command(&["-i", "--", "sh", "-c", "sha256sum; echo end >&2"]), &input);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    use sha2::{Digest, Sha256};
    assert_eq!(done.stdout, format!("{}  -\n", hex::encode(Sha256::digest(&input))));

    let done = run_with_input(state.command(&["--", "cat"]), b"");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), ""), "without --stdin there is none");
}

#[test]
fn a_shell_can_wait_for_what_it_started() {
    let Some(state) = State::new() else { return };
    // dash waits for SIGCHLD, and would for ever if it inherited a mask with that in it.
    let done =
        state.run(&["--timeout", "60s", "--", "sh", "-c", "(sleep 0.2; echo out) & (sleep 0.3; echo err >&2) & wait"]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "out\n", "err\n"));
}

#[test]
fn two_outputs_that_fill_the_window_keep_apart() {
    let Some(state) = State::new() else { return };
    // More than a window on both at once: each waits for credit in the middle of a record.
    let script = "(yes out | head -c 2000000) & (yes err | head -c 2000000 >&2) & wait";
    let done = state.run(&["--timeout", "60s", "--", "sh", "-c", script]);
    assert_eq!(done.code, Some(0));
    assert_eq!((done.stdout.len(), done.stderr.len()), (2_000_000, 2_000_000));
    assert!(done.stdout == "out\n".repeat(500_000) && done.stderr == "err\n".repeat(500_000), "they are mixed");
}

#[test]
fn a_command_that_takes_too_long_ends_with_124() {
    let Some(state) = State::new() else { return };
    // The first command may have to build the image.
    assert_eq!(state.run(&["--", "true"]).code, Some(0));
    let began = Instant::now();
    let done = state.run(&["--timeout", "1s", "--", "sh", "-c", "trap '' TERM; echo began; sleep 600"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(124), "began\n"));
    assert!(done.stderr.contains("did not end within 1s"), "{}", done.stderr);
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    leaks::assert_none(state.path());
}

#[test]
fn memory_that_runs_out_is_named() {
    let Some(state) = State::new() else { return };
    let done = state.run(&["--", "tail", "/dev/zero"]);
    assert_eq!(done.code, Some(128 + 9), "{}", done.stderr);
    assert!(done.stderr.contains("ran out of memory") && done.stderr.contains("--memory"), "{}", done.stderr);
}

#[test]
fn what_is_missing_is_named_with_a_hint() {
    let Some(state) = State::new() else { return };
    let image = state.run(&["--image", "bsae", "--", "true"]);
    assert_eq!(image.code, Some(69));
    assert!(image.stderr.contains("there is no image `bsae`") && image.stderr.contains("hint:"), "{}", image.stderr);

    for program in ["/nonexistent/qemu", "no-such-qemu"] {
        let qemu = state.run(&["--qemu", program, "--", "true"]);
        assert_eq!(qemu.code, Some(69), "{}", qemu.stderr);
        assert!(qemu.stderr.contains(&format!("`{program}` is not installed")), "{}", qemu.stderr);
        assert!(qemu.stderr.contains("apt-get install qemu-system-x86`"), "{}", qemu.stderr);
    }
    leaks::assert_none(state.path());
}

#[test]
fn a_machine_that_ends_by_itself_is_told_from_a_command_that_ends() {
    let Some(state) = State::new() else { return };
    // A machine that is switched off at once takes with it what has not left it yet.
    let script = "echo last words; sleep 1; echo o > /proc/sysrq-trigger; sleep 600";
    let done = state.run(&["--root", "--", "sh", "-c", script]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(70), "last words\n"));
    assert!(done.stderr.contains("the VM was lost: the guest powered itself off"), "{}", done.stderr);
    leaks::assert_none(state.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_a_command_that_was_killed() {
    let Some(state) = State::new() else { return };
    // With a copy of a repository, which must go as well.
    let repository = Repository::new(&[("file", "")]);
    let (repo, sha) = (repository.path().to_str().unwrap(), repository.commit(&[("file", "committed")]));
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let mut child = state.command(&["--repo", repo, "--sha", &sha, "--", "sh", "-c", "echo began; sleep 600"]);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut word = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
        assert_eq!(leaks::monitors(state.path()).len(), 1);
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let status = child.wait().unwrap();
        if signal == Signal::SIGKILL {
            eventually("the monitor to end", async || leaks::monitors(state.path()).is_empty().then_some(())).await;
            assert_eq!(leaks::vm_directories(state.path()).len(), 1, "nobody was there to remove the directory");
            assert_eq!(state.run(&["--", "true"]).code, Some(0));
        } else {
            assert_eq!(status.code(), Some(128 + signal as i32));
        }
        leaks::assert_none(state.path());
    }
}

#[test]
fn two_at_once_do_not_meet() {
    let Some(state) = State::new() else { return };
    // Each waits until the other's VM is there, seen from outside by the directory that both share with the host.
    let children = [1, 2].map(|number| {
        let script = format!("echo {number} > /tmp/mine; hostname; cat /tmp/mine");
        state.command(&["--", "sh", "-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let outcomes = children.map(|child| Outcome::from(child.wait_with_output().unwrap()));
    let lines: Vec<Vec<&str>> = outcomes.iter().map(|outcome| outcome.stdout.lines().collect()).collect();
    assert_ne!(lines[0][0], lines[1][0], "two VMs have one name");
    assert_eq!((lines[0][1], lines[1][1]), ("1", "2"));
    leaks::assert_none(state.path());
}
