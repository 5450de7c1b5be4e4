//! Fresh VMs by image and shape: finds, builds or bakes what is missing, then restores.
//!
//! The service and the standalone commands use the same engine; they differ in whether a VM may outlive the process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::caches::{CacheError, CacheId, Caches, Producing, Published};
use crate::config::{Cache, CacheSource};
use crate::host::lease::Lease;
use crate::host::process::Lifetime;
use crate::ids::VmId;
use crate::image::bake::{self, BOOT_LIMIT, Studio};
use crate::image::catalog::{Catalog, Image, ImageInfo};
use crate::image::recipe::Recipe;
use crate::image::{ImageError, Progress, build, cache, prove};
use crate::lifecycle::Lifecycle;
use crate::metrics::ImageMetrics;
use crate::metrics::labels::{CacheFound, CacheMade, Made};
use crate::protocol::message::VolumeFormat;
use crate::vm::VmError;
use crate::vm::home::{Home, Homes};
use crate::vm::machine::{Machine, Template};
use crate::vm::qemu::require;
use crate::vm::spec::{Accelerator, Shape};
use crate::vm::volume::CacheMount;

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
    catalog: Catalog,
    templates: Mutex<HashMap<(String, Shape), Slot>>,
    volumes: cache::Recent,
    caches: Caches,
    lifecycle: Lifecycle,
    metrics: ImageMetrics,
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
}

impl Prepared {
    /// What the author of a job is told about its machine, if there is something.
    pub fn emulation_note(&self) -> Option<String> {
        let why = self.why_not_kvm.as_ref()?;
        Some(format!("note: this machine is emulated in software, which is slow ({why})"))
    }
}

impl Engine {
    /// An engine; makes the state directory.
    pub fn open(settings: EngineSettings) -> Result<Self, VmError> {
        let homes = Homes::open(&settings.state_dir)?;
        let catalog = Catalog::new(settings.images_dir.clone());
        let caches = Caches::new(&settings.state_dir);
        let (templates, volumes, metrics) = Default::default();
        Ok(Self { settings, homes, catalog, templates, volumes, caches, lifecycle: Lifecycle::default(), metrics })
    }

    /// Has the steps in the lives of jobs' VMs told to `lifecycle`; images are built without it.
    #[must_use]
    pub fn told_to(self, lifecycle: Lifecycle) -> Self {
        Self { lifecycle, ..self }
    }

