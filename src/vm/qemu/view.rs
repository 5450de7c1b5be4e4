//! What a monitor gets of the host's files, and by which names.
//!
//! Its disks it gets as descriptors that are open for what it may do with them; so no file of a VM needs to be another
//! user's, or readable for others. QEMU opens few things by name that it may want to write: memory, and two devices. In a
//! jail they are offered under these names (`host::jail::Offer`). A kernel is only read, and shown.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::host::jail::{Offer, Shown};
use crate::vm::VmError;
use crate::vm::backend::{Launch, Start};
use crate::vm::spec::{Accelerator, Boot, Disks};

const MEMORY: &str = "/memory";
const KVM: &str = "/dev/kvm";
const NULL: &str = "/dev/null";
const KERNEL: &str = "/kernel";
const INITRAMFS: &str = "/initramfs";

/// Bytes that a monitor may write to a file that is no disk of its own: a saved state.
const STATE_BYTES: u64 = 64 << 20;

/// The names, and what is behind them.
#[derive(Debug)]
pub(super) struct View {
    pub(super) boot: Boot,
    pub(super) disks: Disks,
    pub(super) memory: PathBuf,
    pub(super) shown: Vec<Shown>,
    pub(super) offers: Vec<Offer>,
    /// Of the disks, in the order of their sets.
    pub(super) descriptors: Vec<OwnedFd>,
    /// Bytes of the largest file that it may write.
    pub(super) largest: u64,
}

impl View {
    /// Opens what `launch` names.
    pub(super) fn open(launch: &Launch<'_>, is_jailed: bool) -> Result<Self, VmError> {
        let mut view = Self {
            boot: launch.boot.clone(),
            disks: launch.disks.clone(),
            memory: launch.memory.to_owned(),
            shown: Vec::new(),
            offers: Vec::new(),
            descriptors: Vec::new(),
            largest: STATE_BYTES,
        };
        let Disks { root, layer, scratch, cache, fill } = launch.disks;
        view.disks.root = view.disk(root, false)?;
        view.disks.layer = layer.as_ref().map(|path| view.disk(path, false)).transpose()?;
        view.disks.scratch = view.disk(scratch, true)?;
        view.disks.cache = cache.as_ref().map(|path| view.disk(path, false)).transpose()?;
        view.disks.fill = fill.as_ref().map(|path| view.disk(path, true)).transpose()?;
        if is_jailed {
            // With which QEMU finds out how files can be locked.
            view.offers.push(Offer { name: NULL, file: open(Path::new(NULL), true)? });
            view.offer_memory(launch)?;
            if launch.accelerator == Accelerator::Kvm {
                view.offers.push(Offer { name: KVM, file: open(Path::new(KVM), true)? });
            }
            if !launch.start.is_restore() {
                view.boot.kernel = view.show(&launch.boot.kernel, KERNEL)?;
                view.boot.initramfs = view.show(&launch.boot.initramfs, INITRAMFS)?;
            }
        }
        Ok(view)
    }

    /// The name by which QEMU finds a disk: its set of descriptors.
    fn disk(&mut self, path: &Path, is_writable: bool) -> Result<PathBuf, VmError> {
        let file = open(path, is_writable)?;
        if is_writable {
            self.largest = self.largest.max(length(path, &file)?);
        }
        self.descriptors.push(file.into());
        Ok(PathBuf::from(format!("/dev/fdset/{}", self.descriptors.len())))
    }

    fn offer_memory(&mut self, launch: &Launch<'_>) -> Result<(), VmError> {
        let is_own = match launch.start {
            Start::Boot => return Ok(()),
            Start::Restore => false,
            Start::BootForSnapshot | Start::RestoreOwned => true,
        };
        let file = open(launch.memory, is_own)?;
        if is_own {
            self.largest = self.largest.max(length(launch.memory, &file)?);
        }
        self.offers.push(Offer { name: MEMORY, file });
        self.memory = MEMORY.into();
        Ok(())
    }

    fn show(&mut self, path: &Path, at: &str) -> Result<PathBuf, VmError> {
        let_others_read(path).map_err(VmError::host(format!("`{}`", path.display())))?;
        self.shown.push(Shown { from: path.to_owned(), at: at.into(), is_directory: false });
        Ok(at.into())
    }

    /// The numbers of the disks' descriptors.
    pub(super) fn numbers(&self) -> Vec<i32> {
        self.descriptors.iter().map(AsRawFd::as_raw_fd).collect()
    }
}

fn open(path: &Path, is_writable: bool) -> Result<File, VmError> {
    let opened = File::options().read(true).write(is_writable).open(path);
    opened.map_err(VmError::host(format!("`{}`", path.display())))
}

fn length(path: &Path, file: &File) -> Result<u64, VmError> {
    file.metadata().map(|metadata| metadata.len()).map_err(VmError::host(format!("`{}`", path.display())))
}

/// A kernel and an initramfs are no secrets, and who may not reach their directories still does not reach them.
fn let_others_read(path: &Path) -> io::Result<()> {
    const READABLE: u32 = 0o444;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & READABLE == READABLE {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode | READABLE))
}
