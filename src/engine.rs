//! Fresh VMs by image and shape: finds, builds or bakes what is missing, then restores.
//!
//! The service and the standalone commands use the same engine; they differ in whether a VM may outlive the process. What is
//! missing is made once, for all who wait for it, until it is there or nobody waits any more.

mod caches;
mod shared;
mod templates;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use self::shared::Abandoned;
pub use self::templates::Readiness;
use self::templates::Slot;
use crate::caches::Caches;
use crate::host::disk;
use crate::host::lease::Lease;
use crate::host::process::Lifetime;
use crate::host::wire;
use crate::ids::VmId;
use crate::image::bake::{self, BOOT_LIMIT, Studio};
use crate::image::catalog::{BakeInfo, Catalog, Image, ImageInfo};
use crate::image::frozen::{self, FrozenInfo};
use crate::image::keeper::{Keeper, Ready};
use crate::image::recipe::Recipe;
use crate::image::{Checked, ImageError, Progress, cache, prove};
use crate::lifecycle::Lifecycle;
use crate::metrics::ImageMetrics;
use crate::vm::VmError;
use crate::vm::backend::{Monitor, Vmm};
use crate::vm::basis::Basis;
use crate::vm::confinement;
use crate::vm::firecracker::Programs;
use crate::vm::freeze::Frozen;
use crate::vm::guest::Guest;
use crate::vm::home::{Home, Homes};
use crate::vm::idle::Idle;
use crate::vm::machine::{self, Machine, Memory, Template};
use crate::vm::spec::{Accelerator, Shape};
use crate::vm::volume::CacheMount;

/// Which monitor runs the guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// QEMU with KVM where a bake proves that it works, else with software emulation.
    Auto,
    QemuKvm,
    QemuTcg,
    /// Firecracker, which needs KVM.
    Firecracker,
}

impl From<crate::config::Backend> for Backend {
    fn from(configured: crate::config::Backend) -> Self {
        match configured {
            crate::config::Backend::Auto => Self::Auto,
            crate::config::Backend::QemuKvm => Self::QemuKvm,
            crate::config::Backend::QemuTcg => Self::QemuTcg,
            crate::config::Backend::Firecracker => Self::Firecracker,
        }
    }
}

impl Backend {
    /// The monitor that runs the guests, of the programs that there are for each.
    pub fn vmm(self, qemu: &str, firecracker: &Programs) -> Vmm {
        match self {
            Self::Firecracker => Vmm::Firecracker(firecracker.clone()),
            Self::Auto | Self::QemuKvm | Self::QemuTcg => Vmm::Qemu(qemu.to_owned()),
        }
    }
}

impl From<&crate::config::Firecracker> for Programs {
    fn from(configured: &crate::config::Firecracker) -> Self {
        let name = |program: &Path| program.display().to_string();
        Self { firecracker: name(&configured.binary), jailer: name(&configured.jailer) }
    }
}

/// Where the engine keeps things and what it runs.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    pub state_dir: PathBuf,
    pub images_dir: PathBuf,
    pub recipes: Vec<PathBuf>,
    pub qemu: String,
    pub firecracker: Programs,
    pub backend: Backend,
    pub lifetime: Lifetime,
    pub confinement: confinement::Settings,
}

impl EngineSettings {
    /// The monitor that runs the guests.
    fn vmm(&self) -> Vmm {
        self.backend.vmm(&self.qemu, &self.firecracker)
    }
}

/// How long the programs of a build that was given up may keep writing: they are killed, and end when the kernel says so.
const TIDY_LIMIT: Duration = Duration::from_secs(10);

/// How often it is tried meanwhile to remove what they wrote.
const TIDY_PAUSE: Duration = Duration::from_millis(100);

/// Makes VMs. A clone is the same engine.
#[derive(Debug, Clone)]
pub struct Engine {
    settings: EngineSettings,
    homes: Homes,
    keeper: Keeper,
    templates: Arc<Mutex<HashMap<(String, Shape), Slot>>>,
    abandoned: Abandoned,
    volumes: Arc<cache::Recent>,
    caches: Caches,
    lifecycle: Lifecycle,
}

/// Everything that a VM of one image and shape starts from.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub info: ImageInfo,
    /// What it was baked as, or frozen from.
    pub bake: BakeInfo,
    pub template: Template,
    /// Said once when emulation is used because KVM does not work.
    pub why_not_kvm: Option<String>,
    /// What it was made of; a frozen VM that was kept has only a description.
    pub(crate) ready: Option<Arc<Ready>>,
}

