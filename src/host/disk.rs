//! Disk images: sparse copies, blank disks, checks for room.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::PosixFadviseAdvice;
use nix::unistd::{Whence, lseek64 as lseek};

use super::command::{self, CommandError};
pub use super::removal::remove_tree;

/// Bytes copied at a time where the kernel does not copy by itself.
const COPY_BUFFER: usize = 1 << 20;

/// How long a file system may take to be made.
const FORMAT_LIMIT: Duration = Duration::from_secs(120);

/// What a disk may take to be copied without leaving the thread, in bytes: on a busy host the way to another thread and back
/// takes ten times as long as this.
const COPIED_AT_ONCE: u64 = 4 << 20;

/// Makes `to` a copy of `from`: by reference where the file system can, else only the parts that hold data. The copy of a
/// nearly empty disk is nearly free on every file system.
pub fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = File::options().write(true).create_new(true).open(to)?;
    let length = source.metadata()?.len();
    target.set_len(length)?;
    for (start, end) in data_extents(&source)? {
        copy_range(&source, &target, start as i64, end as i64)?;
    }
    Ok(())
}

/// The same without keeping the thread from other tasks: where the file system does not copy by reference, a disk may have
/// gigabytes. One with next to nothing on it is copied at once.
pub async fn copy_sparse_aside(from: PathBuf, to: PathBuf) -> io::Result<()> {
    if allocated_bytes(&from)? <= COPIED_AT_ONCE {
        return copy_sparse(&from, &to);
    }
    tokio::task::spawn_blocking(move || copy_sparse(&from, &to)).await.map_err(io::Error::other)?
}

/// Where a file holds data, in order: pairs of the first byte and the one after the last. What lies between is zeros.
pub fn data_extents(file: &File) -> io::Result<Vec<(u64, u64)>> {
    let length = file.metadata()?.len() as i64;
    let (mut extents, mut position) = (Vec::new(), 0);
    while let Some(start) = seek(file, position, Whence::SeekData)? {
        position = seek(file, start, Whence::SeekHole)?.unwrap_or(length);
        extents.push((start as u64, position as u64));
    }
    Ok(extents)
}

/// Moves a disk image, to another file system if need be.
pub fn move_image(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy_sparse(from, to)?;
            fs::remove_file(from)
        }
        moved => moved,
    }
}

fn seek(file: &File, position: i64, whence: Whence) -> io::Result<Option<i64>> {
    match lseek(file.as_fd(), position, whence) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn copy_range(source: &File, target: &File, start: i64, end: i64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let wanted = usize::try_from(end - read_at).unwrap_or(usize::MAX).min(1 << 30);
        match nix::fcntl::copy_file_range(source, Some(&mut read_at), target, Some(&mut write_at), wanted) {
            Ok(0) => return Err(shrunk()),
            Ok(_) => {}
            // From one kind of file system to another the kernel does not copy by itself.
            Err(Errno::EXDEV | Errno::EOPNOTSUPP | Errno::ENOSYS) => return copy_bytes(source, target, read_at, end),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn copy_bytes(source: &File, target: &File, start: i64, end: i64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BUFFER];
    let (mut at, end) = (start as u64, end as u64);
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let length = source.read_at(&mut buffer[..wanted], at)?;
        if length == 0 {
            return Err(shrunk());
        }
        target.write_all_at(&buffer[..length], at)?;
        at += length as u64;
    }
    Ok(())
}

fn shrunk() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the disk image shrank while it was copied")
}

/// Bytes that the kernel is asked to read ahead at a time. It may leave out what exceeds the disk's own limit, which is this much
/// by default.
const READ_AHEAD: usize = 128 << 10;

/// Has the kernel read all data of a file that it does not have in memory yet. What it reads is charged to this process's
/// cgroup, whoever reads it afterwards.
pub fn read_ahead(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    for (start, end) in data_extents(&file)? {
        for at in (start..end).step_by(READ_AHEAD) {
            let length = (end - at).min(READ_AHEAD as u64);
            let advice = PosixFadviseAdvice::POSIX_FADV_WILLNEED;
            nix::fcntl::posix_fadvise(&file, at as i64, length as i64, advice)?;
        }
    }
    Ok(())
}

/// Fails, as writing would, unless `bytes` more fit on the file system of `directory`.
pub fn require_room(directory: &Path, bytes: u64) -> io::Result<()> {
    let found = nix::sys::statvfs::statvfs(directory)?;
    let available = found.blocks_available().saturating_mul(found.fragment_size());
    if available >= bytes { Ok(()) } else { Err(Errno::ENOSPC.into()) }
}

