//! From a recipe to an image: the root file system on the host, the set-up scripts in a VM.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bake::{self, AGENT, Studio};
use super::catalog::{Catalog, Image, ImageInfo, write_json};
use super::recipe::{FORMAT, Recipe, Source, digest};
use super::source::{self, Root};
use super::staging::Staging;
use super::{ImageError, Progress, files, gc, kernel, packages, script};
use crate::host::checksum::{self, Checksum, Checksums};
use crate::host::{command, disk};
use crate::lifecycle::ImageStep;

/// How long it may take to pack the root file system.
const PACK_LIMIT: Duration = Duration::from_secs(10 * 60);

/// The set-up scripts' layer.
pub(super) const LAYER: &str = "layer.ext4";

/// What was fetched for the set-up scripts, while the image is being made.
const FETCHED: &str = "fetched";

/// Builds the image of `recipe` and makes it current. If one of the same content is there, it is left as it is. The caller holds
/// the image's lock.
pub async fn build(
    catalog: &Catalog, recipe: &Recipe, studio: &Studio, progress: &dyn Progress,
) -> Result<Image, ImageError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(ImageError::NotRoot);
    }
    let staging = Staging::begin(&catalog.directory(&recipe.name))?;
    let directory = staging.path();
    studio.lifecycle.reached(ImageStep::BuildBegun).await;
    let environment = make_root(recipe, directory, progress).await?;
    studio.lifecycle.reached(ImageStep::RootMade).await;
    if !recipe.files.is_empty() {
        files::fetch(&recipe.files, &directory.join(FETCHED), progress).await?;
    }
    kernel::fetch(&recipe.source, &recipe.kernel, directory, progress).await?;
    let kernel = kernel::unpack(directory, &recipe.kernel.modules).await?;
    studio.lifecycle.reached(ImageStep::KernelUnpacked).await;
    progress.step("making the read-only root file system");
    let packages = pack(directory, matches!(recipe.source, Source::Packages(_))).await?;
    studio.lifecycle.reached(ImageStep::RootPacked).await;
    let info = describe(recipe, directory, environment, kernel, packages).await?;
    if let Some(image) = the_same(catalog, &info).await? {
        drop(staging);
        catalog.set_current(&recipe.name, &image.info.digest)?;
        studio.lifecycle.reached(ImageStep::ImageCurrent).await;
        return Ok(image);
    }
    let mut image = Image { directory: directory.to_owned(), info };
    if !recipe.setup.is_empty() {
        progress.step("running the set-up scripts in a VM");
        run_setup(&image, recipe, studio).await?;
        let layer = checksum_in(directory, LAYER).await?;
        image.info.files.insert(LAYER.to_owned(), layer);
    }
    studio.lifecycle.reached(ImageStep::SetUp).await;
    write_json(&image.file("image.json"), &image.info)?;
    studio.lifecycle.reached(ImageStep::ImageDescribed).await;
    let digest = image.info.digest;
    staging.publish(&catalog.directory(&recipe.name).join(&digest)).await?;
    studio.lifecycle.reached(ImageStep::ImagePublished).await;
    catalog.set_current(&recipe.name, &digest)?;
    studio.lifecycle.reached(ImageStep::ImageCurrent).await;
    gc::remove_superseded(catalog, &recipe.name)?;
    catalog.image(&recipe.name, &digest)
}

/// Makes `directory/root`; gives the environment that programs in it shall have.
async fn make_root(
    recipe: &Recipe, directory: &Path, progress: &dyn Progress,
) -> Result<Vec<(String, String)>, ImageError> {
    let mut environment = match &recipe.source {
        Source::Packages(wanted) => {
            let (count, suite) = (wanted.packages.len(), &wanted.suite);
            progress.step(&format!("installing {count} packages of Debian {suite}, and what they need"));
            let with_kernel = kernel::comes_with(&recipe.source, &recipe.kernel);
            packages::install(wanted, with_kernel, directory, progress).await?;
            Vec::new()
        }
        existing => source::unpack(existing, directory, progress).await?.environment,
    };
    environment.retain(|(name, _)| !recipe.environment.contains_key(name));
    environment.extend(recipe.environment.clone());
    Ok(environment)
}

/// Makes one read-only file of `directory/root`, and gives the packages in it.
async fn pack(directory: &Path, is_installed: bool) -> Result<Vec<String>, ImageError> {
    let (top, trash) = (directory.join("root"), directory.join("removed"));
    let look = {
        let (top, trash) = (top.clone(), trash.clone());
        move || {
            let mut root = Root::open(&top, &trash).map_err(ImageError::io("the root file system"))?;
            if is_installed {
                packages::make_reproducible(&mut root)?;
            }
            packages::installed(&root)
        }
    };
    let packages = tokio::task::spawn_blocking(look).await;
    let packages = packages.map_err(|error| ImageError::Unusable(format!("packing was interrupted: {error}")))??;
    make_erofs(&top, &directory.join("root.erofs")).await?;
    for done in [top, trash] {
        disk::remove_tree(&done).map_err(ImageError::io("removing the unpacked root file system"))?;
    }
    Ok(packages)
}

