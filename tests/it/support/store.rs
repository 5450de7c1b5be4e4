//! A look into the database of a service that has ended.

use std::path::Path;

use dayfly::store::{DeliveryCounts, Store, Vm};

/// How many deliveries are in each state.
pub(crate) async fn stored_deliveries(state_dir: &Path) -> DeliveryCounts {
    let store = Store::open(&state_dir.join("dayfly.db")).await.unwrap();
    let counts = store.delivery_counts().await.unwrap();
    store.close().await;
    counts
}

/// The VMs that are not known to be gone.
pub(crate) async fn stored_vms(state_dir: &Path) -> Vec<Vm> {
    let store = Store::open(&state_dir.join("dayfly.db")).await.unwrap();
    let vms = store.vms_not_gone().await.unwrap();
    store.close().await;
    vms
}
