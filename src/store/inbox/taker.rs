//! From the inbox into the database: one row for each delivery, many in one transaction.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sqlx::QueryBuilder;
use sqlx::Row;
use sqlx::sqlite::{Sqlite, SqliteConnection};
use tokio::sync::{Notify, mpsc};

use super::super::deliveries::accept_known;
use super::super::model::DeliveryKey;
use super::super::transitions::{DeliveryState, Lifecycle};
use super::super::writer::Writer;
use super::super::{StoreError, bounded_detail};
use super::journal::Written;
use super::segments::{Place, Segments};

/// Deliveries that are durable and wait to be taken. More make the inbox wait.
const QUEUE: usize = 1024;

/// Rows of one transaction.
pub(super) const MAX_TOGETHER: usize = 256;

/// How long a burst gathers: in one, transactions would otherwise be small and many. What comes alone is taken at once.
const GATHER: Duration = Duration::from_millis(10);

/// How long to wait after the database refused, such as on a full disk. What waits is durable.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes what the sender is given, in order, until it is dropped or the store is closed; notifies `arrivals` of it.
pub(super) fn start(writer: Writer, arrivals: Arc<Notify>) -> mpsc::Sender<Written> {
    let (queue, mut written) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut batch: Vec<Written> = Vec::with_capacity(MAX_TOGETHER);
        while written.recv_many(&mut batch, MAX_TOGETHER).await > 0 {
            while let Err(error) = take(&writer, &batch).await {
                if matches!(error, StoreError::Closed) {
                    return;
                }
                tracing::error!(deliveries = batch.len(), %error, "deliveries wait in the inbox");
                tokio::time::sleep(PAUSE).await;
            }
            arrivals.notify_one();
            if batch.len() > 1 {
                tokio::time::sleep(GATHER).await;
            }
            batch.clear();
        }
    });
    queue
}

/// Up to where the inbox is taken.
pub(super) async fn taken(writer: &Writer) -> Result<Place, StoreError> {
    let read = writer.write(|db| {
        Box::pin(async move {
            let row = sqlx::query("SELECT segment, position FROM inbox").fetch_one(db).await?;
            let (segment, position): (i64, i64) = (row.try_get("segment")?, row.try_get("position")?);
            Ok(Place { segment: segment.cast_unsigned(), position: position.cast_unsigned() })
        })
    });
    read.await.map_err(|error| error.doing("read the inbox's state"))
}

/// What is in the segments and not taken yet. Without bodies: few, as the taker is never far behind.
pub(super) fn left(segments: &Segments, from: Place) -> io::Result<Vec<Written>> {
    let mut left = Vec::new();
    segments.replay(from, |head, length, place, end| left.push(Written { head, place, length, end }))?;
    Ok(left)
}

/// Makes rows of `deliveries`, all or none of them.
pub(super) async fn take(writer: &Writer, deliveries: &[Written]) -> Result<(), StoreError> {
    let Some(last) = deliveries.last() else { return Ok(()) };
    let taken = Place { segment: last.place.segment, position: last.end };
    let rows: Vec<_> = deliveries.iter().map(|one| (one.head.clone(), one.place, one.length)).collect();
    let written = writer.write(move |db| {
        Box::pin(async move {
            let arrivals: Vec<_> = rows.iter().map(|(head, ..)| (head.key(), head.received_at)).collect();
            let mut inserted = insert(db, rows).await?;
            for (key, received_at) in arrivals {
                // Once only: the same delivery may be in one write twice.
                if !inserted.remove(&key) {
                    accept_known(db, &key, received_at).await?;
                }
            }
            sqlx::query("UPDATE inbox SET segment = $1, position = $2")
                .bind(taken.segment.cast_signed())
                .bind(taken.position.cast_signed())
                .execute(db)
                .await?;
            Ok(())
        })
    });
    written.await.map_err(|error| error.doing("take deliveries from the inbox"))
}

/// Inserts what is new in one statement; gives which that were.
async fn insert(
    db: &mut SqliteConnection, rows: Vec<(super::record::Head, Place, u64)>,
) -> Result<HashSet<DeliveryKey>, StoreError> {
    let mut statement = QueryBuilder::<Sqlite>::new(
        "INSERT INTO deliveries (forge, id, event, received_at, state, detail, finished_at, payload, next_try_at, \
         segment, position, length) ",
    );
    statement.push_values(rows, |mut row, (head, place, length)| {
        let state = if head.problem.is_some() { DeliveryState::Invalid } else { DeliveryState::Received };
        let finished_at = head.problem.is_some().then_some(head.received_at);
        row.push_bind(head.forge).push_bind(head.id).push_bind(head.event).push_bind(head.received_at);
        row.push_bind(state.as_str()).push_bind(bounded_detail(&head.problem.unwrap_or_default()).to_owned());
        row.push_bind(finished_at).push_bind(Vec::<u8>::new()).push_bind(head.received_at);
        row.push_bind(place.segment.cast_signed()).push_bind(place.position.cast_signed());
        row.push_bind(length.cast_signed());
    });
    statement.push(" ON CONFLICT (forge, id) DO NOTHING RETURNING forge, id");
    let mut inserted = HashSet::new();
    for row in statement.build().fetch_all(&mut *db).await? {
        inserted.insert(DeliveryKey { forge: row.try_get("forge")?, id: row.try_get("id")? });
    }
    Ok(inserted)
}
