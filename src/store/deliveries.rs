//! Webhook deliveries: durable before the forge gets its answer, and processed once however often they come.

use sqlx::sqlite::SqliteConnection;
use tokio::sync::Notify;

use super::inbox::Place;
use super::model::{Accepted, Delivery, DeliveryCounts, DeliveryKey, NewDelivery, Reopened};
use super::rows::Columns;
use super::transitions::{DeliveryState, Lifecycle};
use super::{Store, StoreError, bounded_detail};

/// Deliveries without their payloads.
macro_rules! select_deliveries {
    ($rest:literal) => {
        concat!(
            "SELECT forge, id, event, received_at, state, detail, tries, denials, next_try_at, (SELECT first_at \
             FROM redeliveries WHERE redeliveries.forge = deliveries.forge AND redeliveries.guid = deliveries.id) \
             AS first_at FROM deliveries ",
            $rest
        )
    };
}
pub(super) use select_deliveries;

impl Store {
    /// Makes a verified delivery durable. One that failed or was ignored before is open again afterwards: it made no run,
    /// and what was in its way (permissions, the configuration) may have changed.
    pub async fn accept_delivery(&self, delivery: NewDelivery) -> Result<Accepted, StoreError> {
        self.write("accept a delivery", move |db| Box::pin(accept(db, delivery))).await
    }

    /// Makes a verified delivery durable, faster than [`Store::accept_delivery`] and without telling what is known of it: it is
    /// processed unless it was before. With `problem` it cannot be read, and is stored as invalid.
    pub async fn receive_delivery(&self, delivery: NewDelivery, problem: Option<String>) -> Result<(), StoreError> {
        self.inbox.receive(delivery, problem).await
    }

    /// Whether a delivery of that id was received since the start and not long ago, so that it is worth to ask what is known.
    pub fn received_lately(&self, key: &DeliveryKey) -> bool {
        self.inbox.knows(key)
    }

    /// Is notified when received deliveries are ready to be processed.
    pub fn arrivals(&self) -> &Notify {
        self.inbox.arrivals()
    }

    /// Has a stored delivery processed again, now, as if the forge had delivered it again.
    pub async fn reopen_delivery(&self, key: &DeliveryKey, now: i64) -> Result<Reopened, StoreError> {
        let key = key.clone();
        self.write("reopen a delivery", move |db| {
            Box::pin(async move {
                match delivery_state(db, &key).await? {
                    // One that waits for its next try need not wait any longer.
                    DeliveryState::Received | DeliveryState::Failed | DeliveryState::Ignored => {
                        reopen(db, &key, now).await?;
                        Ok(Reopened::Due)
                    }
                    state @ (DeliveryState::Processed | DeliveryState::Invalid) => Ok(Reopened::Not(state)),
                }
            })
        })
        .await
    }

    /// Stores what became of a delivery. For one that starts runs use [`Store::create_runs`].
    pub async fn finish_delivery(
        &self, key: &DeliveryKey, state: DeliveryState, detail: &str, now: i64,
    ) -> Result<(), StoreError> {
        let (key, detail) = (key.clone(), bounded_detail(detail).to_owned());
        self.write("finish a delivery", move |db| {
            Box::pin(async move { set_delivery_state(db, &key, state, &detail, now).await })
        })
        .await
    }

    /// Deliveries that are not processed yet and whose time has come, longest due first, at most `limit`.
    pub async fn due_deliveries(&self, now: i64, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        self.read("list due deliveries", async |db| {
            let rows = sqlx::query(select_deliveries!(
                "WHERE state = 'received' AND next_try_at <= $1 ORDER BY next_try_at, received_at, id LIMIT $2"
            ))
            .bind(now)
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
            rows.iter().map(|row| read_delivery(Columns::of("delivery", row))).collect()
        })
        .await
    }

