//! What can go wrong in the store, in words for the operator.

use std::path::PathBuf;
use std::sync::Arc;

use crate::host::disk::hint_if_full;
use crate::ids::{JobId, ReportId, RunId};

/// A refused or failed operation of the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The state machine does not allow it; nothing was changed.
    #[error("{what} `{id}` cannot go from `{from}` to `{to}`")]
    Illegal { what: &'static str, id: String, from: &'static str, to: &'static str },
    /// The caller speaks of an attempt that is not the job's current one.
    #[error("job `{job}` is at attempt {current}, not at attempt {attempt}")]
    OtherAttempt { job: JobId, attempt: u32, current: u32 },
    /// An outcome is stored once.
    #[error("job `{job}` already ended with `{stored}`; it cannot end with `{refused}` as well")]
    OtherOutcome { job: JobId, stored: String, refused: String },
    /// Somebody else repeated the run meanwhile.
    #[error("run `{run}` is at attempt {latest} by now; {attempt} is not the next one")]
    AttemptTaken { run: RunId, attempt: u32, latest: u32 },
    /// A finished report never changes again.
    #[error("report `{id}` is finished and cannot change")]
    ReportFinished { id: ReportId },
    /// There is no such thing, or no longer.
    #[error("there is no {what} `{id}` in the store")]
    NotFound { what: &'static str, id: String },
    /// More than the store takes.
    #[error("{what} takes {size} bytes; the limit is {limit} bytes")]
    TooLarge { what: &'static str, size: usize, limit: usize },
    /// A row does not read back as what was written.
    #[error("the store holds a {what} that cannot be read: {detail}")]
    Corrupt { what: &'static str, detail: String },
    /// The inbox failed.
    #[error("could not {doing} in the store's inbox: {source}{}", hint_if_full(source))]
    Inbox { doing: &'static str, source: Arc<std::io::Error> },
    /// The store was closed, or its writer ended.
    #[error("the store is closed")]
    Closed,
    /// The database failed.
    #[error("could not {doing} in the store: {source}{}", hint_line(source))]
    Database { doing: &'static str, source: Arc<sqlx::Error> },
}

impl StoreError {
    /// Names the operation in a failure of the database.
    pub(super) fn doing(self, doing: &'static str) -> Self {
        match self {
            Self::Database { source, .. } => Self::Database { doing, source },
            other => other,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(source: sqlx::Error) -> Self {
        Self::Database { doing: "read or write", source: Arc::new(source) }
    }
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be created or written.
    #[error("cannot open the store `{}`: {source}\n  hint: {}", path.display(), file_hint(source))]
    File { path: PathBuf, source: std::io::Error },
    /// The database refused.
    #[error("cannot open the store `{}`: {source}{}", path.display(), hint_line(source))]
    Database { path: PathBuf, source: sqlx::Error },
    /// There are deliveries, but no database that knows which of them were processed.
    #[error(
        "the deliveries in `{}` belong to a store that is not there\n  hint: restore that store, or move the directory away too: all of its deliveries would be processed again",
        path.display()
    )]
    ForeignInbox { path: PathBuf },
    /// What the inbox holds could not be taken into the database.
    #[error("cannot take the stored deliveries: {source}")]
    Inbox { source: StoreError },
    /// A later version of Dayfly has written to it.
    #[error(
        "the store `{}` has schema {version}, which this version of Dayfly does not know\n  hint: a newer Dayfly has used it; \
         start that version, or restore a copy of the store from before the upgrade",
        path.display()
    )]
    Newer { path: PathBuf, version: i64 },
    /// The schema could not be brought up to date.
    #[error("cannot bring the store `{}` up to date: {source}\n  hint: nothing was changed; restore a copy of the store with its `inbox/`, or move both away to start empty", path.display())]
    Migration { path: PathBuf, source: sqlx::migrate::MigrateError },
}

fn file_hint(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "create the directory, or set `server.state_dir` to one that exists",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "make the file and its directory writable for the user that runs Dayfly"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full; free some space",
        _ => "check `server.state_dir`",
    }
}

/// SQLite's primary result codes on which an operator can act.
fn hint_line(error: &sqlx::Error) -> &'static str {
    let code = error.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<u32>().ok());
    match code.map(|code| code & 0xff) {
        Some(5) => "\n  hint: another process holds the store; only one Dayfly may use it",
        Some(8) => "\n  hint: make the file and its directory writable for the user that runs Dayfly",
        Some(10) => "\n  hint: the disk reported an error; look into the kernel's log",
        Some(11 | 26) => {
            "\n  hint: the file is damaged or is not a store; restore a copy with its `inbox/`, or move both away to start empty"
        }
        Some(13) => "\n  hint: the disk is full; free some space",
        Some(14) => "\n  hint: check that the directory exists and is writable for the user that runs Dayfly",
        _ => "",
    }
}
