//! Fresh VMs by image and shape: finds, builds or bakes what is missing, then restores.
//!
//! The service and the standalone commands use the same engine; they differ in whether a VM may outlive the process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::host::lease::Lease;
use crate::host::process::Lifetime;
use crate::ids::VmId;
use crate::image::bake::{self, BOOT_LIMIT, Studio};
use crate::image::catalog::{Catalog, Image, ImageInfo};
use crate::image::keeper::{Keeper, Ready};
use crate::image::{Checked, ImageError, Progress, cache, prove};
use crate::lifecycle::Lifecycle;
use crate::metrics::ImageMetrics;
use crate::vm::VmError;
use crate::vm::home::{Home, Homes};
use crate::vm::machine::{CacheMount, Machine, Template};
use crate::vm::qemu::require;
use crate::vm::spec::{Accelerator, Shape};

/// Which monitor runs the guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// QEMU with KVM where a bake proves that it works, else with software emulation.
    Auto,
    QemuKvm,
    QemuTcg,
}

impl From<crate::config::Backend> for Backend {
    fn from(configured: crate::config::Backend) -> Self {
        match configured {
            crate::config::Backend::Auto => Self::Auto,
            crate::config::Backend::QemuKvm => Self::QemuKvm,
            crate::config::Backend::QemuTcg => Self::QemuTcg,
        }
    }
}

/// Where the engine keeps things and what it runs.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    pub state_dir: PathBuf,
    pub images_dir: PathBuf,
    pub recipes: Vec<PathBuf>,
    pub qemu: String,
    pub backend: Backend,
    pub lifetime: Lifetime,
}

/// Makes VMs.
#[derive(Debug)]
pub struct Engine {
    settings: EngineSettings,
    homes: Homes,
    keeper: Keeper,
    templates: Mutex<HashMap<(String, Shape), Slot>>,
    volumes: cache::Recent,
    lifecycle: Lifecycle,
}

/// The template of one image and shape, locked while it is made: others of that kind wait, and nobody else.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Prepared>>>>;

/// Whether VMs of one image and shape can be restored at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Somebody builds, bakes or looks for it at the moment.
    BeingMade,
    /// Nobody has asked for it since the start.
    Unknown,
}

/// Everything that a VM of one image and shape starts from.
#[derive(Debug)]
pub struct Prepared {
    pub info: ImageInfo,
    pub template: Template,
    /// Said once when emulation is used because KVM does not work.
    pub why_not_kvm: Option<String>,
    ready: Ready,
}

impl Prepared {
    fn new(ready: Ready, program: &str) -> Self {
        Self {
            info: ready.image.info.clone(),
            template: bake::template(&ready.image, &ready.bake, program),
            why_not_kvm: ready.why_not_kvm.clone(),
            ready,
        }
    }

    /// What the author of a job is told about its machine.
    pub fn notes(&self) -> Vec<String> {
        let why = self.why_not_kvm.as_ref();
        let emulated = why.map(|why| format!("note: this machine is emulated in software, which is slow ({why})"));
        emulated.into_iter().chain(self.ready.stand_in.as_ref().map(|stand_in| stand_in.note.clone())).collect()
    }
}

/// What makes the engine's images.
fn keeper(settings: &EngineSettings, homes: &Homes) -> Keeper {
    let studio = Studio {
        homes: homes.clone(),
        program: settings.qemu.clone(),
        // Emulation is always there; which accelerator is better is found out with the image that is built.
        accelerator: Accelerator::Tcg,
        boot_limit: BOOT_LIMIT,
        metrics: ImageMetrics::default(),
        lifecycle: Lifecycle::default(),
        checked: Checked::default(),
    };
    let accelerator = match settings.backend {
        Backend::QemuKvm => Some(Accelerator::Kvm),
        Backend::QemuTcg => Some(Accelerator::Tcg),
        Backend::Auto => None,
    };
    let catalog = Catalog::new(settings.images_dir.clone());
    Keeper::new(catalog, settings.recipes.clone(), studio, accelerator, settings.state_dir.clone())
}

impl Engine {
    /// An engine; makes the state directory.
    pub fn open(settings: EngineSettings) -> Result<Self, VmError> {
        let homes = Homes::open(&settings.state_dir)?;
        let keeper = keeper(&settings, &homes);
        let (templates, volumes) = Default::default();
        Ok(Self { settings, homes, keeper, templates, volumes, lifecycle: Lifecycle::default() })
    }

