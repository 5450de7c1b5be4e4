//! A root file system that is being made on this host from what strangers wrote.
//!
//! Every path in it is resolved as if its top were `/`, by the kernel, links included: nothing that it says leads outside, and
//! nothing is removed but by moving it to a directory beside it, which goes with the whole.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, linkat, symlinkat};

use super::tree::{Tree, directory, relative, shown};
use super::xattrs::Xattrs;
use crate::host::xattr;

/// Who owns a file, and what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The root file system.
#[derive(Debug)]
pub(in crate::image) struct Root {
    tree: Tree,
    trash: OwnedFd,
    removed: u64,
    /// Only root can give files away, and capabilities; tests of others go without.
    sets_owners: bool,
}

/// A directory in the root file system, and a name in it.
#[derive(Debug)]
pub(super) struct Spot<'p> {
    directory: OwnedFd,
    name: &'p OsStr,
}

impl Root {
    /// The one at `top`, which is made if it is not there. What is removed from it goes to `trash`, on the same file system.
    pub(in crate::image) fn open(top: &Path, trash: &Path) -> io::Result<Self> {
        fs::create_dir_all(top)?;
        fs::create_dir_all(trash)?;
        let sets_owners = nix::unistd::geteuid().is_root();
        Ok(Self { tree: Tree::open(top)?, trash: directory(trash)?, removed: 0, sets_owners })
    }

    /// Opens a regular file for reading.
    pub(in crate::image) fn read(&self, path: &[u8]) -> io::Result<File> {
        self.tree.read(path)
    }

    /// Writes a file of root's, in the place of what was there.
    pub(in crate::image) fn write(&mut self, path: &[u8], content: &mut impl Read, mode: u32) -> io::Result<()> {
        let path = relative(path)?;
        let spot = self.spot(&path)?;
        self.file(&spot, content, Attributes { mode, uid: 0, gid: 0 }).map(drop)
    }

