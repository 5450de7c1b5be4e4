//! `dayfly bench`: figures of this host.

mod machines;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};

use self::machines::{Early, MachineArgs, Stage};
use super::progress::Terminal;
use super::{parse_mib, say};
use crate::bench::create::{self, CreateBench};
use crate::bench::egress::{self, EgressBench};
use crate::bench::fork::{self, ForkBench};
use crate::bench::log::{self, LogBench};
use crate::bench::plan::{self, PlanBench};
use crate::bench::report::BenchReport;
use crate::bench::resumed;
use crate::bench::webhook::{self, WebhookBench};
use crate::image::Progress;

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// From the request until a fresh VM's agent has answered a command
    Create(CreateArgs),
    /// From the request until a clone of a running VM has answered, first and last
    Fork(ForkArgs),
    /// From the claim of a VM that waits in a pool until a command has run in it
    ///
    /// In turn with VMs that are restored on demand.
    Pool(machines::PoolArgs),
    /// Memory that each idle clone of a snapshot takes for itself
    Density(machines::DensityArgs),
    /// What a VM would cost without snapshots: the kernel boots
    ColdBoot(machines::ColdBootArgs),
    /// Signed deliveries a second that are durable before their answer
    ///
    /// Beside Debian's `webhook` verifying the same signatures, where that is installed.
    Webhook(WebhookArgs),
    /// How fast a guest's output reaches a reader, beside the bare channel
    ///
    /// The image needs perl, as every Debian has it.
    Log(LogArgs),
    /// How fast a guest reaches a server through the proxy, beside asking directly
    ///
    /// The server is on loopback, in this process. The image needs curl.
    Egress(EgressArgs),
    /// From the text of a long workflow to the jobs of its matrix of 256 cells
    Plan(PlanArgs),
    /// Our side of `bench webhook`
    #[command(hide = true)]
    WebhookEndpoint(EndpointArgs),
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    machines: MachineArgs,
    /// How many VMs
    #[arg(short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Also restore by hand, in turn, and print the ratio
    #[arg(long)]
    baseline: bool,
    /// Up to where: until the guest has run a command, or until the monitor lets it run, which needs no image that boots here
    #[arg(long, value_enum, default_value_t = UpTo::Answered)]
    stage: UpTo,
}

/// Up to where a creation is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum UpTo {
    Answered,
    Resumed,
}

#[derive(Debug, Args)]
pub(super) struct ForkArgs {
    #[command(flatten)]
    machines: MachineArgs,
    /// How many clones of each VM, all there at the same time
    #[arg(short = 'n', default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    forks: u32,
    /// How often, each time with a VM of its own
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

#[derive(Debug, Args)]
pub(super) struct WebhookArgs {
    /// How many deliveries for each side
    #[arg(short = 'n', default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    deliveries: u32,
    /// Connections that send at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// Size of a delivery's body
    #[arg(long, default_value = "22KiB", value_parser = parse_body_size)]
    size: u64,
    /// Below this directory the deliveries are stored for the duration of the benchmark: what counts is its disk
    #[arg(long, env = "DAYFLY_STATE_DIR", default_value = "/var/lib/dayfly")]
    state_dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(flatten)]
    machines: MachineArgs,
    /// How many runs, each in a VM of its own
    #[arg(short = 'n', default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Output of each run
    #[arg(long, default_value = "32MiB", value_parser = parse_mib)]
    size: u64,
}

#[derive(Debug, Args)]
pub(super) struct EgressArgs {
    #[command(flatten)]
    machines: MachineArgs,
    /// How many downloads; connections are measured ten times as often
    #[arg(short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Size of a download
    #[arg(long, default_value = "32MiB", value_parser = parse_mib)]
    size: u64,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// How often
    #[arg(short = 'n', default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct EndpointArgs {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    directory: PathBuf,
}

fn parse_body_size(text: &str) -> Result<u64, String> {
    let size = crate::config::parse_size(text).map_err(|complaint| complaint.to_string())?;
    if (1024..=1 << 20).contains(&size) { Ok(size) } else { Err("it must be from 1 KiB to 1 MiB".to_owned()) }
}

pub(super) async fn run(command: BenchCommand) -> anyhow::Result<u8> {
    match command {
        BenchCommand::Create(arguments) => create(arguments).await,
        BenchCommand::Fork(arguments) => fork(arguments).await,
        BenchCommand::Pool(arguments) => machines::pool(arguments).await,
        BenchCommand::Density(arguments) => machines::density(arguments).await,
        BenchCommand::ColdBoot(arguments) => machines::cold_boot(arguments).await,
        BenchCommand::Log(arguments) => log(arguments).await,
        BenchCommand::Egress(arguments) => egress(arguments).await,
        BenchCommand::Webhook(arguments) => webhook(arguments).await,
        BenchCommand::Plan(PlanArgs { runs, json }) => show(&plan::run(PlanBench { runs: runs as usize })?, json),
        BenchCommand::WebhookEndpoint(EndpointArgs { listen, directory }) => {
            webhook::serve(&directory, listen).await.map(|()| 0)
        }
    }
}

