//! The program's other commands, as a person runs them.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// The program, without settings of whoever runs the tests.
pub(crate) fn dayfly() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dayfly"));
    for variable in [
        "DAYFLY_STATE_DIR",
        "DAYFLY_RECIPES",
        "DAYFLY_BACKEND",
        "DAYFLY_QEMU",
        "DAYFLY_FIRECRACKER",
        "DAYFLY_LOG",
        "DAYFLY_SOCKET",
        "DAYFLY_GIT_TOKEN",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[impl AsRef<OsStr>]) -> Outcome {
    dayfly().args(arguments).output().unwrap().into()
}

/// `dayfly exec` with the smallest shape. More options and the command follow.
pub(crate) fn exec(state_dir: &Path) -> Command {
    let mut command = dayfly();
    command.arg("exec").arg("--state-dir").arg(state_dir);
    command.args(["--backend", "qemu-tcg", "--memory", "256MiB", "--disk", "1GiB"]);
    command
}

/// Runs a command that is given input.
pub(crate) fn run_with_input(mut command: Command, input: &[u8]) -> Outcome {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // At the same time as reading, or both sides could wait for each other.
    let feeding = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap().unwrap();
    output.into()
}
