//! Writing one log.
//!
//! Appending only copies into a buffer; a task of the log's own hands full buffers to a blocking thread. While that writes,
//! the next buffer fills: few bytes are visible at once, many bytes go in large writes. Memory is bounded by
//! [`HIGH_WATER`]: a caller that is faster than the disk waits. Readers are only told that there is more, so that none of
//! them can hold up the writer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::record::{Header, Kind, Stream};
use super::render::{MAX_HELD, safe_length};
use super::segments::{LogSize, Segments};
use super::{LogError, Registration};

/// Bytes that wait for the disk before the caller has to; a second buffer of this size may be on its way to it.
const HIGH_WATER: usize = 1024 * 1024;

/// Longest heading, in bytes; longer ones are cut.
const MAX_HEADING: usize = 1024;

/// The writing end of one log. Dropping it without [`LogWriter::finish`] leaves the log as it is: incomplete, but readable.
#[derive(Debug)]
pub struct LogWriter {
    shared: Arc<Shared>,
    record_limit: usize,
    held: Vec<Held>,
    /// The step and stream of an unfinished line at the end of the log.
    open_line: Option<(u16, Stream)>,
    flusher: JoinHandle<Result<LogSize, LogError>>,
}

/// The unfinished end of a stream: see [`safe_length`].
#[derive(Debug)]
struct Held {
    step: u16,
    stream: Stream,
    at_ms: i64,
    bytes: Vec<u8>,
}

impl LogWriter {
    pub(super) fn start(segments: Segments, record_limit: usize, registration: Registration) -> Self {
        debug_assert!(record_limit > MAX_HELD, "a record must get past what can be held back");
        let shared = Arc::new(Shared::default());
        let flusher = tokio::spawn(flush(shared.clone(), segments, registration));
        Self { shared, record_limit, held: Vec::new(), open_line: None, flusher }
    }

    /// Appends what a stream of a step wrote. Returns when it is buffered; fails once the disk has failed.
    pub async fn append(&mut self, step: u16, stream: Stream, at_ms: i64, bytes: &[u8]) -> Result<(), LogError> {
        if stream == Stream::Heading {
            self.release_held(|_| true).await?;
            return self.push(step, stream, at_ms, &bytes[..bytes.len().min(MAX_HEADING)]).await;
        }
        self.release_held(|held| held.step != step).await?;
        let position = self.held.iter().position(|held| held.stream == stream);
        let mut joined = position.map(|at| self.held.swap_remove(at).bytes);
        let data = match &mut joined {
            Some(held) => {
                held.extend_from_slice(bytes);
                held
            }
            None => bytes,
        };
        let mut rest = data;
        loop {
            let piece = &rest[..rest.len().min(self.record_limit)];
            let length = safe_length(piece);
            if length == 0 {
                break;
            }
            self.push(step, stream, at_ms, &piece[..length]).await?;
            rest = &rest[length..];
        }
        if !rest.is_empty() {
            self.held.push(Held { step, stream, at_ms, bytes: rest.to_vec() });
        }
        Ok(())
    }

    /// Completes the log and waits until it is durable.
    pub async fn finish(mut self, at_ms: i64) -> Result<LogSize, LogError> {
        self.release_held(|_| true).await?;
        self.shared.close(Ending::Complete { at_ms });
        match (&mut self.flusher).await {
            Ok(result) => result,
            Err(_) => Err(LogError::interrupted()),
        }
    }

    /// Writes what was held back although its end did not come.
    async fn release_held(&mut self, which: impl Fn(&Held) -> bool) -> Result<(), LogError> {
        while let Some(at) = self.held.iter().position(&which) {
            let held = self.held.swap_remove(at);
            self.push(held.step, held.stream, held.at_ms, &held.bytes).await?;
        }
        Ok(())
    }

    async fn push(&mut self, step: u16, stream: Stream, at_ms: i64, bytes: &[u8]) -> Result<(), LogError> {
        let breaks_line = self.open_line.is_some_and(|open| open != (step, stream));
        let ends_line = stream == Stream::Heading || bytes.ends_with(b"\n") || bytes.ends_with(b"\r");
        self.open_line = (!ends_line).then_some((step, stream));
        let length = u32::try_from(bytes.len()).expect("a record's limit is far below 4 GiB");
        let header = Header { kind: Kind::Piece(stream), breaks_line, step, length, at_ms };
        self.shared.push(header, bytes).await
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.shared.close(Ending::Incomplete);
    }
}

/// What the caller and the flushing task share.
#[derive(Debug, Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    /// There is something for the task to do.
    filled: Notify,
    /// There is room again, or the disk failed.
    drained: Notify,
}

#[derive(Debug, Default)]
struct Buffer {
    records: Vec<u8>,
    ending: Option<Ending>,
    failed: Option<LogError>,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Complete { at_ms: i64 },
    Incomplete,
}

impl Shared {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        // Nothing can panic half-way through a change of the buffer.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn push(&self, header: Header, bytes: &[u8]) -> Result<(), LogError> {
        loop {
            {
                let mut buffer = self.buffer();
                if let Some(failed) = &buffer.failed {
                    return Err(failed.clone());
                }
                if buffer.records.len() < HIGH_WATER {
                    buffer.records.extend_from_slice(&header.encode());
                    buffer.records.extend_from_slice(bytes);
                    break;
                }
            }
            self.drained.notified().await;
        }
        self.filled.notify_one();
        Ok(())
    }

    /// The first ending counts.
    fn close(&self, ending: Ending) {
        self.buffer().ending.get_or_insert(ending);
        self.filled.notify_one();
    }

    /// Exchanges the buffer for an empty one.
    fn take(&self, empty: Vec<u8>) -> (Vec<u8>, Option<Ending>) {
        let mut buffer = self.buffer();
        let records = std::mem::replace(&mut buffer.records, empty);
        let ending = buffer.ending;
        drop(buffer);
        self.drained.notify_one();
        (records, ending)
    }

    fn fail(&self, error: &LogError) {
        self.buffer().failed = Some(error.clone());
        self.drained.notify_one();
    }
}

/// Writes what comes until the log ends or the disk fails. When it returns, `registration` is dropped, and readers know that
/// nothing more will come.
async fn flush(shared: Arc<Shared>, segments: Segments, registration: Registration) -> Result<LogSize, LogError> {
    let result = write_all(&shared, segments, &registration.progress).await;
    if let Err(error) = &result {
        shared.fail(error);
    }
    result
}

async fn write_all(shared: &Shared, mut segments: Segments, progress: &watch::Sender<()>) -> Result<LogSize, LogError> {
    let mut records = Vec::new();
    loop {
        records.clear();
        let ending;
        (records, ending) = shared.take(records);
        match (records.is_empty(), ending) {
            (false, _) => {
                (segments, records) = super::blocking("write to the log", move || {
                    segments.append(&records)?;
                    Ok((segments, records))
                })
                .await?;
                progress.send_replace(());
            }
            (true, Some(Ending::Complete { at_ms })) => {
                return super::blocking("complete the log", move || segments.finish(at_ms)).await;
            }
            (true, Some(Ending::Incomplete)) => return Err(LogError::interrupted()),
            (true, None) => shared.filled.notified().await,
        }
    }
}
