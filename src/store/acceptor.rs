//! Deliveries come in bursts, and each is answered only when it is durable.
//!
//! The writer shares one commit among the writes that wait, but each write still costs several trips to the database's thread.
//! So deliveries gather once more, before it: what arrives while one write is under way becomes the next write, of one
//! statement. Nobody waits for others to come: a delivery that is alone is written at once.

use sqlx::sqlite::{Sqlite, SqliteConnection};
use sqlx::{QueryBuilder, Row};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::deliveries::{delivery_state, reopen};
use super::model::{Accepted, DeliveryKey, NewDelivery};
use super::transitions::{DeliveryState, Lifecycle};
use super::writer::Writer;

/// Deliveries that wait; more callers wait for a place. Their bodies are bounded where they are received.
const QUEUE: usize = 64;

/// Deliveries in one write.
const MAX_TOGETHER: usize = 32;

/// One delivery and who waits for it.
type Waiting = (NewDelivery, oneshot::Sender<Result<Accepted, StoreError>>);

/// A handle to the gathering task; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Acceptor(mpsc::Sender<Waiting>);

impl Acceptor {
    /// Starts the task, which ends when the last handle is dropped.
    pub(super) fn start(writer: Writer) -> Self {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let mut batch: Vec<Waiting> = Vec::with_capacity(MAX_TOGETHER);
            while waiting.recv_many(&mut batch, MAX_TOGETHER).await > 0 {
                let (deliveries, callers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
                let written = writer.write(move |db| Box::pin(insert(db, deliveries))).await;
                answer(callers, written.map_err(|error| error.doing("accept a delivery")));
            }
        });
        Self(queue)
    }

    pub(super) async fn accept(&self, delivery: NewDelivery) -> Result<Accepted, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.0.send((delivery, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// A caller that went away does not want the answer.
fn answer(callers: Vec<oneshot::Sender<Result<Accepted, StoreError>>>, written: Result<Vec<Accepted>, StoreError>) {
    match written {
        Ok(accepted) => {
            callers.into_iter().zip(accepted).for_each(|(caller, accepted)| drop(caller.send(Ok(accepted))))
        }
        Err(error) => callers.into_iter().for_each(|caller| drop(caller.send(Err(error.clone())))),
    }
}

/// Inserts what is new, and looks at the rest one by one. Gives what each delivery is, in their order.
async fn insert(db: &mut SqliteConnection, deliveries: Vec<NewDelivery>) -> Result<Vec<Accepted>, StoreError> {
    let arrivals: Vec<(DeliveryKey, i64)> = deliveries.iter().map(|new| (new.key.clone(), new.received_at)).collect();
    let mut statement = QueryBuilder::<Sqlite>::new(
        "INSERT INTO deliveries (forge, id, event, received_at, state, payload, next_try_at) ",
    );
    statement.push_values(deliveries, |mut row, delivery| {
        let NewDelivery { key, event, received_at, payload } = delivery;
        row.push_bind(key.forge).push_bind(key.id).push_bind(event).push_bind(received_at);
        row.push_bind(DeliveryState::Received.as_str()).push_bind(payload).push_bind(received_at);
    });
    statement.push(" ON CONFLICT (forge, id) DO NOTHING RETURNING forge, id");
    let mut inserted = Vec::new();
    for row in statement.build().fetch_all(&mut *db).await? {
        inserted.push(DeliveryKey { forge: row.try_get("forge")?, id: row.try_get("id")? });
    }
    let mut accepted = Vec::with_capacity(arrivals.len());
    for (key, received_at) in arrivals {
        // Once only: the same delivery may be in one write twice.
        accepted.push(match inserted.iter().position(|new| *new == key) {
            Some(at) => {
                inserted.swap_remove(at);
                Accepted::New
            }
            None => accept_known(db, &key, received_at).await?,
        });
    }
    Ok(accepted)
}

async fn accept_known(db: &mut SqliteConnection, key: &DeliveryKey, now: i64) -> Result<Accepted, StoreError> {
    match delivery_state(db, key).await? {
        DeliveryState::Received => Ok(Accepted::Again),
        DeliveryState::Failed | DeliveryState::Ignored => {
            reopen(db, key, now).await?;
            Ok(Accepted::Again)
        }
        DeliveryState::Processed | DeliveryState::Invalid => Ok(Accepted::Duplicate),
    }
}
