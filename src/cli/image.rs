//! `dayfly image`: what VMs start from.

mod listing;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::image_users::users;
use super::interrupts::Interrupts;
use super::progress::Terminal;
use super::{EXIT_REFUSED, EngineArgs, parse_disk, parse_duration, parse_memory, say, usual_config};
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
    Rm(RmArgs),
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
pub(super) struct RmArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// The image's name
    name: String,
    /// Remove it even if a profile or a running VM uses it: VMs that run go on, jobs build the image again
    #[arg(long)]
    force: bool,
    /// The configuration whose profiles may use it [default: /etc/dayfly/dayfly.toml, if it is there]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
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
    /// With a network card, as `egress` with `nat` has it
    #[arg(long)]
    card: bool,
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
        ImageCommand::Build(arguments) => return build(&arguments).await,
        ImageCommand::Bake(arguments) => return bake(&arguments).await,
        ImageCommand::List(arguments) => say(listing::list(arguments.engine.engine()?.catalog(), arguments.json)?)?,
        ImageCommand::Show(ShowArgs { engine, name, json }) => {
            say(listing::show(engine.engine()?.catalog(), &engine.recipes, &name, json)?)?;
        }
        ImageCommand::Rm(arguments) => return remove(arguments).await,
        ImageCommand::Gc(arguments) => collect(&arguments)?,
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

async fn build(Named { engine: arguments, name }: &Named) -> anyhow::Result<u8> {
    let (interrupts, engine, progress) = (Interrupts::listen()?, engine(arguments)?, Terminal::new());
    let before = engine.catalog().current_digest(name);
    let built = interrupts.unless_first(&engine, engine.build(name, &progress)).await;
    progress.done();
    let Some(built) = built else { return Ok(interrupts.code()) };
    let ImageInfo { digest, packages, kernel, .. } = built?.info;
    if before.as_ref() == Some(&digest) {
        say(format!("{name} {digest} is up to date"))?;
    } else {
        say(format!("{name} {digest} is built: {} packages, kernel {kernel}", packages.len()))?;
    }
    Ok(0)
}

fn collect(arguments: &GcArgs) -> anyhow::Result<()> {
    let engine = arguments.engine.engine()?;
    let removals = gc::collect(engine.catalog(), arguments.older_than, arguments.dry_run)?;
    Ok(say(listing::removals(&removals, arguments.dry_run, arguments.json))?)
}

async fn remove(arguments: RmArgs) -> anyhow::Result<u8> {
    let RmArgs { engine, name, force, config } = arguments;
    let catalog = engine.engine()?.catalog().clone();
    if !force {
        let (config, images) = (config.or_else(usual_config), engine.state_dir.join("images"));
        let users = users(config.as_deref(), &engine.state_dir, &images, &name).await?;
        if !users.is_empty() {
            eprintln!("error: the image `{name}` is in use: {}", users.join(", "));
            eprintln!(
                "  hint: --force removes it nonetheless; a VM that runs goes on, and the next job builds the image again"
            );
            return Ok(EXIT_REFUSED);
        }
    }
    catalog.remove(&name)?;
    say(format!("{name} is removed"))?;
    Ok(0)
}

async fn bake(arguments: &BakeArgs) -> anyhow::Result<u8> {
    let (interrupts, progress) = (Interrupts::listen()?, Terminal::new());
    let shape =
        Shape { vcpus: arguments.vcpus, memory_mib: arguments.memory, disk_mib: arguments.disk, card: arguments.card };
    let engine = engine(&arguments.engine)?;
    let prepared = interrupts.unless_first(&engine, engine.prepare(&arguments.name, shape, &progress)).await;
    progress.done();
    let Some(prepared) = prepared else { return Ok(interrupts.code()) };
    let prepared = prepared?;
    if let Some(why) = &prepared.why_not_kvm {
        eprintln!("warning: guests run with software emulation, which is slow: {why}");
        if let Some(memory) = engine.remembered_accelerator() {
            let memory = memory.display();
            eprintln!("  hint: this is remembered until the host restarts; remove `{memory}` to have KVM tried again");
        }
    }
    say(format!("{} is baked for {}: {}", arguments.name, prepared.template.accelerator, listing::shape(shape)))?;
    Ok(0)
}
