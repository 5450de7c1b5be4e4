//! From an image to a snapshot: boot it once, wait for the agent, freeze.
//!
//! Everything that a snapshot cannot change afterwards is in its [`key()`].

mod boot;
mod command_line;
mod early;
mod key;
mod monitor;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::boot::{kernel_file, kernel_for, write_initramfs};
pub use self::early::early;
pub use self::key::key;
pub use self::monitor::{Installed, monitor_version};
use super::catalog::{Bake, BakeInfo, Image, PLACEHOLDER, write_json};
use super::checked::Checked;
use super::staging::Staging;
use super::{ImageError, Progress, cache, script, tools};
use crate::host::disk::FormatError;
use crate::host::process::Lifetime;
use crate::host::{checksum, disk};
use crate::ids::VmId;
use crate::lifecycle::{ImageStep, Lifecycle};
use crate::metrics::ImageMetrics;
use crate::metrics::labels::Made;
use crate::protocol::message::Identity;
use crate::vm::VmError;
use crate::vm::attach::{Attached, attach};
use crate::vm::backend::{Launch, Start, Vmm};
use crate::vm::guest::Guest;
use crate::vm::home::{Home, Homes};
use crate::vm::loss::Loss;
use crate::vm::machine::Template;
use crate::vm::rehearsal;
use crate::vm::spec::{Accelerator, Boot, CACHE_VOLUME_BYTES, Disks, Shape};

/// The guest agent, built by `build.rs`.
pub const AGENT: &[u8] = include_bytes!(env!("DAYFLY_AGENT_BINARY"));

/// How long an emulated guest may take from power-on to the agent's answer. It takes 2 to 4 s on an idle host.
pub const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// How long a bake may take from power-on to the saved state, without the image's own scripts. It takes 4 s under emulation on
/// an idle host.
const FREEZE_LIMIT: Duration = Duration::from_secs(180);
/// How much longer for each script.
const SCRIPT_LIMIT: Duration = Duration::from_secs(10 * 60);

/// What a snapshot consists of, beside its description.
const FILES: [&str; 4] = ["initramfs", "memory", "scratch", "state"];

/// Bakes of one image that are kept: one for each shape in use, and those that a new version of something has replaced. A
/// VM that runs has their files open and does not need the names.
const KEPT_BAKES: usize = 32;

/// Shape of the VM in which set-up scripts run.
const SETUP_SHAPE: Shape = Shape { vcpus: 2, memory_mib: 1024, disk_mib: 8192, card: false };

/// With what, and where, VMs are made while images are built.
#[derive(Debug, Clone)]
pub struct Studio {
    pub homes: Homes,
    /// The monitor.
    pub vmm: Vmm,
    pub accelerator: Accelerator,
    /// How long a guest may take to boot.
    pub boot_limit: Duration,
    pub metrics: ImageMetrics,
    /// Is told of every step.
    pub lifecycle: Lifecycle,
    /// What this process has compared with its checksums.
    pub checked: Checked,
}

/// A VM that was booted, not restored.
pub(super) struct BootedVm {
    home: Home,
    pub(super) attached: Attached,
    scratch: PathBuf,
}

impl BootedVm {
    /// What an error is to be called while the VM's files are still there.
    pub(super) fn blamed_on_disk(&self, error: ImageError) -> ImageError {
        blamed_on_disk(error, self.home.path(), "what the set-up scripts write")
    }

    /// Ends the VM, and keeps its scratch disk as `kept` if that is wanted.
    pub(super) async fn finish(mut self, kept: Option<&Path>) -> Result<(), ImageError> {
        if let Err(error) = self.attached.monitor.kill().await {
            tracing::warn!(%error, "waiting for the monitor's end failed");
        }
        let moved = kept.map_or(Ok(()), |kept| disk::move_image(&self.scratch, kept));
        self.home.remove().await?;
        moved.map_err(ImageError::io("keeping the image's layer"))
    }
}

