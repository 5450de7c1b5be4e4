//! Removing trees of which strangers had a say in the names and in the depth.
//!
//! Nothing here depends on how long a path is, or how deep a directory lies: files are named by the directory that is open, and what
//! lies too deep is moved to the top first. So a tree that can be made can be removed.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Directories that are open at a time, each with two descriptors. What lies deeper is moved up.
const MAX_DEPTH: usize = 32;

/// What a directory that is moved up is called, before a number.
const MOVED: &str = ".removing-";

/// Removes a directory and what is below it, and never anything of another file system: what is mounted in there belongs to
/// somebody else, and may be the host's own devices.
///
/// # Errors
/// When something is mounted below `directory`, with its place. What is not below a mount may be gone by then.
pub fn remove_tree(directory: &Path) -> io::Result<()> {
    let flags = (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
    let top = fs::OpenOptions::new().read(true).custom_flags(flags).open(directory)?;
    let device = top.metadata()?.dev();
    let mut removal = Removal { top: top.into(), place: directory, device, moved: 0 };
    loop {
        let moved = removal.moved;
        removal.empty_top()?;
        match fs::remove_dir(directory) {
            // What was moved up need not have been seen by who reads the directory at that time.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && removal.moved > moved => {}
            removed => return removed,
        }
    }
}

struct Removal<'p> {
    top: OwnedFd,
    place: &'p Path,
    device: u64,
    /// How often something was moved to the top.
    moved: u64,
}

impl Removal<'_> {
    fn empty_top(&mut self) -> io::Result<()> {
        self.empty(&self.top.try_clone()?, self.place, 0)
    }

    /// Removes what is in a directory, which lies at `place`.
    fn empty(&mut self, directory: &OwnedFd, place: &Path, depth: usize) -> io::Result<()> {
        for entry in fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))? {
            let name = entry?.file_name();
            let found = fstatat(directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if found.st_dev != self.device {
                return Err(is_mounted(&place.join(name)));
            }
            if SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR {
                self.remove_directory(directory, &name, &place.join(&name), depth)?;
            } else {
                unlinkat(directory, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
            }
        }
        Ok(())
    }

    fn remove_directory(&mut self, parent: &OwnedFd, name: &OsStr, place: &Path, depth: usize) -> io::Result<()> {
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            removed => return Ok(removed?),
        }
        if depth >= MAX_DEPTH {
            return self.move_up(parent, name);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        self.empty(&openat(parent, name, flags, Mode::empty())?, place, depth + 1)?;
        Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
    }

    /// Moves a directory to the top, under a name that is free.
    fn move_up(&mut self, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        loop {
            self.moved += 1;
            let free = format!("{MOVED}{}", self.moved);
            match renameat2(parent, name, &self.top, free.as_str(), RenameFlags::RENAME_NOREPLACE) {
                Err(Errno::EEXIST) => {}
                moved => return Ok(moved?),
            }
        }
    }
}

fn is_mounted(place: &Path) -> io::Error {
    let place = place.display();
    io::Error::other(format!(
        "something is mounted on `{place}`, which is therefore not removed\n  hint: `umount -R {place}`, then try again"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nix::sys::stat::mkdirat;

    use super::*;

    #[test]
    fn a_tree_goes_whole_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (tree, kept) = (directory.path().join("tree"), directory.path().join("kept"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/file"), "").unwrap();
        fs::write(&kept, "kept").unwrap();
        std::os::unix::fs::symlink(directory.path(), tree.join("a/link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read(&kept).unwrap(), b"kept");
        assert_eq!(remove_tree(&tree).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::os::unix::fs::symlink(directory.path(), &tree).unwrap();
        assert!(remove_tree(&tree).is_err() && kept.exists(), "a link is no tree");
    }

    /// Four times as long as a path may be, with files and siblings on the way.
    #[test]
    fn a_tree_goes_that_is_too_deep_to_be_named() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // A name that is wanted for what is moved up.
        fs::create_dir_all(tree.join(format!("{MOVED}1/sub"))).unwrap();
        let name = "n".repeat(100);
        let mut at: OwnedFd = fs::File::open(&tree).unwrap().into();
        for _ in 0..160 {
            for name in [name.as_str(), "sibling"] {
                mkdirat(&at, name, Mode::S_IRWXU).unwrap();
            }
            let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            openat(&at, "file", flags, Mode::S_IRUSR).unwrap();
            at = openat(&at, name.as_str(), OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn another_file_system_is_not_entered() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("precious"), "").unwrap();
        let top = fs::File::open(directory.path()).unwrap();
        let device = top.metadata().unwrap().dev() + 1;
        let mut removal = Removal { top: top.into(), place: directory.path(), device, moved: 0 };
        let error = removal.empty_top().unwrap_err().to_string();
        assert!(error.contains("something is mounted on"), "{error}");
        assert!(directory.path().join("precious").exists());
    }
}
