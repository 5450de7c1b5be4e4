//! Checksums of disk images and memory files: of what is in them, however much of that is holes.
//!
//! Two files with the same bytes have the same checksum, whether zeros were written or left out. Only what holds data is
//! read, so that 64 GiB of nothing cost nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::disk;

/// Bytes that are left out together if they are zeros.
const BLOCK: usize = 4096;

/// Blocks that are read at once.
const READ: usize = 256 * BLOCK;

/// The checksum of a file's content and length, as 64 hexadecimal digits. Blocks the thread: some 100 MiB take a second where
/// the processor has no instructions for SHA-256, and a tenth of that where it has.
pub fn of_content(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut hash = Sha256::new();
    hash.update(length.to_le_bytes());
    let mut buffer = vec![0; READ];
    let mut position = 0;
    while let Some((start, end)) = disk::next_data(&file, position)? {
        // Data begins and ends where the file system likes; blocks begin at multiples of their size.
        let (mut at, end) = (start - start % BLOCK as u64, end.next_multiple_of(BLOCK as u64).min(length));
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(READ);
            file.read_exact_at(&mut buffer[..wanted], at)?;
            hash_blocks(&mut hash, at, &buffer[..wanted]);
            at += wanted as u64;
        }
        position = end;
    }
    Ok(hex::encode(hash.finalize()))
}

/// Each block with its place, unless it is empty.
fn hash_blocks(hash: &mut Sha256, at: u64, bytes: &[u8]) {
    const EMPTY: [u8; BLOCK] = [0; BLOCK];
    for (index, block) in bytes.chunks(BLOCK).enumerate() {
        if *block != EMPTY[..block.len()] {
            hash.update((at + (index * BLOCK) as u64).to_le_bytes());
            hash.update(block);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file_with(length: u64, pieces: &[(u64, Vec<u8>)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(length).unwrap();
        for (at, bytes) in pieces {
            file.as_file().write_all_at(bytes, *at).unwrap();
        }
        file
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn holes_and_zeros_are_the_same_and_any_other_change_shows(
            length in 1_u64..3_000_000, places in proptest::collection::vec((any::<u64>(), 1_u8..), 1..8), bit in 0..8,
        ) {
            let pieces: Vec<_> = places.iter().map(|(at, byte)| (at % length, vec![*byte])).collect();
            let sparse = file_with(length, &pieces);
            let mut full = vec![0; length as usize];
            pieces.iter().for_each(|(at, byte)| full[*at as usize] = byte[0]);
            let dense = file_with(length, &[(0, full.clone())]);
            let checksum = of_content(sparse.path()).unwrap();
            prop_assert_eq!(&checksum, &of_content(dense.path()).unwrap());
            full[pieces[0].0 as usize] ^= 1 << bit;
            prop_assert_ne!(&checksum, &of_content(file_with(length, &[(0, full)]).path()).unwrap());
            sparse.as_file().set_len(length + 1).unwrap();
            prop_assert_ne!(&checksum, &of_content(sparse.path()).unwrap());
        }
    }

    #[test]
    fn nothing_has_a_checksum_and_a_missing_file_has_none() {
        assert_eq!(of_content(file_with(0, &[]).path()).unwrap().len(), 64);
        assert!(of_content(Path::new("/nowhere")).is_err());
    }
}