    /// Has the steps in the lives of jobs' VMs, and those of making images, told to `lifecycle`.
    #[must_use]
    pub fn told_to(mut self, lifecycle: Lifecycle) -> Self {
        self.keeper.studio.lifecycle = lifecycle.clone();
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

    /// The image of that name as its recipe says it should be, built if it is not there or the recipe has changed.
    pub async fn image(&self, name: &str, progress: &dyn Progress) -> Result<Image, ImageError> {
        self.keeper.image(name, progress).await
    }

    /// Builds the image anew, whatever there is.
    pub async fn build(&self, name: &str, progress: &dyn Progress) -> Result<Image, ImageError> {
        self.keeper.build(name, progress).await
    }

    /// A template of that image and shape, with everything that is missing built and baked first.
    pub async fn prepare(
        &self, name: &str, shape: Shape, progress: &dyn Progress,
    ) -> Result<Arc<Prepared>, ImageError> {
        let slot = self.slot(name, shape);
        let mut slot = slot.lock().await;
        if let Some(prepared) = &*slot
            && self.keeper.is_still_right(&prepared.ready)
        {
            return Ok(Arc::clone(prepared));
        }
        require(&self.settings.qemu)?;
        let ready = self.keeper.ready(name, shape, progress).await?;
        let prepared = Arc::new(Prepared::new(ready, &self.settings.qemu));
        *slot = Some(Arc::clone(&prepared));
        Ok(prepared)
    }

    /// Whether a VM of that image and shape can be restored at once.
    pub fn readiness(&self, name: &str, shape: Shape) -> Readiness {
        let templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        match templates.get(&(name.to_owned(), shape)).map(|slot| slot.try_lock()) {
            None => Readiness::Unknown,
            Some(Err(_)) => Readiness::BeingMade,
            Some(Ok(slot)) => {
                if slot.is_some() {
                    Readiness::Ready
                } else {
                    Readiness::Unknown
                }
            }
        }
    }

    fn slot(&self, name: &str, shape: Shape) -> Slot {
        let mut templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(templates.entry((name.to_owned(), shape)).or_default())
    }

    /// The file in which the accelerator that works here is remembered, if it is.
    pub fn remembered_accelerator(&self) -> Option<PathBuf> {
        Some(prove::memory_file(&self.settings.state_dir)).filter(|file| file.is_file())
    }

    /// Removes what builds, bakes and packed caches left that ended half-way, without waiting for anybody.
    pub async fn remove_unfinished(&self) -> Result<(), ImageError> {
        let (catalog, caches) = (self.keeper.catalog.clone(), self.caches());
        let removed = tokio::task::spawn_blocking(move || {
            catalog.remove_unfinished()?;
            match Lease::try_take(&caches) {
                Ok(Some(_lock)) => cache::remove_unfinished(&caches),
                Ok(None) => Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(ImageError::io("locking the cache volumes")(error)),
            }
        });
        removed.await.map_err(|error| ImageError::Unusable(format!("looking for unfinished images: {error}")))?
    }

    fn caches(&self) -> PathBuf {
        self.settings.state_dir.join("caches")
    }

    /// The volume for a cache directory or image file.
    pub async fn cache_volume(&self, source: &Path) -> Result<PathBuf, ImageError> {
        if let Some(volume) = self.volumes.get(source) {
            return Ok(volume);
        }
        let volumes = self.caches();
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
        Machine::restore(home, &prepared.template, cache, self.settings.lifetime).await
    }

    /// Destroys what dead owners left behind; gives the ids of those VMs.
    pub async fn reap(&self) -> Vec<VmId> {
        let abandoned = self.homes.abandoned().unwrap_or_else(|error| {
            tracing::error!(%error, "the VM directories cannot be read");
            Vec::new()
        });
        let mut reaped = Vec::new();
        for home in abandoned {
            let mut home = home.told_to(&self.lifecycle);
            match home.remove().await {
                Ok(()) => reaped.push(home.id().clone()),
                Err(error) => tracing::error!(vm = %home.id(), %error, "an abandoned VM could not be removed"),
            }
        }
        reaped
    }
}
