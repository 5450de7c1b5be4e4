//! Disk images: sparse copies, blank disks, checks for room.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek64 as lseek};

/// Makes `to` a copy of `from`: by reference where the file system can, else only the parts that hold data. The copy of a
/// nearly empty disk is nearly free on every file system.
pub fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = File::options().write(true).create_new(true).open(to)?;
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let mut position = 0;
    while let Some(start) = seek(&source, position, Whence::SeekData)? {
        let end = seek(&source, start, Whence::SeekHole)?.unwrap_or(length as i64);
        copy_range(&source, &target, start, end)?;
        position = end;
    }
    Ok(())
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
        let copied = nix::fcntl::copy_file_range(source, Some(&mut read_at), target, Some(&mut write_at), wanted)?;
        if copied == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the disk image shrank while it was copied"));
        }
    }
    Ok(())
}

/// A sparse file of `length` bytes.
pub fn create_sparse(path: &Path, length: u64) -> io::Result<()> {
    File::options().write(true).create_new(true).open(path)?.set_len(length)
}

/// Bytes that a file really takes.
pub fn allocated_bytes(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(path)?.blocks() * 512)
}

/// Bytes that an unprivileged writer may still put on the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let statistics = nix::sys::statvfs::statvfs(path)?;
    Ok(statistics.blocks_available() * statistics.fragment_size())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

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
