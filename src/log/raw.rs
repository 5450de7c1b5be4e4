//! A log's bytes as they were written, for a forge that shows them itself: colours, sections and all.
//!
//! A forge appends what it gets and keeps it, so what it was once given must never change. Of a log that is being written only
//! the head is given, which is never cut; all that follows is given when the log has ended, with a remark where something
//! is missing. So the same bytes come however often, and in whatever pieces, a log is read.

use super::reader::{Extent, Found, Scan};
use super::record::{Header, Stream};
use super::{LogError, blocking};

/// On its way through a log.
pub struct RawReader {
    /// Absent after a failure.
    scan: Option<Scan>,
    ends_line: bool,
}

impl std::fmt::Debug for RawReader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("RawReader")
    }
}

impl RawReader {
    pub(super) fn new(scan: Scan) -> Self {
        Self { scan: Some(scan), ends_line: true }
    }

    /// The next bytes, about `limit` of them if there are as many; none at what is the end now. `has_ended` says that nothing
    /// more is written to the log.
    ///
    /// # Errors
    /// The host's file system; every later call then fails, too.
    pub async fn next(&mut self, limit: usize, has_ended: bool) -> Result<Vec<u8>, LogError> {
        let Some(mut scan) = self.scan.take() else { return Err(LogError::interrupted()) };
        let extent = if has_ended { Extent::Whole } else { Extent::Head };
        let (found, scan) = blocking("read the log", move || Ok((scan.pieces(limit, extent)?, scan))).await?;
        self.scan = Some(scan);
        let mut bytes = Vec::new();
        for one in found {
            match one {
                Found::Piece(header, stream, content) => self.append(&mut bytes, header, stream, &content),
                Found::Cut(missing) => {
                    let start = if self.ends_line { "" } else { "\n" };
                    let remark =
                        format!("{start}[dayfly: {missing} bytes were cut here to keep the log within its limit]\n");
                    bytes.extend_from_slice(remark.as_bytes());
                    self.ends_line = true;
                }
            }
        }
        Ok(bytes)
    }

    /// Whether what was read so far ends with a whole line, or is nothing.
    pub fn ends_line(&self) -> bool {
        self.ends_line
    }

    fn append(&mut self, bytes: &mut Vec<u8>, header: Header, stream: Stream, content: &[u8]) {
        if header.breaks_line && !self.ends_line {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(content);
        if stream == Stream::Heading {
            bytes.push(b'\n');
        }
        if let Some(last) = bytes.last() {
            self.ends_line = matches!(last, b'\n' | b'\r');
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::ids::JobId;
    use crate::log::{LogStore, MIN_LIMIT, Stream};

    async fn read(logs: &LogStore, job: &JobId, piece: usize, has_ended: bool) -> Vec<u8> {
        let mut reader = logs.reader(job, 1).await.unwrap().unwrap().raw();
        let mut all = Vec::new();
        loop {
            let bytes = reader.next(piece, has_ended).await.unwrap();
            if bytes.is_empty() {
                return all;
            }
            all.extend(bytes);
        }
    }

    #[tokio::test]
    async fn bytes_come_as_they_were_written() {
        let directory = tempfile::tempdir().unwrap();
        let (logs, job) = (LogStore::new(directory.path()).unwrap(), JobId::random());
        let mut writer = logs.create(&job, 1, MIN_LIMIT).await.unwrap();
        let pieces = [&b"section_start:1:a\r\x1b[0K\x1b[32mgreen\x1b[0m\r\n"[..], b"\xff\xfe\0\r\n", b"half "];
        for bytes in pieces {
            writer.append(0, Stream::Stdout, 0, bytes).await.unwrap();
        }
        writer.append(0, Stream::Service, 0, b"said\n").await.unwrap();
        writer.finish(0).await.unwrap();
        let expected = [pieces.concat(), b"\nsaid\n".to_vec()].concat();
        for piece in [1, 30, 10_000] {
            let read = read(&logs, &job, piece, true).await;
            assert_eq!(read.escape_ascii().to_string(), expected.escape_ascii().to_string());
        }
    }

    #[tokio::test]
    async fn what_was_given_of_a_log_that_grows_is_how_it_begins_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let (logs, job) = (LogStore::new(directory.path()).unwrap(), JobId::random());
        let mut writer = logs.create(&job, 1, MIN_LIMIT).await.unwrap();
        let mut given = Vec::new();
        for number in 0..4000 {
            let line = format!("line {number} of a log that is much longer than its limit\n");
            writer.append(0, Stream::Stdout, 0, line.as_bytes()).await.unwrap();
            if number % 500 == 0 {
                let now = read(&logs, &job, 4096, false).await;
                assert!(now.starts_with(&given));
                given = now;
            }
        }
        // What was written is there for readers a little later.
        let read_on = async {
            while given.len() <= 10_000 {
                given = read(&logs, &job, 4096, false).await;
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), read_on).await.unwrap();
        let size = writer.finish(0).await.unwrap();
        let whole = read(&logs, &job, 4096, true).await;
        assert!(whole.starts_with(&given));
        assert_eq!(whole, read(&logs, &job, 1, true).await);
        let text = String::from_utf8(whole).unwrap();
        assert!(text.contains(&format!("[dayfly: {} bytes were cut here", size.cut)), "{text}");
        assert!(text.ends_with("line 3999 of a log that is much longer than its limit\n"));
    }
}