/// Makes a snapshot of `image`, unless there is one that is whole. The caller holds the image's lock.
pub async fn bake(image: &Image, studio: &Studio, shape: Shape, progress: &dyn Progress) -> Result<Bake, ImageError> {
    let key = key(image, &studio.vmm, studio.accelerator, shape).await?;
    if let Some(bake) = studio.checked.bake(image, &key, progress).await? {
        return Ok(bake);
    }
    let began = Instant::now();
    let made = make(image, studio, shape, key, progress).await;
    studio.metrics.baked(Made::of(&made), began.elapsed());
    made
}

/// A memory file or a disk that cannot grow takes its VM with it. Then the reason is the host's disk and not the VM.
fn blamed_on_disk(error: ImageError, directory: &Path, what: &str) -> ImageError {
    match error {
        ImageError::Vm(VmError::Lost(_)) if disk::is_full(directory) => {
            ImageError::io(what)(std::io::ErrorKind::StorageFull.into())
        }
        error => error,
    }
}

/// Work in a guest, broken off when its VM ends: one that stands still, or is gone, keeps nobody waiting for its script's limit.
pub(super) async fn while_it_lives<T>(
    attached: &Attached, work: impl Future<Output = Result<T, ImageError>>,
) -> Result<T, ImageError> {
    tokio::select! {
        done = work => done,
        loss = attached.lost() => Err(match loss {
            Loss::HostDiskFull => ImageError::io("what the guest writes")(std::io::ErrorKind::StorageFull.into()),
            loss => ImageError::Vm(VmError::Lost(loss.to_string())),
        }),
    }
}

async fn make(
    image: &Image, studio: &Studio, shape: Shape, key: String, progress: &dyn Progress,
) -> Result<Bake, ImageError> {
    progress.step(&format!(
        "baking `{}` with {}: {} vCPU, {} MiB memory, {} MiB disk",
        image.info.name, studio.accelerator, shape.vcpus, shape.memory_mib, shape.disk_mib
    ));
    studio.checked.image(image).await?;
    let staging = Staging::begin(&image.bakes())?;
    let directory = staging.path();
    studio.lifecycle.reached(ImageStep::BakeBegun).await;
    let (boot, disks) = lay_out(image, studio, shape, directory).await?;
    let frozen = freeze(image, studio, shape, &boot, &disks, directory).await;
    frozen.map_err(|error| blamed_on_disk(error, directory, "the snapshot's memory"))?;
    studio.lifecycle.reached(ImageStep::StateSaved).await;
    let monitor = monitor_version(studio.vmm.program()).await?;
    let info = BakeInfo {
        key: key.clone(),
        shape,
        accelerator: studio.accelerator,
        monitor,
        command_line: boot.command_line,
        baked_at: crate::clock::now_ms(),
        files: checksums(directory).await?,
    };
    write_json(&directory.join("snapshot.json"), &info)?;
    studio.lifecycle.reached(ImageStep::BakeDescribed).await;
    let place = image.bakes().join(&key);
    staging.publish(&place).await?;
    studio.lifecycle.reached(ImageStep::BakePublished).await;
    cache::remove_old(&image.bakes(), KEPT_BAKES)?;
    Ok(Bake { directory: place, info })
}

/// Makes everything in `directory` that a machine is booted from to become a snapshot.
async fn lay_out(image: &Image, studio: &Studio, shape: Shape, directory: &Path) -> Result<(Boot, Disks), ImageError> {
    let boot = Boot {
        kernel: kernel_for(&studio.vmm, image, directory).await?,
        initramfs: directory.join("initramfs"),
        command_line: command_line::of(image, &studio.vmm, studio.accelerator, shape),
    };
    write_initramfs(image, &studio.vmm, shape.card, &boot.initramfs)?;
    let placeholder = directory.join(PLACEHOLDER);
    disk::create_sparse(&placeholder, CACHE_VOLUME_BYTES).map_err(ImageError::io("the cache placeholder"))?;
    let scratch = directory.join("scratch");
    make_scratch(&scratch, shape.disk_mib).await?;
    let disks =
        Disks { root: image.file("root.erofs"), layer: image.layer(), scratch, cache: Some(placeholder), fill: None };
    Ok((boot, disks))
}

