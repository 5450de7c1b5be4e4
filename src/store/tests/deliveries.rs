use super::*;
use crate::store::{Accepted, DeliveryCounts, StoreError};

#[tokio::test]
async fn nothing_waits_for_a_time_that_a_restart_has_never_seen() {
    let store = TestStore::new().await;
    let run = store.add_run("a", &["test"]).await;
    store.report_failed(&run.jobs[0].report.id, 9_000).await.unwrap();
    store.accept_delivery(NewDelivery { received_at: 9_000, ..new_delivery("b") }).await.unwrap();
    let due =
        async || (store.due_deliveries(50, 9).await.unwrap().len(), store.due_reports(50, 9).await.unwrap().len());
    assert_eq!(due().await, (0, 0));
    store.make_all_due(50).await.unwrap();
    assert_eq!(due().await, (1, 1));
}

#[tokio::test]
async fn a_delivery_is_new_once_open_until_processed_and_then_a_duplicate() {
    let store = TestStore::new().await;
    assert_eq!(store.accept_delivery(new_delivery("a")).await.unwrap(), Accepted::New);
    assert_eq!(store.accept_delivery(new_delivery("a")).await.unwrap(), Accepted::Again);
    assert_eq!(store.due_deliveries(i64::MAX, 10).await.unwrap().len(), 1);
    assert_eq!(store.delivery_payload(&key("a")).await.unwrap(), b"{}");

    store.finish_delivery(&key("a"), DeliveryState::Processed, "", 20).await.unwrap();
    assert_eq!(store.accept_delivery(new_delivery("a")).await.unwrap(), Accepted::Duplicate);
    assert_eq!(store.due_deliveries(i64::MAX, 10).await.unwrap(), []);
}

#[tokio::test]
async fn the_same_id_of_another_forge_is_another_delivery() {
    let store = TestStore::new().await;
    store.accept_delivery(new_delivery("a")).await.unwrap();
    let mut other = new_delivery("a");
    other.key.forge = "gitlab".into();
    assert_eq!(store.accept_delivery(other).await.unwrap(), Accepted::New);
}

#[tokio::test]
async fn a_failed_delivery_is_open_again_when_it_is_redelivered() {
    let store = TestStore::new().await;
    store.accept_delivery(new_delivery("a")).await.unwrap();
    store.finish_delivery(&key("a"), DeliveryState::Failed, "the forge was down", 20).await.unwrap();
    assert_eq!(store.deliveries_in(DeliveryState::Failed, 10).await.unwrap()[0].detail, "the forge was down");
    assert_eq!(store.due_deliveries(i64::MAX, 10).await.unwrap(), []);

    assert_eq!(store.accept_delivery(new_delivery("a")).await.unwrap(), Accepted::Again);
    let open = store.due_deliveries(i64::MAX, 10).await.unwrap();
    assert_eq!((open.len(), open[0].detail.as_str()), (1, ""));
}

#[tokio::test]
async fn a_delivery_that_waits_hides_no_other() {
    let store = TestStore::new().await;
    store.accept_delivery(new_delivery("a")).await.unwrap();
    store.accept_delivery(new_delivery("b")).await.unwrap();
    store.postpone_delivery(&key("a"), true, "the forge was down", 5000).await.unwrap();
    let due = store.due_deliveries(4999, 1).await.unwrap();
    assert_eq!((due.len(), &due[0].key), (1, &key("b")));
    assert_eq!(store.next_delivery_due().await.unwrap(), Some(10));

    store.finish_delivery(&key("b"), DeliveryState::Ignored, "", 20).await.unwrap();
    assert_eq!(store.next_delivery_due().await.unwrap(), Some(5000));
    let store = store.reopen().await;
    let waited = store.due_deliveries(5000, 1).await.unwrap().remove(0);
    assert_eq!((waited.tries, waited.denials, waited.detail.as_str()), (1, 1, "the forge was down"));
}

#[tokio::test]
async fn a_delivery_that_is_delivered_again_starts_with_all_its_tries() {
    let store = TestStore::new().await;
    store.accept_delivery(new_delivery("a")).await.unwrap();
    store.postpone_delivery(&key("a"), true, "refused", 5000).await.unwrap();
    store.finish_delivery(&key("a"), DeliveryState::Failed, "refused", 6000).await.unwrap();
    store.accept_delivery(NewDelivery { received_at: 7000, ..new_delivery("a") }).await.unwrap();
    let open = store.due_deliveries(7000, 1).await.unwrap().remove(0);
    assert_eq!((open.tries, open.denials, open.next_try_at), (0, 0, 7000));
}

