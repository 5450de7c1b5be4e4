//! Keeps an image and a snapshot ready for whoever needs a VM: builds and bakes what is missing, out of date or damaged, and falls
//! back to the last good one when that fails.
//!
//! What failed is not tried again for every job, but after a pause that grows; a changed recipe is tried at once.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::bake::{self, Installed, Studio};
use super::catalog::{Bake, Catalog, Image, ImageInfo};
use super::failure::{Pauses, Work};
use super::recipe::Recipe;
use super::{ImageError, Progress, build, prove};
use crate::host::lease::Lease;
use crate::host::seen::Seen;
use crate::metrics::labels::Made;
use crate::vm::VmError;
use crate::vm::spec::{Accelerator, Shape};

/// Makes images and snapshots. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Keeper {
    pub catalog: Catalog,
    /// Directories with recipes, besides those that are built in.
    pub recipes: Vec<PathBuf>,
    /// With what VMs are made; its accelerator is that of builds.
    pub studio: Studio,
    /// `None`: whichever works here, as `state_dir` remembers it.
    pub accelerator: Option<Accelerator>,
    pub state_dir: PathBuf,
    pub(super) pauses: Pauses,
}

/// What VMs of one image and shape are restored from.
#[derive(Debug)]
pub struct Ready {
    pub image: Image,
    pub bake: Bake,
    /// Said once when emulation is used because KVM does not work.
    pub why_not_kvm: Option<String>,
    /// Set when it stands in for something that could not be made.
    pub stand_in: Option<StandIn>,
    made_for: MadeFor,
    /// All files of both.
    seen: Seen,
}

/// What was asked for, and with what.
#[derive(Debug, PartialEq, Eq)]
struct MadeFor {
    /// The recipe's digest.
    recipe: Option<String>,
    /// The monitor, whose version is part of the snapshot.
    monitor: Option<Installed>,
}

impl Ready {
    fn new(
        image: Image, bake: Bake, why_not_kvm: Option<String>, stand_in: Option<StandIn>, made_for: MadeFor,
    ) -> Result<Self, ImageError> {
        let lost = |file: PathBuf| VmError::TemplateLost { file };
        let seen = Seen::of(image.paths().chain(bake.paths())).map_err(lost)?;
        Ok(Self { image, bake, why_not_kvm, stand_in, made_for, seen })
    }
}

/// Why an older image or snapshot is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandIn {
    /// For authors of jobs: no reasons, which are the operator's.
    pub note: String,
    /// When it is worth asking again.
    pub until: Instant,
}

/// The accelerator, and why it is not KVM.
type Proven = (Accelerator, Option<String>);

impl Keeper {
    /// One that knows of no failures yet.
    pub fn new(
        catalog: Catalog, recipes: Vec<PathBuf>, studio: Studio, accelerator: Option<Accelerator>, state_dir: PathBuf,
    ) -> Self {
        Self { catalog, recipes, studio, accelerator, state_dir, pauses: Pauses::default() }
    }

    /// The image of that name as its recipe says it should be, built if it is not there or the recipe has changed.
    pub async fn image(&self, name: &str, progress: &dyn Progress) -> Result<Image, ImageError> {
        let recipe = Recipe::find(name, &self.recipes)?;
        if let Some(image) = self.current(&recipe)? {
            return Ok(image);
        }
        let _lock = self.lock(name).await?;
        match self.current(&recipe)? {
            Some(image) => Ok(image),
            None => self.build_locked(&recipe, progress).await,
        }
    }

    /// Builds the image anew, whatever there is.
    pub async fn build(&self, name: &str, progress: &dyn Progress) -> Result<Image, ImageError> {
        let recipe = Recipe::find(name, &self.recipes)?;
        let _lock = self.lock(name).await?;
        self.build_locked(&recipe, progress).await
    }

