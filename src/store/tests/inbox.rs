use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::store::{Accepted, DeliveryCounts, Retention};

/// Everything that an inbox writes in these tests is in its first segments.
fn segment(store: &TestStore, number: u64) -> PathBuf {
    store.directory.path().join(format!("inbox/{number:010}.deliveries"))
}

fn delivery(id: &str, payload: &[u8]) -> NewDelivery {
    NewDelivery { payload: payload.to_vec(), ..new_delivery(id) }
}

impl TestStore {
    async fn receive(&self, id: &str, payload: &[u8]) {
        self.receive_delivery(delivery(id, payload), None).await.unwrap();
    }

    /// Waits until everything that was received is in the database.
    async fn taken(&self, number: u64) {
        let all_taken = async {
            loop {
                let counts = self.delivery_counts().await.unwrap();
                let DeliveryCounts { received, processed, ignored, failed, invalid } = counts;
                if received + processed + ignored + failed + invalid >= number {
                    return;
                }
                self.arrivals().notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all_taken).await.expect("deliveries are taken");
    }
}

#[tokio::test]
async fn what_is_received_is_processed_with_its_body() {
    let store = TestStore::new().await;
    let large = vec![7; 1 << 20];
    for (id, body) in [("a", &b"one"[..]), ("b", b""), ("c", &large)] {
        store.receive(id, body).await;
    }
    store.taken(3).await;
    assert_eq!(store.due_deliveries(i64::MAX, 10).await.unwrap().len(), 3);
    for (id, body) in [("a", &b"one"[..]), ("b", b""), ("c", &large)] {
        assert_eq!(store.delivery_payload(&key(id)).await.unwrap(), body, "{id}");
    }
    assert!(store.received_lately(&key("a")) && !store.received_lately(&key("z")));
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_and_not_processed() {
    let store = TestStore::new().await;
    store.receive_delivery(delivery("a", b"{"), Some("it is not JSON".into())).await.unwrap();
    store.taken(1).await;
    assert_eq!(store.due_deliveries(i64::MAX, 10).await.unwrap(), []);
    assert_eq!(store.delivery(&key("a")).await.unwrap().unwrap().detail, "it is not JSON");
}

#[tokio::test]
async fn what_comes_twice_by_either_way_is_there_once() {
    let store = TestStore::new().await;
    store.receive("a", b"first").await;
    store.receive("a", b"second").await;
    store.taken(1).await;
    assert_eq!(store.accept_delivery(new_delivery("a")).await.unwrap(), Accepted::Again);
    store.finish_delivery(&key("a"), DeliveryState::Failed, "", 20).await.unwrap();
    store.receive("a", b"third").await;
    store.accept_delivery(new_delivery("b")).await.unwrap();
    store.receive("b", b"late").await;
    store.receive("c", b"last").await;
    store.taken(3).await;
    // What failed is tried again, with the body that came first.
    assert_eq!(store.delivery_counts().await.unwrap(), DeliveryCounts { received: 3, ..Default::default() });
    assert_eq!(store.delivery_payload(&key("a")).await.unwrap(), b"first");
    assert_eq!(store.delivery_payload(&key("b")).await.unwrap(), b"{}");
}

#[tokio::test]
async fn a_start_takes_what_an_end_left_and_stops_at_what_is_torn() {
    let store = TestStore::new().await;
    store.receive("a", b"one").await;
    store.receive("b", b"two").await;
    store.taken(2).await;
    // The end came before the rows were written.
    store
        .write("forget", |db| {
            Box::pin(async move {
                sqlx::query("DELETE FROM deliveries").execute(&mut *db).await?;
                sqlx::query("UPDATE inbox SET segment = 0, position = 0").execute(db).await?;
                Ok(())
            })
        })
        .await
        .unwrap();
    let path = segment(&store, 1);
    store.close().await;
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();

    let store = store.reopen().await;
    assert_eq!(store.delivery_payload(&key("a")).await.unwrap(), b"one");
    assert_eq!(store.delivery(&key("b")).await.unwrap(), None);
    // Nothing is written behind it.
    store.receive("c", b"three").await;
    store.taken(2).await;
    assert!(segment(&store, 2).is_file());
    let store = store.reopen().await;
    assert_eq!(store.delivery_payload(&key("c")).await.unwrap(), b"three");
}

#[tokio::test]
async fn a_segment_goes_when_all_of_it_is_forgotten() {
    let store = TestStore::new().await;
    store.receive("a", b"one").await;
    store.taken(1).await;
    let store = store.reopen().await;
    store.receive("b", b"two").await;
    store.taken(2).await;
    let none = Retention { deliveries: Duration::ZERO, runs: Duration::ZERO };
    store.prune(1000, none).await.unwrap();
    assert!(segment(&store, 1).is_file(), "`a` is not processed");
    store.finish_delivery(&key("a"), DeliveryState::Processed, "", 20).await.unwrap();
    store.finish_delivery(&key("b"), DeliveryState::Processed, "", 20).await.unwrap();
    store.prune(1000, none).await.unwrap();
    assert!(!segment(&store, 1).exists());
    assert!(segment(&store, 2).is_file(), "it is being written");
    store.receive("c", b"three").await;
    store.taken(1).await;
    assert_eq!(store.delivery_payload(&key("c")).await.unwrap(), b"three");
}

#[tokio::test]
async fn a_body_that_is_damaged_or_gone_is_said_to_be() {
    let store = TestStore::new().await;
    store.receive("a", b"one").await;
    store.taken(1).await;
    let path = segment(&store, 1);
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(b"????").unwrap();
    insta::assert_snapshot!(store.delivery_payload(&key("a")).await.unwrap_err(), @"could not read a delivery in the store's inbox: the record is damaged");
    fs::remove_file(&path).unwrap();
    insta::assert_snapshot!(store.delivery_payload(&key("a")).await.unwrap_err(), @"could not read a delivery in the store's inbox: No such file or directory (os error 2)");
}

#[tokio::test]
async fn after_an_error_the_inbox_goes_on_in_a_new_segment() {
    let store = TestStore::new().await;
    // In the way of the first segment.
    fs::write(segment(&store, 1), "").unwrap();
    let error = store.receive_delivery(delivery("a", b"one"), None).await.unwrap_err();
    insta::assert_snapshot!(error, @"could not accept a delivery in the store's inbox: File exists (os error 17)");
    fs::remove_file(segment(&store, 1)).unwrap();
    store.receive("a", b"one").await;
    store.taken(1).await;
}

#[tokio::test]
async fn an_inbox_without_its_store_is_refused() {
    let store = TestStore::new().await;
    store.receive("a", b"one").await;
    store.close().await;
    let path = store.directory.path().join("dayfly.db");
    for file in ["dayfly.db", "dayfly.db-wal", "dayfly.db-shm"] {
        drop(fs::remove_file(store.directory.path().join(file)));
    }
    let error = Store::open(&path).await.expect_err("its deliveries would be processed again").to_string();
    assert!(error.contains("belong to a store that is not there"), "{error}");
    fs::remove_dir_all(store.directory.path().join("inbox")).unwrap();
    Store::open(&path).await.unwrap();
}

#[tokio::test]
async fn many_at_once_are_all_there() {
    let store = TestStore::new().await;
    let posts = (0..300).map(|n| {
        let store = store.store.clone();
        tokio::spawn(async move { store.receive_delivery(delivery(&n.to_string(), &[1; 999]), None).await.unwrap() })
    });
    futures::future::try_join_all(posts).await.unwrap();
    store.taken(300).await;
    assert_eq!(store.delivery_counts().await.unwrap().received, 300);
}
