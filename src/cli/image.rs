//! `dayfly image`: what VMs start from.

mod listing;

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::progress::Terminal;
use super::{EngineArgs, parse_disk, parse_duration, parse_memory, say};
use crate::engine::Engine;
use crate::image::catalog::ImageInfo;
use crate::image::gc;
use crate::lifecycle::{self, Lifecycle};
use crate::vm::spec::Shape;

#[derive(Debug, Subcommand)]
pub(super) enum ImageCommand {
    /// Build an image from its recipe now; one that would be the same is kept
    Build(Named),
    /// Make the snapshot that VMs of one shape are restored from
    Bake(BakeArgs),
    /// List images and their snapshots
    List(ListArgs),
    /// Show what an image was made of
    Show(ShowArgs),
    /// Remove an image and its snapshots
    Rm(Named),
    /// Remove superseded images and unused snapshots
    Gc(GcArgs),
}

#[derive(Debug, Args)]
pub(super) struct Named {
    #[command(flatten)]
    engine: EngineArgs,
    /// The image's name
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct BakeArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// The image's name
    name: String,
    /// Virtual processors
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    vcpus: u32,
    /// Memory
    #[arg(long, default_value = "512MiB", value_parser = parse_memory)]
    memory: u64,
    /// Size of the private disk
    #[arg(long, default_value = "4GiB", value_parser = parse_disk)]
    disk: u64,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// The image's name
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct GcArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// Since when an image has to be superseded, or a snapshot unused
    #[arg(long, default_value = "7d", value_parser = parse_duration)]
    older_than: Duration,
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: ImageCommand) -> anyhow::Result<u8> {
    match command {
        ImageCommand::Build(arguments) => build(&arguments).await?,
        ImageCommand::Bake(arguments) => bake(&arguments).await?,
        ImageCommand::List(arguments) => say(listing::list(arguments.engine.engine()?.catalog(), arguments.json)?)?,
        ImageCommand::Show(ShowArgs { engine, name, json }) => {
            say(listing::show(engine.engine()?.catalog(), &name, json)?)?;
        }
        ImageCommand::Gc(arguments) => collect(&arguments)?,
        ImageCommand::Rm(Named { engine, name }) => {
            engine.engine()?.catalog().remove(&name)?;
            say(format!("{name} is removed"))?;
        }
    }
    Ok(0)
}

/// An engine that a test may disturb, as it may a service.
fn engine(arguments: &EngineArgs) -> anyhow::Result<Engine> {
    let engine = arguments.engine()?;
    let fault = lifecycle::from_environment().with_context(|| lifecycle::VARIABLE.to_owned())?;
    let told = fault.map(|fault| Lifecycle::disturbed_by(fault, &arguments.state_dir));
    Ok(engine.told_to(told.unwrap_or_default()))
}

async fn build(Named { engine: arguments, name }: &Named) -> anyhow::Result<()> {
    let progress = Terminal::new();
    let engine = engine(arguments)?;
    let before = engine.catalog().current_digest(name);
    engine.reap().await;
    let image = engine.build(name, &progress).await?;
    progress.done();
    let ImageInfo { digest, packages, kernel, .. } = &image.info;
    if before.as_ref() == Some(digest) {
        return Ok(say(format!("{name} {digest} is up to date"))?);
    }
    Ok(say(format!("{name} {digest} is built: {} packages, kernel {kernel}", packages.len()))?)
}

fn collect(arguments: &GcArgs) -> anyhow::Result<()> {
    let engine = arguments.engine.engine()?;
    let removals = gc::collect(engine.catalog(), arguments.older_than, arguments.dry_run)?;
    Ok(say(listing::removals(&removals, arguments.dry_run, arguments.json))?)
}

async fn bake(arguments: &BakeArgs) -> anyhow::Result<()> {
    let progress = Terminal::new();
    let shape = Shape { vcpus: arguments.vcpus, memory_mib: arguments.memory, disk_mib: arguments.disk };
    let engine = engine(&arguments.engine)?;
    let prepared = engine.prepare(&arguments.name, shape, &progress).await?;
    progress.done();
    if let Some(why) = &prepared.why_not_kvm {
        eprintln!("warning: guests run with software emulation, which is slow: {why}");
        if let Some(memory) = engine.remembered_accelerator() {
            let memory = memory.display();
            eprintln!("  hint: this is remembered until the host restarts; remove `{memory}` to have KVM tried again");
        }
    }
    say(format!("{} is baked for {}", arguments.name, prepared.template.accelerator))?;
    Ok(())
}
