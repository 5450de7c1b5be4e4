//! Something on its way into the depot: pieces in files of their own, then one file with a digest.
//!
//! Pieces may come in any order, several at a time and twice; the order is told at the end. So the limit counts the bytes of
//! all pieces that are there, and what is committed is read once more, which is when it is hashed.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use super::DepotError;
use super::object::digest_of;
use crate::host::disk;
use crate::ids::UploadId;

/// Pieces of one upload. Azure's own limit.
pub const MAX_BLOCKS: u64 = 50_000;

const COPY_BUFFER: usize = 1 << 20;

/// What is not finished yet. Dropped, it is removed.
#[derive(Debug)]
pub struct Upload {
    staged: Staged,
    limit: u64,
    /// Bytes of all pieces, those that were replaced included.
    written: AtomicU64,
    blocks: AtomicU64,
}

/// A directory that is removed with its owner.
#[derive(Debug)]
struct Staged(Option<PathBuf>);

impl Staged {
    fn path(&self) -> &Path {
        self.0.as_deref().expect("only whoever consumes it takes it away")
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(directory) = self.0.take()
            && let Err(error) = fs::remove_dir_all(&directory)
        {
            tracing::warn!(directory = %directory.display(), %error, "an unfinished upload cannot be removed");
        }
    }
}

/// A piece that is being written.
#[derive(Debug)]
pub struct Block<'a> {
    upload: &'a Upload,
    file: File,
}

impl Upload {
    pub(super) fn begin(parent: &Path, limit: u64) -> Result<Self, DepotError> {
        let directory = parent.join(UploadId::random().as_str());
        fs::create_dir_all(&directory).map_err(DepotError::io("an upload cannot begin"))?;
        let staged = Staged(Some(directory));
        require_room(staged.path())?;
        Ok(Self { staged, limit, written: AtomicU64::new(0), blocks: AtomicU64::new(0) })
    }

    /// Begins the piece of that name, in the place of one that had it before.
    ///
    /// # Errors
    /// Too many pieces; the host's file system.
    pub fn block(&self, name: &str) -> Result<Block<'_>, DepotError> {
        if self.blocks.fetch_add(1, Ordering::Relaxed) >= MAX_BLOCKS {
            return Err(DepotError::TooLarge(format!("an upload has at most {MAX_BLOCKS} blocks")));
        }
        let file = File::create(self.piece(name)).map_err(DepotError::io("a block cannot be stored"))?;
        Ok(Block { upload: self, file })
    }

    /// The pieces of these names, in this order, are all of it.
    ///
    /// # Errors
    /// [`DepotError::Refused`] for a piece that is not there; the host's file system.
    pub fn commit(self, names: &[String]) -> Result<Uploaded, DepotError> {
        let io = DepotError::io("an upload cannot be put together");
        let directory = self.staged.path();
        let data = directory.join("data");
        let mut whole = File::create(&data).map_err(&io)?;
        let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; COPY_BUFFER]);
        for name in names {
            let mut piece = match File::open(self.piece(name)) {
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(DepotError::Refused("a block of the list was not uploaded".to_owned()));
                }
                Err(error) => return Err(io(error)),
            };
            loop {
                let read = piece.read(&mut buffer).map_err(&io)?;
                if read == 0 {
                    break;
                }
                size += read as u64;
                if size > self.limit {
                    return Err(self.too_large());
                }
                hash.update(&buffer[..read]);
                whole.write_all(&buffer[..read]).map_err(&io)?;
            }
        }
        whole.sync_all().map_err(&io)?;
        for piece in fs::read_dir(directory).map_err(&io)?.flatten().map(|entry| entry.path()) {
            if piece != data {
                fs::remove_file(&piece).map_err(&io)?;
            }
        }
        Ok(Uploaded { staged: self.staged, size, sha256: hex::encode(hash.finalize()) })
    }

    /// Names are the client's: they are hashed.
    fn piece(&self, name: &str) -> PathBuf {
        self.staged.path().join(format!("block-{}", digest_of(&[name])))
    }

    fn too_large(&self) -> DepotError {
        DepotError::TooLarge(format!("it has more than {}", crate::config::format_size(self.limit)))
    }
}

/// Bytes between two looks at how much room the host has.
const LOOK_EVERY: u64 = 16 << 20;

/// Free bytes that uploads leave: without any, no job starts and nothing can be stored.
const LEFT_FREE: u64 = 2 << 30;

pub(super) fn require_room(directory: &Path) -> Result<(), DepotError> {
    disk::require_room(directory, LEFT_FREE).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => DepotError::TooLarge("the host's disk has no room for it".to_owned()),
        _ => DepotError::io("the depot cannot be examined")(error),
    })
}

impl Block<'_> {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`DepotError::TooLarge`] when all pieces together have more than the upload may; the host's file system.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DepotError> {
        let more = bytes.len() as u64;
        let before = self.upload.written.fetch_add(more, Ordering::Relaxed);
        let after = before.saturating_add(more);
        if after > self.upload.limit {
            return Err(self.upload.too_large());
        }
        if before / LOOK_EVERY != after / LOOK_EVERY {
            require_room(self.upload.staged.path())?;
        }
        self.file.write_all(bytes).map_err(DepotError::io("a block cannot be stored"))
    }
}

/// What is whole and has no place yet. Dropped, it is removed.
#[derive(Debug)]
pub struct Uploaded {
    staged: Staged,
    /// Bytes.
    pub size: u64,
    /// In hexadecimal digits.
    pub sha256: String,
}

impl Uploaded {
    pub(super) fn directory(&self) -> &Path {
        self.staged.path()
    }

    /// It has its place now.
    pub(super) fn forget(mut self) {
        self.staged.0 = None;
    }

    /// The file with its content, as long as this is there.
    pub fn path(&self) -> PathBuf {
        self.directory().join("data")
    }

    /// Its content, before it has a place.
    ///
    /// # Errors
    /// The host's file system.
    pub fn open(&self) -> Result<BufReader<File>, DepotError> {
        let file = File::open(self.path()).map_err(DepotError::io("an upload cannot be read"))?;
        Ok(BufReader::new(file))
    }
}
