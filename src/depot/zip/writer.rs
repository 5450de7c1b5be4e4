//! Writes an archive from its beginning to its end.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::{CENTRAL, DEFLATED, DESCRIPTOR, END, END_64, EXTRA_64, EXTRA_TIME, IN_EXTRA, LOCAL, LOCATOR_64};

/// From this size on, in bytes, a file is described with 64 bits. Less than 4 GiB: what cannot be compressed grows.
const LARGE: u64 = 4_000_000_000;

/// Lengths follow the content; the name is UTF-8.
const FLAGS: u16 = 1 << 3 | 1 << 11;

/// The first day that an archive knows, for those who do not read the field with the time.
const DATE: u16 = 1 << 5 | 1;

/// A file, as archives of Unix say it, and one that everybody reads.
const REGULAR: u32 = 0o100_000;
const PLAIN: u32 = (REGULAR | 0o644) << 16;

/// A directory, with the mark that other systems know.
const DIRECTORY: u32 = 0o040_755 << 16 | 0x10;

const LINK: u32 = 0o120_777 << 16;

/// Made by version 4.5 of the format, on Unix.
const MADE_BY: u16 = 3 << 8 | 45;

/// An archive that is being written.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: Counted<W>,
    /// The directory, which comes last.
    directory: Vec<u8>,
    files: u64,
    level: Compression,
}

/// Counts what passes.
#[derive(Debug)]
struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> Writer<W> {
    /// An archive whose files are compressed so much: from 0, not at all, to 9.
    pub fn new(out: W, level: u32) -> Self {
        let level = Compression::new(level.min(9));
        Self { out: Counted { out, bytes: 0 }, directory: Vec::new(), files: 0, level }
    }

    /// Adds a file of about that size; `fill` writes its content.
    ///
    /// # Errors
    /// The output's, and those of `fill`.
    pub fn file<E: From<io::Error>>(
        &mut self, name: &str, size: u64, fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        self.add(name, PLAIN, None, size, fill)
    }

    /// Adds one with these permissions, whose content changed then, in seconds since the epoch.
    ///
    /// # Errors
    /// As [`Writer::file`].
    pub fn file_of<E: From<io::Error>>(
        &mut self, name: &str, size: u64, (mode, modified): (u32, u64),
        fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        // Later ones do not fit, and are no times of real files.
        let modified = i32::try_from(modified).ok();
        self.add(name, (REGULAR | mode & 0o777) << 16, modified, size, fill)
    }

    /// Adds a directory, whose name has no `/` at its end.
    ///
    /// # Errors
    /// The output's.
    pub fn directory(&mut self, name: &str) -> io::Result<()> {
        self.add(&format!("{name}/"), DIRECTORY, None, 0, |_| Ok(()))
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// The output's.
    pub fn link(&mut self, name: &str, target: &[u8]) -> io::Result<()> {
        self.add(name, LINK, None, target.len() as u64, |out| out.write_all(target))
    }

    fn add<E: From<io::Error>>(
        &mut self, name: &str, mode: u32, modified: Option<i32>, size: u64,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let offset = self.out.bytes;
        let is_large = size >= LARGE;
        let time = modified.map(time_field).unwrap_or_default();
        self.out.write_all(&local_header(name, is_large, &time))?;
        let begin = self.out.bytes;
        let (crc, size) = {
            let out = DeflateEncoder::new(&mut self.out, self.level);
            let mut content = Summed { out, crc: crc32fast::Hasher::new(), size: 0 };
            fill(&mut content)?;
            content.out.finish()?;
            (content.crc.finalize(), content.size)
        };
        let compressed = self.out.bytes - begin;
        if !is_large && (size >= u64::from(IN_EXTRA) || compressed >= u64::from(IN_EXTRA)) {
            return Err(io::Error::other("a file grew while it was read").into());
        }
        let mut after = Vec::new();
        put32(&mut after, DESCRIPTOR);
        put32(&mut after, crc);
        for length in [compressed, size] {
            if is_large { put64(&mut after, length) } else { put32(&mut after, length as u32) }
        }
        self.out.write_all(&after)?;
        self.list(name, mode, crc, [compressed, size, offset], &time);
        Ok(())
    }

    /// The line of a file in the directory.
    fn list(&mut self, name: &str, mode: u32, crc: u32, [compressed, size, offset]: [u64; 3], time: &[u8]) {
        let needs_64 = [size, compressed, offset].iter().any(|number| *number >= u64::from(IN_EXTRA));
        let out = &mut self.directory;
        put32(out, CENTRAL);
        for short in [MADE_BY, version(needs_64), FLAGS, DEFLATED, 0, DATE] {
            put16(out, short);
        }
        put32(out, crc);
        for length in [compressed, size] {
            put32(out, if needs_64 { IN_EXTRA } else { length as u32 });
        }
        let extra = time.len() as u16 + if needs_64 { 28 } else { 0 };
        for short in [name.len() as u16, extra, 0, 0, 0] {
            put16(out, short);
        }
        put32(out, mode);
        put32(out, if needs_64 { IN_EXTRA } else { offset as u32 });
        out.extend_from_slice(name.as_bytes());
        if needs_64 {
            put16(out, EXTRA_64);
            put16(out, 24);
            for number in [size, compressed, offset] {
                put64(out, number);
            }
        }
        out.extend_from_slice(time);
        self.files += 1;
    }

    /// Writes the directory; gives the output back.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(mut self) -> io::Result<W> {
        let (offset, length) = (self.out.bytes, self.directory.len() as u64);
        let mut end = self.directory;
        if self.files >= u64::from(u16::MAX) || offset >= u64::from(IN_EXTRA) || length >= u64::from(IN_EXTRA) {
            put32(&mut end, END_64);
            put64(&mut end, 44);
            put16(&mut end, MADE_BY);
            put16(&mut end, 45);
            put64(&mut end, 0);
            for number in [self.files, self.files, length, offset] {
                put64(&mut end, number);
            }
            put32(&mut end, LOCATOR_64);
            put32(&mut end, 0);
            put64(&mut end, offset + length);
            put32(&mut end, 1);
        }
        put32(&mut end, END);
        put32(&mut end, 0);
        let files = u16::try_from(self.files).unwrap_or(u16::MAX);
        put16(&mut end, files);
        put16(&mut end, files);
        for number in [length, offset] {
            put32(&mut end, u32::try_from(number).unwrap_or(IN_EXTRA));
        }
        put16(&mut end, 0);
        self.out.write_all(&end)?;
        self.out.flush()?;
        Ok(self.out.out)
    }
}

