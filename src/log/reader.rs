//! Reading logs, also while they are written.
//!
//! A reader works on the files alone; the writer only tells it when to look again. What is read is what the files hold as
//! whole records, so that a torn end is never seen.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use futures::stream::{self, Stream as AsyncStream, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::raw::RawReader;
use super::record::{HEADER, Header, Kind, Stream};
use super::render::{coloured, plain};
use super::{LogError, blocking, segments};

/// Content of one chunk, in bytes; at least one record.
const CHUNK: usize = 64 * 1024;

/// Larger records were not written by this program.
const MAX_LENGTH: u32 = 1024 * 1024;

/// What stands at the top of a tail that is not the whole log.
const TAIL_NOTE: &str = "[dayfly: earlier output is not shown here]\n";

/// A piece of a log as it can be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// What a stream of a step wrote, or the heading of a step.
    Piece { step: u16, stream: Stream, at_ms: i64, text: String },
    /// So many bytes were cut here to keep the log within its limit.
    Cut { bytes: u64 },
}

impl Entry {
    /// The entry in a plain text. The texts of all entries one after the other are the log.
    pub fn to_text(&self) -> String {
        match self {
            Self::Piece { stream: Stream::Heading, text, .. } => match text.strip_prefix('\n') {
                // The line before it had no end.
                Some(name) => format!("\n==> {name}\n"),
                None => format!("==> {text}\n"),
            },
            Self::Piece { text, .. } => text.clone(),
            Self::Cut { bytes } => {
                format!("\n[dayfly: {bytes} bytes were cut here to keep the log within its limit]\n")
            }
        }
    }
}

/// Consecutive entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub entries: Vec<Entry>,
    /// The cursor after the chunk: where to go on reading.
    pub next: u64,
}

impl Chunk {
    /// The chunk in a plain text.
    pub fn to_text(&self) -> String {
        self.entries.iter().map(Entry::to_text).collect()
    }
}

/// The reading end of one log. Cursors count the log's bytes from its start, including what was cut since.
#[derive(Debug, Clone)]
pub struct LogReader {
    directory: PathBuf,
    /// Present while the log is written.
    live: Option<watch::Receiver<()>>,
    render: Render,
}

/// From the bytes of a record to its text.
type Render = fn(&[u8]) -> String;

impl LogReader {
    pub(super) fn new(directory: PathBuf, live: Option<watch::Receiver<()>>) -> Self {
        Self { directory, live, render: plain }
    }

    /// Leaves colours in the text, for a terminal.
    pub fn with_colours(self) -> Self {
        Self { render: coloured, ..self }
    }

    /// The chunks from `cursor` on; waits for more until the log ends. A cursor beyond the end waits at the end.
    pub fn follow(&self, cursor: u64) -> impl AsyncStream<Item = Result<Chunk, LogError>> + Send + use<> {
        let state = Following { scan: self.scan(cursor), live: self.live.clone() };
        stream::try_unfold(state, Following::next)
    }

    /// The chunks from `cursor` to what is the end now.
    pub fn read(&self, cursor: u64) -> impl AsyncStream<Item = Result<Chunk, LogError>> + Send + use<> {
        let state = Following { scan: self.scan(cursor), live: None };
        stream::try_unfold(state, Following::next)
    }

    /// The log from `cursor` to what is the end now as plain text, in pieces.
    pub fn text(&self, cursor: u64) -> impl AsyncStream<Item = Result<String, LogError>> + Send + use<> {
        self.read(cursor).map(|chunk| chunk.map(|chunk| chunk.to_text()))
    }

    /// The log's bytes from the first one on, as they were written.
    pub fn raw(&self) -> RawReader {
        RawReader::new(self.scan(0))
    }

    fn scan(&self, cursor: u64) -> Scan {
        Scan::new(&self.directory, cursor, self.render)
    }

    /// The end of the log as plain text, at most `max_bytes` bytes, from the start of a line; says if something precedes.
    pub async fn tail(&self, max_bytes: usize) -> Result<String, LogError> {
        let directory = self.directory.clone();
        blocking("read the log", move || tail(&directory, max_bytes)).await
    }
}

/// A reader on its way through a log.
struct Following {
    scan: Scan,
    live: Option<watch::Receiver<()>>,
}

impl Following {
    async fn next(mut self) -> Result<Option<(Chunk, Self)>, LogError> {
        loop {
            // Marked as seen before reading: what is written during the reading wakes the wait below.
            if let Some(live) = &mut self.live {
                live.mark_unchanged();
            }
            let mut scan = self.scan;
            let entries;
            (entries, scan) = blocking("read the log", move || Ok((scan.entries(CHUNK)?, scan))).await?;
            let next = scan.offset;
            self.scan = scan;
            if !entries.is_empty() {
                return Ok(Some((Chunk { entries, next }, self)));
            }
            let Some(live) = &mut self.live else { return Ok(None) };
            if live.changed().await.is_err() {
                // The writer is gone: read what it wrote last, then end.
                self.live = None;
            }
        }
    }
}

/// A record as it was written, or what is missing in its place.
pub(super) enum Found {
    Piece(Header, Stream, Vec<u8>),
    /// So many bytes were cut here.
    Cut(u64),
}

/// How much of a log is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    /// What is never cut.
    Head,
}

/// A place in a log. All methods block.
pub(super) struct Scan {
    directory: PathBuf,
    /// The offset after the last record that was read.
    offset: u64,
    /// Records that end at or before this were asked not to be shown.
    from: u64,
    segment: Option<Segment>,
    render: Render,
}

/// A segment that is being read.
struct Segment {
    start: u64,
    file: BufReader<File>,
    /// Where the next record begins in the file.
    position: u64,
}

