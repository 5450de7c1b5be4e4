//! Becoming somebody else than the other clones of the snapshot, before any byte of a job.

use std::fs::{self, File};
use std::io;

use nix::mount::MsFlags;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use super::boot::{CACHE_DISK, disk_with_serial, mount_at, named};
use super::sys;
use crate::protocol::message::Identity;

/// Order matters: entropy first, since everything after it may ask for random numbers.
pub(super) fn assume(identity: &Identity) -> io::Result<()> {
    sys::renew_entropy(identity.entropy).map_err(|error| named("renewing entropy", error))?;
    let (seconds, nanoseconds) =
        (identity.clock_ns.div_euclid(1_000_000_000), identity.clock_ns.rem_euclid(1_000_000_000));
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, nanoseconds))
        .map_err(|errno| named("setting the clock", errno.into()))?;
    nix::unistd::sethostname(&identity.hostname).map_err(|errno| named("setting the host name", errno.into()))?;
    let hosts = format!("127.0.0.1 localhost {0}\n::1 localhost {0}\n", identity.hostname);
    for (path, content) in [
        ("/etc/machine-id", format!("{}\n", identity.machine_id)),
        ("/etc/hostname", format!("{}\n", identity.hostname)),
        ("/etc/hosts", hosts),
    ] {
        fs::write(path, content).map_err(|error| named(path, error))?;
    }
    match &identity.cache_mount {
        Some(target) => mount_cache(target).map_err(|error| named("mounting the cache volume", error)),
        None => Ok(()),
    }
}

/// The file behind this disk was exchanged while the guest slept: what the kernel remembers of it is of another file.
fn mount_cache(target: &str) -> io::Result<()> {
    let device = disk_with_serial(CACHE_DISK)?.ok_or_else(|| io::Error::other("no cache disk is attached"))?;
    sys::drop_block_buffers(&File::open(&device)?)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at(&device, target, "erofs", flags, "")
}
