//! Becoming somebody else than the other clones of the snapshot, before any byte of a job.

use std::fs::{self, File};
use std::io;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use super::boot::named;
use super::{sys, volume};
use crate::protocol::message::Identity;

/// Files that say who this machine is. They stand in memory, behind links, because they are written anew in every job, and
/// a write to a disk's file system costs an emulated guest many milliseconds.
const FILES: [(&str, &str); 3] = [
    ("/etc/machine-id", "/run/dayfly/machine-id"),
    ("/etc/hostname", "/run/dayfly/hostname"),
    ("/etc/hosts", "/run/dayfly/hosts"),
];

/// Puts the links in place, once, before the snapshot.
pub(super) fn prepare() -> io::Result<()> {
    fs::create_dir_all("/run/dayfly")?;
    for (link, target) in FILES {
        match fs::remove_file(link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(link, error)),
            _ => {}
        }
        std::os::unix::fs::symlink(target, link).map_err(|error| named(link, error))?;
        fs::write(target, "").map_err(|error| named(target, error))?;
    }
    Ok(())
}

/// Order matters: entropy first, since everything after it may ask for random numbers.
pub(super) fn assume(identity: &Identity, scratch: &File) -> io::Result<()> {
    sys::renew_entropy(identity.entropy).map_err(|error| named("renewing entropy", error))?;
    let (seconds, nanoseconds) =
        (identity.clock_ns.div_euclid(1_000_000_000), identity.clock_ns.rem_euclid(1_000_000_000));
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, nanoseconds))
        .map_err(|errno| named("setting the clock", errno.into()))?;
    nix::unistd::sethostname(&identity.hostname).map_err(|errno| named("setting the host name", errno.into()))?;
    let hosts = format!("127.0.0.1 localhost {0}\n::1 localhost {0}\n", identity.hostname);
    let contents = [format!("{}\n", identity.machine_id), format!("{}\n", identity.hostname), hosts];
    for ((_, path), content) in FILES.into_iter().zip(contents) {
        fs::write(path, content).map_err(|error| named(path, error))?;
    }
    match &identity.cache {
        Some(cache) => volume::mount(cache, scratch).map_err(|error| named("the cache", error)),
        None => Ok(()),
    }
}