    /// What VMs of that image and shape are restored from, with everything that is missing built and baked first.
    pub async fn ready(&self, name: &str, shape: Shape, progress: &dyn Progress) -> Result<Ready, ImageError> {
        let monitor = Installed::find(self.studio.vmm.program());
        let (image, recipe, built) = self.image_or_last(name, progress).await?;
        let made_for = MadeFor { recipe, monitor };
        let _lock = self.lock(name).await?;
        let proven = self.accelerator(&image, shape, progress).await?;
        match self.baked(&image, proven.0, shape, progress).await {
            Ok(bake) => Ready::new(image, bake, proven.1, built, made_for),
            Err(ImageError::Damaged { name, damage }) => {
                tracing::warn!(%damage, "the image `{name}` is damaged; it is built again");
                progress.step(&format!("the image `{name}` is damaged: {damage}"));
                let image = self.build_locked(&Recipe::find(&name, &self.recipes)?, progress).await?;
                let bake = self.baked(&image, proven.0, shape, progress).await?;
                Ready::new(image, bake, proven.1, None, made_for)
            }
            Err(error) => {
                let (image, bake, stand_in) = self.last_bake(&image, proven.0, shape, error, progress).await?;
                Ready::new(image, bake, proven.1, Some(stand_in), made_for)
            }
        }
    }

    /// Whether what was ready once still is what somebody who asks should get.
    pub fn is_still_right(&self, ready: &Ready) -> bool {
        // Also tells the garbage collection that it is in use.
        let is_there = || {
            std::fs::File::open(&ready.bake.directory).is_ok_and(|bake| {
                drop(bake.set_modified(std::time::SystemTime::now()));
                ready.seen.lost().is_none()
            })
        };
        let is_due = ready.stand_in.as_ref().is_some_and(|stand_in| stand_in.until <= Instant::now());
        let ImageInfo { name, digest, .. } = &ready.image.info;
        // Somebody may have built it anew from the same recipe, for the packages of today.
        let is_current = || ready.stand_in.is_some() || self.catalog.current_digest(name).as_ref() == Some(digest);
        let made_for = || MadeFor {
            recipe: Recipe::find(name, &self.recipes).ok().map(|recipe| recipe.digest()),
            monitor: Installed::find(self.studio.vmm.program()),
        };
        !is_due && is_current() && is_there() && made_for() == ready.made_for
    }

    /// The image with the recipe's digest, or the one before if it cannot be built.
    async fn image_or_last(
        &self, name: &str, progress: &dyn Progress,
    ) -> Result<(Image, Option<String>, Option<StandIn>), ImageError> {
        let recipe = match Recipe::find(name, &self.recipes) {
            Err(error @ ImageError::Unknown { .. }) => return Err(error),
            recipe => recipe,
        };
        let digest = recipe.as_ref().ok().map(Recipe::digest);
        if let Ok(recipe) = &recipe
            && let Some(image) = self.current(recipe)?
        {
            return Ok((image, digest, None));
        }
        let wanted = digest.as_deref().unwrap_or_default();
        let error = match self.pauses.now(name, Work::Build, wanted) {
            Some(pause) => put_off(&format!("the image `{name}` could not be built"), pause.until, &pause.error),
            None => {
                let built = async {
                    let recipe = recipe?;
                    let _lock = self.lock(name).await?;
                    // Somebody may have built it while this one waited.
                    match self.current(&recipe)? {
                        Some(image) => Ok(image),
                        None => self.build_locked(&recipe, progress).await,
                    }
                };
                match built.await {
                    Ok(image) => return Ok((image, digest, None)),
                    Err(error) => {
                        self.failed(name, Work::Build, wanted, &error);
                        error
                    }
                }
            }
        };
        let Some(last) = self.catalog.current(name)? else { return Err(self.lost_if_it_was_there(name, error)) };
        let until = self.pauses.now(name, Work::Build, wanted).map_or_else(Instant::now, |pause| pause.until);
        let note = format!(
            "note: the image `{name}` could not be built from its present recipe; this machine is of the one of {}",
            date(last.info.built_at)
        );
        progress.step(&format!("using the image of {}: {error}", date(last.info.built_at)));
        Ok((last, digest, Some(StandIn { note, until })))
    }

    /// Says of an image that could not be built that there was one before.
    fn lost_if_it_was_there(&self, name: &str, error: ImageError) -> ImageError {
        match self.catalog.current_digest(name) {
            Some(_) if !error.is_disk_full() => ImageError::Unusable(format!(
                "the image `{name}` has lost some of its files, and could not be built again: {error}"
            )),
            _ => error,
        }
    }

    fn current(&self, recipe: &Recipe) -> Result<Option<Image>, ImageError> {
        Ok(self.catalog.current(&recipe.name)?.filter(|image| image.info.recipe == recipe.digest()))
    }

