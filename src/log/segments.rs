//! The files of one log, and how they stay within its limit.
//!
//! A log is a directory of segments. Each is named by its offset: the number of log bytes before it, counted as if nothing
//! had ever been cut, so that an offset means the same place for ever. The first segment keeps the head; the tail is a
//! window of smaller ones of which the oldest is deleted when a new one is needed. What lies between them is cut.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::record::{HEADER, Header, Kind};

/// A segment of the tail is this part of the limit; the head gets [`HEAD_PARTS`] of them, the tail the others.
const PARTS: u64 = 16;
const HEAD_PARTS: u64 = 4;
const TAIL_SEGMENTS: usize = (PARTS - HEAD_PARTS) as usize;

/// The least limit of a log, in bytes; smaller ones are raised to it.
pub const MIN_LIMIT: u64 = 64 * 1024;

/// Most bytes of one record's content, unless the limit is small.
const MAX_RECORD: u64 = 32 * 1024;

/// How many bytes of content a record may have, so that at least two fit into each segment.
pub(super) fn record_limit(limit: u64) -> usize {
    let fitting = limit.max(MIN_LIMIT) / PARTS / 2 - HEADER as u64;
    usize::try_from(fitting.min(MAX_RECORD)).expect("a record's limit is at most 32 KiB")
}

/// How a log ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSize {
    /// Bytes that were written to the log.
    pub bytes: u64,
    /// Bytes of these that were cut from its middle.
    pub cut: u64,
}

/// The writing end. All methods block.
#[derive(Debug)]
pub(super) struct Segments {
    directory: PathBuf,
    limit: u64,
    file: File,
    /// Bytes that still fit into the current file.
    room: u64,
    /// Offset of the next record.
    offset: u64,
    /// Offsets of the tail's segments, the current one last; empty while the head is written.
    tail: VecDeque<u64>,
    cut: u64,
}

impl Segments {
    /// Creates the directory, which must not exist, and the head.
    pub(super) fn create(directory: &Path, limit: u64) -> io::Result<Self> {
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::create_dir(directory)?;
        let limit = limit.max(MIN_LIMIT);
        let file = create_segment(directory, 0)?;
        let room = limit / PARTS * HEAD_PARTS;
        Ok(Self { directory: directory.to_owned(), limit, file, room, offset: 0, tail: VecDeque::new(), cut: 0 })
    }

    /// Appends whole records.
    pub(super) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let mut written = 0;
        let mut at = 0;
        while let Some(header) = records[at..].first_chunk().and_then(|bytes| Header::decode(*bytes)) {
            if header.record_size() > self.room {
                self.file.write_all(&records[written..at])?;
                written = at;
                self.next_segment()?;
            }
            self.room -= header.record_size();
            self.offset += u64::from(header.length);
            at += HEADER + header.length as usize;
        }
        self.file.write_all(&records[written..])
    }

    /// Makes room by deleting the oldest segment of the tail, then begins a new one.
    fn next_segment(&mut self) -> io::Result<()> {
        if self.tail.len() == TAIL_SEGMENTS
            && let Some(oldest) = self.tail.pop_front()
        {
            fs::remove_file(segment_path(&self.directory, oldest))?;
            self.cut += self.tail.front().copied().unwrap_or(self.offset) - oldest;
        }
        self.file = create_segment(&self.directory, self.offset)?;
        self.tail.push_back(self.offset);
        self.room = self.limit / PARTS;
        Ok(())
    }

    /// Marks the log as complete and makes it durable.
    pub(super) fn finish(mut self, at_ms: i64) -> io::Result<LogSize> {
        let end = Header { kind: Kind::End, breaks_line: false, step: 0, length: 0, at_ms };
        self.append(&end.encode())?;
        for (_, path) in list(&self.directory)? {
            File::open(path)?.sync_all()?;
        }
        File::open(&self.directory)?.sync_all()?;
        Ok(LogSize { bytes: self.offset, cut: self.cut })
    }
}

fn create_segment(directory: &Path, offset: u64) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(segment_path(directory, offset))
}

fn segment_path(directory: &Path, offset: u64) -> PathBuf {
    // Wide enough for every offset, so that the order of the names is the order of the segments.
    directory.join(format!("{offset:020}"))
}

/// The segments of a log by offset, in order.
pub(super) fn list(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if let Some(offset) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()) {
            segments.push((offset, path));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}
