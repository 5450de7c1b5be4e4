//! Tar streams, decoded piece by piece. Pure; keeps at most one header and one name.

use std::fmt;

const BLOCK: usize = 512;

/// The longest name of an entry, in bytes: the longest path of Linux.
pub const MAX_NAME: u64 = 4096;

/// What is known of a file beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions, without those that would make it run as somebody else.
    pub mode: u32,
    /// When its content changed, in seconds since the epoch.
    pub modified: u64,
}

impl Attributes {
    /// Whether whoever owns the file may run it.
    pub fn is_executable(self) -> bool {
        self.mode & 0o100 != 0
    }
}

/// What comes out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A regular file begins; its content follows in pieces, then [`Event::End`].
    File {
        path: Vec<u8>,
        size: u64,
        attributes: Attributes,
    },
    Content(&'a [u8]),
    End,
    Directory {
        path: Vec<u8>,
    },
    /// A symbolic link.
    Link {
        path: Vec<u8>,
        target: Vec<u8>,
    },
    /// An entry of another kind, which has no content here.
    Other {
        path: Vec<u8>,
        kind: &'static str,
    },
}

/// A stream that is none, or that goes beyond what is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TarError {
    Checksum,
    Number,
    LongName,
    /// A kind of header that would change how others are read.
    Extension(u8),
}

impl fmt::Display for TarError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum => out.write_str("the guest's stream is no tar archive"),
            Self::Number => out.write_str("the guest's archive has a number that is none"),
            Self::LongName => write!(out, "the guest's archive has a name of more than {MAX_NAME} bytes"),
            Self::Extension(kind) => {
                write!(out, "the guest's archive has headers of the kind `{}`", kind.escape_ascii())
            }
        }
    }
}

impl std::error::Error for TarError {}

/// Decodes one stream.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// The part of a header that has arrived.
    block: Vec<u8>,
    /// The name of the next entry, from an entry of its own.
    long_name: Option<Vec<u8>>,
    /// The same of where it leads.
    long_target: Option<Vec<u8>>,
}

#[derive(Debug)]
enum State {
    Header,
    Content { left: u64, padding: u64 },
    Name { left: u64, padding: u64, name: Vec<u8>, is_target: bool },
    Skip { left: u64 },
    Ended,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: State::Header, block: Vec::with_capacity(BLOCK), long_name: None, long_target: None }
    }
}

impl Decoder {
    /// The next event in `input`, which is moved past what was taken; `None` once all of it was.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, TarError> {
        loop {
            match &mut self.state {
                State::Header => {
                    let wanted = BLOCK - self.block.len();
                    self.block.extend_from_slice(take(input, wanted as u64));
                    if self.block.len() < BLOCK {
                        return Ok(None);
                    }
                    if let Some(event) = self.header()? {
                        return Ok(Some(event));
                    }
                }
                State::Content { left: 0, padding } => {
                    self.state = State::Skip { left: *padding };
                    return Ok(Some(Event::End));
                }
                State::Content { left, .. } => {
                    let content = take(input, *left);
                    *left -= content.len() as u64;
                    return Ok((!content.is_empty()).then_some(Event::Content(content)));
                }
                State::Name { left: 0, padding, name, is_target } => {
                    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                    let place = if *is_target { &mut self.long_target } else { &mut self.long_name };
                    *place = Some(name[..end].to_vec());
                    self.state = State::Skip { left: *padding };
                }
                State::Name { left, name, .. } => {
                    let piece = take(input, *left);
                    if piece.is_empty() {
                        return Ok(None);
                    }
                    *left -= piece.len() as u64;
                    name.extend_from_slice(piece);
                }
                State::Skip { left: 0 } => self.state = State::Header,
                State::Skip { left } => {
                    let passed = take(input, *left);
                    if passed.is_empty() {
                        return Ok(None);
                    }
                    *left -= passed.len() as u64;
                }
                State::Ended => {
                    *input = &[];
                    return Ok(None);
                }
            }
        }
    }

    /// Whether the stream ended where an archive may end.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn header(&mut self) -> Result<Option<Event<'static>>, TarError> {
        let block = std::mem::take(&mut self.block);
        if block.iter().all(|byte| *byte == 0) {
            self.state = State::Ended;
            return Ok(None);
        }
        if number(&block[148..156]) != Ok(checksum(&block)) {
            return Err(TarError::Checksum);
        }
        let size = number(&block[124..136])?;
        let padding = size.wrapping_neg() % BLOCK as u64;
        let kind = block[156];
        if matches!(kind, b'L' | b'K') {
            if size > MAX_NAME {
                return Err(TarError::LongName);
            }
            self.state = State::Name { left: size, padding, name: Vec::new(), is_target: kind == b'K' };
            return Ok(None);
        }
        let path = self.long_name.take().unwrap_or_else(|| short_name(&block));
        let target = self.long_target.take().unwrap_or_else(|| text(&block[157..257]));
        // Links and devices have no content, whatever their size says.
        self.state = State::Header;
        Ok(Some(match kind {
            b'0' | 0 | b'7' => {
                self.state = State::Content { left: size, padding };
                let mode = u32::try_from(number(&block[100..108])? & 0o777).unwrap_or(0);
                // Times before the epoch are no numbers here; nothing depends on them.
                let modified = number(&block[136..148]).unwrap_or(0);
                Event::File { path, size, attributes: Attributes { mode, modified } }
            }
            b'5' => Event::Directory { path },
            b'2' => Event::Link { path, target },
            b'1' => Event::Other { path, kind: "a link" },
            b'3' | b'4' => Event::Other { path, kind: "a device" },
            b'6' => Event::Other { path, kind: "a pipe" },
            other => return Err(TarError::Extension(other)),
        }))
    }
}

