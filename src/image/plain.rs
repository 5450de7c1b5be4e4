//! Files that may be compressed: archives of root file systems, modules of kernels.
//!
//! Decompressors run as processes of their own, so that what a stranger wrote can do nothing but fail there.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::ImageError;
use crate::host::command::{self, Piped};

/// A file without its compression.
pub(super) enum Plain {
    File(File),
    Piped(Box<Piped>),
}

impl Plain {
    /// Looks at the beginning of a file, as all tools do, rather than at its name. Must be called in an async runtime.
    pub(super) fn of(mut file: File) -> io::Result<Self> {
        let mut magic = Vec::new();
        (&mut file).take(6).read_to_end(&mut magic)?;
        file.seek(SeekFrom::Start(0))?;
        let program = match magic.as_slice() {
            [0x1f, 0x8b, ..] => "gzip",
            [0xfd, b'7', b'z', b'X', b'Z', 0] => "xz",
            [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
            _ => return Ok(Self::File(file)),
        };
        command::pipe(program, &["-d", "-c"], file).map(|piped| Self::Piped(Box::new(piped))).map_err(io::Error::other)
    }

    /// Waits for the decompressor's end, once all was read.
    ///
    /// # Errors
    /// When it failed: what it was given is damaged.
    pub(super) async fn finish(self) -> Result<(), ImageError> {
        match self {
            Self::File(_) => Ok(()),
            Self::Piped(piped) => Ok(piped.finish().await?),
        }
    }
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Piped(piped) => piped.read(buffer),
        }
    }
}