    /// Removes what is at a path, if it is there.
    pub(in crate::image) fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        let path = relative(path)?;
        let spot = match self.spot_if_there(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            spot => spot?,
        };
        self.clear(&spot)
    }

    /// Removes what a directory has in it, but not itself. A directory that is not there is empty.
    pub(in crate::image) fn empty(&mut self, path: &[u8], keep: impl Fn(&OsStr) -> bool) -> io::Result<()> {
        let path = relative(path)?;
        let directory = match self.tree.resolve(&path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            directory => directory?,
        };
        for entry in fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))? {
            let name = entry?.file_name();
            if !keep(&name) {
                self.clear(&Spot { directory: directory.try_clone()?, name: &name })?;
            }
        }
        Ok(())
    }

    /// Where a path leads, with the directories before it made if they are not there.
    pub(super) fn spot<'p>(&self, path: &'p [u8]) -> io::Result<Spot<'p>> {
        match self.spot_if_there(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            spot => return spot,
        }
        let before = split(path)?.0;
        for (end, _) in before.iter().enumerate().filter(|(_, byte)| **byte == b'/').chain([(before.len(), &b'/')]) {
            let spot = self.spot_if_there(&before[..end])?;
            match mkdirat(&spot.directory, spot.name, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.spot_if_there(path)
    }

    pub(super) fn spot_if_there<'p>(&self, path: &'p [u8]) -> io::Result<Spot<'p>> {
        let (before, name) = split(path)?;
        let directory = self.tree.resolve(before, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        self.tree.require_shallow(&directory, path)?;
        Ok(Spot { directory, name: OsStr::from_bytes(name) })
    }

    /// Removes whatever has that name.
    pub(super) fn clear(&mut self, spot: &Spot<'_>) -> io::Result<()> {
        let aside = self.removed.to_string();
        match renameat(&spot.directory, spot.name, &self.trash, aside.as_str()) {
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
            Ok(()) => {
                self.removed += 1;
                Ok(())
            }
        }
    }

    /// A directory; one that is there keeps what it has in it.
    pub(super) fn directory(&mut self, spot: &Spot<'_>, attributes: Attributes) -> io::Result<()> {
        let is_there = fstatat(&spot.directory, spot.name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|found| SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR);
        if !is_there {
            self.clear(spot)?;
            mkdirat(&spot.directory, spot.name, Mode::from_bits_truncate(0o700))?;
        }
        self.set(spot, attributes)
    }

    /// A regular file; gives its length.
    pub(super) fn file(&mut self, spot: &Spot<'_>, content: &mut impl Read, attributes: Attributes) -> io::Result<u64> {
        self.clear(spot)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&spot.directory, spot.name, flags, Mode::from_bits_truncate(0o600))?);
        let length = io::copy(content, &mut file)?;
        file.flush()?;
        if self.sets_owners {
            std::os::unix::fs::fchown(&file, Some(attributes.uid), Some(attributes.gid))?;
        }
        // After the owner, whose change takes these bits away.
        file.set_permissions(fs::Permissions::from_mode(attributes.mode & 0o7777))?;
        Ok(length)
    }

    /// Gives a file or directory that was just made extended attributes.
    pub(super) fn extend(&self, spot: &Spot<'_>, xattrs: &Xattrs) -> io::Result<()> {
        if xattrs.is_empty() {
            return Ok(());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = File::from(openat(&spot.directory, spot.name, flags, Mode::empty())?);
        let settable = xattrs.each().filter(|(.., takes_root)| self.sets_owners || !takes_root);
        settable.into_iter().try_for_each(|(name, value, _)| {
            let named = |error: io::Error| {
                let name = shown(name.to_bytes());
                io::Error::new(error.kind(), format!("setting the extended attribute `{name}`: {error}"))
            };
            xattr::set(&file, name, value).map_err(named)
        })
    }

    pub(super) fn symlink(&mut self, spot: &Spot<'_>, target: &[u8], attributes: Attributes) -> io::Result<()> {
        self.clear(spot)?;
        symlinkat(OsStr::from_bytes(target), &spot.directory, spot.name)?;
        self.give(spot, attributes)
    }

    /// Another name of a file that is there.
    pub(super) fn hard_link(&mut self, spot: &Spot<'_>, target: &[u8]) -> io::Result<()> {
        let target = relative(target)?;
        let target = self.spot_if_there(&target)?;
        let same = |spot: &Spot<'_>| {
            fstatat(&spot.directory, spot.name, AtFlags::AT_SYMLINK_NOFOLLOW).map(|found| (found.st_dev, found.st_ino))
        };
        if same(&target).is_ok_and(|found| same(spot) == Ok(found)) {
            return Ok(());
        }
        self.clear(spot)?;
        Ok(linkat(&target.directory, target.name, &spot.directory, spot.name, AtFlags::empty())?)
    }

    pub(super) fn fifo(&mut self, spot: &Spot<'_>, attributes: Attributes) -> io::Result<()> {
        self.clear(spot)?;
        mknodat(&spot.directory, spot.name, SFlag::S_IFIFO, Mode::from_bits_truncate(0o600), 0)?;
        self.set(spot, attributes)
    }

    fn set(&self, spot: &Spot<'_>, attributes: Attributes) -> io::Result<()> {
        self.give(spot, attributes)?;
        // What was just made or looked at is no link, and nobody else is at it.
        let mode = Mode::from_bits_truncate(attributes.mode & 0o7777);
        Ok(fchmodat(&spot.directory, spot.name, mode, FchmodatFlags::FollowSymlink)?)
    }

    fn give(&self, spot: &Spot<'_>, attributes: Attributes) -> io::Result<()> {
        if !self.sets_owners {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        Ok(fchownat(&spot.directory, spot.name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }
}

/// The directory and the name of a relative path.
fn split(path: &[u8]) -> io::Result<(&[u8], &[u8])> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Ok((&path[..slash], &path[slash + 1..])),
        None if path.is_empty() => Err(io::Error::new(io::ErrorKind::InvalidData, "an empty path")),
        None => Ok((b"", path)),
    }
}