    /// The same engine, telling `metrics` of what it makes.
    #[must_use]
    pub fn measured(self, metrics: ImageMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// The images.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The named caches.
    pub fn caches(&self) -> &Caches {
        &self.caches
    }

    /// The VMs' directories.
    pub fn homes(&self) -> &Homes {
        &self.homes
    }

    /// The image of that name as its recipe says it should be, built if it is not there or the recipe has changed.
    pub async fn image(&self, name: &str, progress: &dyn Progress) -> Result<Image, ImageError> {
        let recipe = Recipe::find(name, &self.settings.recipes)?;
        match self.catalog.current(name)? {
            Some(image) if image.info.digest == recipe.digest() => return Ok(image),
            _ => {}
        }
        let _lock = self.lock(name).await?;
        match self.catalog.current(name)? {
            Some(image) if image.info.digest == recipe.digest() => Ok(image),
            _ => self.build_locked(&recipe, progress).await,
        }
    }

    /// Builds the image anew, whatever there is.
    pub async fn build(&self, name: &str, progress: &dyn Progress) -> Result<Image, ImageError> {
        let recipe = Recipe::find(name, &self.settings.recipes)?;
        let _lock = self.lock(name).await?;
        self.build_locked(&recipe, progress).await
    }

    async fn build_locked(&self, recipe: &Recipe, progress: &dyn Progress) -> Result<Image, ImageError> {
        require(&self.settings.qemu)?;
        // Emulation is always there; which accelerator is better is found out with the image that is built here.
        let studio = self.studio(Accelerator::Tcg);
        let began = Instant::now();
        let built = build::build(&self.catalog, recipe, &studio, progress).await;
        self.metrics.built(Made::of(&built), began.elapsed());
        built
    }

    /// A template of that image and shape, with everything that is missing built and baked first.
    pub async fn prepare(
        &self, name: &str, shape: Shape, progress: &dyn Progress,
    ) -> Result<Arc<Prepared>, ImageError> {
        let slot = self.slot(name, shape);
        let mut slot = slot.lock().await;
        if let Some(prepared) = &*slot
            && prepared.template.state.is_file()
        {
            return Ok(Arc::clone(prepared));
        }
        require(&self.settings.qemu)?;
        let image = self.image(name, progress).await?;
        let _lock = self.lock(name).await?;
        let (accelerator, why_not_kvm) = self.accelerator(&image, shape, progress).await?;
        let baked = bake::bake(&image, &self.studio(accelerator), shape, progress).await?;
        let template = bake::template(&image, &baked, &self.settings.qemu);
        let prepared = Arc::new(Prepared { info: image.info, template, why_not_kvm });
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

    async fn accelerator(
        &self, image: &Image, shape: Shape, progress: &dyn Progress,
    ) -> Result<(Accelerator, Option<String>), ImageError> {
        match self.settings.backend {
            Backend::QemuKvm => Ok((Accelerator::Kvm, None)),
            Backend::QemuTcg => Ok((Accelerator::Tcg, None)),
            Backend::Auto => {
                let studio = self.studio(Accelerator::Tcg);
                let proof = prove::accelerator(image, &studio, shape, &self.settings.state_dir, progress).await?;
                Ok((proof.accelerator, proof.why_not_kvm))
            }
        }
    }

    /// The file in which the accelerator that works here is remembered, if it is.
    pub fn remembered_accelerator(&self) -> Option<PathBuf> {
        Some(prove::memory_file(&self.settings.state_dir)).filter(|file| file.is_file())
    }

    fn studio(&self, accelerator: Accelerator) -> Studio {
        Studio {
            homes: self.homes.clone(),
            program: self.settings.qemu.clone(),
            accelerator,
            boot_limit: BOOT_LIMIT,
            metrics: self.metrics.clone(),
        }
    }

    async fn lock(&self, name: &str) -> Result<Lease, ImageError> {
        let (catalog, name) = (self.catalog.clone(), name.to_owned());
        // Waiting for another process may take minutes, and blocks its thread.
        tokio::task::spawn_blocking(move || catalog.lock(&name))
            .await
            .map_err(|error| ImageError::Unusable(format!("waiting for the image's lock: {error}")))?
    }

    /// Removes what builds, bakes and packed caches left that ended half-way, without waiting for anybody.
    pub async fn remove_unfinished(&self) -> Result<(), ImageError> {
        let (catalog, caches, named) = (self.catalog.clone(), self.packed_caches(), self.caches.clone());
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

    /// What a VM gets of `cache`, whose generations are those of `id`. A named cache that has none yet, or that no `id` is
    /// known for, is an empty directory of the account that runs jobs.
    pub async fn cache(
        &self, cache: &Cache, id: Option<&CacheId>, prepared: &Prepared,
    ) -> Result<CacheMount, ImageError> {
        if let CacheSource::Path(source) = &cache.source {
            let volume = self.cache_volume(source).await?;
            return Ok(CacheMount::of_volume(volume, VolumeFormat::Erofs, cache.mode, &cache.mount));
        }
        let current = id.and_then(|id| {
            let current = self.caches.current(id).unwrap_or_else(|error| {
                // A job is slower without its cache, and no worse.
                tracing::warn!(%error, "a cache cannot be used");
                None
            });
            self.metrics.cache_looked_up(if current.is_some() { CacheFound::Hit } else { CacheFound::Miss });
            current
        });
        Ok(match current {
            Some(held) => held.mount(cache.mode, &cache.mount),
            None => CacheMount::empty(&cache.mount, prepared.info.user.owner()),
        })
    }

    /// Has a volume that is filled examined in a VM of its own, and makes it the newest generation. The VM that filled it
    /// must be gone.
    ///
    /// # Errors
    /// [`CacheError::Refused`] when the volume is not whole. After any error nothing of it is left.
    pub async fn publish_cache(&self, producing: Producing, prepared: &Prepared) -> Result<Published, CacheError> {
        let published = self.examine_and_publish(producing, prepared).await;
        self.metrics.cache_made(match &published {
            Ok(Published::Generation(_)) => CacheMade::Published,
            Ok(Published::Superseded) => CacheMade::Superseded,
            Err(CacheError::Refused(_)) => CacheMade::Refused,
            Err(_) => CacheMade::Failure,
        });
        published
    }

    async fn examine_and_publish(&self, producing: Producing, prepared: &Prepared) -> Result<Published, CacheError> {
        let home = self.home(VmId::random())?;
        let machine = self.restore(home, prepared, Some(&producing.mount_to_examine())).await?;
        producing.examine(machine).await?.publish(&self.caches).await
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