/// A read-only image of a directory. Fixed times and identity, so that equal content gives equal bytes.
pub(super) async fn make_erofs(from: &Path, to: &Path) -> Result<(), ImageError> {
    let (from, to) = (from.display().to_string(), to.display().to_string());
    let arguments = ["-d0", "-T0", "-U", "00000000-0000-0000-0000-000000000000", &to, &from];
    command::run("mkfs.erofs", &arguments, PACK_LIMIT, |_| {}).await?;
    Ok(())
}

/// What the image is, before the set-up scripts ran.
async fn describe(
    recipe: &Recipe, directory: &Path, environment: Vec<(String, String)>, kernel: String, packages: Vec<String>,
) -> Result<ImageInfo, ImageError> {
    let files = checksums(directory).await?;
    let texts = |scripts: &[super::recipe::Script]| -> Vec<String> {
        scripts.iter().map(|script| script.text.clone()).collect()
    };
    let agent = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(AGENT));
    let scripts = (texts(&recipe.setup), texts(&recipe.bake));
    let fetched: Vec<_> = recipe.files.iter().map(|file| (&file.name, &file.sha256)).collect();
    let content = (FORMAT, &files, &packages, &kernel, &agent, scripts, fetched, &recipe.user, &environment);
    Ok(ImageInfo {
        name: recipe.name.clone(),
        digest: digest(&content),
        recipe: recipe.digest(),
        description: recipe.description.clone(),
        source: recipe.source.to_string(),
        kernel,
        user: recipe.user.clone(),
        environment,
        packages,
        fetched: recipe.files.clone(),
        bake: recipe.bake.clone(),
        built_at: crate::clock::now_ms(),
        built_by: env!("CARGO_PKG_VERSION").to_owned(),
        agent,
        files,
    })
}

/// The checksums of what VMs boot from.
async fn checksums(directory: &Path) -> Result<Checksums, ImageError> {
    let directory = directory.to_owned();
    let work = move || -> std::io::Result<Checksums> {
        let mut names = vec!["kernel".to_owned(), "root.erofs".to_owned()];
        for module in fs::read_dir(directory.join("modules"))? {
            names.push(format!("modules/{}", module?.file_name().to_string_lossy()));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        checksum::of_files(&directory, &names)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other).and_then(|done| done).map_err(ImageError::io("the image's checksums"))
}

async fn checksum_in(directory: &Path, name: &str) -> Result<Checksum, ImageError> {
    let path: PathBuf = directory.join(name);
    let done = tokio::task::spawn_blocking(move || checksum::of(&path)).await;
    done.map_err(std::io::Error::other)
        .and_then(|done| done)
        .map_err(ImageError::io(format!("the checksum of `{name}`")))
}

/// An image with the same content, if there is one that is whole. It takes over the recipe, which only looked different.
async fn the_same(catalog: &Catalog, info: &ImageInfo) -> Result<Option<Image>, ImageError> {
    let Ok(mut image) = catalog.image(&info.name, &info.digest) else { return Ok(None) };
    if image.verify().await.is_err() {
        return Ok(None);
    }
    if image.info.recipe != info.recipe {
        image.info.recipe.clone_from(&info.recipe);
        let fresh = image.file(".image.json");
        write_json(&fresh, &image.info)?;
        fs::rename(fresh, image.file("image.json")).map_err(ImageError::io("image.json"))?;
    }
    Ok(Some(image))
}

/// Runs the scripts in a VM on top of the root file system; the VM's scratch disk becomes the image's layer.
async fn run_setup(image: &Image, recipe: &Recipe, studio: &Studio) -> Result<(), ImageError> {
    let fetched = image.file(FETCHED);
    let vm = bake::boot_for_setup(image, studio).await?;
    let ran = async {
        let guest = &vm.attached.guest;
        let mut environment = image.info.environment.clone();
        if !recipe.files.is_empty() {
            environment.push(files::hand_over(guest, &recipe.files, &fetched).await?);
        }
        for one in &recipe.setup {
            script::run(guest, one, &environment).await?;
        }
        guest.sync(true).await.map_err(ImageError::from)
    };
    let outcome = bake::while_it_lives(&vm.attached, ran).await.map_err(|error| vm.blamed_on_disk(error));
    let layer = image.file(LAYER);
    vm.finish(outcome.is_ok().then_some(&layer)).await?;
    outcome?;
    if recipe.files.is_empty() {
        return Ok(());
    }
    disk::remove_tree(&fetched).map_err(ImageError::io(fetched.display().to_string()))
}
