//! A job's trace: its log as it was written, attempt after attempt, and at the end a remark where the job could not say itself
//! why it ended. The same bytes come whenever it is read anew.

use crc32fast::Hasher;

use crate::gitlab::client::Output;
use crate::gitlab::ranges::Patch;
use crate::ids::JobId;
use crate::log::{LogError, LogStore, RawReader};

/// Bytes that are read of a log at a time.
const PIECE: usize = 256 << 10;

/// How far a job is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// The attempt that writes, or wrote, last.
    pub(super) attempt: u32,
    /// Nothing more is written.
    pub(super) has_ended: bool,
}

/// A place in a trace, with the bytes from `start` to there.
#[derive(Debug)]
pub(super) struct Trace {
    logs: LogStore,
    job: JobId,
    /// What comes behind the log.
    remark: Option<String>,
    is_remarked: bool,
    /// Of which attempt the log is read, and where in it, if it was begun.
    attempt: u32,
    reader: Option<RawReader>,
    start: u64,
    held: Vec<u8>,
    /// Of all bytes from the first one on.
    checksum: Hasher,
    last: u8,
}

impl Trace {
    pub(super) fn new(logs: LogStore, job: JobId) -> Self {
        Self {
            logs,
            job,
            remark: None,
            is_remarked: false,
            attempt: 1,
            reader: None,
            start: 0,
            held: Vec::new(),
            checksum: Hasher::new(),
            last: b'\n',
        }
    }

    /// The trace ends with this, on a line of its own.
    pub(super) fn set_remark(&mut self, remark: Option<String>) {
        self.remark = remark;
    }

    /// Bytes that were read.
    pub(super) fn length(&self) -> u64 {
        self.start + self.held.len() as u64
    }

    /// By which GitLab can tell whether it has all that was read.
    pub(super) fn output(&self) -> Output {
        Output { checksum: format!("crc32:{:08x}", self.checksum.clone().finalize()), bytesize: self.length() }
    }

    /// Reads until there are `wanted` bytes, or all that there are now; those before `kept_from` are not kept, and none
    /// that were forgotten before.
    pub(super) async fn read(&mut self, extent: Extent, kept_from: u64, wanted: u64) -> Result<(), LogError> {
        if kept_from < self.start {
            self.begin_anew();
        }
        self.forget_before(kept_from);
        while self.length() < wanted {
            let is_past = self.attempt < extent.attempt;
            let bytes = self.next_piece(is_past || extent.has_ended).await?;
            if !bytes.is_empty() {
                self.push(&bytes);
                self.forget_before(kept_from);
            } else if is_past {
                self.attempt += 1;
                self.reader = None;
            } else {
                if extent.has_ended {
                    self.add_remark();
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// The bytes of a patch, which were read.
    pub(super) fn bytes(&self, patch: Patch) -> Vec<u8> {
        let from = usize::try_from(patch.start.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let rest = self.held.get(from..).unwrap_or_default();
        rest[..rest.len().min(usize::try_from(patch.length).unwrap_or(usize::MAX))].to_vec()
    }

    async fn next_piece(&mut self, has_ended: bool) -> Result<Vec<u8>, LogError> {
        if self.reader.is_none() {
            self.reader = self.logs.reader(&self.job, self.attempt).await?.map(|log| log.raw());
        }
        match &mut self.reader {
            Some(reader) => reader.next(PIECE, has_ended).await,
            None => Ok(Vec::new()),
        }
    }

    fn add_remark(&mut self) {
        if self.is_remarked {
            return;
        }
        self.is_remarked = true;
        let Some(remark) = self.remark.clone() else { return };
        let is_within_line = !matches!(self.last, b'\n' | b'\r');
        self.push(if is_within_line { b"\n" } else { b"" });
        self.push(remark.as_bytes());
    }

    fn push(&mut self, bytes: &[u8]) {
        self.checksum.update(bytes);
        self.held.extend_from_slice(bytes);
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    fn forget_before(&mut self, kept_from: u64) {
        let before = kept_from.min(self.length()).saturating_sub(self.start);
        // It is at most what is held.
        self.held.drain(..usize::try_from(before).unwrap_or(self.held.len()));
        self.start += before;
    }

    fn begin_anew(&mut self) {
        let (logs, remark) = (self.logs.clone(), self.remark.take());
        *self = Self { remark, ..Self::new(logs, self.job.clone()) };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::log::{MIN_LIMIT, Stream};

    async fn whole(trace: &mut Trace, extent: Extent, piece: u64) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let at = all.len() as u64;
            trace.read(extent, at, at + piece).await.unwrap();
            let length = (trace.length() - at).min(piece);
            if length == 0 {
                return all;
            }
            all.extend(trace.bytes(Patch { start: at, length }));
        }
    }

    #[tokio::test]
    async fn a_trace_is_the_same_however_often_it_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let (logs, job) = (LogStore::new(directory.path()).unwrap(), JobId::random());
        for (attempt, text) in [(1, &b"first attempt\n"[..]), (3, b"third, without an end")] {
            let mut writer = logs.create(&job, attempt, MIN_LIMIT).await.unwrap();
            writer.append(0, Stream::Stdout, 0, text).await.unwrap();
            writer.finish(0).await.unwrap();
        }
        let mut trace = Trace::new(logs.clone(), job.clone());
        let running = Extent { attempt: 3, has_ended: false };
        assert_eq!(whole(&mut trace, running, 4).await, b"first attempt\nthird, without an end");
        trace.set_remark(Some("why\n".to_owned()));
        let ended = Extent { attempt: 3, has_ended: true };
        for piece in [1, 7, 1000] {
            let all = whole(&mut trace, ended, piece).await;
            assert_eq!(all, b"first attempt\nthird, without an end\nwhy\n");
            let expected = Output { checksum: format!("crc32:{:08x}", crc32fast::hash(&all)), bytesize: 40 };
            assert_eq!(trace.output(), expected);
        }
        let mut none = Trace::new(logs, JobId::random());
        assert!(whole(&mut none, ended, 10).await.is_empty());
    }
}
