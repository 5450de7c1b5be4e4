//! A directory of the host below which files are made and read by names that a stranger has a say in. No link is followed, and a
//! file appears whole, in the place of what was there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// What a file is called until it is whole, before random letters.
const PARTIAL: &str = ".dayfly-partial-";

/// The directory.
#[derive(Debug)]
pub struct Beneath(OwnedFd);

impl Beneath {
    /// Opens a directory of the caller's choice, made with its parents if it is not there.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Self::existing(path)
    }

    /// Opens a directory of the caller's choice that is there.
    pub fn existing(path: &Path) -> io::Result<Self> {
        let flags = (OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).bits();
        OpenOptions::new().read(true).custom_flags(flags).open(path).map(|file| Self(file.into()))
    }

    /// Makes a directory and those before it.
    pub fn directory(&self, parts: &[&str]) -> io::Result<OwnedFd> {
        let mut at = self.0.try_clone()?;
        for part in parts {
            match mkdirat(&at, *part, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            at = openat(&at, *part, flags, Mode::empty())?;
        }
        Ok(at)
    }

    /// Opens a file to read it. Pipes, devices and directories are no files.
    pub fn read(&self, parts: &[&str]) -> io::Result<File> {
        let (name, before) = parts.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let careful = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut at = self.0.try_clone()?;
        for part in before {
            at = openat(&at, *part, careful | OFlag::O_DIRECTORY, Mode::empty())?;
        }
        // To open a pipe would wait for who writes.
        let file = File::from(openat(&at, *name, careful | OFlag::O_NONBLOCK, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Begins a file, and makes the directories before it.
    pub fn file(&self, parts: &[&str], is_executable: bool) -> io::Result<Partial> {
        let (name, before) = parts.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let directory = self.directory(before)?;
        let mut letters = [0; 8];
        getrandom::fill(&mut letters).map_err(io::Error::other)?;
        let partial = format!("{PARTIAL}{}", hex::encode(letters));
        let mode = Mode::from_bits_truncate(if is_executable { 0o755 } else { 0o644 });
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = File::from(openat(&directory, partial.as_str(), flags, mode)?);
        Ok(Partial { directory, file, partial, name: (*name).to_owned() })
    }
}

/// A file that is not whole yet. Dropping it removes it.
#[derive(Debug)]
pub struct Partial {
    directory: OwnedFd,
    file: File,
    partial: String,
    name: String,
}

impl Partial {
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Gives the whole file its name.
    pub fn finish(self) -> io::Result<()> {
        Ok(renameat(&self.directory, self.partial.as_str(), &self.directory, self.name.as_str())?)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // A finished file does not have this name any more.
        unlinkat(&self.directory, self.partial.as_str(), UnlinkatFlags::NoRemoveDir).ok();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_appears_whole_and_links_are_not_followed() {
        let world = tempfile::tempdir().unwrap();
        let (root, outside) = (world.path().join("a/root"), world.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "theirs").unwrap();
        let beneath = Beneath::open(&root).unwrap();
        let mut file = beneath.file(&["d", "e", "run"], true).unwrap();
        file.write_all(b"whole").unwrap();
        assert!(!root.join("d/e/run").exists());
        file.finish().unwrap();
        assert_eq!(fs::read_to_string(root.join("d/e/run")).unwrap(), "whole");
        assert_eq!(fs::metadata(root.join("d/e/run")).unwrap().permissions().mode() & 0o100, 0o100);

        symlink(&outside, root.join("way")).unwrap();
        assert!(beneath.file(&["way", "file"], false).is_err());
        assert!(beneath.directory(&["way"]).is_err());
        symlink(outside.join("file"), root.join("link")).unwrap();
        let mut file = beneath.file(&["link"], false).unwrap();
        file.write_all(b"mine").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read_to_string(root.join("link")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "theirs");

        let read = |parts: &[&str]| beneath.read(parts).and_then(std::io::read_to_string).ok();
        assert_eq!(read(&["d", "e", "run"]).unwrap(), "whole");
        symlink("d", root.join("inside")).unwrap();
        nix::unistd::mkfifo(&root.join("d/pipe"), Mode::S_IRWXU).unwrap();
        for parts in [&["way", "file"][..], &["inside", "e", "run"], &["d", "pipe"], &["d", "e"], &["d", "none"], &[]] {
            assert_eq!(read(parts), None, "{parts:?}");
        }
        fs::remove_file(root.join("inside")).unwrap();

        drop(beneath.file(&["gone"], false).unwrap());
        assert!(beneath.file(&["d", "e"], false).unwrap().finish().is_err(), "a directory is not replaced");
        let left: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
    }
}