async fn checksums(directory: &Path) -> Result<checksum::Checksums, ImageError> {
    let directory = directory.to_owned();
    let done = tokio::task::spawn_blocking(move || checksum::of_files(&directory, &FILES)).await;
    done.map_err(std::io::Error::other).and_then(|done| done).map_err(ImageError::io("the snapshot's checksums"))
}

/// How a bake is restored.
pub fn template(image: &Image, bake: &Bake, vmm: &Vmm) -> Template {
    Template {
        vmm: vmm.clone(),
        accelerator: bake.info.accelerator,
        shape: bake.info.shape,
        boot: Boot {
            kernel: kernel_file(vmm, image, &bake.directory),
            initramfs: bake.file("initramfs"),
            command_line: bake.info.command_line.clone(),
        },
        root: image.file("root.erofs"),
        layer: image.layer(),
        memory: bake.file("memory"),
        state: bake.file("state"),
        scratch: bake.file("scratch"),
        cache_placeholder: bake.file(PLACEHOLDER),
        mounted: None,
    }
}

async fn freeze(
    image: &Image, studio: &Studio, shape: Shape, boot: &Boot, disks: &Disks, directory: &Path,
) -> Result<(), ImageError> {
    let memory = directory.join("memory");
    // A monitor that finds no room for a page of it dies without a word.
    disk::require_room(directory, shape.memory_mib << 20)
        .and_then(|()| {
            if studio.vmm.needs_own_memory() { disk::create_sparse(&memory, shape.memory_mib << 20) } else { Ok(()) }
        })
        .map_err(ImageError::io(format!("room for {} MiB of memory in `{}`", shape.memory_mib, directory.display())))?;
    studio.lifecycle.reached(ImageStep::DisksMade).await;
    let scripts = &image.info.bake;
    let mut home = studio.homes.create(VmId::random())?;
    let frozen = async {
        let start = Start::BootForSnapshot;
        let mut attached = boot_vm(&home, studio, Parts { shape, start, boot, disks, memory: &memory }).await?;
        studio.lifecycle.reached(ImageStep::BakeBooted).await;
        let worked = async {
            rehearse(&attached.guest).await?;
            tools::configure(&attached.guest, &image.info.user).await?;
            for one in scripts {
                script::run(&attached.guest, one, &image.info.environment).await?;
            }
            Ok(())
        };
        while_it_lives(&attached, worked).await?;
        studio.lifecycle.reached(ImageStep::Rehearsed).await;
        // The agent sits in its blocking read, and everything that was written until now is on the disk.
        attached.guest.sync(false).await?;
        attached.monitor.pause().await?;
        attached.monitor.save(&directory.join("state"), &memory).await?;
        attached.monitor.kill().await.map_err(VmError::host("ending the monitor"))?;
        Ok(())
    };
    let limit = FREEZE_LIMIT + SCRIPT_LIMIT * scripts.len() as u32;
    let outcome = tokio::time::timeout(limit, frozen).await;
    home.remove().await?;
    outcome.unwrap_or(Err(ImageError::Vm(VmError::TimedOut { what: "the bake", limit })))
}

/// Does once what every job does first, so that the programs' pages, the directory entries and the files that are replaced
/// are in the snapshot's memory and not read from a disk in every VM.
async fn rehearse(guest: &Guest) -> Result<(), VmError> {
    let rehearsed = Identity {
        hostname: "bake".into(),
        machine_id: "0".repeat(32),
        entropy: [0; 32],
        clock_ns: crate::clock::now_us() * 1000,
        cache: None,
    };
    guest.identify(rehearsed).await?;
    rehearsal::rehearse(guest).await
}

