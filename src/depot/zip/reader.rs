//! Reads an archive that a stranger wrote.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::read::DeflateDecoder;

use super::{CENTRAL, DEFLATED, END, END_64, EXTRA_64, EXTRA_TIME, IN_EXTRA, LOCAL, LOCATOR_64, STORED};

/// Bytes of the last record without its comment.
const END_LENGTH: u64 = 22;

/// Where the last record may begin at the earliest, counted from the end.
const MAX_TAIL: u64 = END_LENGTH + u16::MAX as u64;

const LOCATOR_LENGTH: u64 = 20;

/// The system whose permissions a line has.
const MADE_ON_UNIX: u8 = 3;

/// What an archive may have.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub files: u64,
    /// Bytes of all contents, unpacked.
    pub bytes: u64,
}

/// Why an archive does not read.
#[derive(Debug, thiserror::Error)]
pub enum ZipError {
    #[error("it is no zip archive: {0}")]
    Broken(&'static str),
    #[error("it has {0}, which is not supported")]
    Unsupported(&'static str),
    #[error("it has more than {0}")]
    TooLarge(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it is written there; whoever makes a path of it checks it.
    pub name: String,
    /// Bytes, unpacked.
    pub size: u64,
    compressed: u64,
    is_deflated: bool,
    crc: u32,
    offset: u64,
    /// Type and permissions as Unix has them; 0 where the archive does not say.
    mode: u32,
    /// When the content changed, in seconds since the epoch, if the archive says so.
    modified: Option<u64>,
}

impl Entry {
    /// Whether the content is the target of a symbolic link.
    pub fn is_link(&self) -> bool {
        self.mode & 0o170_000 == 0o120_000
    }

    /// Permissions, if the archive says them.
    pub fn mode(&self) -> Option<u32> {
        Some(self.mode & 0o777).filter(|mode| *mode != 0)
    }

    /// When the content changed, in seconds since the epoch, if the archive says so.
    pub fn modified(&self) -> Option<u64> {
        self.modified
    }
}

/// Bytes of one name, as the kernel's `PATH_MAX`, and of all of them: they are kept in memory.
const MAX_NAME: usize = 4096;
const MAX_NAMES: usize = 32 << 20;

/// An archive that is read.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    entries: Vec<Entry>,
    directories: Vec<String>,
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the directory.
    ///
    /// # Errors
    /// It is no archive, or has more than the limits.
    pub fn open(mut source: R, limits: Limits) -> Result<Self, ZipError> {
        let Directory { offset, files } = find_directory(&mut source)?;
        if files > limits.files {
            return Err(ZipError::TooLarge(format!("{} files", limits.files)));
        }
        source.seek(SeekFrom::Start(offset))?;
        let mut lines = BufReader::new(&mut source);
        let (mut entries, mut directories, mut bytes, mut names) = (Vec::new(), Vec::new(), 0_u64, 0_usize);
        for _line in 0..files {
            let entry = read_line(&mut lines)?;
            bytes = bytes.saturating_add(entry.size);
            if bytes > limits.bytes {
                return Err(ZipError::TooLarge(crate::config::format_size(limits.bytes)));
            }
            names += entry.name.len();
            if entry.name.len() > MAX_NAME || names > MAX_NAMES {
                return Err(ZipError::TooLarge("names of a length that paths have".to_owned()));
            }
            match entry.name.strip_suffix('/') {
                Some(directory) => directories.push(directory.to_owned()),
                None => entries.push(entry),
            }
        }
        Ok(Self { source, entries, directories })
    }

    /// The directories that are listed themselves.
    pub fn directories(&self) -> &[String] {
        &self.directories
    }

    /// The files, in the order of the directory.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.clone()
    }

    /// The content of a file: exactly as many bytes as the entry says, or an error.
    ///
    /// # Errors
    /// The place that the directory names has no file.
    pub fn content(&mut self, entry: &Entry) -> Result<Box<dyn Read + '_>, ZipError> {
        self.source.seek(SeekFrom::Start(entry.offset))?;
        let header: [u8; 30] = exact(&mut self.source)?;
        if u32_at(&header, 0) != LOCAL {
            return Err(ZipError::Broken("a file is not where the directory says"));
        }
        let behind = u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
        self.source.seek(SeekFrom::Start(entry.offset.saturating_add(30 + behind)))?;
        let packed = BufReader::new((&mut self.source).take(entry.compressed));
        let plain: Box<dyn Read + '_> =
            if entry.is_deflated { Box::new(DeflateDecoder::new(packed)) } else { Box::new(packed) };
        Ok(Box::new(Checked { plain, left: entry.size, expected: entry.crc, crc: crc32fast::Hasher::new() }))
    }
}

/// A content that ends with an error unless it is what the directory says.
struct Checked<R> {
    plain: R,
    left: u64,
    expected: u32,
    crc: crc32fast::Hasher,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let broken = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if self.left == 0 {
            if self.plain.read(&mut [0])? > 0 {
                return broken("a file of the archive is longer than its directory says");
            }
            return if self.crc.clone().finalize() == self.expected {
                Ok(0)
            } else {
                broken("a file of the archive does not have its checksum")
            };
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.plain.read(&mut buffer[..room])?;
        if read == 0 && room > 0 {
            return broken("a file of the archive is shorter than its directory says");
        }
        self.crc.update(&buffer[..read]);
        self.left -= read as u64;
        Ok(read)
    }
}