impl Scan {
    pub(super) fn new(directory: &Path, from: u64, render: Render) -> Self {
        Self { directory: directory.to_owned(), offset: 0, from, segment: None, render }
    }

    /// The next entries, up to about `limit` bytes of content; none at what is the end now.
    fn entries(&mut self, limit: usize) -> io::Result<Vec<Entry>> {
        let render = self.render;
        let pieces = self.pieces(limit, Extent::Whole)?.into_iter();
        let entry = |found| match found {
            Found::Piece(header, stream, content) => piece(header, stream, (render)(&content)),
            Found::Cut(bytes) => Entry::Cut { bytes },
        };
        Ok(pieces.map(entry).collect())
    }

    /// The next records as they were written, up to about `limit` bytes of content; none at what is the end now.
    pub(super) fn pieces(&mut self, limit: usize, extent: Extent) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut size = 0;
        while size < limit {
            let Some((header, content)) = self.record()? else {
                if extent == Extent::Head && self.segment.is_some() {
                    break;
                }
                match self.next_segment()? {
                    Step::Cut(bytes) => found.push(Found::Cut(bytes)),
                    Step::Moved => {}
                    Step::End => break,
                }
                continue;
            };
            self.offset += u64::from(header.length);
            let Kind::Piece(stream) = header.kind else { continue };
            if self.offset > self.from {
                size += content.len();
                found.push(Found::Piece(header, stream, content));
            }
        }
        Ok(found)
    }

    /// The next whole record of the current segment.
    fn record(&mut self) -> io::Result<Option<(Header, Vec<u8>)>> {
        let Some(segment) = &mut self.segment else { return Ok(None) };
        let record = read_record(&mut segment.file)?;
        match &record {
            Some((header, _)) => segment.position += header.record_size(),
            // Back to the start of what may still be completed.
            None => drop(segment.file.seek(SeekFrom::Start(segment.position))?),
        }
        Ok(record)
    }

    /// Goes on to the segment after the current one, if there is one.
    fn next_segment(&mut self) -> io::Result<Step> {
        let segments = segments::list(&self.directory)?;
        let next = match &self.segment {
            None => segments.iter().rfind(|(start, _)| *start <= self.from).or(segments.first()),
            Some(current) => segments.iter().find(|(start, _)| *start > current.start),
        };
        let Some((start, path)) = next else {
            self.from = self.from.min(self.offset);
            return Ok(Step::End);
        };
        if let Some(current) = &mut self.segment
            && *start > self.offset
        {
            // The current segment may have grown between its end and the look for the next one.
            let position = current.position;
            if read_record(&mut current.file)?.is_some() {
                current.file.seek(SeekFrom::Start(position))?;
                return Ok(Step::Moved);
            }
        }
        let file = match File::open(path) {
            Ok(file) => file,
            // Cut while it was looked for: look again.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Step::Moved),
            Err(error) => return Err(error),
        };
        let missing = if self.segment.is_some() { start.saturating_sub(self.offset.max(self.from)) } else { 0 };
        self.offset = *start;
        self.segment = Some(Segment { start: *start, file: BufReader::with_capacity(CHUNK, file), position: 0 });
        Ok(if missing > 0 { Step::Cut(missing) } else { Step::Moved })
    }
}

/// What [`Scan::next_segment`] did.
enum Step {
    Moved,
    /// Moved over bytes that are gone.
    Cut(u64),
    End,
}

/// A whole record, or `None` at the end of what the file holds.
fn read_record(file: &mut impl Read) -> io::Result<Option<(Header, Vec<u8>)>> {
    let mut bytes = [0; HEADER];
    if !fill(file, &mut bytes)? {
        return Ok(None);
    }
    let Some(header) = Header::decode(bytes).filter(|header| header.length <= MAX_LENGTH) else { return Ok(None) };
    let mut content = vec![0; header.length as usize];
    Ok(fill(file, &mut content)?.then_some((header, content)))
}

/// Whether the file had enough bytes.
fn fill(file: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn piece(header: Header, stream: Stream, mut text: String) -> Entry {
    if stream == Stream::Heading {
        text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if header.breaks_line {
        text.insert(0, '\n');
    }
    Entry::Piece { step: header.step, stream, at_ms: header.at_ms, text }
}

fn tail(directory: &Path, max_bytes: usize) -> io::Result<String> {
    // Segments from the end until they hold enough; rendering makes text shorter, so twice as much is read as asked for.
    let mut sizes = 0;
    let mut from = 0;
    for (start, path) in segments::list(directory)?.into_iter().rev() {
        from = start;
        sizes += std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        if sizes >= 2 * max_bytes as u64 {
            break;
        }
    }
    let mut scan = Scan::new(directory, from, plain);
    let mut texts: VecDeque<String> = VecDeque::new();
    let mut size = 0;
    let mut is_whole = from == 0;
    loop {
        let entries = scan.entries(CHUNK)?;
        if entries.is_empty() {
            break;
        }
        for text in entries.iter().map(Entry::to_text) {
            size += text.len();
            texts.push_back(text);
        }
        while let Some(first) = texts.front()
            && size - first.len() > max_bytes
        {
            size -= first.len();
            texts.pop_front();
            is_whole = false;
        }
    }
    let text = String::from_iter(texts);
    if is_whole && text.len() <= max_bytes {
        return Ok(text);
    }
    let kept = &text[text.ceil_char_boundary((text.len() + TAIL_NOTE.len()).saturating_sub(max_bytes))..];
    // From the start of a line, unless the cut one is all there is.
    let kept = kept.split_once('\n').map_or(kept, |(cut, lines)| if lines.is_empty() { cut } else { lines });
    Ok(if max_bytes < TAIL_NOTE.len() { String::new() } else { format!("{TAIL_NOTE}{kept}") })
}
