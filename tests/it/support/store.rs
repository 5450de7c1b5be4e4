//! Looks into the database of a service.

use std::path::Path;

use dayfly::store::{Delivery, DeliveryCounts, DeliveryState, Store, Vm};

use super::eventually;

/// How many deliveries are in each state, after the service has ended.
pub(crate) async fn stored_deliveries(state_dir: &Path) -> DeliveryCounts {
    let store = Store::open(&state_dir.join("dayfly.db")).await.unwrap();
    let counts = store.delivery_counts().await.unwrap();
    store.close().await;
    counts
}

/// Waits, beside the running service, until it is done with a delivery; gives what became of it.
pub(crate) async fn processed(state_dir: &Path, id: &str) -> Delivery {
    let store = Store::open(&state_dir.join("dayfly.db")).await.unwrap();
    let found = eventually(&format!("the delivery {id} to be processed"), async || {
        for state in [DeliveryState::Processed, DeliveryState::Ignored, DeliveryState::Failed] {
            let deliveries = store.deliveries_in(state, 1000).await.unwrap();
            if let Some(found) = deliveries.into_iter().find(|delivery| delivery.key.id == id) {
                return Some(found);
            }
        }
        None
    })
    .await;
    store.close().await;
    found
}

/// Makes a delivery one whose end was never stored, after the service has ended.
pub(crate) async fn forget_end(state_dir: &Path, id: &str) {
    use sqlx::Connection;

    let address = format!("sqlite://{}", state_dir.join("dayfly.db").display());
    let mut db = sqlx::SqliteConnection::connect(&address).await.unwrap();
    let done =
        sqlx::query("UPDATE deliveries SET state = 'received', finished_at = NULL, next_try_at = 0 WHERE id = $1");
    assert_eq!(done.bind(id).execute(&mut db).await.unwrap().rows_affected(), 1);
    db.close().await.unwrap();
}

/// How many deliveries are wishes of this service itself.
pub(crate) async fn wishes(state_dir: &Path) -> usize {
    let store = Store::open(&state_dir.join("dayfly.db")).await.unwrap();
    let mut count = 0;
    for state in [DeliveryState::Received, DeliveryState::Processed, DeliveryState::Ignored, DeliveryState::Failed] {
        let deliveries = store.deliveries_in(state, 1000).await.unwrap();
        count += deliveries.iter().filter(|delivery| delivery.key.forge == "dayfly").count();
    }
    store.close().await;
    count
}

/// The VMs that are not known to be gone.
pub(crate) async fn stored_vms(state_dir: &Path) -> Vec<Vm> {
    let store = Store::open(&state_dir.join("dayfly.db")).await.unwrap();
    let vms = store.vms_not_gone().await.unwrap();
    store.close().await;
    vms
}

/// Has every schedule be due since the beginning of time, after the service has ended.
pub(crate) async fn make_schedules_due(state_dir: &Path) {
    use sqlx::Connection;

    let address = format!("sqlite://{}", state_dir.join("dayfly.db").display());
    let mut db = sqlx::SqliteConnection::connect(&address).await.unwrap();
    assert_eq!(sqlx::query("UPDATE schedules SET next_at = 1").execute(&mut db).await.unwrap().rows_affected(), 1);
    db.close().await.unwrap();
}
