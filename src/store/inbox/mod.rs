//! Where verified webhooks become durable before they are answered.
//!
//! Forges deliver in bursts and wait for each answer. A database writes a body three times until it is in its place; here it is
//! written once, into a segment that only grows, one synchronisation for all that came meanwhile. A row in the database
//! follows, with the body's place. Invariants:
//! - What was answered is in a segment, or in the database already: `taken` in the database says up to where.
//! - Rows and `taken` change in one transaction, so that a delivery is taken once; a start takes what an end left.
//! - A segment is written by one process, once; a start begins a new one. After an error nothing is added to it.
//! - A segment is removed when no row names it and all of it is taken.

mod journal;
mod known;
mod record;
mod segments;
mod taker;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};

use self::journal::Waiting;
use self::known::Known;
use self::record::Head;
pub(super) use self::segments::Place;
use self::segments::Segments;
use super::model::{DeliveryKey, NewDelivery};
use super::writer::Writer;
use super::{OpenError, StoreError};

/// A handle to the inbox; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Inbox {
    queue: mpsc::Sender<Waiting>,
    segments: Segments,
    known: Arc<Known>,
    arrivals: Arc<Notify>,
}

/// Refuses an inbox whose store was moved away, or not restored with it: nothing would tell what of it was processed.
pub(super) fn refuse_one_without_store(store: &Path) -> Result<(), OpenError> {
    // No crash leaves a file that is empty beside segments.
    let is_new = fs::metadata(store).map_or(true, |file| file.len() == 0);
    let directory = segments::directory_of(store);
    if is_new && fs::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(OpenError::ForeignInbox { path: directory });
    }
    Ok(())
}

impl Inbox {
    /// Opens the inbox that belongs to the store in the file `store`, takes what is left in it into the database, and goes on
    /// doing so.
    pub(super) async fn open(store: &Path, writer: Writer) -> Result<Self, OpenError> {
        let directory = segments::directory_of(store);
        let refused = |source| OpenError::File { path: directory.clone(), source };
        let segments = Segments::open(directory.clone()).map_err(refused)?;
        let taken = taker::taken(&writer).await.map_err(|source| OpenError::Inbox { source })?;
        let left = {
            let segments = segments.clone();
            tokio::task::spawn_blocking(move || taker::left(&segments, taken))
                .await
                .map_err(io::Error::other)
                .and_then(|left| left)
                .map_err(refused)?
        };
        for batch in left.chunks(taker::MAX_TOGETHER) {
            taker::take(&writer, batch).await.map_err(|source| OpenError::Inbox { source })?;
        }
        let next =
            segments.numbers().map_err(refused)?.last().copied().max(Some(taken.segment)).unwrap_or_default() + 1;
        let arrivals = Arc::new(Notify::new());
        let written = taker::start(writer, Arc::clone(&arrivals));
        let queue = journal::start(segments.clone(), next, written).map_err(refused)?;
        Ok(Self { queue, segments, known: Arc::default(), arrivals })
    }

    /// Makes a delivery durable. With `problem` it cannot be read, and is not processed.
    pub(super) async fn receive(&self, delivery: NewDelivery, problem: Option<String>) -> Result<(), StoreError> {
        let NewDelivery { key, event, received_at, payload } = delivery;
        self.known.add(&key);
        let (durable, answer) = oneshot::channel();
        let head = Head { forge: key.forge, id: key.id, event, received_at, problem };
        // Dropped with its caller, so that no body waits for nobody.
        self.queue.send(Waiting { head, body: payload, durable }).await.map_err(|_| StoreError::Closed)?;
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(StoreError::Inbox { doing: "accept a delivery", source }),
            Err(_) => Err(StoreError::Closed),
        }
    }

    /// Whether a delivery of that id came not long ago, since the start. One that did may have come for the first time.
    pub(super) fn knows(&self, key: &DeliveryKey) -> bool {
        self.known.contains(key)
    }

    /// Is notified when deliveries were taken into the database.
    pub(super) fn arrivals(&self) -> &Notify {
        &self.arrivals
    }

    /// The body at `place`, of the delivery `key`.
    pub(super) async fn body(&self, place: Place, key: &DeliveryKey) -> Result<Vec<u8>, StoreError> {
        let (segments, key) = (self.segments.clone(), key.clone());
        let read = tokio::task::spawn_blocking(move || match segments.read(place) {
            Ok((head, body)) if head.key() == key => Ok(body),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "another delivery stands in its place")),
            Err(error) => Err(error),
        });
        let failed = |source| StoreError::Inbox { doing: "read a delivery", source: Arc::new(source) };
        read.await.map_err(io::Error::other).and_then(|read| read).map_err(failed)
    }

    /// Removes the segments before `first`. The caller knows that no row names them.
    pub(super) async fn remove_before(&self, first: u64) -> Result<(), StoreError> {
        let segments = self.segments.clone();
        let removed = tokio::task::spawn_blocking(move || segments.remove_before(first)).await;
        let failed = |source| StoreError::Inbox { doing: "forget old deliveries", source: Arc::new(source) };
        removed.map_err(io::Error::other).and_then(|removed| removed).map_err(failed)
    }
}
