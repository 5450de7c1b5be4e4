//! The command line.
//!
//! Exit codes: 0 success; 1 a running service refused what was asked for, a job of `run` did not succeed, `eval` has no value,
//! or `workflow check` found what would not run; 64 wrong usage or
//! configuration; 69 something that is needed is missing; 70 an internal failure; 77 no permission. `exec` passes its
//! command's code through and uses 124 for a time-out. `exec`, `run` and `image` use 128 and the signal's number where a signal
//! ended them.

mod bench;
mod cache;
mod client;
mod config;
mod doctor;
mod eval;
mod exec;
mod image;
mod image_users;
mod interrupts;
mod log_view;
mod machine;
mod manual;
mod operator;
mod printer;
mod progress;
mod run;
mod serve;
mod table;
mod terminal;
mod workflow;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, FromArgMatches, Parser, Subcommand};

use crate::engine::{Backend, Engine, EngineSettings};
use crate::host::process::Lifetime;
use crate::vm::firecracker::Programs;
use crate::vm::{VmError, confinement};

/// The stack of a thread: what a job waits for at one time takes more of it in builds without optimisation than is usual. Only what is
/// used of it takes memory.
const STACK_BYTES: usize = 8 << 20;

/// A running service refused what was asked for, or a job did not succeed.
pub(crate) const EXIT_REFUSED: u8 = 1;
/// Wrong usage or configuration (`EX_USAGE` of sysexits.h).
pub(crate) const EXIT_USAGE: u8 = 64;
/// Something that is needed is missing or failed (`EX_UNAVAILABLE`).
pub(crate) const EXIT_UNAVAILABLE: u8 = 69;
/// An internal failure (`EX_SOFTWARE`).
pub(crate) const EXIT_INTERNAL: u8 = 70;
/// The control socket is for somebody else (`EX_NOPERM`).
pub(crate) const EXIT_NO_PERMISSION: u8 = 77;

/// A self-hosted CI runner: every job in its own microVM, once, for one job.
#[derive(Debug, Parser)]
#[command(name = "dayfly", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service
    Serve(serve::ServeArgs),
    /// Check the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Run the workflows of a local repository in fresh VMs, without a forge
    Run(run::RunArgs),
    /// Run one command in a fresh VM, then destroy the VM
    Exec(exec::ExecArgs),
    /// Check workflow files without running them
    #[command(subcommand)]
    Workflow(workflow::WorkflowCommand),
    /// Evaluate one expression of the workflow dialect
    #[command(after_long_help = eval::HELP)]
    Eval(eval::EvalArgs),
    /// Build, bake, list and remove images
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// List, show, examine and remove the generations of named caches
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Examine what this host can do, and why not more
    Doctor(doctor::DoctorArgs),
    /// Measure what this host delivers
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    #[command(flatten)]
    Operator(operator::OperatorCommand),
    #[command(flatten)]
    Manual(manual::ManualCommand),
}

/// Where a standalone command keeps images and VMs.
#[derive(Debug, Args)]
struct EngineArgs {
    /// Directory for images, VMs and everything else
    #[arg(long, env = "DAYFLY_STATE_DIR", default_value = "/var/lib/dayfly", global = true)]
    state_dir: PathBuf,
    /// Directory with more image recipes (NAME/image.toml); may be given several times
    #[arg(long, env = "DAYFLY_RECIPES", value_delimiter = ':', global = true)]
    recipes: Vec<PathBuf>,
    /// How guests run
    #[arg(long, env = "DAYFLY_BACKEND", default_value = "auto", value_parser = backends(), global = true)]
    backend: Backend,
    /// The QEMU program
    #[arg(long, env = "DAYFLY_QEMU", default_value = "qemu-system-x86_64", global = true)]
    qemu: String,
    /// The Firecracker program; its jailer is looked for beside it
    #[arg(long, env = "DAYFLY_FIRECRACKER", default_value = "firecracker", global = true)]
    firecracker: PathBuf,
}

impl EngineArgs {
    /// An engine whose VMs end with this process.
    fn engine(&self) -> Result<Engine, VmError> {
        let state_dir = std::path::absolute(&self.state_dir).map_err(VmError::host("--state-dir"))?;
        Engine::open(EngineSettings {
            images_dir: state_dir.join("images"),
            state_dir,
            recipes: self.recipes.clone(),
            qemu: self.qemu.clone(),
            firecracker: Programs::beside(&self.firecracker),
            backend: self.backend,
            lifetime: Lifetime::EndsWithUs,
            confinement: confinement::Settings::default(),
        })
    }
}

