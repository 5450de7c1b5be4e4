//! What the benchmarks of machines begin with, and those that need nothing else: `pool`, `density`, `cold-boot`.

use std::sync::Arc;

use clap::Args;

use super::{show, temporary};
use crate::bench::{cold_boot, density, pool};
use crate::cli::progress::Terminal;
use crate::cli::{EngineArgs, parse_memory, parse_mib};
use crate::engine::{Engine, Prepared};
use crate::image::{Progress, bake};
use crate::vm::machine::Template;
use crate::vm::spec::Shape;

/// Which machines, and how the result is shown.
#[derive(Debug, Args)]
pub(in crate::cli) struct MachineArgs {
    #[command(flatten)]
    pub(super) engine: EngineArgs,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// The image
    #[arg(long, default_value = "base")]
    image: String,
    /// Memory of the VMs
    #[arg(long, default_value = "512MiB", value_parser = parse_memory)]
    memory: u64,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PoolArgs {
    #[command(flatten)]
    machines: MachineArgs,
    /// How many VMs of each kind
    #[arg(short = 'n', default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DensityArgs {
    #[command(flatten)]
    machines: MachineArgs,
    /// The most clones
    #[arg(short = 'n', default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clones: u32,
    /// Memory of all monitors together at which no more are made [default: half of what the host has]
    #[arg(long, value_parser = parse_mib)]
    limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ColdBootArgs {
    #[command(flatten)]
    machines: MachineArgs,
    /// How many VMs of each kind
    #[arg(short = 'n', default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
}

/// What each of them begins with.
pub(super) struct Stage {
    pub(super) engine: Engine,
    pub(super) prepared: Arc<Prepared>,
    pub(super) monitor: String,
    pub(super) progress: Terminal,
}

impl Stage {
    pub(super) async fn set(machines: &MachineArgs, step: &str) -> anyhow::Result<Self> {
        let engine = machines.engine.engine()?;
        engine.reap().await;
        let progress = Terminal::new();
        let shape = Shape { memory_mib: machines.memory, ..Shape::default() };
        let prepared = engine.prepare(&machines.image, shape, &progress).await?;
        progress.step(step);
        let monitor = bake::monitor_version(prepared.template.vmm.program()).await?;
        Ok(Self { engine, prepared, monitor, progress })
    }
}

/// What a measurement begins with that needs no guest.
pub(super) struct Early {
    pub(super) engine: Engine,
    pub(super) template: Template,
    pub(super) monitor: String,
    pub(super) progress: Terminal,
    /// Where the template's files are.
    pub(super) _directory: tempfile::TempDir,
}

impl Early {
    pub(super) async fn set(machines: &MachineArgs, step: &str) -> anyhow::Result<Self> {
        let engine = machines.engine.engine()?;
        engine.reap().await;
        let progress = Terminal::new();
        let shape = Shape { memory_mib: machines.memory, ..Shape::default() };
        let directory = temporary(&machines.engine.state_dir)?;
        let template = engine.early(&machines.image, shape, directory.path()).await?;
        progress.step(step);
        let monitor = bake::monitor_version(template.vmm.program()).await?;
        Ok(Self { engine, template, monitor, progress, _directory: directory })
    }
}

pub(super) async fn pool(arguments: PoolArgs) -> anyhow::Result<u8> {
    let PoolArgs { machines, runs } = arguments;
    let stage = Stage::set(&machines, &format!("claiming {runs} VMs, and making as many")).await?;
    let Stage { engine, prepared, monitor, progress } = &stage;
    let tell = |run: usize| progress.detail(&run.to_string());
    let report = pool::run(engine, prepared, runs as usize, monitor.clone(), tell).await?;
    progress.done();
    show(&report, machines.json)
}

pub(super) async fn density(arguments: DensityArgs) -> anyhow::Result<u8> {
    let DensityArgs { machines, clones, limit } = arguments;
    let stage = Stage::set(&machines, &format!("making up to {clones} VMs")).await?;
    let Stage { engine, prepared, monitor, progress } = &stage;
    let limit = limit.unwrap_or(crate::host::facts().memory_mib / 2) << 20;
    let bench = density::DensityBench { clones: clones as usize, limit };
    let tell = |run: usize| progress.detail(&run.to_string());
    let report = density::run(engine, prepared, bench, monitor.clone(), tell).await?;
    progress.done();
    show(&report, machines.json)
}

pub(super) async fn cold_boot(arguments: ColdBootArgs) -> anyhow::Result<u8> {
    let ColdBootArgs { machines, runs } = arguments;
    let stage = Stage::set(&machines, &format!("booting {runs} VMs, and restoring as many")).await?;
    let Stage { engine, prepared, monitor, progress } = &stage;
    let tell = |run: usize| progress.detail(&run.to_string());
    let report = cold_boot::run(engine, prepared, runs as usize, monitor.clone(), tell).await?;
    progress.done();
    show(&report, machines.json)
}
