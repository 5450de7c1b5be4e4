//! The cache's volumes: what a job sees at its cache's place, and how a fresh volume becomes one that others can mount.
//!
//! The host decides what can be written: it opens the cache volume read-only, whatever happens here.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::boot::{CACHE_DISK, FILL_DISK, disk_named, mount_at, named};
use super::{files, sys};
use crate::protocol::message::{CacheContent, CacheMount, VolumeFormat};

/// Where a volume is mounted that is seen through an overlay.
const LOWER: &str = "/run/dayfly/cache";

/// What a volume of strangers' files may do: no devices, no programs that run as somebody else.
const FLAGS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// How long programs that were killed may take to let go of their files.
const LETTING_GO: Duration = Duration::from_secs(20);
const LETTING_GO_LOOK: Duration = Duration::from_millis(20);

/// Puts the cache in its place.
pub(super) fn mount(cache: &CacheMount, scratch: &File) -> io::Result<()> {
    match cache.content {
        CacheContent::ReadOnly(format) => mount_volume(format, &cache.target),
        CacheContent::Overlay(format) => {
            mount_volume(format, LOWER)?;
            mount_overlay(&cache.target, scratch)
        }
        CacheContent::Fresh => mount_fresh(&cache.target),
        CacheContent::Empty(owner) => files::make_directory(&cache.target, owner),
    }
}

fn mount_volume(format: VolumeFormat, target: &str) -> io::Result<()> {
    let device = exchanged(CACHE_DISK)?;
    match format {
        VolumeFormat::Erofs => mount_at(&device, target, "erofs", FLAGS | MsFlags::MS_RDONLY, ""),
        VolumeFormat::Ext4 => mount_at(&device, target, "ext4", FLAGS | MsFlags::MS_RDONLY, "noload"),
    }
}

/// The overlay's own part is on the scratch disk, which no path leads to but this agent's descriptor.
fn mount_overlay(target: &str, scratch: &File) -> io::Result<()> {
    let own = format!("/proc/self/fd/{}/cache", scratch.as_raw_fd());
    let (upper, work) = (format!("{own}/upper"), format!("{own}/work"));
    for directory in [&upper, &work] {
        fs::create_dir_all(directory)?;
    }
    // The place itself belongs to whom it belongs on the volume.
    let root = fs::metadata(LOWER)?;
    chown(&upper, Some(root.uid()), Some(root.gid()))?;
    fs::set_permissions(&upper, fs::Permissions::from_mode(root.mode() & 0o7777))?;
    mount_at("overlay", target, "overlay", FLAGS, &format!("lowerdir={LOWER},upperdir={upper},workdir={work}"))
}

fn mount_fresh(target: &str) -> io::Result<()> {
    let device = exchanged(FILL_DISK)?;
    mount_at(&device, target, "ext4", FLAGS | MsFlags::MS_NOATIME, "noinit_itable")?;
    // A directory for repairs, which a volume that nobody repairs has no use for.
    fs::remove_dir(format!("{target}/lost+found"))
}

/// The file behind this disk was exchanged while the guest slept: what the kernel remembers of it is of another file.
fn exchanged(name: &str) -> io::Result<String> {
    let device = disk_named(name)?.ok_or_else(|| io::Error::other(format!("there is no disk `{name}`")))?;
    sys::drop_block_buffers(&File::open(&device)?)?;
    Ok(device)
}

/// Ends every program, which might still write, and makes the volume whole.
pub(super) fn seal(target: &str) -> io::Result<()> {
    let volume = File::open(target).map_err(|error| named(target, error))?;
    // To everybody but this process, which is the first one. Nobody there is as good.
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(named("ending the programs", errno.into())),
    }
    nix::unistd::sync();
    // Without it the volume only takes more room on the host.
    drop(sys::trim(&volume));
    drop(volume);
    let deadline = Instant::now() + LETTING_GO;
    while let Err(error) = files::remount_read_only(target) {
        if error.kind() != io::ErrorKind::ResourceBusy || Instant::now() > deadline {
            return Err(error);
        }
        sleep(LETTING_GO_LOOK);
    }
    nix::unistd::sync();
    Ok(())
}
