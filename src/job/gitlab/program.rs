//! Programs of a stage in the guest: each runs to its end, its time or the job's cancellation, and says so in the log.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use nix::libc::{SIGKILL, SIGTERM};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::containers;
use super::trace::Trace;
use crate::job::attend::KILL_LIMIT;
use crate::protocol::message::{Exec, Exit, ExitStatus, Output, Owner};
use crate::vm::VmError;
use crate::vm::guest::{Guest, Input, Running};

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    Exited(i32),
    /// The job was cancelled meanwhile.
    Stopped,
    TimedOut,
    /// It did not begin, or a signal ended it.
    Failed(String),
}

/// What a program is.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) argv: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) directory: String,
    /// What it reads; else its input is empty.
    pub(super) input: Option<String>,
    /// The container that it waits for, which is what signals go to.
    pub(super) container: Option<String>,
}

impl Program {
    /// One of the machine's own.
    pub(super) fn of_machine(argv: Vec<String>, environment: BTreeMap<String, String>) -> Self {
        Self { argv, environment, directory: "/".to_owned(), input: None, container: None }
    }
}

/// What programs run under.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) guest: &'a Guest,
    pub(super) owner: Owner,
    /// Ends the program; `None` for one that runs although the job is cancelled.
    pub(super) stop: Option<&'a CancellationToken>,
    pub(super) limit: Option<Duration>,
    /// How long a program that is asked to end may take.
    pub(super) grace: Duration,
}

/// Runs a program, whose output goes to the log. Gives with its end how many processes the guest killed meanwhile for lack of
/// memory, by the guest's own count.
pub(super) async fn run(program: Program, rules: Rules<'_>, trace: &mut Trace<'_>) -> Result<(Ended, u64), VmError> {
    let Program { argv, environment, directory, input, container } = program;
    let (env, owner) = (environment.into_iter().collect(), rules.owner);
    let exec = Exec { argv, env, directory, owner, stdin: input.is_some() };
    let mut running = match rules.guest.exec(exec).await {
        Ok(running) => running,
        Err(VmError::Refused { detail, .. }) => return Ok((Ended::Failed(detail), 0)),
        Err(error) => return Err(error),
    };
    let feeding = feed(input.map(|text| (running.input(), text)));
    let deadline = rules.limit.map(|limit| Instant::now() + limit);
    let attended = async {
        loop {
            if let Some(exit) = take(running.next().await?, trace).await {
                return Ok::<_, VmError>(exit);
            }
        }
    };
    let why = tokio::select! {
        exit = attended => return exit.map(told),
        never = feeding => match never {},
        () = until(deadline) => Ended::TimedOut,
        () = stopped(rules.stop) => Ended::Stopped,
    };
    stop(&mut running, container.as_deref(), rules, trace).await?;
    Ok((why, 0))
}

/// Asks a program to end, waits for the grace period, then kills it.
async fn stop(
    running: &mut Running, container: Option<&str>, rules: Rules<'_>, trace: &mut Trace<'_>,
) -> Result<(), VmError> {
    for (signal, limit) in [(SIGTERM, rules.grace), (SIGKILL, KILL_LIMIT)] {
        match container {
            Some(id) => containers::signal(rules.guest, running, id, signal).await?,
            None => running.signal(signal).await?,
        }
        let drained = async {
            while take(running.next().await?, trace).await.is_none() {}
            Ok(())
        };
        if let Ok(ended) = timeout(limit, drained).await {
            return ended;
        }
    }
    Ok(())
}

/// Writes what a program reads. What it does not read is left.
async fn feed(input: Option<(Input, String)>) -> Infallible {
    if let Some((input, text)) = input
        && input.write(text.as_bytes()).await.is_ok()
    {
        input.end();
    }
    std::future::pending().await
}

async fn take(output: Output, trace: &mut Trace<'_>) -> Option<Exit> {
    match output {
        Output::Stdout(bytes) | Output::Stderr(bytes) => trace.write(&bytes).await,
        Output::Exited(exit) => return Some(exit),
    }
    None
}

fn told(exit: Exit) -> (Ended, u64) {
    let ended = match exit.status {
        ExitStatus::Code(code) => Ended::Exited(code),
        ExitStatus::Signal(signal) => Ended::Failed(format!("it was ended by signal {signal}")),
        ExitStatus::NotStarted(why) => Ended::Failed(why),
    };
    (ended, exit.oom_kills)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stop: Option<&CancellationToken>) {
    match stop {
        Some(stop) => stop.cancelled().await,
        None => std::future::pending().await,
    }
}