/// Up to `wanted` bytes from the start of `input`.
fn take<'a>(input: &mut &'a [u8], wanted: u64) -> &'a [u8] {
    let length = usize::try_from(wanted).unwrap_or(usize::MAX).min(input.len());
    let (taken, rest) = input.split_at(length);
    *input = rest;
    taken
}

/// A field up to its end.
fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().take_while(|byte| *byte != 0).collect()
}

fn short_name(block: &[u8]) -> Vec<u8> {
    let name = text(&block[..100]);
    // GNU's archives say `ustar ` here, and have something else where POSIX has the first part of a long name.
    let prefix = if &block[257..263] == b"ustar\0" { text(&block[345..500]) } else { Vec::new() };
    if prefix.is_empty() { name } else { [prefix, name].join(&b'/') }
}

/// Octal digits, or the big-endian bytes by which GNU writes what is too large for those.
fn number(field: &[u8]) -> Result<u64, TarError> {
    if let [0x80, rest @ ..] = field {
        let (high, low) = rest.split_at(rest.len().saturating_sub(8));
        let is_small = high.iter().all(|byte| *byte == 0);
        return if is_small {
            Ok(low.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        } else {
            Err(TarError::Number)
        };
    }
    let digits = field.iter().copied().skip_while(|byte| *byte == b' ').take_while(|byte| !matches!(byte, b' ' | 0));
    let mut digits = digits.map(|byte| matches!(byte, b'0'..=b'7').then(|| u64::from(byte - b'0')));
    digits.try_fold(0_u64, |sum, digit| sum.checked_mul(8)?.checked_add(digit?)).ok_or(TarError::Number)
}

/// The sum of a header's bytes, with spaces where the sum itself stands.
fn checksum(block: &[u8]) -> u64 {
    block.iter().enumerate().map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte })).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header with that name, kind and size.
    fn header(name: &str, kind: u8, size: u64) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..108].copy_from_slice(b"0004755\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"00000000012\0");
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar  \0");
        let sum = checksum(&block);
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = header(name, kind, content.len() as u64);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    /// The events of a stream that comes in pieces of this size, contents joined.
    fn events(stream: &[u8], size: usize) -> Result<Vec<String>, TarError> {
        let mut decoder = Decoder::default();
        let mut found: Vec<String> = Vec::new();
        let mut content = String::new();
        for mut piece in stream.chunks(size) {
            while let Some(event) = decoder.next(&mut piece)? {
                let name = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
                match event {
                    Event::File { path, size, attributes } => {
                        let Attributes { mode, modified } = attributes;
                        found.push(format!("{} {size} {mode:o} {modified}", name(&path)));
                    }
                    Event::Content(bytes) => content.push_str(&String::from_utf8_lossy(bytes)),
                    Event::End => found.push(format!("={}", std::mem::take(&mut content))),
                    Event::Directory { path } => found.push(format!("{}/ directory", name(&path))),
                    Event::Link { path, target } => found.push(format!("{} -> {}", name(&path), name(&target))),
                    Event::Other { path, kind } => found.push(format!("{} is {kind}", name(&path))),
                }
            }
        }
        found.push(if decoder.is_complete() { "complete" } else { "cut" }.to_owned());
        Ok(found)
    }

    fn archive() -> Vec<u8> {
        let long = "d/".repeat(80) + "long";
        [
            entry("dist/", b'5', b""),
            entry("dist/a", b'0', b"hello"),
            entry("dist/empty", b'0', b""),
            entry("dist/link", b'2', b""),
            entry("././@LongLink", b'L', format!("{long}\0").as_bytes()),
            entry("cut short", b'0', &[b'x'; 600]),
            entry("././@LongLink", b'K', b"../a/target\0"),
            entry("other link", b'2', b""),
            entry("hard link", b'1', b""),
            vec![0; 2 * BLOCK],
            b"what follows does not count".to_vec(),
        ]
        .concat()
    }

    #[test]
    fn an_archive_reads_the_same_in_pieces_of_any_size() {
        let whole = events(&archive(), usize::MAX).unwrap();
        for size in [1, 7, 511, 512, 513, 1000] {
            assert_eq!(events(&archive(), size).unwrap(), whole);
        }
        let expected = ["dist// directory", "dist/a 5 755 10", "=hello", "dist/empty 0 755 10", "=", "dist/link -> "];
        assert_eq!(whole[..6], expected);
        assert_eq!((whole[6].len(), whole[7].len()), (164 + 11, 601));
        assert_eq!(whole[8..], ["other link -> ../a/target", "hard link is a link", "complete"]);
        assert_eq!(events(&archive()[..1500], 100).unwrap().last().unwrap(), "cut");
    }

    #[test]
    fn what_announces_too_much_is_refused_before_it_is_believed() {
        assert_eq!(events(&header("x", b'L', MAX_NAME + 1), 100), Err(TarError::LongName));
        assert_eq!(events(&header("x", b'x', 10), 100), Err(TarError::Extension(b'x')));
        assert_eq!(events(&[b'a'; BLOCK], 100), Err(TarError::Checksum));
        let huge = events(&header("x", b'0', 0o77777777777), 100).unwrap();
        assert_eq!(huge, ["x 8589934591 755 10", "cut"], "it is the receiver who counts");
        let mut negative = header("x", b'0', 0);
        negative[124..136].fill(0xff);
        assert!(events(&negative, 100).is_err());
    }

    proptest! {
        #[test]
        fn no_stream_panics(stream in prop::collection::vec(any::<u8>(), 0..2048), at in 0..2048_usize, size in 1..600_usize) {
            let mut bytes = archive();
            let at = at.min(bytes.len());
            bytes.splice(at..at, stream);
            let _events = events(&bytes, size);
        }
    }
}
