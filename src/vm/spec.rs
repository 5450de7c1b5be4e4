//! What a VM is made of. RAM size, vCPUs, devices and the accelerator are fixed in a snapshot, so they are its key.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How the guest's instructions are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The kernel's virtual machine, with hardware support.
    Kvm,
    /// Software emulation: runs everywhere, slowly.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// The size of a machine, and what it has beyond disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    pub vcpus: u32,
    pub memory_mib: u64,
    /// The private scratch disk's virtual size.
    pub disk_mib: u64,
    /// Whether it has a network card. Those without have no driver of one, either.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub card: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { vcpus: 1, memory_mib: 512, disk_mib: 4096, card: false }
    }
}

/// The virtual size of every cache volume. Fixed, so that the placeholder that was there at the bake can be exchanged for
/// any volume. The file is sparse: this is a limit, not a cost.
pub const CACHE_VOLUME_BYTES: u64 = 64 << 30;

/// The disks of a VM, in the order in which they are attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disks {
    /// The image's root, shared and read-only.
    pub root: PathBuf,
    /// What the image's set-up wrote, shared and read-only.
    pub layer: Option<PathBuf>,
    /// Private to this VM.
    pub scratch: PathBuf,
    /// Read-only cache volume, or the placeholder. Absent only while an image is being set up.
    pub cache: Option<PathBuf>,
    /// The volume that this VM fills. Without one there is a disk in its place that forgets what is written to it, where
    /// there is a cache volume or its placeholder.
    pub fill: Option<PathBuf>,
}

/// Kernel, initramfs and command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub command_line: String,
}