impl Prepared {
    fn new(ready: Ready, vmm: &Vmm) -> Self {
        Self {
            info: ready.image.info.clone(),
            bake: ready.bake.info.clone(),
            template: bake::template(&ready.image, &ready.bake, vmm),
            why_not_kvm: ready.why_not_kvm.clone(),
            ready: Some(Arc::new(ready)),
        }
    }

    /// What the author of a job is told about its machine.
    pub fn notes(&self) -> Vec<String> {
        let why = self.why_not_kvm.as_ref();
        let emulated = why.map(|why| format!("note: this machine is emulated in software, which is slow ({why})"));
        let stand_in = self.ready.as_ref().and_then(|ready| ready.stand_in.as_ref());
        emulated.into_iter().chain(stand_in.map(|stand_in| stand_in.note.clone())).collect()
    }

    /// Whether VMs of both start from the same: the place of a snapshot has the digests of its image and bake in it. What their
    /// jobs are told may differ all the same: whether it is what they should start from changes with the time.
    pub fn starts_like(&self, other: &Self) -> bool {
        self.template.state == other.template.state
    }

    /// What clones of a VM start from that was restored from this and frozen.
    pub fn frozen(&self, frozen: &Frozen) -> Self {
        Self { template: frozen.template(&self.template), ..self.clone() }
    }
}

/// What makes the engine's images.
fn keeper(settings: &EngineSettings, homes: &Homes) -> Keeper {
    let studio = Studio {
        homes: homes.clone(),
        vmm: settings.vmm(),
        // Emulation is always there with QEMU; which accelerator is better is found out with the image that is built.
        accelerator: if settings.backend == Backend::Firecracker { Accelerator::Kvm } else { Accelerator::Tcg },
        boot_limit: BOOT_LIMIT,
        metrics: ImageMetrics::default(),
        lifecycle: Lifecycle::default(),
        checked: Checked::default(),
    };
    let accelerator = match settings.backend {
        Backend::QemuKvm | Backend::Firecracker => Some(Accelerator::Kvm),
        Backend::QemuTcg => Some(Accelerator::Tcg),
        Backend::Auto => None,
    };
    let catalog = Catalog::new(settings.images_dir.clone());
    Keeper::new(catalog, settings.recipes.clone(), studio, accelerator, settings.state_dir.clone())
}

impl Engine {
    /// An engine; makes the state directory.
    pub fn open(settings: EngineSettings) -> Result<Self, VmError> {
        let homes = Homes::open(&settings.state_dir, settings.confinement)?;
        let keeper = keeper(&settings, &homes);
        let caches = Caches::new(&settings.state_dir);
        let (templates, abandoned, volumes, lifecycle) = Default::default();
        Ok(Self { settings, homes, keeper, templates, abandoned, volumes, caches, lifecycle })
    }

    /// Has the steps in the lives of jobs' VMs, and those of making images, told to `lifecycle`.
    #[must_use]
    pub fn told_to(mut self, lifecycle: Lifecycle) -> Self {
        self.keeper.studio.lifecycle = lifecycle.clone();
        self.caches = self.caches.told_to(lifecycle.clone());
        Self { lifecycle, ..self }
    }

    /// The same engine, telling `metrics` of what it makes.
    #[must_use]
    pub fn measured(mut self, metrics: ImageMetrics) -> Self {
        self.keeper.studio.metrics = metrics;
        self
    }

    /// The images.
    pub fn catalog(&self) -> &Catalog {
        &self.keeper.catalog
    }

    /// The VMs' directories.
    pub fn homes(&self) -> &Homes {
        &self.homes
    }

    /// Whether VMs of that image could be made at all: tells a wrong name or a missing monitor before anything is built.
    ///
    /// # Errors
    /// There is no such recipe, or it does not read; or the monitor is not installed.
    pub fn check(&self, image: &str) -> Result<(), ImageError> {
        Recipe::find(image, &self.settings.recipes)?;
        Ok(self.settings.vmm().require()?)
    }

    /// Fails unless VMs can have network cards here.
    pub fn require_cards(&self) -> Result<(), VmError> {
        let refused = |why: String| {
            VmError::host("network cards for VMs, which `egress` with `nat` takes")(std::io::Error::other(why))
        };
        if self.settings.backend == Backend::Firecracker {
            const WHY: &str = "Firecracker's machines get none\n  hint: use `backend = \"auto\"`, or another `mode`";
            return Err(refused(WHY.to_owned()));
        }
        match wire::lacking() {
            Some(why) => Err(refused(why)),
            None if !self.homes.confinement().has_jails() => {
                Err(refused("monitors cannot be confined here\n  hint: `dayfly doctor` says why".to_owned()))
            }
            None => Ok(()),
        }
    }