/// What is before a content.
fn local_header(name: &str, is_large: bool, time: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put32(&mut out, LOCAL);
    for short in [version(is_large), FLAGS, DEFLATED, 0, DATE] {
        put16(&mut out, short);
    }
    put32(&mut out, 0);
    for _length in 0..2 {
        put32(&mut out, if is_large { IN_EXTRA } else { 0 });
    }
    put16(&mut out, name.len() as u16);
    put16(&mut out, time.len() as u16 + if is_large { 20 } else { 0 });
    out.extend_from_slice(name.as_bytes());
    if is_large {
        put16(&mut out, EXTRA_64);
        put16(&mut out, 16);
        put64(&mut out, 0);
        put64(&mut out, 0);
    }
    out.extend_from_slice(time);
    out
}

/// When a content changed, as an extra field.
fn time_field(modified: i32) -> Vec<u8> {
    let mut out = Vec::new();
    put16(&mut out, EXTRA_TIME);
    put16(&mut out, 5);
    // Of the three times that there may be it is the first.
    out.push(1);
    out.extend_from_slice(&modified.to_le_bytes());
    out
}

fn version(needs_64: bool) -> u16 {
    if needs_64 { 45 } else { 20 }
}

/// Sums up what it compresses.
struct Summed<W: Write> {
    out: DeflateEncoder<W>,
    crc: crc32fast::Hasher,
    size: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.crc.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn put16(out: &mut Vec<u8>, number: u16) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}
