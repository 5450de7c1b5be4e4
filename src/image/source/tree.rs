//! A directory of what strangers wrote, for reading. Every path in it is resolved as if its top were `/`, by the kernel, links
//! included, and only regular files are read: nothing that it says leads outside, and nothing keeps who reads it waiting.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// The longest path in such a directory, in bytes, by its real names: with the directory's own path before it, it stays below
/// the 4096 of Linux, so that other programs can name everything in there.
const MAX_PATH: usize = 3072;
/// Directories in directories.
const MAX_DEPTH: usize = 256;

/// The directory.
#[derive(Debug)]
pub(super) struct Tree {
    top: OwnedFd,
    /// Bytes of its own path.
    length: usize,
}

impl Tree {
    /// The one that is there.
    pub(super) fn open(top: &Path) -> io::Result<Self> {
        let top = directory(top)?;
        let length = real_path(&top)?.as_os_str().len();
        Ok(Self { top, length })
    }

    /// Opens a regular file for reading.
    pub(super) fn read(&self, path: &[u8]) -> io::Result<File> {
        // A FIFO would wait for somebody who writes.
        let file: File = self.resolve(&relative(path)?, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?.into();
        if file.metadata()?.is_file() { Ok(file) } else { Err(refuse(path, "is no regular file")) }
    }

    pub(super) fn resolve(&self, path: &[u8], flags: OFlag) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV);
        Ok(openat2(&self.top, OsStr::from_bytes(path), how)?)
    }

    /// Fails if what has `path`, the last part of which is a name in `directory`, lies too deep: links make short ways to deep
    /// places.
    pub(super) fn require_shallow(&self, directory: &OwnedFd, path: &[u8]) -> io::Result<()> {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let lies = real_path(directory)?;
        let lies = lies.as_os_str().as_bytes().get(self.length..).unwrap_or_default();
        let depth = lies.iter().filter(|byte| **byte == b'/').count();
        if lies.len() + name.len() > MAX_PATH || depth > MAX_DEPTH {
            return Err(refuse(path, "lies too deep"));
        }
        Ok(())
    }
}

/// Opens a directory, but no link to one.
pub(super) fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
    Ok(fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?.into())
}

fn real_path(directory: &OwnedFd) -> io::Result<std::path::PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// A path without what leads nowhere: `./a//b/` becomes `a/b`.
///
/// # Errors
/// When it goes up, has a zero byte or is too long.
pub(super) fn relative(path: &[u8]) -> io::Result<Vec<u8>> {
    if path.len() > MAX_PATH {
        return Err(refuse(path, "is too long"));
    }
    if path.contains(&0) {
        return Err(refuse(path, "has a zero byte"));
    }
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.iter().any(|part| *part == b"..") {
        return Err(refuse(path, "goes up"));
    }
    Ok(parts.join(&b'/'))
}

fn refuse(path: &[u8], why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the path `{}` {why}", shown(path)))
}

/// The beginning of a name, for people.
pub(super) fn shown(name: &[u8]) -> String {
    const MAX_SHOWN: usize = 120;
    name[..name.len().min(MAX_SHOWN)].escape_ascii().to_string()
}