    /// The image of that name as its recipe says it should be, built if it is not there or the recipe has changed.
    pub async fn image(&self, name: &str, progress: &dyn Progress) -> Result<Image, ImageError> {
        self.keeper.image(name, progress).await
    }

    /// Builds the image anew, whatever there is.
    pub async fn build(&self, name: &str, progress: &dyn Progress) -> Result<Image, ImageError> {
        self.keeper.build(name, progress).await
    }

    /// The file in which the accelerator that works here is remembered, if it is.
    pub fn remembered_accelerator(&self) -> Option<PathBuf> {
        Some(prove::memory_file(&self.settings.state_dir)).filter(|file| file.is_file())
    }

    /// Removes what builds, bakes and packed caches left that ended half-way, without waiting for anybody.
    pub async fn remove_unfinished(&self) -> Result<(), ImageError> {
        let (catalog, caches, named) = (self.keeper.catalog.clone(), self.packed_caches(), self.caches.clone());
        let removed = tokio::task::spawn_blocking(move || {
            catalog.remove_unfinished()?;
            named.remove_unfinished().map_err(|error| ImageError::Unusable(error.to_string()))?;
            match Lease::try_take(&caches) {
                Ok(Some(_lock)) => cache::remove_unfinished(&caches),
                Ok(None) => Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(ImageError::io("locking the cache volumes")(error)),
            }
        });
        removed.await.map_err(|error| ImageError::Unusable(format!("looking for unfinished images: {error}")))?
    }

    fn packed_caches(&self) -> PathBuf {
        self.settings.state_dir.join("caches")
    }

    /// Where fetched actions are kept.
    pub fn actions(&self) -> PathBuf {
        self.settings.state_dir.join("actions")
    }

    /// The volume for a cache directory or image file.
    pub async fn cache_volume(&self, source: &Path) -> Result<PathBuf, ImageError> {
        if let Some(volume) = self.volumes.get(source) {
            return Ok(volume);
        }
        let volumes = self.packed_caches();
        std::fs::create_dir_all(&volumes).map_err(ImageError::io(volumes.display().to_string()))?;
        let _lock = {
            let volumes = volumes.clone();
            tokio::task::spawn_blocking(move || Lease::wait(&volumes))
                .await
                .map_err(std::io::Error::other)
                .and_then(|lease| lease)
                .map_err(ImageError::io("locking the cache volumes"))?
        };
        // Somebody may have made it while this one waited.
        if let Some(volume) = self.volumes.get(source) {
            return Ok(volume);
        }
        let volume = cache::volume(&volumes, source).await?;
        self.volumes.put(source, &volume);
        Ok(volume)
    }

    /// A home for a VM that [`Engine::restore`] will fill.
    pub fn home(&self, id: VmId) -> Result<Home, VmError> {
        Ok(self.homes.create(id)?.told_to(&self.lifecycle))
    }

    /// Restores a VM.
    pub async fn restore(
        &self, home: Home, prepared: &Prepared, cache: Option<&CacheMount>,
    ) -> Result<Machine, VmError> {
        Machine::restore(home, &prepared.template, Memory::Borrowed, cache, self.settings.lifetime).await
    }

    /// Restores a VM that [`Engine::freeze`] can make a template of.
    pub async fn restore_freezable(
        &self, home: Home, prepared: &Prepared, cache: Option<&CacheMount>,
    ) -> Result<Machine, VmError> {
        Machine::restore(home, &prepared.template, Memory::Owned, cache, self.settings.lifetime).await
    }

    /// Freezes a VM that was restored from `origin` into an empty directory, from which clones start with what is given
    /// back. The directory is the caller's, to be removed after the last of them has started, or after an error; the VM is
    /// absent in any case.
    pub async fn freeze(&self, mut machine: Machine, origin: &Prepared, into: &Path) -> Result<Prepared, VmError> {
        let frozen = origin.frozen(&machine.freeze(into).await?);
        self.pay_for(&frozen).await;
        Ok(frozen)
    }

