//! The one writing connection, with group commit.
//!
//! A commit costs a synchronisation of the disk, however little it writes. So a task owns the connection and runs
//! everything that waits as one transaction: each operation inside a savepoint of its own, so that a refused one undoes
//! only itself, and nobody is answered before the common commit. Two more things follow: an operation is atomic even if its
//! caller goes away half-way, and operations are strictly one after the other.

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::StoreError;
use crate::metrics::StoreMetrics;

/// Operations that wait for the writer; more callers wait for a place.
const QUEUE: usize = 256;

/// Operations in one transaction: enough that the synchronisation no longer counts, few enough that nobody waits long.
const MAX_BATCH: usize = 64;

/// A handle to the writing task; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Operation>>,
    closing: CancellationToken,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
    metrics: StoreMetrics,
}

impl Writer {
    /// Starts the task that owns `connection`. It ends when the last handle is dropped or one is closed.
    pub(super) fn start(connection: SqliteConnection, metrics: StoreMetrics) -> Self {
        let (queue, operations) = mpsc::channel(QUEUE);
        let closing = CancellationToken::new();
        let task = tokio::spawn(serve(connection, operations, closing.clone(), metrics.clone()));
        Self { queue, closing, task: Arc::new(Mutex::new(Some(task))), metrics }
    }

    /// Runs `work` in a transaction and returns when it is durable. An error of `work` undoes all that it did.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        let began = Instant::now();
        let (reply, answer) = oneshot::channel();
        let operation = Box::new(Pending { work: Some(work), result: None, reply });
        self.queue.send(operation).await.map_err(|_| StoreError::Closed)?;
        let result = answer.await.unwrap_or(Err(StoreError::Closed));
        self.metrics.written(began.elapsed());
        result
    }

    /// Lets what is queued finish, then closes the connection.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        if let Some(task) = self.task.lock().await.take() {
            // A writer that panicked has nothing left to wait for.
            drop(task.await);
        }
    }
}

/// An operation whose types are forgotten, so that different ones share a queue.
trait Operation: Send {
    /// Runs it; after an error its changes must be undone.
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> BoxFuture<'c, Result<(), StoreError>>;
    /// Tells the caller, after the commit.
    fn answer(self: Box<Self>, committed: &Result<(), StoreError>);
}

struct Pending<T, F> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Operation for Pending<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send,
{
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> BoxFuture<'c, Result<(), StoreError>> {
        Box::pin(async move {
            if let Some(work) = self.work.take() {
                self.result = Some(work(connection).await);
            }
            match &self.result {
                Some(Err(refused)) => Err(refused.clone()),
                Some(Ok(_)) | None => Ok(()),
            }
        })
    }

    fn answer(self: Box<Self>, committed: &Result<(), StoreError>) {
        let result = match (self.result, committed) {
            (Some(Ok(value)), Ok(())) => Ok(value),
            (Some(Err(refused)), _) => Err(refused),
            (_, Err(failed)) => Err(failed.clone()),
            (None, Ok(())) => Err(StoreError::Closed),
        };
        // A caller that went away does not want the answer.
        drop(self.reply.send(result));
    }
}

async fn serve(
    mut connection: SqliteConnection, mut queue: mpsc::Receiver<Box<dyn Operation>>, closing: CancellationToken,
    metrics: StoreMetrics,
) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled(), if !queue.is_closed() => queue.close(),
            taken = queue.recv_many(&mut batch, MAX_BATCH) => {
                if taken == 0 {
                    break;
                }
                let committed = commit(&mut connection, &mut batch).await;
                metrics.committed(batch.len(), committed.is_ok());
                for operation in batch.drain(..) {
                    operation.answer(&committed);
                }
            }
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "closing the store failed");
    }
}

/// Runs a batch as one transaction. After an error none of it was kept.
async fn commit(connection: &mut SqliteConnection, batch: &mut [Box<dyn Operation>]) -> Result<(), StoreError> {
    let result = run_all(connection, batch).await;
    if result.is_err() {
        // After some errors, such as a full disk, SQLite has rolled back by itself, and this one fails: also good.
        drop(control(connection, "ROLLBACK").await);
    }
    result
}

async fn run_all(connection: &mut SqliteConnection, batch: &mut [Box<dyn Operation>]) -> Result<(), StoreError> {
    // IMMEDIATE takes the write lock at once: a deferred transaction could fail half-way when it first writes. Two statements
    // in one go are one trip to the database's thread, and the trips are what small writes cost.
    let mut before = "BEGIN IMMEDIATE; SAVEPOINT operation";
    for operation in batch {
        control(connection, before).await?;
        before = "RELEASE operation; SAVEPOINT operation";
        if let Err(refused) = operation.run(connection).await {
            // Where even this fails the transaction is lost, and what was refused first is the reason to tell.
            control(connection, "ROLLBACK TO operation").await.map_err(|_| refused)?;
        }
    }
    control(connection, "RELEASE operation; COMMIT").await
}

/// Transaction control in plain statements: sqlx's own transactions count their depth, and that count is wrong for ever once
/// SQLite has rolled back by itself.
async fn control(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), StoreError> {
    sqlx::query(statement).execute(connection).await?;
    Ok(())
}
