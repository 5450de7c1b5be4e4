//! The machine that a standalone command asks for.

use clap::Args;

use super::{parse_disk, parse_memory};
use crate::vm::spec::Shape;

/// An image and a shape.
#[derive(Debug, Args)]
pub(super) struct MachineArgs {
    /// The image
    #[arg(long, default_value = "base")]
    pub(super) image: String,
    /// Virtual processors
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) vcpus: u32,
    /// Memory (such as 512MiB, 2GiB)
    #[arg(long, default_value = "512MiB", value_parser = parse_memory)]
    pub(super) memory: u64,
    /// Size of the private disk
    #[arg(long, default_value = "4GiB", value_parser = parse_disk)]
    pub(super) disk: u64,
}

impl MachineArgs {
    pub(super) fn shape(&self) -> Shape {
        Shape { vcpus: self.vcpus, memory_mib: self.memory, disk_mib: self.disk }
    }
}
