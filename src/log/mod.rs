//! Job logs: written while a job runs, followed live, kept within a limit.
//!
//! One log per attempt of a job. Invariants:
//! - A log never takes more than its limit on disk. What exceeds it is cut from the middle: the head says how it began, the
//!   tail how it ended, and the text says how many bytes are missing.
//! - A cursor is a number of bytes from the start of the log and means the same place for ever, so that a reader can resume.
//! - A reader never holds up the writer, and after a crash reads everything up to the last whole record.
//! - What is read is harmless text (see `render.rs`), whatever the job wrote.
//!
//! Nothing is synchronised to the disk before [`LogWriter::finish`]: a log is worth less than the job's speed.

mod last_lines;
mod raw;
mod reader;
mod record;
pub mod render;
mod segments;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, hash_map};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

pub use raw::RawReader;
pub use reader::{Chunk, Entry, LogReader};
pub use record::Stream;
pub(crate) use render::safe_length;
pub use render::{coloured, plain};
pub use segments::{LogSize, MIN_LIMIT};
pub use writer::LogWriter;

use crate::ids::JobId;
use segments::Segments;

/// A log that could not be written or read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("could not {doing}: {detail}{}", if *.disk_full { "\n  hint: the disk is full; free some space" } else { "" })]
pub struct LogError {
    doing: &'static str,
    detail: String,
    disk_full: bool,
}

impl LogError {
    fn new(doing: &'static str, error: &io::Error) -> Self {
        let disk_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        Self { doing, detail: error.to_string(), disk_full }
    }

    fn interrupted() -> Self {
        Self { doing: "complete the log", detail: "its writer was interrupted".to_owned(), disk_full: false }
    }

    /// Whether space is what was missing.
    pub fn is_disk_full(&self) -> bool {
        self.disk_full
    }
}

/// Which log.
type Key = (JobId, u32);

/// All logs, under one directory; clones share it.
#[derive(Debug, Clone)]
pub struct LogStore {
    directory: PathBuf,
    live: Live,
}

/// The logs that are being written, with what tells their readers of news.
#[derive(Debug, Clone, Default)]
struct Live(Arc<Mutex<HashMap<Key, watch::Receiver<()>>>>);

impl Live {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, watch::Receiver<()>>> {
        // A map's single calls leave it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a log live for as long as it exists.
#[derive(Debug)]
struct Registration {
    live: Live,
    key: Key,
    progress: watch::Sender<()>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.live.lock().remove(&self.key);
    }
}

impl LogStore {
    /// Keeps the logs under `directory`, which is created if it is absent. Blocks; for the start of the service.
    pub fn new(directory: &Path) -> Result<Self, LogError> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| LogError::new("create the directory of the logs", &error))?;
        Ok(Self { directory: directory.to_owned(), live: Live::default() })
    }

    /// Begins the log of an attempt, with at most `limit` bytes on disk (at least [`MIN_LIMIT`]). Fails if it was begun
    /// before.
    pub async fn create(&self, job: &JobId, attempt: u32, limit: u64) -> Result<LogWriter, LogError> {
        let doing = "begin a log";
        let (progress, news) = watch::channel(());
        let key = (job.clone(), attempt);
        let directory = self.log_directory(job, attempt);
        // Live before its files exist: a reader that finds the files must not take the log for an ended one.
        match self.live.lock().entry(key.clone()) {
            hash_map::Entry::Vacant(place) => drop(place.insert(news)),
            hash_map::Entry::Occupied(_) => return Err(LogError::new(doing, &ErrorKind::AlreadyExists.into())),
        }
        let registration = Registration { live: self.live.clone(), key, progress };
        let segments = blocking(doing, move || Segments::create(&directory, limit)).await?;
        Ok(LogWriter::start(segments, segments::record_limit(limit), registration))
    }

    /// The log of an attempt, if it was begun.
    pub async fn reader(&self, job: &JobId, attempt: u32) -> Result<Option<LogReader>, LogError> {
        let directory = self.log_directory(job, attempt);
        let path = directory.clone();
        if !blocking("look for a log", move || path.try_exists()).await? {
            return Ok(None);
        }
        let live = self.live.lock().get(&(job.clone(), attempt)).cloned();
        Ok(Some(LogReader::new(directory, live)))
    }

    /// Deletes the logs to which nothing was written since `older_than`; returns how many.
    pub async fn prune(&self, older_than: SystemTime) -> Result<u64, LogError> {
        let (root, live) = (self.directory.clone(), self.live.clone());
        blocking("delete old logs", move || prune(&root, &live, older_than)).await
    }

    fn log_directory(&self, job: &JobId, attempt: u32) -> PathBuf {
        self.directory.join(job.as_str()).join(attempt.to_string())
    }
}

fn prune(root: &Path, live: &Live, older_than: SystemTime) -> io::Result<u64> {
    let mut deleted = 0;
    for job in fs::read_dir(root)? {
        let job = job?;
        let Some(id) = job.file_name().to_str().and_then(|name| name.parse::<JobId>().ok()) else { continue };
        for log in fs::read_dir(job.path())? {
            let log = log?.path();
            let Some(attempt) = log.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok())
            else {
                continue;
            };
            if !live.lock().contains_key(&(id.clone(), attempt)) && last_written(&log)? < older_than {
                fs::remove_dir_all(&log)?;
                deleted += 1;
            }
        }
        // Fails, as it should, while the job has other logs.
        drop(fs::remove_dir(job.path()));
    }
    Ok(deleted)
}

fn last_written(log: &Path) -> io::Result<SystemTime> {
    let mut latest = fs::metadata(log)?.modified()?;
    for (_, segment) in segments::list(log)? {
        latest = latest.max(fs::metadata(segment)?.modified()?);
    }
    Ok(latest)
}

/// Runs file operations where they may block.
async fn blocking<T: Send + 'static>(
    doing: &'static str, work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, LogError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| LogError::new(doing, &error)),
        Err(_) => Err(LogError { doing, detail: "it was interrupted".to_owned(), disk_full: false }),
    }
}
