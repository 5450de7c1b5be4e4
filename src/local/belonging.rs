//! Whether what a repository names as its own is: its place, what it shares with others, and its objects.
//!
//! A directory that came from elsewhere may say that its repository is any other of this host, which a guest could then
//! read. Git verifies one such link from both ends, that of a further work tree, and so does this, for every link.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::LocalError;

/// The longest file with a path in it that is read, in bytes.
const MAX_LINK: u64 = 4096;

/// Where a repository says that it is, as git answers.
#[derive(Debug)]
pub(super) struct Places<'a> {
    /// Where somebody asked.
    pub(super) asked: &'a Path,
    /// The top of the files; absent in a bare repository.
    pub(super) files: Option<&'a Path>,
    /// The directory of this work tree's own things.
    pub(super) private: &'a Path,
    /// The directory that all work trees share.
    pub(super) common: &'a Path,
    /// What the repository in `private` calls its files, if it says so.
    pub(super) worktree: Option<&'a Path>,
}

impl Places<'_> {
    /// Fails unless everything that these lead to leads back here.
    pub(super) fn check(&self) -> Result<(), LocalError> {
        let foreign =
            |part, target: &Path| LocalError::Foreign { place: self.asked.to_owned(), part, target: target.to_owned() };
        let private = real(self.private)?;
        let common = real(self.common)?;
        if !self.is_here(&private, &common)? {
            return Err(foreign("its repository", &private));
        }
        // What several share is shared by those that are listed there.
        if private != common && private.parent() != Some(&common.join("worktrees")) {
            return Err(foreign("what it shares with other work trees", &common));
        }
        match borrowed(&common.join("objects"))? {
            Some(target) => Err(foreign("its objects, or some of them,", &target)),
            None => Ok(()),
        }
    }

    fn is_here(&self, private: &Path, common: &Path) -> Result<bool, LocalError> {
        let Some(files) = self.files else {
            let asked = real(self.asked)?;
            return Ok(asked.ancestors().any(|around| private == around || private == around.join(".git")));
        };
        let own = real(files)?.join(".git");
        if private == own {
            return Ok(true);
        }
        // A further work tree, or a submodule.
        let back = if private == common {
            self.worktree.map(|worktree| private.join(worktree).join(".git"))
        } else {
            link(&private.join("gitdir")).map(|gitdir| private.join(gitdir))
        };
        let Some(back) = back.filter(|back| back.ends_with(".git")) else { return Ok(false) };
        let there = back.parent().and_then(|there| there.canonicalize().ok());
        Ok(there.is_some_and(|there| there.join(".git") == own))
    }
}

/// The first place elsewhere that a directory of objects takes some from.
fn borrowed(objects: &Path) -> Result<Option<PathBuf>, LocalError> {
    let alternates = objects.join("info/alternates");
    if fs::symlink_metadata(&alternates).is_ok_and(|alternates| !alternates.is_file() || alternates.len() > 0) {
        return Ok(Some(link(&alternates).unwrap_or(alternates)));
    }
    for directory in [objects.to_owned(), objects.join("pack")] {
        match first_link(&directory) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(LocalError::io(&directory)(error)),
        }
    }
    Ok(None)
}

/// The directory itself or something in it, if that is a symbolic link.
fn first_link(directory: &Path) -> std::io::Result<Option<PathBuf>> {
    if fs::symlink_metadata(directory)?.is_symlink() {
        return Ok(Some(directory.to_owned()));
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_symlink() {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// The path in the first line of a small file.
fn link(file: &Path) -> Option<PathBuf> {
    let is_small = fs::symlink_metadata(file).is_ok_and(|file| file.is_file() && file.len() <= MAX_LINK);
    let text = is_small.then(|| fs::read(file).ok()).flatten()?;
    let line = text.split(|byte| *byte == b'\n').next().filter(|line| !line.is_empty())?;
    Some(OsStr::from_bytes(line).into())
}

fn real(path: &Path) -> Result<PathBuf, LocalError> {
    path.canonicalize().map_err(LocalError::io(path))
}