/// The backends by their names in the configuration, for help and completions too.
fn backends() -> impl TypedValueParser<Value = Backend> {
    const NAMED: [(&str, Backend); 4] = [
        ("auto", Backend::Auto),
        ("qemu-kvm", Backend::QemuKvm),
        ("qemu-tcg", Backend::QemuTcg),
        ("firecracker", Backend::Firecracker),
    ];
    PossibleValuesParser::new(NAMED.map(|(name, _)| name)).map(|text| {
        let named = NAMED.into_iter().find(|(name, _)| *name == text);
        named.map(|(_, backend)| backend).expect("only these names are let through")
    })
}

/// A VM's memory in MiB, in the units and bounds of the configuration, and no more than this host has.
fn parse_memory(text: &str) -> Result<u64, String> {
    let host = crate::host::facts().memory_mib;
    match mib_within(text, 128..=1 << 20)? {
        memory if memory > host => Err(format!("this host has {host} MiB")),
        memory => Ok(memory),
    }
}

/// The size of a VM's disk in MiB, likewise.
fn parse_disk(text: &str) -> Result<u64, String> {
    mib_within(text, 64..=16 << 20)
}

/// An amount in MiB.
fn parse_mib(text: &str) -> Result<u64, String> {
    mib_within(text, 1..=1 << 20)
}

fn mib_within(text: &str, bounds: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let mib = crate::config::parse_size(text).map_err(|complaint| complaint.to_string())? >> 20;
    if bounds.contains(&mib) { Ok(mib) } else { Err(format!("it must be {} to {} MiB", bounds.start(), bounds.end())) }
}

/// A time, in the units of the configuration.
fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    crate::config::parse_duration(text).map_err(|complaint| complaint.to_string())
}

/// Where the service's configuration usually is, if there is one.
fn usual_config() -> Option<PathBuf> {
    Some(PathBuf::from("/etc/dayfly/dayfly.toml")).filter(|usual| usual.exists())
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let mut definition = manual::definition();
    let parsed = definition.try_get_matches_from_mut(std::env::args_os()).and_then(|matches| {
        run::refuse_two_engines(&matches)
            .map_err(|complaint| definition.error(ErrorKind::ArgumentConflict, complaint))?;
        Cli::from_arg_matches(&matches)
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no errors. Nothing can be done if the terminal is gone.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().thread_stack_size(STACK_BYTES).enable_all().build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            return ExitCode::from(EXIT_INTERNAL);
        }
    };
    let code = runtime.block_on(run(cli.command));
    // A blocked thread (a lock of another process) must not keep a command that is done.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(command: Command) -> u8 {
    let outcome = match command {
        Command::Serve(arguments) => serve::run(arguments).await,
        Command::Config(command) => Ok(config::run(&command)),
        Command::Run(arguments) => {
            quiet_log();
            run::run(arguments).await
        }
        Command::Exec(arguments) => {
            quiet_log();
            exec::run(arguments).await
        }
        Command::Image(command) => {
            quiet_log();
            image::run(command).await
        }
        Command::Cache(command) => {
            quiet_log();
            cache::run(command).await
        }
        Command::Workflow(command) => workflow::run(&command),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Manual(command) => manual::run(command),
        Command::Operator(command) => operator::run(command).await,
        Command::Doctor(arguments) => {
            quiet_log();
            doctor::run(arguments).await
        }
        Command::Bench(command) => {
            quiet_log();
            bench::run(command).await
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {}", explained(&error));
        EXIT_UNAVAILABLE
    })
}

/// An error with its causes. Most errors here tell their cause themselves; that is not said twice.
fn explained(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| {
        let cause = cause.to_string();
        match () {
            () if text.is_empty() => cause,
            () if text.contains(&cause) => text,
            () => format!("{text}: {cause}"),
        }
    })
}

/// Prints to standard output. A reader that left early (`| head`) has what it wanted, which is no failure.
fn say(text: impl std::fmt::Display) -> std::io::Result<()> {
    say_bytes(format!("{text}\n").as_bytes())
}

/// The same for what brings its own line ends.
fn say_bytes(bytes: &[u8]) -> std::io::Result<()> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Commands print their own errors; the log is for those who ask with `DAYFLY_LOG`.
fn quiet_log() {
    let filter = std::env::var("DAYFLY_LOG").unwrap_or_else(|_| "error".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .init();
}
