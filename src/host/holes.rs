//! Zeros that take no room.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};

use super::disk::data_extents;

/// Bytes that are looked at together: the unit in which file systems keep files.
const BLOCK: usize = 4096;

/// Bytes that are read at once.
const CHUNK: usize = 256 * BLOCK;

/// Gives back the room that blocks of zeros take in a file; what is read from it stays the same. Reads all of it. A file
/// system that has no holes keeps it as it is.
pub fn dig(path: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut buffer = vec![0; CHUNK];
    for (mut position, end) in data_extents(&file)? {
        while position < end {
            let length = CHUNK.min((end - position) as usize);
            file.read_exact_at(&mut buffer[..length], position)?;
            for (start, length) in zeros(&buffer[..length]) {
                let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                match fallocate(&file, flags, (position + start as u64) as i64, length as i64) {
                    Err(nix::errno::Errno::EOPNOTSUPP) => return Ok(()),
                    dug => dug?,
                }
            }
            position += length as u64;
        }
    }
    Ok(())
}

/// Runs of whole blocks of zeros: first byte and length.
fn zeros(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (number, block) in bytes.chunks_exact(BLOCK).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            continue;
        }
        let start = number * BLOCK;
        match runs.last_mut() {
            Some((first, length)) if *first + *length == start => *length += BLOCK,
            _ => runs.push((start, BLOCK)),
        }
    }
    runs
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::host::disk::allocated_bytes;

    #[test]
    fn zeros_take_no_room_and_nothing_else_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory");
        let mut content = vec![0; 3 * CHUNK + 100];
        for position in [0, BLOCK * 3, CHUNK + 5, 3 * CHUNK + 99] {
            content[position] = 7;
        }
        std::fs::write(&path, &content).unwrap();
        let before = allocated_bytes(&path).unwrap();
        dig(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), content);
        assert!(allocated_bytes(&path).unwrap() < before / 10);
    }

    #[test]
    fn runs_are_joined() {
        let mut bytes = vec![0; 4 * BLOCK];
        bytes[2 * BLOCK] = 1;
        assert_eq!(zeros(&bytes), [(0, 2 * BLOCK), (3 * BLOCK, BLOCK)]);
        assert_eq!(zeros(&[0; 100]), []);
    }
}
