//! The drivers that a guest needs before it has a root file system, in their order of dependency.
//!
//! A kernel package has no list of dependencies (the distribution makes it at installation), but every module names what it
//! needs in its `.modinfo` section.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::ImageError;

/// What the agent needs. Some are built into some kernels; those are not an error.
pub const DRIVERS: [&str; 11] = [
    "virtio",
    "virtio_ring",
    "virtio_mmio",
    "virtio_blk",
    "virtio_console",
    "vmw_vsock_virtio_transport",
    "virtio_rng",
    "vmgenid",
    "erofs",
    "ext4",
    "overlay",
];

/// Depth of a dependency chain that is believed.
const MAX_DEPTH: usize = 32;

/// Files of the wanted modules below `modules_dir` (`lib/modules/VERSION`), each after what it depends on. What is built into
/// the kernel has no file.
///
/// # Errors
/// When files cannot be read, or none is of a form that guests can load.
pub fn in_load_order(modules_dir: &Path, wanted: &[&str]) -> Result<Vec<PathBuf>, ImageError> {
    let available = available(modules_dir)?;
    let mut order = Vec::new();
    let mut seen = HashSet::new();
    for name in wanted {
        visit(&name.replace('-', "_"), &available, &mut seen, &mut order, 0)?;
    }
    Ok(order)
}

/// Fails if the kernel has one of these modules neither in a file nor built in.
pub fn require(modules_dir: &Path, wanted: &[&str]) -> Result<(), ImageError> {
    let available = available(modules_dir)?;
    let built_in = fs::read_to_string(modules_dir.join("modules.builtin")).unwrap_or_default();
    let is_built_in = |name: &str| {
        built_in.lines().any(|line| {
            let stem = Path::new(line).file_stem().unwrap_or_default().to_string_lossy().replace('-', "_");
            stem == name
        })
    };
    let names = wanted.iter().map(|name| name.replace('-', "_"));
    match names.into_iter().find(|name| !available.contains_key(name) && !is_built_in(name)) {
        Some(missing) => Err(ImageError::Unusable(format!(
            "the kernel has no module `{missing}`\n  hint: look at `kernel.modules` of the recipe"
        ))),
        None => Ok(()),
    }
}

fn available(modules_dir: &Path) -> Result<BTreeMap<String, PathBuf>, ImageError> {
    let mut available = BTreeMap::new();
    collect(&modules_dir.join("kernel"), &mut available)?;
    if available.is_empty() {
        let hint = "hint: kernels with compressed modules cannot be used";
        return Err(ImageError::Unusable(format!("there is no module in `{}`\n  {hint}", modules_dir.display())));
    }
    Ok(available)
}

fn collect(directory: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<(), ImageError> {
    let context = || ImageError::io(format!("kernel modules in `{}`", directory.display()));
    for entry in fs::read_dir(directory).map_err(context())? {
        let entry = entry.map_err(context())?;
        let path = entry.path();
        if entry.file_type().map_err(context())?.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "ko")
            && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
        {
            found.insert(stem.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn visit(
    name: &str, available: &BTreeMap<String, PathBuf>, seen: &mut HashSet<String>, order: &mut Vec<PathBuf>,
    depth: usize,
) -> Result<(), ImageError> {
    if depth > MAX_DEPTH || !seen.insert(name.to_owned()) {
        return Ok(());
    }
    // Absent means built in.
    let Some(path) = available.get(name) else { return Ok(()) };
    let bytes = fs::read(path).map_err(ImageError::io(path.display().to_string()))?;
    for dependency in dependencies(&bytes) {
        visit(&dependency, available, seen, order, depth + 1)?;
    }
    order.push(path.clone());
    Ok(())
}

/// The names in a module's `depends=` entry.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = &module[start + KEY.len()..];
    let value = &value[..value.iter().position(|byte| *byte == 0).unwrap_or(0)];
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_depends_on_comes_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let kernel = directory.path().join("kernel/drivers");
        fs::create_dir_all(&kernel).unwrap();
        for (file, depends) in
            [("virtio_blk.ko", "virtio,virtio-ring"), ("virtio-ring.ko", "virtio"), ("virtio.ko", "")]
        {
            fs::write(kernel.join(file), format!("ELF\0license=GPL\0depends={depends}\0name=x\0")).unwrap();
        }
        let order = in_load_order(directory.path(), &DRIVERS).unwrap();
        let names: Vec<_> = order.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["virtio.ko", "virtio-ring.ko", "virtio_blk.ko"]);
        fs::write(directory.path().join("modules.builtin"), "kernel/fs/in-side.ko\n").unwrap();
        require(directory.path(), &["virtio-blk", "in_side"]).unwrap();
        assert!(require(directory.path(), &["virtio", "gone"]).unwrap_err().to_string().contains("`gone`"));
    }
}
