//! `dayfly exec`: one command in one fresh VM, in a clone of a commit if wanted, and the files that it made.

mod artifacts;
mod repository;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use nix::libc::SIGKILL;
use tokio::io::AsyncReadExt;
use tokio_util::task::AbortOnDropHandle;

use self::artifacts::ArtifactArgs;
use self::repository::{Clone, RepositoryArgs};
use super::interrupts::Interrupts;
use super::machine::{EgressArgs, MachineArgs};
use super::printer::{Printer, To};
use super::progress::Terminal;
use super::{EXIT_UNAVAILABLE, EXIT_USAGE, EngineArgs, parse_duration};
use crate::artifact::receive::Asker;
use crate::config::format_duration;
use crate::engine::{Engine, Prepared};
use crate::ids::VmId;
use crate::image::catalog::ImageInfo;
use crate::job::services::Services;
use crate::metrics::EgressMetrics;
use crate::net::egress::Egress;
use crate::net::egress::log::EgressLog;
use crate::net::egress::network::HostNetwork;
use crate::net::egress::policy::Scope;
use crate::net::registry::RegistryProxy;
use crate::protocol::message::{Exec, Exit, ExitStatus, Output, Owner, VolumeFormat};
use crate::vm::VmError;
use crate::vm::guest::{Input, Running};
use crate::vm::home::Home;
use crate::vm::loss::Loss;
use crate::vm::machine::Machine;
use crate::vm::volume::{CacheMode, CacheMount};

/// The code of a command that ran out of time, as `timeout(1)` has it.
const EXIT_TIMEOUT: u8 = 124;
/// The code of a command that could not be started, as shells have it.
const EXIT_NOT_STARTED: u8 = 127;
/// Added to a signal's number, as shells do.
const EXIT_SIGNAL_BASE: i32 = 128;
/// The code when the command succeeded, but an artifact is missing (`EX_NOINPUT` of sysexits.h).
const EXIT_NO_ARTIFACT: u8 = 66;
/// The code when the VM itself was lost.
const EXIT_VM_LOST: u8 = 70;

/// How long a VM whose conversation broke may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a command that is out of time may take to be killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);

const INPUT_CHUNK: usize = 16 * 1024;

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: the command's own; 64 wrong usage, 66 it succeeded but an artifact is missing, 69 something that is needed is missing or the commit \
could not be checked out, 70 the VM was lost, 124 the time was over, 127 the command could not be started, 128 and the \
number of a signal.

Examples:
  dayfly exec -- uname -a
  dayfly exec --repo https://git.example.org/acme/site --sha SHA --timeout 10m --artifact dist -- make dist")]