    /// The same, to be used after the directory was renamed, or this process has ended: see [`Engine::thaw`].
    pub async fn freeze_to_keep(
        &self, mut machine: Machine, origin: &Prepared, into: &Path,
    ) -> Result<FrozenInfo, ImageError> {
        let frozen = machine.freeze(into).await?;
        frozen::describe(&frozen, &origin.info, &origin.bake).await
    }

    /// An empty directory for [`Engine::freeze`], gone when it is dropped.
    pub fn freezer(&self) -> std::io::Result<tempfile::TempDir> {
        let forks = self.forks();
        std::fs::create_dir_all(&forks)?;
        tempfile::tempdir_in(forks)
    }

    /// Removes what an earlier run of the service froze. Nothing may be frozen or start from it meanwhile.
    pub fn empty_freezers(&self) -> std::io::Result<()> {
        match disk::remove_tree(&self.forks()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn forks(&self) -> PathBuf {
        self.settings.state_dir.join("forks")
    }

    /// What clones of a frozen VM that was kept start from.
    ///
    /// # Errors
    /// When it has changed, or the monitor, the processor or Dayfly has, or its image or bake is gone.
    pub async fn thaw(&self, directory: &Path) -> Result<Prepared, ImageError> {
        let thawed = frozen::open(directory, self.catalog(), &self.settings.vmm()).await?;
        let prepared = Prepared {
            info: thawed.image,
            bake: thawed.bake,
            template: thawed.template,
            why_not_kvm: None,
            ready: None,
        };
        self.pay_for(&prepared).await;
        Ok(prepared)
    }

    /// Restores a VM that waits for its job.
    pub async fn restore_idle(
        &self, home: Home, prepared: &Prepared, cache: Option<&CacheMount>,
    ) -> Result<Idle, VmError> {
        Idle::restore(home, &prepared.template, cache, self.settings.lifetime).await
    }

    /// The time from the start of a monitor until `ask` has spoken with a guest that was booted, not restored.
    pub async fn boot_cold(
        &self, prepared: &Prepared, ask: impl AsyncFnOnce(&Guest) -> Result<(), VmError>,
    ) -> Result<Duration, ImageError> {
        let studio = Studio { accelerator: prepared.template.accelerator, ..self.keeper.studio.clone() };
        bake::boot_cold(&studio, &prepared.template, ask).await
    }

    /// What VMs of an image start from that only shows a monitor's part in that: see [`bake::early`]. The directory is the
    /// caller's, empty, and to be removed afterwards.
    pub async fn early(&self, image: &str, shape: Shape, directory: &Path) -> Result<Template, ImageError> {
        let progress = crate::image::Logged;
        let image = self.keeper.image(image, &progress).await?;
        bake::early(&image, &self.keeper.studio, shape, directory).await
    }

    /// Restores a VM up to where its guest runs, and speaks with nobody in it. For comparison only.
    pub async fn resume_only(&self, home: &Home, template: &Template) -> Result<Box<dyn Monitor>, VmError> {
        let loaded =
            machine::load(home, template, &Basis::of(template)?, Memory::Borrowed, None, self.settings.lifetime)
                .await?;
        let mut monitor = loaded.monitor;
        monitor.resume().await?;
        Ok(monitor)
    }

    /// After work of this process was dropped half-way: destroys its VMs, and removes what it was building.
    pub async fn tidy_up(&self) -> Result<(), ImageError> {
        self.reap().await;
        let began = Instant::now();
        loop {
            match self.remove_unfinished().await {
                // The programs that it ran are killed, and may still write for a moment.
                Err(_) if began.elapsed() < TIDY_LIMIT => tokio::time::sleep(TIDY_PAUSE).await,
                done => return done,
            }
        }
    }

    /// Destroys what dead owners left behind, and work that nobody waits for any more; gives the ids of those VMs.
    pub async fn reap(&self) -> Vec<VmId> {
        self.abandoned.ended().await;
        let abandoned = self.homes.abandoned().unwrap_or_else(|error| {
            tracing::error!(%error, "the VM directories cannot be read");
            Vec::new()
        });
        let mut reaped = Vec::new();
        for home in abandoned {
            // Its own owner removes what is left; or else the next look does.
            if self.homes.has_successor(&home) {
                continue;
            }
            let mut home = home.told_to(&self.lifecycle);
            match home.remove().await {
                Ok(()) => reaped.push(home.id().clone()),
                Err(error) => tracing::error!(vm = %home.id(), %error, "an abandoned VM could not be removed"),
            }
        }
        reaped
    }
}