    async fn build_locked(&self, recipe: &Recipe, progress: &dyn Progress) -> Result<Image, ImageError> {
        self.studio.vmm.require()?;
        let began = Instant::now();
        let built = build::build(&self.catalog, recipe, &self.studio, progress).await;
        self.studio.metrics.built(Made::of(&built), began.elapsed());
        if built.is_ok() {
            self.pauses.end(&recipe.name, Work::Build);
            self.catalog.forget_failure(&recipe.name, Work::Build);
        }
        built
    }

    /// The snapshot of an image; nothing is tried during a pause.
    async fn baked(
        &self, image: &Image, accelerator: Accelerator, shape: Shape, progress: &dyn Progress,
    ) -> Result<Bake, ImageError> {
        let (name, work) = (&image.info.name, Work::Bake(shape));
        let studio = Studio { accelerator, ..self.studio.clone() };
        if let Some(pause) = self.pauses.now(name, work, &image.info.digest) {
            let key = bake::key(image, &studio.vmm, accelerator, shape).await?;
            let what = format!("no snapshot of the image `{name}` could be made");
            let there = studio.checked.bake(image, &key, progress).await?;
            return there.ok_or_else(|| put_off(&what, pause.until, &pause.error));
        }
        let baked = bake::bake(image, &studio, shape, progress).await;
        match &baked {
            Ok(_) => {
                self.pauses.end(name, work);
                self.catalog.forget_failure(name, work);
            }
            // That is the image's failure, and mended by building it.
            Err(ImageError::Damaged { .. }) => {}
            Err(error) => self.failed(name, work, &image.info.digest, error),
        }
        baked
    }

    /// A snapshot of an earlier image, in the place of one that failed with `error`.
    async fn last_bake(
        &self, image: &Image, accelerator: Accelerator, shape: Shape, error: ImageError, progress: &dyn Progress,
    ) -> Result<(Image, Bake, StandIn), ImageError> {
        let name = &image.info.name;
        let mut others = self.catalog.images(name)?;
        others.retain(|other| other.info.digest != image.info.digest);
        others.sort_by_key(|other| std::cmp::Reverse(other.info.built_at));
        for other in others {
            let key = bake::key(&other, &self.studio.vmm, accelerator, shape).await?;
            let found = match self.studio.checked.bake(&other, &key, progress).await {
                // Then another one.
                Err(ImageError::Damaged { .. }) => None,
                found => found?,
            };
            if let Some(bake) = found {
                let pause = self.pauses.now(name, Work::Bake(shape), &image.info.digest);
                let date = date(other.info.built_at);
                let note = format!(
                    "note: no machine could be made from the newest image `{name}`; this one is of that of {date}"
                );
                progress.step(&format!("using the image of {date}: {error}"));
                let until = pause.map_or_else(Instant::now, |pause| pause.until);
                return Ok((other, bake, StandIn { note, until }));
            }
        }
        Err(error)
    }

    fn failed(&self, name: &str, work: Work, recipe: &str, error: &ImageError) {
        let pause = self.pauses.begin(name, work, recipe, error);
        tracing::warn!(image = name, %error, tries = pause.tries, "an image or its snapshot could not be made");
        self.catalog.note_failure(name, &pause.failure(work));
    }

    async fn accelerator(&self, image: &Image, shape: Shape, progress: &dyn Progress) -> Result<Proven, ImageError> {
        match self.accelerator {
            Some(accelerator) => Ok((accelerator, None)),
            None => {
                let proof = prove::accelerator(image, &self.studio, shape, &self.state_dir, progress).await?;
                Ok((proof.accelerator, proof.why_not_kvm))
            }
        }
    }

    async fn lock(&self, name: &str) -> Result<Lease, ImageError> {
        let (catalog, name) = (self.catalog.clone(), name.to_owned());
        // Waiting for another process may take minutes, and blocks its thread.
        tokio::task::spawn_blocking(move || catalog.lock(&name))
            .await
            .map_err(|error| ImageError::Unusable(format!("waiting for the image's lock: {error}")))?
    }
}

fn put_off(what: &str, until: Instant, error: &str) -> ImageError {
    let left = until.saturating_duration_since(Instant::now()).as_secs() + 1;
    let left = crate::config::format_duration(Duration::from_secs(left));
    ImageError::Unusable(format!("{what}; it is tried again in {left}\n{error}"))
}

/// A time in milliseconds since the epoch, for people.
pub fn date(millis: i64) -> String {
    let when = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    when.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
