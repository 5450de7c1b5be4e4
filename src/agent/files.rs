//! Files and directories on behalf of the host.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown, fchown};
use std::path::Path;

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;

use super::boot::named;
use super::channel::Stream;
use crate::protocol::message::{FileContent, MAX_RECORD, Owner};

/// Stores the stream's bytes as `path`, which exists only whole: it is written beside and renamed.
pub(super) fn write(path: &str, mode: u32, owner: Owner, stream: &Stream) -> io::Result<()> {
    let partial = format!("{path}.partial");
    // A job may have put a link or a pipe there: neither is followed or waited for.
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode & 0o777)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&partial)?;
    check_regular(&file, &partial)?;
    fchown(&file, Some(owner.uid), Some(owner.gid))?;
    while let Some(bytes) = stream.read()? {
        file.write_all(&bytes)?;
    }
    fs::rename(&partial, path)
}

/// Makes `path` and its missing parents, all owned by `owner`.
pub(super) fn make_directory(path: &str, owner: Owner) -> io::Result<()> {
    let missing: Vec<&Path> = Path::new(path).ancestors().take_while(|ancestor| !ancestor.is_dir()).collect();
    for directory in missing.into_iter().rev() {
        DirBuilder::new().mode(0o755).create(directory)?;
        chown(directory, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(())
}

/// At most `limit` bytes of a file; nothing if it is not there.
pub(super) fn read(path: &str, limit: u32) -> io::Result<FileContent> {
    let limit = u64::from(limit).min(MAX_RECORD as u64 / 2);
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(FileContent { bytes: Vec::new(), truncated: false });
        }
        Err(error) => return Err(error),
    };
    check_regular(&file, path)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    let truncated = bytes.len() as u64 > limit;
    bytes.truncate(limit as usize);
    Ok(FileContent { bytes, truncated })
}

/// Whether programs can write no more to the scratch disk: no room for a page, or for another file.
pub(super) fn is_disk_full() -> bool {
    const PAGE: u64 = 4096;
    statvfs("/").is_ok_and(|disk| {
        disk.blocks_available() * disk.fragment_size() < PAGE || (disk.files() > 0 && disk.files_available() == 0)
    })
}

fn check_regular(file: &File, path: &str) -> io::Result<()> {
    if file.metadata()?.is_file() { Ok(()) } else { Err(io::Error::other(format!("`{path}` is not a regular file"))) }
}

/// Writes everything to the disks; with `freeze`, ends all writing to the scratch disk for good.
pub(super) fn sync(scratch: &File, freeze: bool) -> io::Result<()> {
    nix::unistd::sync();
    if freeze {
        remount_read_only("/")?;
        remount_read_only(&format!("/proc/self/fd/{}", scratch.as_raw_fd()))?;
        nix::unistd::sync();
    }
    Ok(())
}

pub(super) fn remount_read_only(target: &str) -> io::Result<()> {
    mount(None::<&str>, target, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>)
        .map_err(|errno| named(&format!("making {target} read-only"), errno.into()))
}