pub(super) struct ExecArgs {
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    egress: EgressArgs,
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
    #[command(flatten)]
    repository: RepositoryArgs,
    #[command(flatten)]
    artifacts: ArtifactArgs,
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

impl ExecArgs {
    /// Says what is wrong with the arguments, before anything is built for them.
    fn check(&self) -> Result<(), String> {
        if let Some((source, _)) = &self.cache {
            source.metadata().map_err(|error| format!("--cache `{}`: {error}", source.display()))?;
        }
        self.artifacts.check()?;
        self.repository.check()
    }
}

pub(super) async fn run(arguments: ExecArgs) -> anyhow::Result<u8> {
    if let Err(why) = arguments.check() {
        eprintln!("error: {why}");
        return Ok(EXIT_USAGE);
    }
    let interrupts = Interrupts::listen()?;
    let engine = arguments.engine.engine()?;
    engine.reap().await;
    let Some(made) = interrupts.unless_first(&engine, make(&arguments, &engine)).await else {
        return Ok(interrupts.code());
    };
    let (mut machine, prepared, clone) = made?;
    let printer = Printer::start()?;
    let outcome = attend(&mut machine, &arguments, &prepared.info, clone.as_ref(), &interrupts, &printer).await;
    let destroyed = machine.destroy().await.context("the VM could not be removed");
    let code = outcome?;
    destroyed?;
    let hurry = async {
        if code != EXIT_TIMEOUT {
            interrupts.first().await;
        }
    };
    printer.flush_before(hurry).await?;
    Ok(code)
}

/// A machine, what it was made from, and what is to be cloned in it.
async fn make(arguments: &ExecArgs, engine: &Engine) -> anyhow::Result<(Machine, Arc<Prepared>, Option<Clone>)> {
    engine.check(&arguments.machine.image)?;
    let mut home = engine.home(VmId::random())?;
    match gather(arguments, engine, &home).await {
        Ok((clone, cache, prepared)) => Ok((engine.restore(home, &prepared, cache.as_ref()).await?, prepared, clone)),
        Err(error) => {
            home.remove().await?;
            Err(error)
        }
    }
}

/// What the VM needs. First what may be missing, then what takes long.
async fn gather(
    arguments: &ExecArgs, engine: &Engine, home: &Home,
) -> anyhow::Result<(Option<Clone>, Option<CacheMount>, Arc<Prepared>)> {
    let clone = arguments.repository.clone(home.path()).await?;
    let cache = match &arguments.cache {
        Some((source, target)) => {
            let volume = engine.cache_volume(source).await?;
            Some(CacheMount::of_volume(volume, VolumeFormat::Erofs, CacheMode::ReadOnly, target))
        }
        None => None,
    };
    let progress = Terminal::new();
    let shape = arguments.machine.shape(arguments.egress.has_card());
    let prepared = engine.prepare(&arguments.machine.image, shape, &progress).await?;
    progress.done();
    Ok((clone, cache, prepared))
}

/// Runs the command and brings its artifacts back, unless a signal or the VM's end comes first.
async fn attend(
    machine: &mut Machine, arguments: &ExecArgs, image: &ImageInfo, clone: Option<&Clone>, interrupts: &Interrupts,
    printer: &Printer,
) -> anyhow::Result<u8> {
    let mut lost = std::pin::pin!(machine.lost());
    tokio::select! {
        // The VM's end breaks the work as well, and says better what happened.
        biased;
        () = interrupts.first() => Ok(interrupts.code()),
        loss = &mut lost => Ok(say_lost(&loss)),
        code = work(machine, arguments, image, clone, printer) => match code {
            Err(error) => tokio::select! {
                biased;
                () = interrupts.first() => Ok(interrupts.code()),
                code = explain(error, lost) => code,
            },
            code => code,
        },
    }
}

fn say_lost(loss: &Loss) -> u8 {
    eprintln!("error: the VM was lost: {loss}");
    EXIT_VM_LOST
}

/// What a failure of the work means: a stream may break a moment before it is known that its VM ended.
async fn explain(error: anyhow::Error, lost: impl Future<Output = Loss>) -> anyhow::Result<u8> {
    let error = error.downcast::<VmError>()?;
    if matches!(error, VmError::Refused { .. }) {
        return Err(error.into());
    }
    match (tokio::time::timeout(LAST_WORDS, lost).await, error) {
        (Ok(loss), _) => Ok(say_lost(&loss)),
        (Err(_), error @ (VmError::Lost(_) | VmError::Protocol(_))) => Ok(say_lost(&Loss::from(error))),
        (Err(_), error) => Err(error.into()),
    }
}

async fn work(
    machine: &mut Machine, arguments: &ExecArgs, image: &ImageInfo, clone: Option<&Clone>, printer: &Printer,
) -> anyhow::Result<u8> {
    let account = Account::new(arguments, image);
    let directory = clone.map_or_else(|| account.home.clone(), |clone| clone.directory(&account.home));
    let limit = async {
        match arguments.timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let mut current = Current { running: None, printer };
    let code = tokio::select! {
        code = run_command(machine, arguments, image, &account, clone, &directory, &mut current) => code?,
        () = limit => {
            let limit = arguments.timeout.unwrap_or_default();
            eprintln!("error: the command did not end within {}", format_duration(limit));
            Some(EXIT_TIMEOUT)
        }
    };
    let Some(code) = code else { return Ok(EXIT_UNAVAILABLE) };
    if let Some(running) = current.running.filter(|_| code == EXIT_TIMEOUT && arguments.artifacts.are_wanted()) {
        kill(&running).await;
    }
    if arguments.artifacts.are_wanted() {
        let asker = Asker { image, owner: account.owner, directory: &directory };
        let are_whole = arguments.artifacts.bring(machine.guest(), asker, code == 0).await?;
        if code == 0 && !are_whole {
            return Ok(EXIT_NO_ARTIFACT);
        }
    }
    Ok(code)
}

/// Ends a command, so that it does not write while its files are read. A guest that will not is left to the VM's end.
async fn kill(running: &Running) {
    match tokio::time::timeout(KILL_LIMIT, running.signal(SIGKILL)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the command could not be killed"),
        Err(_) => tracing::debug!("the command could not be killed in time"),
    }
}

/// Clones what is to be cloned, then runs the command; gives its code, or nothing if there is no clone to run it in. What
/// runs stands in `current`.
async fn run_command(
    machine: &mut Machine, arguments: &ExecArgs, image: &ImageInfo, account: &Account, clone: Option<&Clone>,
    directory: &str, current: &mut Current<'_>,
) -> anyhow::Result<Option<u8>> {
    let services = Services {
        git: clone.map(Clone::proxy),
        egress: Egress::new(
            Scope::of("this command", arguments.egress.policy()),
            Arc::new(HostNetwork::default()),
            EgressMetrics::default(),
        ),
        registries: RegistryProxy::none(),
    };
    let serving = machine.take_connections().map(|connections| AbortOnDropHandle::new(services.serve(connections)));
    services.egress.connect(machine.wire()).await.map_err(VmError::host("the machine's way to others"))?;
    services.offer(machine.guest()).await?;
    if let Err(why) = services.equip(machine.guest(), false).await? {
        eprintln!("warning: {why}");
    }
    if let Some(clone) = clone {
        let command = clone.command(image, account.owner, &account.home);
        // Standard output is the command's alone.
        if exit_code(current.run(machine, command, false, To::Stderr).await?) != 0 {
            eprintln!("error: the commit could not be checked out");
            return Ok(None);
        }
    }
    let command = command_for(arguments, image, account, directory, services.variables());
    let exit = current.run(machine, command, arguments.stdin, To::Stdout).await?;
    drop(serving);
    services.egress.settled().await;
    say_refusals(&services.egress.log());
    Ok(Some(exit_code(exit)))
}

/// As whom the command runs.
struct Account {
    owner: Owner,
    home: String,
    name: String,
}

impl Account {
    fn new(arguments: &ExecArgs, image: &ImageInfo) -> Self {
        if arguments.root {
            return Self { owner: Owner::ROOT, home: "/root".to_owned(), name: "root".to_owned() };
        }
        Self { owner: image.user.owner(), home: image.user.home(), name: image.user.name.clone() }
    }
}

/// What the command was refused: it may not have said so itself.
fn say_refusals(log: &EgressLog) {
    for line in log.complaints() {
        eprintln!("note: {line}");
    }
}

fn command_for(
    arguments: &ExecArgs, image: &ImageInfo, account: &Account, directory: &str, proxies: Vec<(String, String)>,
) -> Exec {
    let mut env = proxies;
    env.extend(image.environment.iter().cloned());
    env.push(("HOME".into(), account.home.clone()));
    env.push(("USER".into(), account.name.clone()));
    env.extend(arguments.variables.iter().cloned());
    Exec {
        argv: arguments.command.clone(),
        env,
        directory: directory.to_owned(),
        owner: account.owner,
        stdin: arguments.stdin,
    }
}

/// What runs, and where its output goes.
struct Current<'a> {
    running: Option<Running>,
    printer: &'a Printer,
}

impl Current<'_> {
    /// Runs a command to its end; copies its output, and input if wanted.
    async fn run(&mut self, machine: &Machine, command: Exec, with_input: bool, stdout: To) -> anyhow::Result<Exit> {
        let running = self.running.insert(machine.guest().exec(command).await?);
        let input = running.input();
        let output = async {
            loop {
                match running.next().await? {
                    Output::Stdout(bytes) => self.printer.print(stdout, bytes).await?,
                    Output::Stderr(bytes) => self.printer.print(To::Stderr, bytes).await?,
                    // What is said about the command comes behind what it said itself.
                    Output::Exited(exit) => {
                        return self.printer.flush().await.map(|()| exit).map_err(anyhow::Error::new);
                    }
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
