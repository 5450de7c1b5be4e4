//! What this host can carry: the configuration's limits, or else what the host has.

use nix::sys::statvfs::statvfs;

use super::plan::{Disk, Limits, Size};
use crate::config::Config;

const MIB: u64 = 1 << 20;

/// The part of the file system that is kept free where the configuration does not say how much: one twentieth.
const RESERVED_PART: u64 = 20;

/// But never more than this, in bytes.
const MOST_RESERVED: u64 = 1 << 30;

/// What a VM of the profile takes; nothing of one that is not configured any more.
pub(crate) fn size_of(config: &Config, profile: Option<&str>) -> Size {
    let profile = profile.and_then(|name| config.profile(name));
    profile.map_or(Size { memory_mib: 0, vcpus: 0 }, |profile| Size {
        memory_mib: profile.memory / MIB,
        vcpus: profile.vcpus,
    })
}

/// VMs at a time on this host, where the configuration says `configured` (0: as many as the host bears).
pub fn max_vms(configured: u32, host: crate::host::Facts) -> usize {
    match configured {
        0 => host.cpus * 2,
        max => max as usize,
    }
}

/// What all VMs together may take. Where the configuration leaves it to the host, a profile that is larger than the host's
/// share still fits alone: the operator asked for it.
pub fn limits(config: &Config, host: crate::host::Facts) -> Limits {
    let largest_memory = config.profiles.iter().map(|profile| profile.memory / MIB).max().unwrap_or(0);
    let largest_vcpus = config.profiles.iter().map(|profile| profile.vcpus).max().unwrap_or(0);
    Limits {
        max_vms: max_vms(config.limits.max_vms, host),
        memory_mib: match config.limits.memory {
            Some(configured) => configured / MIB,
            None => (host.memory_mib / 5 * 4).max(largest_memory),
        },
        vcpus: match config.limits.vcpus {
            0 => u32::try_from(host.cpus * 2).unwrap_or(u32::MAX).max(largest_vcpus),
            configured => configured,
        },
    }
}

/// The room on the file system of the state directory, where VMs keep what they write; `None` if it cannot be told.
pub fn disk(config: &Config) -> Option<Disk> {
    let found = statvfs(&config.server.state_dir).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    let derived = || (bytes(found.blocks()) / RESERVED_PART).min(MOST_RESERVED);
    let reserve = config.limits.disk_reserve.unwrap_or_else(derived);
    Some(Disk { free_mib: bytes(found.blocks_available()) / MIB, reserve_mib: reserve / MIB })
}