async fn webhook(arguments: WebhookArgs) -> anyhow::Result<u8> {
    let directory = temporary(&arguments.state_dir)?;
    let bench = WebhookBench {
        deliveries: arguments.deliveries as usize,
        connections: arguments.connections as usize,
        size: usize::try_from(arguments.size)?,
    };
    let progress = Terminal::new();
    progress.step(&format!("sending {} deliveries to each side", bench.deliveries));
    let report = webhook::run(bench, directory.path(), |turn| progress.detail(turn)).await?;
    progress.done();
    show(&report, arguments.json)
}

async fn create(arguments: CreateArgs) -> anyhow::Result<u8> {
    let CreateArgs { machines, runs, baseline, stage } = arguments;
    if stage == UpTo::Resumed {
        return resumed(&machines, CreateBench { runs: runs as usize, baseline }).await;
    }
    let stage = Stage::set(&machines, &format!("creating {runs} VMs")).await?;
    let Stage { engine, prepared, monitor, progress } = &stage;
    let bench = CreateBench { runs: runs as usize, baseline };
    let tell = |run| progress.detail(&format!("{run}"));
    let report = create::run(engine, prepared, bench, monitor.clone(), tell).await?;
    progress.done();
    show(&report, machines.json)
}

async fn resumed(machines: &MachineArgs, bench: CreateBench) -> anyhow::Result<u8> {
    let early = Early::set(machines, &format!("resuming {} VMs", bench.runs)).await?;
    let Early { engine, template, monitor, progress, _directory } = &early;
    let tell = |run| progress.detail(&format!("{run}"));
    let report = resumed::run(engine, template, bench, monitor.clone(), tell).await?;
    progress.done();
    show(&report, machines.json)
}

async fn fork(arguments: ForkArgs) -> anyhow::Result<u8> {
    let ForkArgs { machines, forks, rounds } = arguments;
    let stage = Stage::set(&machines, &format!("{rounds} times {forks} clones of a VM")).await?;
    let Stage { engine, prepared, monitor, progress } = &stage;
    let directory = temporary(&machines.engine.state_dir)?;
    let bench = ForkBench { forks: forks as usize, rounds: rounds as usize };
    let tell = |round| progress.detail(&format!("{round}"));
    let report = fork::run(engine, prepared, bench, monitor.clone(), directory.path(), tell).await?;
    progress.done();
    show(&report, machines.json)
}

async fn log(arguments: LogArgs) -> anyhow::Result<u8> {
    let LogArgs { machines, runs, size } = arguments;
    let stage = Stage::set(&machines, &format!("{runs} runs")).await?;
    let Stage { engine, prepared, monitor, progress } = &stage;
    let directory = temporary(&machines.engine.state_dir)?;
    let bench = LogBench { runs: runs as usize, bytes: size << 20 };
    let tell = |run| progress.detail(&format!("{run}"));
    let report = log::run(engine, prepared, bench, monitor.clone(), &directory.path().join("logs"), tell).await?;
    progress.done();
    show(&report, machines.json)
}

async fn egress(arguments: EgressArgs) -> anyhow::Result<u8> {
    let EgressArgs { machines, runs, size } = arguments;
    let stage = Stage::set(&machines, &format!("{runs} downloads")).await?;
    let Stage { engine, prepared, monitor, progress } = &stage;
    let bench = EgressBench { runs: runs as usize, bytes: size << 20 };
    let tell = |run: usize| progress.detail(&run.to_string());
    let report = egress::run(engine, prepared, bench, monitor.clone(), tell).await?;
    progress.done();
    show(&report, machines.json)
}

/// A directory for the time of a benchmark, on the disk that the service would use.
fn temporary(state_dir: &Path) -> anyhow::Result<tempfile::TempDir> {
    std::fs::create_dir_all(state_dir)
        .and_then(|()| tempfile::Builder::new().prefix("bench-").tempdir_in(state_dir))
        .with_context(|| format!("the directory `{}`", state_dir.display()))
}

fn show(report: &BenchReport, json: bool) -> anyhow::Result<u8> {
    if json {
        say(serde_json::to_string(report)?)?;
    } else {
        print!("{}", report.table());
    }
    Ok(0)
}