/// Boots an image without a cache volume, to let its set-up script write.
pub(super) async fn boot_for_setup(image: &Image, studio: &Studio) -> Result<BootedVm, ImageError> {
    let mut home = studio.homes.create(VmId::random())?;
    match try_boot_for_setup(image, studio, &home).await {
        Ok(attached) => Ok(BootedVm { scratch: home.path().join("scratch"), attached, home }),
        Err(error) => {
            home.remove().await?;
            Err(error)
        }
    }
}

async fn try_boot_for_setup(image: &Image, studio: &Studio, home: &Home) -> Result<Attached, ImageError> {
    let boot = Boot {
        kernel: kernel_for(&studio.vmm, image, home.path()).await?,
        initramfs: home.path().join("initramfs"),
        command_line: command_line::of(image, &studio.vmm, studio.accelerator, SETUP_SHAPE),
    };
    write_initramfs(image, &studio.vmm, SETUP_SHAPE.card, &boot.initramfs)?;
    let scratch = home.path().join("scratch");
    make_scratch(&scratch, SETUP_SHAPE.disk_mib).await?;
    let disks = Disks { root: image.file("root.erofs"), layer: None, scratch, cache: None, fill: None };
    let parts = Parts { shape: SETUP_SHAPE, start: Start::Boot, boot: &boot, disks: &disks, memory: Path::new("") };
    Ok(boot_vm(home, studio, parts).await?)
}

/// Boots what `template` is a snapshot of as if there were no snapshot, with an empty disk, and has `ask` speak with the
/// guest; gives the time from the monitor's start to the end of that. For comparison only.
pub async fn boot_cold(
    studio: &Studio, template: &Template, ask: impl AsyncFnOnce(&Guest) -> Result<(), VmError>,
) -> Result<Duration, ImageError> {
    let mut home = studio.homes.create(VmId::random())?;
    let timed = async {
        let scratch = home.path().join("scratch");
        make_scratch(&scratch, template.shape.disk_mib).await?;
        let (root, layer) = (template.root.clone(), template.layer.clone());
        let disks = Disks { root, layer, scratch, cache: Some(template.cache_placeholder.clone()), fill: None };
        let (shape, boot) = (template.shape, &template.boot);
        let began = Instant::now();
        let parts = Parts { shape, start: Start::Boot, boot, disks: &disks, memory: Path::new("") };
        let mut attached = boot_vm(&home, studio, parts).await?;
        ask(&attached.guest).await?;
        let took = began.elapsed();
        attached.monitor.kill().await.map_err(VmError::host("ending the monitor"))?;
        Ok(took)
    };
    let took = timed.await;
    home.remove().await?;
    took
}

struct Parts<'a> {
    shape: Shape,
    start: Start,
    boot: &'a Boot,
    disks: &'a Disks,
    memory: &'a Path,
}

async fn boot_vm(home: &Home, studio: &Studio, parts: Parts<'_>) -> Result<Attached, VmError> {
    let Parts { shape, start, boot, disks, memory } = parts;
    let launch = Launch {
        accelerator: studio.accelerator,
        shape,
        start,
        boot,
        disks,
        memory,
        // Nobody takes up a bake where another process left it.
        lifetime: Lifetime::EndsWithUs,
    };
    let (monitor, reach) = studio.vmm.launch(home, launch).await?;
    attach(monitor, reach, studio.boot_limit, false).await
}

/// An empty private disk.
async fn make_scratch(path: &Path, mib: u64) -> Result<(), ImageError> {
    disk::make_ext4(path, mib << 20, (0, 0)).await.map_err(|error| match error {
        FormatError::File(error) => ImageError::io("the scratch disk")(error),
        FormatError::Tool(error) => error.into(),
    })
}
