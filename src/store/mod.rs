//! The store: what Dayfly must not forget, in one SQLite file and, for the bodies of webhooks, a directory beside it.
//!
//! The store, not memory, is the truth. An intent is written before its side effect and an observation after it, so that
//! after a crash the store tells what may exist. Invariants:
//! - What a writing method returned is durable: the commit has been synchronised to the disk.
//! - States change only along the tables of `transitions.rs`, checked inside the transaction that changes them.
//! - A delivery that is processed twice creates its runs once; an attempt of a job has one outcome; a finished report stays.
//! - Nothing grows for ever: [`Store::prune`] forgets what ended long ago.
//!
//! All writes but webhooks (`inbox/`) go through the one connection of `writer.rs`; reads use a small pool and see what was committed before them.

mod approvals;
mod attempts;
mod called;
mod concurrency;
mod counts;
mod deliveries;
mod delivery_queries;
mod egress;
mod error;
mod events;
mod foreign;
mod inbox;
mod job_groups;
mod job_queries;
mod jobs;
mod look;
mod lookups;
mod model;
mod origin;
mod prepared_uses;
mod prune;
mod reports;
mod results;
mod rows;
mod runs;
mod schedules;
mod swept;
mod transitions;
mod unfold;
mod upkeep;
mod vms;
mod workflow_jobs;
mod writer;

#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};

pub use approvals::{Approval, Approved, ForkJob, HeldPullRequest, ReplacedHead};
pub use called::CalledWorkflow;
pub use counts::StoreCounts;
pub use error::{OpenError, StoreError};
pub use events::MAX_EVENTS_PER_JOB;
pub use foreign::{ForeignJob, NewForeign};
pub use job_groups::Joined;
pub use model::{
    Accepted, Delivery, DeliveryCounts, DeliveryFilter, DeliveryKey, Finished, Job, JobEvent, JobFilter, ListedJob,
    NewDelivery, NewJob, NewRun, Outcome, Pruned, Reason, Reopened, Requeued, Retention, Run, ScheduledJob, Started,
    StoredReport, Telling, Vm,
};
pub use origin::{Concurrency, FromPullRequest, GroupPlace, Origin, Rerun};
pub use prepared_uses::PreparedUse;
pub use runs::{MAX_RUN_BYTES, check_size};
pub use schedules::{DueSchedule, NewSchedule};
pub use swept::{DeliveryMemory, HeadMemory, PullHead};
pub use transitions::{DeliveryState, JobState, Lifecycle, UpkeepState, VmState};
pub use unfold::Unfolded;
pub use upkeep::{Findings, LONGEST_WAIT_MS, NewUpkeep, Upkeep, UpkeepKey, UpkeepKind};
pub use workflow_jobs::{DemandState, WorkflowJob};

use crate::metrics::StoreMetrics;
use inbox::Inbox;
use writer::Writer;

/// Connections that read at the same time.
const READERS: u32 = 4;

/// How long SQLite waits for a lock that another process holds (a backup, an inspection).
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a page of a new database. Most of what is written are jobs and reports of some kilobytes, and each page of them
/// costs four system calls until it is in its place.
const PAGE_BYTES: u32 = 16 * 1024;

/// Pages of the write-ahead log after which it is copied into the database, which costs two synchronisations and lets one
/// write wait: every 64 MiB.
const CHECKPOINT_PAGES: &str = "4096";

/// How long a read waits for a free connection.
const READER_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest explanation kept with a delivery, a report or an event, in bytes; longer ones are cut.
const MAX_DETAIL: usize = 4096;

/// The schema's history; the last entry is what this version reads and writes.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// A handle to the store; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    readers: SqlitePool,
    writer: Writer,
    inbox: Inbox,
    metrics: StoreMetrics,
}

impl Store {
    /// Opens the store in the file `path`, creates it if it is absent (readable for its owner alone: it holds the
    /// addresses of log pages), and brings its schema up to date. The directory must exist.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_measured(path, StoreMetrics::default()).await
    }

    /// The same, telling `metrics` of all writes.
    pub async fn open_measured(path: &Path, metrics: StoreMetrics) -> Result<Self, OpenError> {
        inbox::refuse_one_without_store(path)?;
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| OpenError::File { path: path.to_owned(), source })?;
        let refused = |source| OpenError::Database { path: path.to_owned(), source };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .page_size(PAGE_BYTES)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(refused)?;
        MIGRATIONS.run(&mut connection).await.map_err(|source| match source {
            MigrateError::VersionMissing(version) => OpenError::Newer { path: path.to_owned(), version },
            source => OpenError::Migration { path: path.to_owned(), source },
        })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(READER_TIMEOUT)
            .connect_with(options.read_only(true))
            .await
            .map_err(refused)?;
        let writer = Writer::start(connection, metrics.clone());
        let inbox = Inbox::open(path, writer.clone()).await?;
        Ok(Self { readers, inbox, writer, metrics })
    }

    /// Waits for the writes that were begun, then closes the file. Later calls fail with [`StoreError::Closed`].
    pub async fn close(&self) {
        // In this order: the last connection tidies up the journal, which one that only reads cannot.
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Runs `work` in a transaction of the writer. See [`Writer::write`].
    async fn write<T, F>(&self, doing: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        self.writer.write(work).await.map_err(|error| error.doing(doing))
    }

    /// Runs `work` with a reading connection.
    async fn read<T>(
        &self, doing: &'static str, work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = match self.readers.acquire().await {
            Ok(connection) => connection,
            Err(sqlx::Error::PoolClosed) => return Err(StoreError::Closed),
            Err(error) => return Err(StoreError::from(error).doing(doing)),
        };
        work(&mut connection).await.map_err(|error| error.doing(doing))
    }
}

/// `text`, cut to [`MAX_DETAIL`] bytes at a character's border.
fn bounded_detail(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_DETAIL)]
}
