//! The files of the inbox: `inbox/0000000001.deliveries` and so on. Each is written once, from its beginning, by one process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::record::{self, Head};

/// Bytes of a segment, for which room is made beforehand: a file that does not grow is synchronised faster. A larger delivery
/// has a segment of its own.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How the files are named after their number.
const EXTENSION: &str = "deliveries";

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Place {
    pub(in super::super) segment: u64,
    pub(in super::super) position: u64,
}

/// All segments of an inbox.
#[derive(Debug, Clone)]
pub(super) struct Segments {
    directory: PathBuf,
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Open {
    file: File,
    number: u64,
    length: u64,
    room: u64,
}

impl Segments {
    /// The segments in `directory`, which is made if it is not there.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {}
            Ok(()) => {
                if let Some(parent) = directory.parent() {
                    File::open(parent)?.sync_all()?;
                }
            }
        }
        Ok(Self { directory })
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:010}.{EXTENSION}"))
    }

    /// The numbers of all segments, ordered.
    pub(super) fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                numbers.extend(path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A new segment with room for `needed` bytes at least. Its name is durable.
    pub(super) fn create(&self, number: u64, needed: u64) -> io::Result<Open> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(number))?;
        let room = needed.max(SEGMENT_BYTES);
        match fallocate(&file, FallocateFlags::empty(), 0, room as i64) {
            Ok(()) => {}
            // Some file systems cannot, and some have not that much room: then the file grows.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ENOSPC) => file.set_len(0)?,
            Err(error) => {
                // Nobody has written to it: without it the next try starts anew.
                fs::remove_file(self.path(number))?;
                return Err(error.into());
            }
        }
        File::open(&self.directory)?.sync_all()?;
        Ok(Open { file, number, length: 0, room })
    }

    /// The record at a place.
    pub(super) fn read(&self, place: Place) -> io::Result<(Head, Vec<u8>)> {
        let mut file = File::open(self.path(place.segment))?;
        let available = file.metadata()?.len().saturating_sub(place.position);
        file.seek(SeekFrom::Start(place.position))?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the record is damaged");
        record::read(&mut file, available)?.map(|(head, body, _)| (head, body)).ok_or_else(damaged)
    }

    /// Tells `each` of every record from `from` on, in order, with the length of its body, its place and its end. Frees the
    /// room that was not used.
    pub(super) fn replay(&self, from: Place, mut each: impl FnMut(Head, u64, Place, u64)) -> io::Result<()> {
        for segment in self.numbers()?.into_iter().filter(|number| *number >= from.segment) {
            let path = self.path(segment);
            let length = fs::metadata(&path)?.len();
            let mut file = BufReader::new(File::open(&path)?);
            let mut position = if segment == from.segment { from.position } else { 0 };
            file.seek(SeekFrom::Start(position))?;
            while let Some((head, body, taken)) = record::read(&mut file, length.saturating_sub(position))? {
                each(head, body.len() as u64, Place { segment, position }, position + taken);
                position += taken;
            }
            self.close_up(&path, position)?;
        }
        Ok(())
    }

    /// Makes a segment durable of which rows will tell, and frees what was never written behind `end`. What was written there
    /// and is no record, is left for whoever wants to know.
    fn close_up(&self, path: &Path, end: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        file.seek(SeekFrom::Start(end))?;
        let mut next = [0; 16];
        let seen = file.read(&mut next)?;
        if next[..seen].iter().any(|byte| *byte != 0) {
            tracing::warn!(path = %path.display(), end, "what follows in a segment of the inbox cannot be read");
        } else if seen > 0
            && let Err(error) = file.set_len(end)
        {
            tracing::warn!(path = %path.display(), %error, "the room that the inbox did not use could not be freed");
        }
        file.sync_all()
    }

    /// Removes the segments before `first`.
    pub(super) fn remove_before(&self, first: u64) -> io::Result<()> {
        for number in self.numbers()?.into_iter().filter(|number| *number < first) {
            fs::remove_file(self.path(number))?;
        }
        Ok(())
    }
}

impl Open {
    /// Where the next record goes.
    pub(super) fn end(&self) -> Place {
        Place { segment: self.number, position: self.length }
    }

    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.length + bytes <= self.room
    }

    /// Writes all of `parts`; durable after [`Open::sync`]. After an error the segment must not be written any more.
    pub(super) fn append(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = &mut slices[..];
        while !left.is_empty() {
            match self.file.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.length += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Frees the room that was not used.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.set_len(self.length)
    }
}

/// A directory beside the store's file.
pub(super) fn directory_of(store: &Path) -> PathBuf {
    store.with_file_name("inbox")
}
