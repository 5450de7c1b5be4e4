//! `dayfly bench`: figures of this host.

use clap::{Args, Subcommand};

use super::progress::Terminal;
use super::{EngineArgs, parse_mib, say};
use crate::bench::create::{self, CreateBench};
use crate::image::{Progress, bake};
use crate::vm::spec::Shape;

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// From the request until a fresh VM's agent has answered a command
    Create(CreateArgs),
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// How many VMs
    #[arg(short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Also restore by hand, in turn, and print the ratio
    #[arg(long)]
    baseline: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The image
    #[arg(long, default_value = "base")]
    image: String,
    /// Memory of the VMs
    #[arg(long, default_value = "512MiB", value_parser = parse_mib)]
    memory: u64,
}

pub(super) async fn run(command: BenchCommand) -> anyhow::Result<u8> {
    let BenchCommand::Create(arguments) = command;
    let engine = arguments.engine.engine()?;
    engine.reap().await;
    let progress = Terminal::new();
    let shape = Shape { memory_mib: arguments.memory, ..Shape::default() };
    let prepared = engine.prepare(&arguments.image, shape, &progress).await?;
    progress.step(&format!("creating {} VMs", arguments.runs));
    let bench = CreateBench { runs: arguments.runs as usize, baseline: arguments.baseline };
    let monitor = bake::monitor_version(&prepared.template.program).await?;
    let report = create::run(&engine, &prepared, bench, monitor, |run| progress.detail(&format!("{run}"))).await?;
    progress.done();
    if arguments.json {
        say(serde_json::to_string(&report)?)?;
    } else {
        print!("{}", report.table());
    }
    Ok(0)
}
