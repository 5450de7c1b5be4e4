//! `dayfly run`: a local repository's workflows, as a person runs them.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::command::{self, Outcome};
use crate::support::repository::Repository;
use crate::support::{eventually, host, leaks};

const WORKFLOW: &str = "name: CI
on: push
jobs:
  build:
    runs-on: ubuntu-latest
    outputs: {word: '${{ steps.say.outputs.word }}'}
    steps:
      - uses: actions/checkout@v4
      - name: Say
        id: say
        run: |
          echo word=$(cat word) >> $GITHUB_OUTPUT
          printf '\\033[32mcolour\\033[0m \\033]0;title\\007\\n'
          printf 'no line end'
      - run: git ls-remote origin | cut -f2
      - run: echo $GITHUB_REPOSITORY $GITHUB_REF_NAME $GITHUB_EVENT_NAME
  use:
    needs: build
    runs-on: [self-hosted, gpu]
    steps:
      - run: test ${{ needs.build.outputs.word }} = committed
  never:
    if: failure()
    needs: build
    runs-on: linux
    steps:
      - run: exit 1
";

/// A state directory that uses the images of all tests.
pub(crate) fn state() -> Option<tempfile::TempDir> {
    host::can_run_vms().then(|| {
        let directory = host::short_directory();
        std::os::unix::fs::symlink(host::shared_images(), directory.path().join("images")).unwrap();
        directory
    })
}

pub(crate) fn dayfly_run(state: &tempfile::TempDir, repository: &Repository, arguments: &[&str]) -> Command {
    let mut command = command::dayfly();
    command.arg("run").args(arguments).arg("--repo").arg(repository.path()).arg("--state-dir").arg(state.path());
    command.args(["--backend", "qemu-tcg", "--memory", "256MiB", "--disk", "1GiB"]);
    command
}

fn run(state: &tempfile::TempDir, repository: &Repository, arguments: &[&str]) -> Outcome {
    dayfly_run(state, repository, arguments).output().unwrap().into()
}

#[test]
fn the_commit_runs_with_its_needs_and_says_how_each_job_ended() {
    let Some(state) = state() else { return };
    let repository = Repository::new(&[("word", "committed"), (".dayfly/workflows/ci.yml", WORKFLOW)]);
    repository.write(&[("word", "changed"), ("more", "")]);
    let done = run(&state, &repository, &[]);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert!(done.stderr.contains("note: 2 files differ from HEAD; --dirty runs them"), "{}", done.stderr);
    for line in [
        "[CI/build] ==> Say",
        "[CI/build] colour ",
        "[CI/build] no line end",
        "[CI/build] refs/heads/main",
        "[CI/build] acme/site main push",
        "[CI/use] ==> Run test committed = committed",
    ] {
        assert!(done.stdout.lines().any(|shown| shown == line), "`{line}` is not in:\n{}", done.stdout);
    }
    assert!(!done.stdout.contains('\u{1b}'), "a pipe gets plain text");
    let results: Vec<Vec<&str>> =
        done.stdout.lines().rev().take(3).map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(results, [["CI/never", "skipped"], ["CI/use", "success"], ["CI/build", "success"]], "{}", done.stdout);
    leaks::assert_none(state.path());

    // The work tree's word is another one, which the second job does not expect.
    let dirty = run(&state, &repository, &["ci", "--job", "use", "--dirty"]);
    assert_eq!(dirty.code, Some(1), "{}{}", dirty.stdout, dirty.stderr);
    assert!(
        dirty.stdout.contains("Run test changed = committed") && !dirty.stdout.contains("CI/never"),
        "{}",
        dirty.stdout
    );
    let failed = dirty.stdout.lines().last().unwrap();
    assert!(failed.starts_with("CI/use") && failed.contains("failure") && failed.contains("exit code 1"), "{failed}");
    leaks::assert_none(state.path());
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_there_is() {
    let directory = host::short_directory();
    let repository = Repository::new(&[("x", "")]);
    let refused = |arguments: &[&str]| {
        let done = run(&directory, &repository, arguments);
        assert_eq!((done.code, done.stdout.as_str()), (Some(64), ""), "{}", done.stderr);
        leaks::assert_none(directory.path());
        done.stderr
    };
    assert!(refused(&[]).contains("the commit has no workflow in `.dayfly/workflows` or `.github/workflows`"));
    repository.commit(&[(".github/workflows/ci.yml", WORKFLOW), (".github/workflows/bad.yml", "on: push\njobs: {}\n")]);
    assert!(refused(&["cl"]).contains("hint: it has `bad`, `ci`"));
    assert!(refused(&["badd"]).contains("hint: did you mean `bad`?"));
    assert!(refused(&["ci", "--job", "tset"]).contains("hint: there are `build`, `use`, `never`"));
    let event = refused(&["ci.yml", "--event", "release"]);
    assert!(event.contains("no workflow starts on `release`") && event.contains("one of `push`"), "{event}");
    assert!(refused(&["bad"]).contains(".github/workflows/bad.yml:"), "its mistakes are shown");
    for (arguments, why) in [
        (&["ci", "--matrix", "os=bsd"][..], "no matrix has the key `os`"),
        (&["ci", "--matrix", "os"], "--matrix `os`: it must have the form NAME=VALUE"),
        (&["ci", "--event", "no/such.json"], "the payload `no/such.json`: No such file"),
        (&["ci", "--event", "/dev/null"], "the payload `/dev/null`: EOF"),
        (&["ci", "--event", "push", "--input", "a=b"], "`--input` is for `workflow_dispatch`"),
        (&["ci", "--input", "a=b"], "no workflow starts on `workflow_dispatch`"),
        (&["ci", "--env", "GITHUB_SHA=1"], "the same standard value"),
        (&["ci", "--env", "DAYFLY_TEST_UNSET"], "environment has no such variable"),
        (&["ci", "--env-file", "/dev/null/x"], "--env-file"),
    ] {
        let told = refused(arguments);
        assert!(told.contains(why), "{arguments:?}: {told}");
    }
    let elsewhere = command::run(&[
        "run",
        "--repo",
        directory.path().to_str().unwrap(),
        "--state-dir",
        directory.path().to_str().unwrap(),
    ]);
    assert_eq!(elsewhere.code, Some(64));
    assert!(elsewhere.stderr.contains("is not in a git repository"), "{}", elsewhere.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_jobs_and_nothing_outlives_a_kill() {
    let Some(state) = state() else { return };
    let workflow = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: echo began; sleep 600\n      \
                    - if: always()\n        run: echo cleaned up\n  b:\n    needs: a\n    runs-on: x\n    steps: [run: echo never]\n";
    let repository = Repository::new(&[(".dayfly/workflows/ci.yml", workflow)]);
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        let mut child =
            dayfly_run(&state, &repository, &[]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut log = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("] began") {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut log, &mut line).unwrap() > 0, "it ended early");
        }
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut log, &mut rest).unwrap();
        let status = child.wait().unwrap();
        if signal == Signal::SIGKILL {
            eventually("the monitor to end", async || leaks::monitors(state.path()).is_empty().then_some(())).await;
            // The VM's directory and the repository's copy. The next command removes both.
            assert_eq!(leaks::vm_directories(state.path()).len(), 2);
        } else {
            assert_eq!(status.code(), Some(130), "{rest}");
            assert!(rest.contains("] cleaned up") && !rest.contains("never"), "{rest}");
            assert_eq!(rest.lines().filter(|line| line.contains("cancelled")).count(), 2, "{rest}");
            leaks::assert_none(state.path());
        }
    }
}
