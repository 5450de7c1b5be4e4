//! The drivers that a guest needs before it has a root file system, in their order of dependency.
//!
//! A kernel package has no list of dependencies (the distribution makes it at installation), but every module names what it
//! needs in its `.modinfo` section. Many kernels have their modules compressed; guests get them plain, as neither the agent nor
//! every image can read them otherwise.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::ImageError;
use super::plain::Plain;

/// What the agent needs. Some are built into some kernels; those are not an error.
pub const DRIVERS: [&str; 12] = [
    "virtio",
    "virtio_ring",
    "virtio_mmio",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "vmw_vsock_virtio_transport",
    "virtio_rng",
    "vmgenid",
    "erofs",
    "ext4",
    "overlay",
];

/// Depth of a dependency chain that is believed.
const MAX_DEPTH: usize = 32;

/// Bytes of a module, decompressed. The largest of Debian has a quarter of that.
const MAX_MODULE: u64 = 64 << 20;

/// What is behind the name of a module, compressed or not.
const SUFFIXES: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

/// A module as guests load it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Below `lib/modules/VERSION`; ends in `.ko`.
    pub place: PathBuf,
    pub content: Vec<u8>,
}

/// The wanted modules below `modules_dir` (`lib/modules/VERSION`), each after what it depends on. What is built into
/// the kernel has no file. Blocks the thread, which must belong to an async runtime.
///
/// # Errors
/// When files cannot be read or decompressed, or there are no modules at all.
pub fn in_load_order(modules_dir: &Path, wanted: &[&str]) -> Result<Vec<Module>, ImageError> {
    let mut walk = Walk { modules_dir, available: available(modules_dir)?, seen: HashSet::new(), order: Vec::new() };
    wanted.iter().try_for_each(|name| walk.visit(&name.replace('-', "_"), 0))?;
    Ok(walk.order)
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

/// Files by the names of their modules.
fn available(modules_dir: &Path) -> Result<BTreeMap<String, PathBuf>, ImageError> {
    let mut available = BTreeMap::new();
    collect(&modules_dir.join("kernel"), &mut available)?;
    if available.is_empty() {
        return Err(ImageError::Unusable(format!("there is no module in `{}`", modules_dir.display())));
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
        } else if let Some(name) = stem(&path) {
            found.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// The name of a file without what tells that it is a module.
fn stem(file: &Path) -> Option<&str> {
    let name = file.file_name()?.to_str()?;
    SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))
}

/// On the way through what depends on what.
struct Walk<'m> {
    modules_dir: &'m Path,
    available: BTreeMap<String, PathBuf>,
    seen: HashSet<String>,
    order: Vec<Module>,
}

impl Walk<'_> {
    fn visit(&mut self, name: &str, depth: usize) -> Result<(), ImageError> {
        if depth > MAX_DEPTH || !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        // Absent means built in.
        let Some(path) = self.available.get(name) else { return Ok(()) };
        let place = path.strip_prefix(self.modules_dir).unwrap_or(path);
        let place = place.with_file_name(format!("{}.ko", stem(path).unwrap_or(name)));
        let module = Module { place, content: read(path)? };
        for dependency in dependencies(&module.content) {
            self.visit(&dependency, depth + 1)?;
        }
        self.order.push(module);
        Ok(())
    }
}

/// A module, decompressed.
fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    let context = || ImageError::io(format!("the kernel module `{}`", path.display()));
    let mut plain = File::open(path).and_then(Plain::of).map_err(context())?;
    let mut content = Vec::new();
    (&mut plain).take(MAX_MODULE + 1).read_to_end(&mut content).map_err(context())?;
    if content.len() as u64 > MAX_MODULE {
        let large = io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {} MiB", MAX_MODULE >> 20));
        return Err(context()(large));
    }
    tokio::runtime::Handle::current().block_on(plain.finish())?;
    Ok(content)
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
    use crate::host::command;

    const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

    /// Where reading may block, as it does when an image is built.
    async fn order(directory: &Path) -> Result<Vec<Module>, ImageError> {
        let directory = directory.to_owned();
        tokio::task::spawn_blocking(move || in_load_order(&directory, &DRIVERS)).await.unwrap()
    }

    fn module(depends: &str) -> Vec<u8> {
        format!("ELF\0license=GPL\0depends={depends}\0name=x\0").into_bytes()
    }

    #[tokio::test]
    async fn what_a_module_depends_on_comes_before_it_compressed_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let kernel = directory.path().join("kernel/drivers");
        fs::create_dir_all(&kernel).unwrap();
        for (file, depends, compressor) in [
            ("virtio_blk.ko", "virtio,virtio-ring", Some("xz")),
            ("virtio-ring.ko", "virtio", Some("zstd")),
            ("virtio.ko", "", None),
            ("erofs.ko", "", Some("gzip")),
        ] {
            fs::write(kernel.join(file), module(depends)).unwrap();
            if let Some(program) = compressor {
                command::run(program, &["-q", &kernel.join(file).display().to_string()], LIMIT, |_| {}).await.unwrap();
                drop(fs::remove_file(kernel.join(file)));
            }
        }
        let order = order(directory.path()).await.unwrap();
        let names: Vec<_> = order.iter().map(|module| module.place.to_str().unwrap()).collect();
        let expected = ["virtio.ko", "virtio-ring.ko", "virtio_blk.ko", "erofs.ko"];
        assert_eq!(names, expected.map(|name| format!("kernel/drivers/{name}")));
        assert_eq!(order[2].content, module("virtio,virtio-ring"));
        fs::write(directory.path().join("modules.builtin"), "kernel/fs/in-side.ko\n").unwrap();
        require(directory.path(), &["virtio-blk", "in_side"]).unwrap();
        assert!(require(directory.path(), &["virtio", "gone"]).unwrap_err().to_string().contains("`gone`"));
    }

    #[tokio::test]
    async fn a_module_that_is_no_archive_or_grows_without_end_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let kernel = directory.path().join("kernel");
        fs::create_dir_all(&kernel).unwrap();
        let bomb = kernel.join("virtio.ko");
        File::create(&bomb).unwrap().set_len(MAX_MODULE + 1).unwrap();
        command::run("zstd", &["-q", "--rm", &bomb.display().to_string()], LIMIT, |_| {}).await.unwrap();
        let error = order(directory.path()).await.unwrap_err().to_string();
        assert!(error.contains("virtio.ko.zst`: it has more than 64 MiB"), "{error}");
        fs::write(kernel.join("virtio.ko.zst"), b"\x28\xb5\x2f\xfd and no more").unwrap();
        let error = order(directory.path()).await.unwrap_err().to_string();
        assert!(error.contains("`zstd -d -c` failed"), "{error}");
    }
}