    /// Makes everything due that waits for its time, deliveries and reports: at a start of the service, which may also have
    /// been asked for because something was put right, and before which the clock may have been set back.
    pub async fn make_all_due(&self, now: i64) -> Result<(), StoreError> {
        self.write("make everything due", move |db| {
            Box::pin(async move {
                for waiting in [
                    "UPDATE deliveries SET next_try_at = $1 WHERE state = 'received' AND next_try_at > $1",
                    "UPDATE reports SET next_try_at = $1 WHERE version > sent_version AND next_try_at > $1",
                ] {
                    sqlx::query(waiting).bind(now).execute(&mut *db).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// When the next delivery becomes due; the past if one is due now.
    pub async fn next_delivery_due(&self) -> Result<Option<i64>, StoreError> {
        self.read("look for the next delivery", async |db| {
            let next = "SELECT MIN(next_try_at) FROM deliveries WHERE state = 'received'";
            Ok(sqlx::query_scalar(next).fetch_one(db).await?)
        })
        .await
    }

    /// A try failed because of `why`; the next may start at `next_try_at`. `denied`: the forge answered, with a refusal.
    /// Does nothing for a delivery that is dealt with.
    pub async fn postpone_delivery(
        &self, key: &DeliveryKey, denied: bool, why: &str, next_try_at: i64,
    ) -> Result<(), StoreError> {
        let (key, why) = (key.clone(), bounded_detail(why).to_owned());
        self.write("postpone a delivery", move |db| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE deliveries SET tries = tries + 1, denials = denials + $3, detail = $4, next_try_at = $5 \
                     WHERE forge = $1 AND id = $2 AND state = 'received'",
                )
                .bind(&key.forge)
                .bind(&key.id)
                .bind(i64::from(denied))
                .bind(why)
                .bind(next_try_at)
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Deliveries in one state, oldest first, at most `limit`.
    pub async fn deliveries_in(&self, state: DeliveryState, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        self.read("list deliveries", async |db| {
            let rows = sqlx::query(select_deliveries!("WHERE state = $1 ORDER BY received_at, id LIMIT $2"))
                .bind(state.as_str())
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?;
            rows.iter().map(|row| read_delivery(Columns::of("delivery", row))).collect()
        })
        .await
    }

    /// The raw body of a delivery.
    pub async fn delivery_payload(&self, key: &DeliveryKey) -> Result<Vec<u8>, StoreError> {
        let (inline, place) = self
            .read("read a delivery", async |db| {
                let row = sqlx::query("SELECT payload, segment, position FROM deliveries WHERE forge = $1 AND id = $2")
                    .bind(&key.forge)
                    .bind(&key.id)
                    .fetch_optional(db)
                    .await?
                    .ok_or_else(|| not_found(key))?;
                let columns = Columns::of("delivery", &row);
                Ok((columns.plain("payload")?, read_place(&columns)?))
            })
            .await?;
        match place {
            Some(place) => self.inbox.body(place, key).await,
            None => Ok(inline),
        }
    }

    /// How many deliveries are in each state.
    pub async fn delivery_counts(&self) -> Result<DeliveryCounts, StoreError> {
        self.read("count deliveries", async |db| {
            let rows =
                sqlx::query("SELECT state, COUNT(*) AS number FROM deliveries GROUP BY state").fetch_all(db).await?;
            let mut counts = DeliveryCounts::default();
            for row in &rows {
                let columns = Columns::of("delivery", row);
                let place = match columns.state("state")? {
                    DeliveryState::Received => &mut counts.received,
                    DeliveryState::Processed => &mut counts.processed,
                    DeliveryState::Ignored => &mut counts.ignored,
                    DeliveryState::Failed => &mut counts.failed,
                    DeliveryState::Invalid => &mut counts.invalid,
                };
                *place = columns.count("number")?;
            }
            Ok(counts)
        })
        .await
    }
}

fn not_found(key: &DeliveryKey) -> StoreError {
    StoreError::NotFound { what: "delivery", id: key.to_string() }
}

pub(super) fn read_delivery(columns: Columns<'_>) -> Result<Delivery, StoreError> {
    let received_at = columns.plain("received_at")?;
    let first_at: Option<i64> = columns.plain("first_at")?;
    Ok(Delivery {
        key: DeliveryKey { forge: columns.plain("forge")?, id: columns.plain("id")? },
        event: columns.plain("event")?,
        received_at,
        arrived_at: first_at.map_or(received_at, |first_at| first_at.min(received_at)),
        state: columns.state("state")?,
        detail: columns.plain("detail")?,
        tries: columns.count("tries")?,
        denials: columns.count("denials")?,
        next_try_at: columns.plain("next_try_at")?,
    })
}

/// Where its body is, if that is not in the row.
pub(super) fn read_place(columns: &Columns<'_>) -> Result<Option<Place>, StoreError> {
    let (segment, position): (Option<i64>, Option<i64>) = (columns.plain("segment")?, columns.plain("position")?);
    let place = segment.zip(position);
    Ok(place.map(|(segment, position)| Place { segment: segment.cast_unsigned(), position: position.cast_unsigned() }))
}

/// See [`Store::accept_delivery`].
pub(super) async fn accept(db: &mut SqliteConnection, delivery: NewDelivery) -> Result<Accepted, StoreError> {
    let NewDelivery { key, event, received_at, payload } = delivery;
    let inserted = sqlx::query(
        "INSERT INTO deliveries (forge, id, event, received_at, state, payload, next_try_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $4) ON CONFLICT (forge, id) DO NOTHING",
    )
    .bind(&key.forge)
    .bind(&key.id)
    .bind(event)
    .bind(received_at)
    .bind(DeliveryState::Received.as_str())
    .bind(payload)
    .execute(&mut *db)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(Accepted::New);
    }
    accept_known(db, &key, received_at).await
}

/// Of a delivery that is in the store.
pub(super) async fn accept_known(
    db: &mut SqliteConnection, key: &DeliveryKey, now: i64,
) -> Result<Accepted, StoreError> {
    match delivery_state(db, key).await? {
        DeliveryState::Received => Ok(Accepted::Again),
        DeliveryState::Failed | DeliveryState::Ignored => {
            reopen(db, key, now).await?;
            Ok(Accepted::Again)
        }
        DeliveryState::Processed | DeliveryState::Invalid => Ok(Accepted::Duplicate),
    }
}

pub(super) async fn delivery_state(db: &mut SqliteConnection, key: &DeliveryKey) -> Result<DeliveryState, StoreError> {
    let row = sqlx::query("SELECT state FROM deliveries WHERE forge = $1 AND id = $2")
        .bind(&key.forge)
        .bind(&key.id)
        .fetch_optional(db)
        .await?
        .ok_or_else(|| not_found(key))?;
    Columns::of("delivery", &row).state("state")
}

pub(super) async fn set_delivery_state(
    db: &mut SqliteConnection, key: &DeliveryKey, state: DeliveryState, detail: &str, now: i64,
) -> Result<(), StoreError> {
    delivery_state(db, key).await?.check(key, state)?;
    sqlx::query("UPDATE deliveries SET state = $3, detail = $4, finished_at = $5 WHERE forge = $1 AND id = $2")
        .bind(&key.forge)
        .bind(&key.id)
        .bind(state.as_str())
        .bind(detail)
        .bind(now)
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn reopen(db: &mut SqliteConnection, key: &DeliveryKey, now: i64) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE deliveries SET state = $3, detail = '', finished_at = NULL, tries = 0, denials = 0, next_try_at = $4 \
         WHERE forge = $1 AND id = $2",
    )
    .bind(&key.forge)
    .bind(&key.id)
    .bind(DeliveryState::Received.as_str())
    .bind(now)
    .execute(db)
    .await?;
    Ok(())
}
