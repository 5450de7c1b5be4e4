//! `dayfly exec`: one command in one fresh VM.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use super::machine::MachineArgs;
use super::progress::Terminal;
use super::{EngineArgs, parse_duration};
use crate::config::format_duration;
use crate::ids::VmId;
use crate::image::catalog::ImageInfo;
use crate::protocol::message::{Exec, Exit, ExitStatus, Output, Owner};
use crate::vm::guest::{Input, Running};
use crate::vm::machine::{CacheMount, Machine};

/// The code of a command that ran out of time, as `timeout(1)` has it.
const EXIT_TIMEOUT: u8 = 124;
/// The code of a command that could not be started, as shells have it.
const EXIT_NOT_STARTED: u8 = 127;
/// Added to a signal's number, as shells do.
const EXIT_SIGNAL_BASE: i32 = 128;
/// The code when the VM itself was lost.
const EXIT_VM_LOST: u8 = 70;

const INPUT_CHUNK: usize = 16 * 1024;

#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    machine: MachineArgs,
    /// Give up after this time (such as 30s, 10m); the exit code is then 124
    #[arg(long, value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Set a variable in the command's environment
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_variable)]
    variables: Vec<(String, String)>,
    /// Mount a directory or erofs image read-only: SOURCE:TARGET
    #[arg(long, value_name = "SOURCE:TARGET", value_parser = parse_cache)]
    cache: Option<(std::path::PathBuf, String)>,
    /// Run as root instead of the image's user
    #[arg(long)]
    root: bool,
    /// Give the command this process's standard input
    #[arg(short = 'i', long)]
    stdin: bool,
    /// The command and its arguments
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must have the form NAME=VALUE")?;
    if name.is_empty() { Err("the name is empty".into()) } else { Ok((name.to_owned(), value.to_owned())) }
}

fn parse_cache(text: &str) -> Result<(std::path::PathBuf, String), String> {
    match text.rsplit_once(':') {
        Some((source, target)) if target.starts_with('/') && target.len() > 1 => Ok((source.into(), target.to_owned())),
        _ => Err("it must have the form SOURCE:TARGET with an absolute target".into()),
    }
}

pub(super) async fn run(arguments: ExecArgs) -> anyhow::Result<u8> {
    let engine = arguments.engine.engine()?;
    engine.reap().await;
    let progress = Terminal::new();
    let prepared = engine.prepare(&arguments.machine.image, arguments.machine.shape(), &progress).await?;
    progress.done();
    let cache = match &arguments.cache {
        Some((source, target)) => {
            Some(CacheMount { volume: engine.cache_volume(source).await?, target: target.clone() })
        }
        None => None,
    };
    let mut machine = engine.restore(engine.home(VmId::random())?, &prepared, cache.as_ref()).await?;
    let outcome = attend(&machine, &arguments, &prepared.info).await;
    let destroyed = machine.destroy().await.context("the VM could not be removed");
    let code = outcome?;
    destroyed?;
    Ok(code)
}

async fn attend(machine: &Machine, arguments: &ExecArgs, image: &ImageInfo) -> anyhow::Result<u8> {
    let running = machine.guest().exec(command_for(arguments, image)).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let lost = machine.lost();
    let limit = async {
        match arguments.timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        exit = pass_through(running, arguments.stdin) => Ok(exit_code(exit?)),
        reason = lost => {
            eprintln!("error: the VM was lost: {reason}");
            Ok(EXIT_VM_LOST)
        }
        () = limit => {
            let limit = arguments.timeout.unwrap_or_default();
            eprintln!("error: the command did not end within {}", format_duration(limit));
            Ok(EXIT_TIMEOUT)
        }
        _ = terminate.recv() => Ok((EXIT_SIGNAL_BASE + 15) as u8),
        _ = interrupt.recv() => Ok((EXIT_SIGNAL_BASE + 2) as u8),
    }
}

fn command_for(arguments: &ExecArgs, image: &ImageInfo) -> Exec {
    let (owner, home, user) = if arguments.root {
        (Owner::ROOT, "/root".to_owned(), "root")
    } else {
        (image.user.owner(), image.user.home(), image.user.name.as_str())
    };
    let mut env = image.environment.clone();
    env.push(("HOME".into(), home.clone()));
    env.push(("USER".into(), user.to_owned()));
    env.extend(arguments.variables.iter().cloned());
    Exec { argv: arguments.command.clone(), env, directory: home, owner, stdin: arguments.stdin }
}

/// Copies output, and input if wanted, until the command ends.
async fn pass_through(mut running: Running, with_input: bool) -> anyhow::Result<Exit> {
    let input = running.input();
    let output = async {
        loop {
            match running.next().await? {
                Output::Stdout(bytes) => write_out(std::io::stdout(), &bytes)?,
                Output::Stderr(bytes) => write_out(std::io::stderr(), &bytes)?,
                Output::Exited(exit) => return anyhow::Ok(exit),
            }
        }
    };
    if !with_input {
        return output.await;
    }
    // Side by side: a command may not read on until its output is taken.
    tokio::select! {
        exit = output => exit,
        failed = pass_input(input) => Err(failed),
    }
}

/// Copies standard input; ends only by a failure.
async fn pass_input(input: Input) -> anyhow::Error {
    let mut from = tokio::io::stdin();
    let mut buffer = vec![0; INPUT_CHUNK];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => {
                input.end();
                return std::future::pending().await;
            }
            // A command that has ended takes no more input, and its exit is on the way.
            Ok(length) => {
                if input.write(&buffer[..length]).await.is_err() {
                    return std::future::pending().await;
                }
            }
            Err(error) => return anyhow::Error::new(error).context("standard input"),
        }
    }
}

fn write_out(mut to: impl Write, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

fn exit_code(exit: Exit) -> u8 {
    if exit.oom_kills > 0 {
        eprintln!(
            "note: the guest ran out of memory and killed {} process(es)\n  hint: give it more with --memory",
            exit.oom_kills
        );
    }
    match exit.status {
        ExitStatus::Code(code) => (code & 0xFF) as u8,
        ExitStatus::Signal(signal) => ((EXIT_SIGNAL_BASE + signal) & 0xFF) as u8,
        ExitStatus::NotStarted(why) => {
            eprintln!("error: {why}");
            EXIT_NOT_STARTED
        }
    }
}
