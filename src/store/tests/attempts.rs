use super::*;
use crate::store::{Concurrency, Rerun, StoreError};

/// The next attempt of `run`.
fn next_of(run: &NewRun, attempt: u32) -> NewRun {
    let carried = json!({"lint": {"result": "success", "outputs": {}}});
    let rerun = Some(Rerun { root: run.id.clone(), attempt, number: 1, carried });
    NewRun { origin: Origin { rerun, ..run.origin.clone() }, ..new_run("ci.yml", &["test"]) }
}

async fn create(store: &TestStore, delivery: &str, run: &NewRun) -> Result<Vec<RunId>, StoreError> {
    store.accept_delivery(new_delivery(delivery)).await.unwrap();
    store.create_runs(&key(delivery), vec![run.clone()], DeliveryState::Processed, 100).await
}

#[tokio::test]
async fn each_attempt_of_a_run_is_made_once_and_keeps_its_number() {
    let store = TestStore::new().await;
    let first = store.add_run("a", &["test"]).await;
    let second = next_of(&first, 2);
    create(&store, "b", &second).await.unwrap();
    let taken = create(&store, "c", &next_of(&first, 2)).await.unwrap_err();
    assert!(matches!(taken, StoreError::AttemptTaken { attempt: 2, latest: 2, .. }), "{taken}");
    create(&store, "d", &next_of(&first, 3)).await.unwrap();

    for id in [&first.id, &second.id] {
        let attempts = store.attempts(id).await.unwrap();
        let told: Vec<_> = attempts.iter().map(|(run, jobs)| (run.attempt(), run.number, jobs.len())).collect();
        assert_eq!(told, [(1, 1, 1), (2, 1, 1), (3, 1, 1)]);
        assert!(attempts.iter().all(|(run, _)| *run.root() == first.id));
    }
    let runs = store.runs_at("github", &access().repo, &sha()).await.unwrap();
    let [(root, latest)] = runs.as_slice() else { panic!("{runs:?}") };
    assert_eq!((root, store.run(latest).await.unwrap().unwrap().attempt()), (&first.id, 3));
    assert_eq!(store.carried(&second.id).await.unwrap()["lint"]["result"], "success");
    assert_eq!(store.carried(&first.id).await.unwrap(), json!({}));
}

/// A run of the group with one job, which arrived then.
async fn enter(store: &TestStore, delivery: &str, arrived_at: i64, cancels: bool) -> NewRun {
    let mut run = new_run("ci.yml", &["test"]);
    run.origin.arrived_at = arrived_at;
    run.origin.concurrency = Some(Concurrency { group: "deploy".into(), cancels, queues: false });
    create(store, delivery, &run).await.unwrap();
    run
}

async fn cancel_why(store: &TestStore, run: &NewRun) -> String {
    store.job(&run.jobs[0].id).await.unwrap().unwrap().cancel_why.unwrap_or_default()
}

#[tokio::test]
async fn a_run_of_a_group_supersedes_those_before_it_when_it_is_created() {
    let store = TestStore::new().await;
    let first = enter(&store, "a", 10, false).await;
    let second = enter(&store, "b", 20, false).await;
    assert_eq!([cancel_why(&store, &first).await, cancel_why(&store, &second).await], ["", ""]);
    let third = enter(&store, "c", 30, false).await;
    insta::assert_snapshot!(cancel_why(&store, &second).await, @"Cancelled: superseded by run #3 at a1a1a1a1a1a1");
    assert_eq!([cancel_why(&store, &first).await, cancel_why(&store, &third).await], ["", ""]);
    // Processed late: it is itself the older one.
    let late = enter(&store, "d", 15, true).await;
    insta::assert_snapshot!(cancel_why(&store, &late).await, @"Cancelled: superseded by run #3 at a1a1a1a1a1a1");
    assert_eq!(cancel_why(&store, &first).await, "");
    let last = enter(&store, "e", 40, true).await;
    assert!(cancel_why(&store, &first).await.contains("run #5") && cancel_why(&store, &last).await.is_empty());
    // The first reason is the one that stays.
    assert!(cancel_why(&store, &second).await.contains("run #3"));
}

#[tokio::test]
async fn a_run_that_is_being_cancelled_takes_no_place_in_its_group() {
    let store = TestStore::new().await;
    let ending = enter(&store, "a", 10, false).await;
    store.request_cancel(&ending.jobs[0].id, "Cancelled by the operator").await.unwrap();
    let runs = enter(&store, "b", 20, false).await;
    let waits = enter(&store, "c", 30, false).await;
    assert_eq!([cancel_why(&store, &runs).await, cancel_why(&store, &waits).await], ["", ""]);
    enter(&store, "d", 40, false).await;
    assert_eq!(cancel_why(&store, &runs).await, "");
    assert!(cancel_why(&store, &waits).await.contains("run #4"));
}

#[tokio::test]
async fn runs_that_are_processed_out_of_order_are_all_kept_while_there_is_a_place() {
    let store = TestStore::new().await;
    let later = enter(&store, "a", 20, false).await;
    let earlier = enter(&store, "b", 10, false).await;
    assert_eq!([cancel_why(&store, &later).await, cancel_why(&store, &earlier).await], ["", ""]);
    store.queue_job(&later.jobs[0].id, 110).await.unwrap();
    enter(&store, "c", 30, false).await;
    assert_eq!(cancel_why(&store, &later).await, "", "it has begun");
    assert!(cancel_why(&store, &earlier).await.contains("run #3"));
}

#[tokio::test]
async fn a_rerun_does_not_supersede_the_other_attempts_of_its_run() {
    let store = TestStore::new().await;
    let first = enter(&store, "a", 10, true).await;
    let mut again = next_of(&first, 2);
    again.origin.arrived_at = 20;
    create(&store, "b", &again).await.unwrap();
    assert_eq!([cancel_why(&store, &first).await, cancel_why(&store, &again).await], ["", ""]);
}
