//! The guest's kernel: out of its package, with the drivers that the agent loads and the modules that a recipe asks for.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::recipe::{Kernel, KernelSource, Source};
use super::source::Root;
use super::{ImageError, Progress, modules, packages};
use crate::host::command;

/// How long it may take to unpack the package.
const UNPACK_LIMIT: Duration = Duration::from_secs(5 * 60);

/// What the tools of modules want to know beside them.
const MODULE_LISTS: [&str; 3] = ["modules.order", "modules.builtin", "modules.builtin.modinfo"];

/// Whether the step that installs the packages can bring the kernel along.
pub(super) fn comes_with(source: &Source, kernel: &Kernel) -> bool {
    match (source, &kernel.source) {
        (Source::Packages(packages), KernelSource::Archive { suite, mirror }) => {
            packages.suite == *suite && packages.mirror == *mirror
        }
        _ => false,
    }
}

/// Brings the kernel's package into `directory`, unless it came with the packages.
pub(super) async fn fetch(
    source: &Source, kernel: &Kernel, directory: &Path, progress: &dyn Progress,
) -> Result<(), ImageError> {
    match &kernel.source {
        _ if comes_with(source, kernel) => Ok(()),
        KernelSource::Archive { suite, mirror } => {
            progress.step(&format!("fetching the kernel of Debian {suite}"));
            packages::fetch_kernel(suite, mirror.as_deref(), directory, progress).await
        }
        KernelSource::Package(file) => {
            let name = file.path.file_name().unwrap_or_default();
            let copied = fs::copy(&file.path, directory.join(name)).map(drop);
            copied.map_err(ImageError::io(format!("the kernel's package `{}`", file.path.display())))
        }
    }
}

/// Takes kernel and modules out of the package in `directory`, and puts those that the recipe asks for into `directory/root`. Gives
/// the kernel's version.
pub(super) async fn unpack(directory: &Path, wanted: &[String]) -> Result<String, ImageError> {
    let package = entry_with(directory, "linux-image-", ".deb")?;
    let unpacked = directory.join("kernel-package");
    let (from, to) = (package.display().to_string(), unpacked.display().to_string());
    command::run("dpkg-deb", &["-x", &from, &to], UNPACK_LIMIT, |_| {}).await?;
    let (directory, wanted) = (directory.to_owned(), wanted.to_vec());
    let arrange = move || {
        let kernel = entry_with(&unpacked.join("boot"), "vmlinuz-", "")?;
        let name = kernel.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let version = name.trim_start_matches("vmlinuz-").to_owned();
        let modules_dir = modules_of(&unpacked, &version)?;
        copy_drivers(&modules_dir, &directory.join("modules"))?;
        if !wanted.is_empty() {
            install_modules(&modules_dir, &version, &wanted, &directory)?;
        }
        fs::rename(&kernel, directory.join("kernel")).map_err(ImageError::io("kernel"))?;
        fs::remove_dir_all(&unpacked)
            .and_then(|()| fs::remove_file(&package))
            .map_err(ImageError::io("kernel package"))?;
        Ok(version)
    };
    let done = tokio::task::spawn_blocking(arrange).await;
    done.map_err(|error| ImageError::Unusable(format!("unpacking the kernel was interrupted: {error}")))?
}

fn modules_of(unpacked: &Path, version: &str) -> Result<PathBuf, ImageError> {
    [unpacked.join("lib/modules"), unpacked.join("usr/lib/modules")]
        .into_iter()
        .map(|directory| directory.join(version))
        .find(|directory| directory.is_dir())
        .ok_or_else(|| ImageError::Unusable(format!("the kernel package of {version} has no modules")))
}

/// What the agent loads before there is a root file system, named in the order in which it does.
fn copy_drivers(modules_dir: &Path, target: &Path) -> Result<(), ImageError> {
    fs::create_dir(target).map_err(ImageError::io("modules"))?;
    for (position, module) in modules::in_load_order(modules_dir, &modules::DRIVERS)?.iter().enumerate() {
        let name = module.place.file_name().unwrap_or_default().to_string_lossy();
        fs::write(target.join(format!("{position:02}-{name}")), &module.content).map_err(ImageError::io("modules"))?;
    }
    Ok(())
}

/// Puts modules, with what they depend on, where `modprobe` in the guest looks for them.
fn install_modules(modules_dir: &Path, version: &str, wanted: &[String], directory: &Path) -> Result<(), ImageError> {
    let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    modules::require(modules_dir, &names)?;
    let wanted = modules::in_load_order(modules_dir, &names)?;
    let place = Path::new("lib/modules").join(version);
    let put = || -> std::io::Result<()> {
        let mut root = Root::open(&directory.join("root"), &directory.join("removed"))?;
        for module in &wanted {
            root.write(
                place.join(&module.place).as_os_str().as_encoded_bytes(),
                &mut module.content.as_slice(),
                0o644,
            )?;
        }
        for list in MODULE_LISTS.iter().filter(|list| modules_dir.join(list).is_file()) {
            let mut file = File::open(modules_dir.join(list))?;
            root.write(place.join(list).as_os_str().as_encoded_bytes(), &mut file, 0o644)?;
        }
        crate::host::disk::remove_tree(&directory.join("removed"))
    };
    put().map_err(ImageError::io("the modules of the guest"))
}

/// The one entry of a directory with this beginning and end.
fn entry_with(directory: &Path, prefix: &str, suffix: &str) -> Result<PathBuf, ImageError> {
    let entries = fs::read_dir(directory).map_err(ImageError::io(directory.display().to_string()))?;
    let mut found = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(prefix) && name.ends_with(suffix)
    });
    found
        .next()
        .ok_or_else(|| ImageError::Unusable(format!("there is no `{prefix}*{suffix}` in `{}`", directory.display())))
}
