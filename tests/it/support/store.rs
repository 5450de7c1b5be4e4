//! A look into the database of a service that has ended.

use std::path::Path;

use dayfly::store::{DeliveryCounts, Store};

/// How many deliveries are in each state.
pub(crate) async fn stored_deliveries(state_dir: &Path) -> DeliveryCounts {
    let store = Store::open(&state_dir.join("dayfly.db")).await.unwrap();
    let counts = store.delivery_counts().await.unwrap();
    store.close().await;
    counts
}