#[tokio::test]
async fn an_ignored_delivery_is_open_again_when_it_is_redelivered() {
    let store = TestStore::new().await;
    store.accept_delivery(new_delivery("a")).await.unwrap();
    store.finish_delivery(&key("a"), DeliveryState::Ignored, "not configured", 20).await.unwrap();
    assert_eq!(store.accept_delivery(new_delivery("a")).await.unwrap(), Accepted::Again);
    assert_eq!(store.due_deliveries(10, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn every_pair_of_delivery_states_follows_the_table() {
    use crate::store::Lifecycle;
    let store = TestStore::new().await;
    for from in DeliveryState::ALL.iter().filter(|state| **state != DeliveryState::Received) {
        for to in DeliveryState::ALL {
            let id = format!("{from}-{to}");
            store.accept_delivery(new_delivery(&id)).await.unwrap();
            store.finish_delivery(&key(&id), *from, "", 20).await.unwrap();
            let allowed = store.finish_delivery(&key(&id), *to, "", 21).await.is_ok();
            assert_eq!(allowed, from.may_become(*to), "{from} → {to}");
        }
    }
}

#[tokio::test]
async fn concurrent_deliveries_of_one_id_are_new_once() {
    let store = TestStore::new().await;
    let posts = (0..32).map(|n| {
        let store = store.store.clone();
        tokio::spawn(async move { store.accept_delivery(new_delivery(&format!("{}", n % 4))).await.unwrap() })
    });
    let answers: Vec<_> = futures::future::try_join_all(posts).await.unwrap();
    assert_eq!(answers.iter().filter(|answer| **answer == Accepted::New).count(), 4);
    let expected = DeliveryCounts { received: 4, ..Default::default() };
    assert_eq!(store.delivery_counts().await.unwrap(), expected);
}

#[tokio::test]
async fn an_abandoned_call_leaves_the_store_whole() {
    let store = TestStore::new().await;
    let call = store.accept_delivery(new_delivery("a"));
    // Dropped at once or after it was queued: both must leave later calls working.
    let dropped = tokio::time::timeout(std::time::Duration::ZERO, call).await;
    drop(dropped);
    let again = store.accept_delivery(new_delivery("a")).await.unwrap();
    assert!(matches!(again, Accepted::New | Accepted::Again));
}

#[tokio::test]
async fn runs_of_a_delivery_are_created_once() {
    let store = TestStore::new().await;
    store.accept_delivery(new_delivery("a")).await.unwrap();
    let runs = vec![new_run("ci.yml", &["test", "lint"]), new_run("docs.yml", &["build"])];
    let created = store.create_runs(&key("a"), runs, DeliveryState::Processed, 30).await.unwrap();
    assert_eq!(created.len(), 2);
    let again = vec![new_run("ci.yml", &["test"])];
    assert_eq!(store.create_runs(&key("a"), again, DeliveryState::Processed, 31).await.unwrap(), []);
    assert_eq!(store.unfinished_jobs().await.unwrap().len(), 3);
    assert_eq!(store.count_unfinished_jobs().await.unwrap(), 3);
}

#[tokio::test]
async fn a_delivery_that_failed_half_way_creates_only_what_is_missing() {
    let store = TestStore::new().await;
    store.accept_delivery(new_delivery("a")).await.unwrap();
    store.create_runs(&key("a"), vec![new_run("ci.yml", &["test"])], DeliveryState::Failed, 30).await.unwrap();
    store.accept_delivery(new_delivery("a")).await.unwrap();
    let both = vec![new_run("ci.yml", &["test"]), new_run("docs.yml", &["build"])];
    let docs = both[1].id.clone();
    assert_eq!(store.create_runs(&key("a"), both, DeliveryState::Processed, 31).await.unwrap(), [docs]);
}

#[tokio::test]
async fn runs_are_created_all_or_nothing() {
    let store = TestStore::new().await;
    store.accept_delivery(new_delivery("a")).await.unwrap();
    let mut twice = new_run("ci.yml", &["test"]);
    twice.jobs.push(twice.jobs[0].clone());
    let good = new_run("docs.yml", &["build"]);
    let error = store.create_runs(&key("a"), vec![good, twice], DeliveryState::Processed, 30).await.unwrap_err();
    assert!(matches!(error, StoreError::Database { doing: "create runs", .. }), "{error}");
    assert_eq!(store.unfinished_jobs().await.unwrap(), []);
    assert_eq!(store.due_deliveries(i64::MAX, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn runs_of_a_workflow_are_numbered_per_repository() {
    let store = TestStore::new().await;
    let first = store.add_run("a", &["test"]).await;
    let second = store.add_run("b", &["test"]).await;
    let mut elsewhere = new_run("ci.yml", &["test"]);
    elsewhere.access.repo = RepoName::parse("demo/other").unwrap();
    store.accept_delivery(new_delivery("c")).await.unwrap();
    store.create_runs(&key("c"), vec![elsewhere.clone()], DeliveryState::Processed, 30).await.unwrap();
    let mut numbers = vec![];
    for run in [first, second, elsewhere] {
        numbers.push(store.run(&run.id).await.unwrap().unwrap().number);
    }
    assert_eq!(numbers, [1, 2, 1]);
}

#[tokio::test]
async fn a_run_beyond_the_limit_is_refused_with_its_size() {
    let store = TestStore::new().await;
    store.accept_delivery(new_delivery("a")).await.unwrap();
    let mut run = new_run("ci.yml", &["test"]);
    run.context = json!("x".repeat(crate::store::MAX_RUN_BYTES));
    let error = store.create_runs(&key("a"), vec![run], DeliveryState::Processed, 30).await.unwrap_err();
    insta::assert_snapshot!(error, @"a run with its jobs takes 33554452 bytes; the limit is 33554432 bytes");
}
