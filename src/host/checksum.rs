//! Checksums of large, sparse files: whether what was written is what is read back, months later.
//!
//! Pages of zeros count by their absence. So a checksum does not depend on how a file system stores holes, and a memory file
//! of gigabytes costs as much as what the guest has written to it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::disk;

/// What is skipped if it is all zeros.
const PAGE: usize = 4096;
/// Bytes read at a time; a multiple of [`PAGE`].
const BUFFER: usize = 1 << 20;

/// What a file has to be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// Its length in bytes, holes included.
    pub bytes: u64,
    /// Over each page that is not all zeros, with its number. In hexadecimal.
    pub sha256: String,
}

/// The checksums of files in one directory, by their names.
pub type Checksums = BTreeMap<String, Checksum>;

/// A file that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: String,
    pub how: How,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    Unreadable(String),
    Length { expected: u64, found: u64 },
    Content,
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.file;
        match &self.how {
            How::Unreadable(why) => write!(out, "`{file}` cannot be read: {why}"),
            How::Length { expected, found } => write!(out, "`{file}` has {found} bytes instead of {expected}"),
            How::Content => write!(out, "the content of `{file}` does not match its checksum"),
        }
    }
}

/// The checksum of a file. Blocks the thread; a second reads more than a gigabyte of data.
pub fn of(path: &Path) -> io::Result<Checksum> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut hash = Sha256::new();
    hash.update(bytes.to_le_bytes());
    let mut buffer = vec![0; BUFFER];
    let mut next_page = 0;
    for (start, end) in disk::data_extents(&file)? {
        // Extents need not begin with a page, and two of them may share one.
        let mut at = (start / PAGE as u64 * PAGE as u64).max(next_page);
        while at < end {
            let wanted = (end - at).next_multiple_of(PAGE as u64).min(BUFFER as u64).min(bytes - at) as usize;
            file.read_exact_at(&mut buffer[..wanted], at)?;
            add_pages(&mut hash, &buffer[..wanted], at);
            at += wanted as u64;
        }
        next_page = at.max(next_page);
    }
    Ok(Checksum { bytes, sha256: hex::encode(hash.finalize()) })
}

fn add_pages(hash: &mut Sha256, content: &[u8], at: u64) {
    const ZEROS: [u8; PAGE] = [0; PAGE];
    for (position, page) in content.chunks(PAGE).enumerate() {
        if page != &ZEROS[..page.len()] {
            hash.update((at + (position * PAGE) as u64).to_le_bytes());
            hash.update(page);
        }
    }
}

/// The checksums of these files of a directory. Blocks the thread.
pub fn of_files(directory: &Path, names: &[&str]) -> io::Result<Checksums> {
    names.iter().map(|name| Ok(((*name).to_owned(), of(&directory.join(name))?))).collect()
}

/// Whether every file of `expected` is in the directory with its length, which costs next to nothing to ask.
///
/// # Errors
/// The first difference.
pub fn verify_lengths(directory: &Path, expected: &Checksums) -> Result<(), Damage> {
    expected.iter().try_for_each(|(file, expected)| verify_length(directory, file, expected))
}

fn verify_length(directory: &Path, file: &str, expected: &Checksum) -> Result<(), Damage> {
    let damage = |how| Damage { file: file.to_owned(), how };
    let found = std::fs::metadata(directory.join(file)).map_err(|error| damage(How::Unreadable(error.to_string())))?;
    match found.len() {
        found if found == expected.bytes => Ok(()),
        found => Err(damage(How::Length { expected: expected.bytes, found })),
    }
}

/// Whether every file of `expected` is in the directory as it was. Blocks the thread.
///
/// # Errors
/// The first difference.
pub fn verify(directory: &Path, expected: &Checksums) -> Result<(), Damage> {
    for (file, expected) in expected {
        let damage = |how| Damage { file: file.clone(), how };
        verify_length(directory, file, expected)?;
        match of(&directory.join(file)) {
            Err(error) => return Err(damage(How::Unreadable(error.to_string()))),
            Ok(found) if found != *expected => return Err(damage(How::Content)),
            Ok(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn holes_and_zeros_are_the_same_and_every_bit_counts(
            pieces in proptest::collection::vec((0u64..300_000, 1usize..9000, 1u8..), 1..6), at in 0usize..1 << 20, bit in 0u8..8,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let (sparse, full) = (directory.path().join("sparse"), directory.path().join("full"));
            disk::create_sparse(&sparse, 400_001).unwrap();
            let file = File::options().write(true).open(&sparse).unwrap();
            for (offset, length, byte) in pieces {
                file.write_all_at(&vec![byte; length], offset).unwrap();
            }
            let mut content = fs::read(&sparse).unwrap();
            fs::write(&full, &content).unwrap();
            let checksum = of(&sparse).unwrap();
            prop_assert_eq!(&checksum, &of(&full).unwrap());
            let length = content.len();
            content[at % length] ^= 1 << bit;
            fs::write(&full, &content).unwrap();
            prop_assert_ne!(&checksum, &of(&full).unwrap());
        }
    }

    #[test]
    fn damage_is_told_by_file_and_kind() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let told = |expected: &Checksums| verify(directory.path(), expected).unwrap_err().to_string();
        fs::write(&state, "0123456789").unwrap();
        let expected = of_files(directory.path(), &["state"]).unwrap();
        assert_eq!(verify(directory.path(), &expected), Ok(()));
        fs::write(&state, "0123456788").unwrap();
        insta::assert_snapshot!(told(&expected), @"the content of `state` does not match its checksum");
        fs::write(&state, "0123").unwrap();
        insta::assert_snapshot!(told(&expected), @"`state` has 4 bytes instead of 10");
        fs::remove_file(&state).unwrap();
        insta::assert_snapshot!(told(&expected), @"`state` cannot be read: No such file or directory (os error 2)");
    }
}