struct Directory {
    offset: u64,
    files: u64,
}

fn find_directory(source: &mut (impl Read + Seek)) -> Result<Directory, ZipError> {
    let length = source.seek(SeekFrom::End(0))?;
    let tail_at = length.saturating_sub(MAX_TAIL);
    source.seek(SeekFrom::Start(tail_at))?;
    let mut tail = Vec::new();
    source.take(MAX_TAIL).read_to_end(&mut tail)?;
    let last = tail.len().checked_sub(END_LENGTH as usize).ok_or(ZipError::Broken("it is too short"))?;
    let at = (0..=last).rev().find(|at| u32_at(&tail, *at) == END).ok_or(ZipError::Broken("it has no end"))?;
    let end = &tail[at..];
    let (offset, files) = (u32_at(end, 16), u16_at(end, 10));
    let plain = Directory { offset: offset.into(), files: files.into() };
    let needs_64 = offset == IN_EXTRA || files == u16::MAX || u32_at(end, 12) == IN_EXTRA;
    if !needs_64 {
        return Ok(plain);
    }
    let Some(locator_at) = (tail_at + at as u64).checked_sub(LOCATOR_LENGTH) else { return Ok(plain) };
    source.seek(SeekFrom::Start(locator_at))?;
    let locator: [u8; LOCATOR_LENGTH as usize] = exact(source)?;
    if u32_at(&locator, 0) != LOCATOR_64 {
        return Ok(plain);
    }
    source.seek(SeekFrom::Start(u64_at(&locator, 8)))?;
    let record: [u8; 56] = exact(source)?;
    if u32_at(&record, 0) != END_64 {
        return Err(ZipError::Broken("its end is not where it says"));
    }
    Ok(Directory { offset: u64_at(&record, 48), files: u64_at(&record, 32) })
}

/// One line of the directory.
fn read_line(lines: &mut impl Read) -> Result<Entry, ZipError> {
    let line: [u8; 46] = exact(lines)?;
    if u32_at(&line, 0) != CENTRAL {
        return Err(ZipError::Broken("its directory is cut off"));
    }
    if u16_at(&line, 8) & 1 != 0 {
        return Err(ZipError::Unsupported("encrypted files"));
    }
    let is_deflated = match u16_at(&line, 10) {
        STORED => false,
        DEFLATED => true,
        _ => return Err(ZipError::Unsupported("a compression that is not deflate")),
    };
    let mut read = |length: u16| -> Result<Vec<u8>, ZipError> {
        let mut bytes = vec![0; length.into()];
        lines.read_exact(&mut bytes).map_err(cut_off)?;
        Ok(bytes)
    };
    let name = read(u16_at(&line, 28))?;
    let extra = read(u16_at(&line, 30))?;
    let _comment = read(u16_at(&line, 32))?;
    let mut long = extra_64(&extra);
    let modified = fields(&extra).find_map(|(kind, field)| time_of(kind, field));
    let mut number = |at: usize| match u32_at(&line, at) {
        IN_EXTRA => long.next().unwrap_or(IN_EXTRA.into()),
        short => short.into(),
    };
    // In the order of the extra field.
    let (size, compressed, offset) = (number(24), number(20), number(42));
    let name = String::from_utf8(name).map_err(|_| ZipError::Unsupported("a name that is not UTF-8"))?;
    let is_of_unix = line[5] == MADE_ON_UNIX;
    let mode = if is_of_unix { u32_at(&line, 38) >> 16 } else { 0 };
    Ok(Entry { name, size, compressed, is_deflated, crc: u32_at(&line, 16), offset, mode, modified })
}

/// An entry's extra fields, each with its kind.
fn fields(mut extra: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = extra.split_first_chunk::<4>()?;
        let length = usize::from(u16_at(head, 2)).min(rest.len());
        let (field, rest) = rest.split_at(length);
        extra = rest;
        Some((u16_at(head, 0), field))
    })
}

/// The numbers of 64 bits in an entry's extra fields.
fn extra_64(extra: &[u8]) -> impl Iterator<Item = u64> {
    let long = fields(extra).filter(|(kind, _)| *kind == EXTRA_64);
    long.flat_map(|(_, field)| field.chunks_exact(8).map(|number| u64_at(number, 0)))
}

/// The time in an extra field, if it has one.
fn time_of(kind: u16, field: &[u8]) -> Option<u64> {
    let (flags, rest) = field.split_first().filter(|_| kind == EXTRA_TIME)?;
    let seconds = rest.first_chunk::<4>().filter(|_| flags & 1 != 0)?;
    u64::try_from(i32::from_le_bytes(*seconds)).ok()
}

fn exact<const N: usize>(source: &mut impl Read) -> Result<[u8; N], ZipError> {
    let mut bytes = [0; N];
    source.read_exact(&mut bytes).map_err(cut_off)?;
    Ok(bytes)
}

fn cut_off(error: io::Error) -> ZipError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ZipError::Broken("it is cut off"),
        _ => error.into(),
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of that length")
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}