/// What an operator can do about an error, if it is a full disk: a line to add to its text.
pub fn hint_if_full(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "\n  hint: the host's disk is full there: free some space, or use a larger one",
        _ => "",
    }
}

/// Whether there is hardly anything left where `directory` is: less than a guest writes at once.
pub fn is_full(directory: &Path) -> bool {
    const HARDLY_ANYTHING: u64 = 1 << 20;
    nix::sys::statvfs::statvfs(directory)
        .is_ok_and(|disk| disk.blocks_available() * disk.fragment_size() < HARDLY_ANYTHING)
}

/// A sparse file of `length` bytes.
pub fn create_sparse(path: &Path, length: u64) -> io::Result<()> {
    File::options().write(true).create_new(true).open(path)?.set_len(length)
}

/// Makes an empty ext4 file system of `bytes` in a new sparse file; its root belongs to `owner` (user, group). No journal:
/// whoever writes it either ends well or is not believed.
pub async fn make_ext4(path: &Path, bytes: u64, owner: (u32, u32)) -> Result<(), FormatError> {
    create_sparse(path, bytes)?;
    let target = path.display().to_string();
    let options = format!("lazy_itable_init=1,nodiscard,root_owner={}:{}", owner.0, owner.1);
    let arguments = ["-q", "-F", "-O", "^has_journal,^resize_inode", "-m", "0", "-E", &options, &target];
    command::run("mkfs.ext4", &arguments, FORMAT_LIMIT, |_| {}).await?;
    Ok(())
}

/// Why there is no file system.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error(transparent)]
    File(#[from] io::Error),
    #[error(transparent)]
    Tool(#[from] CommandError),
}

/// Puts every file and directory of a tree on the disk.
pub fn sync_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(directory)?.sync_all()
}

/// What a file or a tree takes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// The sum of the files' lengths.
    pub apparent: u64,
    /// What of it is on the disk.
    pub allocated: u64,
}

/// The size of all files of a tree. Links are not followed.
pub fn tree_bytes(path: &Path) -> io::Result<Size> {
    let metadata = fs::symlink_metadata(path)?;
    let mut size = Size { apparent: metadata.len(), allocated: metadata.blocks() * 512 };
    if metadata.is_dir() {
        size.apparent = 0;
        for entry in fs::read_dir(path)? {
            let below = tree_bytes(&entry?.path())?;
            size.apparent += below.apparent;
            size.allocated += below.allocated;
        }
    }
    Ok(size)
}

/// Bytes that a file really takes.
pub fn allocated_bytes(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.blocks() * 512)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    /// Between file systems of different kinds; `/dev/shm` is in memory, `/tmp` mostly on a disk. Where both are the same,
    /// this tests the same as the test before.
    #[test]
    fn a_copy_crosses_file_systems() {
        let [here, there] = ["/tmp", "/dev/shm"].map(|parent| tempfile::tempdir_in(parent).unwrap());
        let (from, to) = (here.path().join("from"), there.path().join("to"));
        create_sparse(&from, 8 << 20).unwrap();
        let file = File::options().write(true).open(&from).unwrap();
        file.write_all_at(&[7; 3_000_000], 4097).unwrap();
        copy_sparse(&from, &to).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap(), "the copy differs");
        assert!(allocated_bytes(&to).unwrap() < 4 << 20);
        let moved = there.path().join("moved");
        move_image(&from, &moved).unwrap();
        assert!(!from.exists() && fs::read(&moved).unwrap() == fs::read(&to).unwrap(), "it is not moved");
    }

    #[test]
    fn room_is_what_the_file_system_has_left() {
        require_room(Path::new("/tmp"), 0).unwrap();
        let error = require_room(Path::new("/tmp"), u64::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(hint_if_full(&error).contains("free some space"));
    }

    #[test]
    fn a_sparse_copy_has_the_same_content_and_takes_no_more_room() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        create_sparse(&from, 64 << 20).unwrap();
        let mut file = File::options().write(true).open(&from).unwrap();
        for at in [0u64, 5 << 20, (64 << 20) - 5] {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(b"bytes").unwrap();
        }
        copy_sparse(&from, &to).unwrap();
        assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap());
        assert!(allocated_bytes(&to).unwrap() < 1 << 20);
        assert!(copy_sparse(&from, &to).is_err(), "an existing disk is never overwritten");
    }
}
