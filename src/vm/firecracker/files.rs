//! What files are called inside of a jail. A snapshot holds these names, so they are the same in every jail, whatever files
//! they stand for. All of them lie right in the jail's root: only its last component would be the jailed program's to exchange,
//! and that one is never followed.

use std::path::Path;

use crate::vm::spec::Disks;

pub const API: &str = "api.sock";
pub const VSOCK: &str = "vsock.sock";
pub const LOG: &str = "log";
pub const METRICS: &str = "metrics";
pub const KERNEL: &str = "kernel";
pub const INITRAMFS: &str = "initramfs";
/// Restored from, and only read.
pub const MEMORY: &str = "memory";
pub const STATE: &str = "state";
/// Written when a VM is saved: it may run on [`MEMORY`] at the same time.
pub const SAVED_MEMORY: &str = "saved-memory";
pub const SAVED_STATE: &str = "saved-state";

/// A disk of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk<'a> {
    /// Its name in the API, on the kernel's command line, and in the jail.
    pub id: &'static str,
    /// The file; none where a disk has to be there and nothing is kept of what is written to it.
    pub file: Option<&'a Path>,
    pub is_read_only: bool,
}

/// The disks in the order in which they are attached, by which the guest knows them.
pub fn in_order(disks: &Disks) -> Vec<Disk<'_>> {
    let shared = |id, file| Disk { id, file: Some(file), is_read_only: true };
    let mut all = vec![shared("root", &disks.root)];
    all.extend(disks.layer.as_deref().map(|layer| shared("layer", layer)));
    all.extend(disks.cache.as_deref().map(|cache| shared("cache", cache)));
    all.push(Disk { id: "scratch", file: Some(&disks.scratch), is_read_only: false });
    if disks.cache.is_some() || disks.fill.is_some() {
        all.push(Disk { id: "fill", file: disks.fill.as_deref(), is_read_only: false });
    }
    all
}
