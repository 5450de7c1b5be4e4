//! Programs that run to their end: argument arrays, a time limit, and errors that carry what the program said.

use std::fmt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::process::{self, Lifetime};

/// Bytes of a failed program's error output that the error keeps (the last ones).
const STDERR_TAIL: usize = 4096;

/// Characters of one line, and lines, that an error shows of a program's arguments and of what it said.
const MAX_LINE: usize = 240;
const MAX_LINES: usize = 12;

/// Why a program did not do what it was started for.
#[derive(Debug)]
pub struct CommandError {
    program: String,
    arguments: Vec<String>,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    NotStarted(std::io::Error),
    TimedOut(Duration),
    Failed { status: ExitStatus, stderr: String },
}

impl fmt::Display for CommandError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::NotStarted(error) if error.kind() == std::io::ErrorKind::NotFound => {
                write!(out, "`{}` is not installed\n  hint: {}", self.program, install_hint(&self.program))
            }
            Cause::NotStarted(error) => write!(out, "`{}` cannot be started: {error}", self.program),
            Cause::TimedOut(limit) => write!(out, "`{}` did not end within {} s", self.line(), limit.as_secs()),
            Cause::Failed { status, stderr } => {
                write!(out, "`{}` failed ({status}): {}", self.line(), last_lines(stderr))
            }
        }
    }
}

impl std::error::Error for CommandError {}

impl CommandError {
    /// The program and its arguments, as far as they tell something: some have hundreds.
    fn line(&self) -> String {
        let line = format!("{} {}", self.program, self.arguments.join(" "));
        let line = line.trim_end();
        if line.chars().count() <= MAX_LINE { line.to_owned() } else { format!("{} …", self.program) }
    }

    /// The code of a program that ran to its end.
    pub fn exit_code(&self) -> Option<i32> {
        if let Cause::Failed { status, .. } = &self.cause { status.code() } else { None }
    }

    /// The end of what a program said before it failed, for those to whom its long command line says nothing.
    pub fn said(&self) -> Option<&str> {
        if let Cause::Failed { stderr, .. } = &self.cause {
            Some(stderr.trim()).filter(|text| !text.is_empty())
        } else {
            None
        }
    }

    /// Whether the program was ended because it took too long.
    pub fn is_timeout(&self) -> bool {
        matches!(self.cause, Cause::TimedOut(_))
    }
}

/// The end of what a program said, without what makes it unreadable: lines that list everything that it was given.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    let cut = |line: &&str| match line.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => (*line).to_owned(),
    };
    lines[lines.len().saturating_sub(MAX_LINES)..].iter().map(cut).collect::<Vec<_>>().join("\n")
}

/// What to install for a program that is missing.
pub fn install_hint(program: &str) -> String {
    format!("install it, on Debian and Ubuntu with `apt-get install {}`", package_of(program))
}

/// The package of Debian and Ubuntu that has a program.
pub fn package_of(program: &str) -> &str {
    match program {
        "qemu-system-x86_64" => "qemu-system-x86",
        "mkfs.erofs" => "erofs-utils",
        "mkfs.ext4" | "mke2fs" => "e2fsprogs",
        "dpkg-deb" => "dpkg",
        "xz" => "xz-utils",
        "unshare" | "nsenter" => "util-linux",
        "ip" => "iproute2",
        "nft" => "nftables",
        other => other,
    }
}

/// Fails as [`run`] does if `program` is not installed: for one that another program is to start.
pub fn require(program: &str) -> Result<(), CommandError> {
    let missing = || CommandError {
        program: program.to_owned(),
        arguments: Vec::new(),
        cause: Cause::NotStarted(std::io::ErrorKind::NotFound.into()),
    };
    process::find_program(program).map(drop).ok_or_else(missing)
}

/// A program that reads a file and whose output is read here.
#[derive(Debug)]
pub struct Piped {
    output: std::fs::File,
    child: tokio::process::Child,
    program: String,
    arguments: Vec<String>,
}

/// Starts a program with that file as its input. Must be called in an async runtime. It does not outlive this process, nor
/// the value.
pub fn pipe(program: &str, arguments: &[&str], input: std::fs::File) -> Result<Piped, CommandError> {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let fail = |error| CommandError {
        program: program.to_owned(),
        arguments: arguments.clone(),
        cause: Cause::NotStarted(error),
    };
    let mut command = Command::new(program);
    command.args(&arguments).stdin(input).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = process::start(command, Lifetime::EndsWithUs).map_err(fail)?;
    let output = child.stdout.take().expect("it is piped").into_owned_fd().map_err(fail)?;
    Ok(Piped { output: output.into(), child, program: program.to_owned(), arguments })
}

impl std::io::Read for Piped {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.output.read(buffer)
    }
}

impl Piped {
    /// Waits for the program's end, once its output was read.
    ///
    /// # Errors
    /// When it failed.
    pub async fn finish(self) -> Result<(), CommandError> {
        let Self { output, mut child, program, arguments } = self;
        drop(output);
        let cause = match child.wait().await {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => Cause::Failed { status, stderr: String::new() },
            Err(error) => Cause::NotStarted(error),
        };
        Err(CommandError { program, arguments, cause })
    }
}

/// Runs a program to its end and gives its standard output. `on_stderr_line` sees each line of its error output, for
/// progress. It does not outlive this process, nor the future.
pub async fn run(
    program: &str, arguments: &[&str], limit: Duration, on_stderr_line: impl FnMut(&str),
) -> Result<Vec<u8>, CommandError> {
    let mut command = Command::new(program);
    command.args(arguments);
    run_prepared(command, Vec::new(), limit, on_stderr_line).await
}

/// The same for a command with an environment or a directory of its own, and with input.
pub async fn run_prepared(
    mut command: Command, input: Vec<u8>, limit: Duration, mut on_stderr_line: impl FnMut(&str),
) -> Result<Vec<u8>, CommandError> {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

    let shown = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let program = shown(command.as_std().get_program());
    let arguments: Vec<String> = command.as_std().get_args().map(shown).collect();
    let fail = |cause| CommandError { program: program.clone(), arguments: arguments.clone(), cause };
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = process::start(command, Lifetime::EndsWithUs).map_err(|error| fail(Cause::NotStarted(error)))?;
    let stdin = child.stdin.take();
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A program that does not want all of it says by its status whether that is a failure.
            drop(stdin.write_all(&input).await);
        }
        Ok(())
    };
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut output = Vec::new();
    let mut tail = Vec::new();
    let read_stderr = async {
        let mut line = Vec::new();
        while stderr.read_until(b'\n', &mut line).await? > 0 {
            on_stderr_line(String::from_utf8_lossy(&line).trim_end());
            tail.extend_from_slice(&line);
            let excess = tail.len().saturating_sub(STDERR_TAIL);
            tail.drain(..excess);
            line.clear();
        }
        Ok(())
    };
    let whole = async { tokio::try_join!(feed, stdout.read_to_end(&mut output), read_stderr, child.wait()) };
    match tokio::time::timeout(limit, whole).await {
        Err(_) => Err(fail(Cause::TimedOut(limit))),
        Ok(Err(error)) => Err(fail(Cause::NotStarted(error))),
        Ok(Ok(((), _, (), status))) if status.success() => Ok(output),
        Ok(Ok(((), _, (), status))) => {
            Err(fail(Cause::Failed { status, stderr: String::from_utf8_lossy(&tail).into_owned() }))
        }
    }
}
