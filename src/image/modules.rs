//! The drivers that a guest needs before it has a root file system, in their order of dependency.
//!
//! A kernel package has no list of dependencies (the distribution makes it at installation), but every module names what it
//! needs in its `.modinfo` section.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::ImageError;

/// What the agent needs. Some are built into some kernels; those are not an error.
const WANTED: [&str; 8] =
    ["virtio", "virtio_ring", "virtio_mmio", "virtio_blk", "virtio_console", "erofs", "ext4", "overlay"];

/// Depth of a dependency chain that is believed.
const MAX_DEPTH: usize = 32;

/// Files of the wanted modules below `modules_dir` (`lib/modules/VERSION`), each after what it depends on.
pub fn in_load_order(modules_dir: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let mut available = BTreeMap::new();
    collect(&modules_dir.join("kernel"), &mut available)?;
    let mut order = Vec::new();
    let mut seen = HashSet::new();
    for name in WANTED {
        visit(name, &available, &mut seen, &mut order, 0)?;
    }
    Ok(order)
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
        let order = in_load_order(directory.path()).unwrap();
        let names: Vec<_> = order.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["virtio.ko", "virtio-ring.ko", "virtio_blk.ko"]);
    }
}
