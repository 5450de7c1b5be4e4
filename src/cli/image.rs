//! `dayfly image`: what VMs start from.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::image_users::users;
use super::interrupts::Interrupts;
use super::progress::Terminal;
use super::table::Table;
use super::terminal::Look;
use super::{EXIT_REFUSED, EngineArgs, parse_disk, parse_memory, say, usual_config};
use crate::config::format_size;
use crate::engine::Engine;
use crate::host::disk;
use crate::image::catalog::{BakeInfo, Image};
use crate::vm::spec::Shape;

#[derive(Debug, Subcommand)]
pub(super) enum ImageCommand {
    /// Build an image from its recipe, whether or not there is one
    Build(Named),
    /// Make the snapshot that VMs of one shape are restored from
    Bake(BakeArgs),
    /// List images and their snapshots
    List(ListArgs),
    /// Remove an image and its snapshots
    Rm(RmArgs),
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
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: ImageCommand) -> anyhow::Result<u8> {
    match command {
        ImageCommand::Build(Named { engine, name }) => {
            let (interrupts, engine, progress) = (Interrupts::listen()?, engine.engine()?, Terminal::new());
            let built = interrupts.unless_first(&engine, engine.build(&name, &progress)).await;
            progress.done();
            let Some(built) = built else { return Ok(interrupts.code()) };
            let image = built?;
            say(format!(
                "{name} {} is built: {} packages, kernel {}",
                image.info.digest,
                image.info.packages.len(),
                image.info.kernel
            ))?;
        }
        ImageCommand::Bake(arguments) => return bake(&arguments).await,
        ImageCommand::List(arguments) => list(&arguments.engine.engine()?, arguments.json)?,
        ImageCommand::Rm(arguments) => return remove(arguments).await,
    }
    Ok(0)
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
    let shape = Shape { vcpus: arguments.vcpus, memory_mib: arguments.memory, disk_mib: arguments.disk };
    let engine = arguments.engine.engine()?;
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
    say(format!("{} is baked for {}", arguments.name, prepared.template.accelerator))?;
    Ok(0)
}

fn list(engine: &Engine, json: bool) -> anyhow::Result<()> {
    let images = engine.catalog().list()?;
    if json {
        let described = images.iter().map(describe).collect::<anyhow::Result<Vec<_>>>()?;
        return Ok(say(serde_json::to_string_pretty(&described)?)?);
    }
    if images.is_empty() {
        return Ok(say("no images yet; `dayfly image build base` makes one")?);
    }
    let mut table = Table::new(["NAME", "DIGEST", "SIZE", "KERNEL", "DESCRIPTION"], &[4]);
    for image in images {
        let info = &image.info;
        let size = format_size(image_bytes(&image)? >> 20 << 20);
        table.row([
            (&info.name).into(),
            (&info.digest).into(),
            size.into(),
            (&info.kernel).into(),
            (&info.description).into(),
        ]);
        for BakeInfo { key, shape, accelerator, .. } in image.list_bakes()?.into_iter().map(|bake| bake.info) {
            let [memory, disk] = [shape.memory_mib, shape.disk_mib].map(|mib| format_size(mib << 20));
            let machine = format!("{} vCPU, {memory}, {disk} disk, {accelerator}", shape.vcpus);
            table.row(["snapshot".into(), key.into(), "".into(), "".into(), machine.into()]);
        }
    }
    Ok(say(table.render(Look::of_stdout()))?)
}

fn describe(image: &Image) -> anyhow::Result<serde_json::Value> {
    let bakes: Vec<_> = image.list_bakes()?.into_iter().map(|bake| bake.info).collect();
    Ok(serde_json::json!({ "image": image.info, "bytes": image_bytes(image)?, "bakes": bakes }))
}

fn image_bytes(image: &Image) -> anyhow::Result<u64> {
    let mut bytes = disk::allocated_bytes(&image.file("root.erofs"))?;
    if let Some(layer) = image.layer() {
        bytes += disk::allocated_bytes(&layer)?;
    }
    Ok(bytes)
}
