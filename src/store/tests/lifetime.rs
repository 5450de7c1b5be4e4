use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::Connection;

use super::*;
use crate::ids::VmId;
use crate::store::{JobEvent, JobState, MAX_EVENTS_PER_JOB, Pruned, Retention, StoreError, VmState};

const NO_RETENTION: Retention = Retention { deliveries: Duration::ZERO, runs: Duration::ZERO };

async fn open_error(path: &Path) -> String {
    let error = Store::open(path).await.expect_err("it must not open");
    error.to_string().replace(path.parent().unwrap().to_str().unwrap(), "STATE")
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let store = TestStore::new().await;
    let run = store.add_run("a", &["test"]).await;
    store.accept_delivery(new_delivery("b")).await.unwrap();
    let job = run.jobs[0].id.clone();
    store.queue_job(&job, 110).await.unwrap();
    store.lease_job(&job, 1, &VmId::random(), 120).await.unwrap();
    let store = store.reopen().await;
    assert_eq!(store.job(&job).await.unwrap().unwrap().state, JobState::Leased);
    assert_eq!(store.vms_not_gone().await.unwrap().len(), 1);
    assert_eq!(store.due_deliveries(i64::MAX, 10).await.unwrap()[0].key, key("b"));
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let store = TestStore::new().await;
    store.close().await;
    assert!(matches!(store.accept_delivery(new_delivery("a")).await, Err(StoreError::Closed)));
    assert!(matches!(store.unfinished_jobs().await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let store = TestStore::new().await;
    let mode = |name: &str| store.directory.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("dayfly.db"), mode("dayfly.db-wal")), (0o600, 0o600));
}

#[tokio::test]
async fn a_missing_directory_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(open_error(&directory.path().join("absent/dayfly.db")).await, @r"
    cannot open the store `STATE/dayfly.db`: No such file or directory (os error 2)
      hint: create the directory, or set `server.state_dir` to one that exists
    ");
}

#[tokio::test]
async fn a_file_that_is_no_store_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dayfly.db");
    std::fs::write(&path, "this is a text, and a long one, so that SQLite reads a header from it".repeat(20)).unwrap();
    insta::assert_snapshot!(open_error(&path).await, @r"
    cannot open the store `STATE/dayfly.db`: error returned from database: (code: 26) file is not a database
      hint: the file is damaged or is not a store; restore a copy with its `inbox/`, or move both away to start empty
    ");
}

#[tokio::test]
async fn a_newer_schema_is_explained() {
    let store = TestStore::new().await;
    store
        .write("pretend", |db| {
            Box::pin(async move {
                let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                           VALUES (9999, 'later', TRUE, x'00', 0)";
                sqlx::query(sql).execute(db).await?;
                Ok(())
            })
        })
        .await
        .unwrap();
    store.close().await;
    insta::assert_snapshot!(open_error(&store.directory.path().join("dayfly.db")).await, @r"
    the store `STATE/dayfly.db` has schema 9999, which this version of Dayfly does not know
      hint: a newer Dayfly has used it; start that version, or restore a copy of the store from before the upgrade
    ");
}

#[tokio::test]
async fn a_full_disk_undoes_the_operation_and_is_explained() {
    let store = TestStore::new().await;
    // SQLite's own limit on the file's size fails in the same way as a full disk.
    store
        .write("limit the file", |db| {
            Box::pin(async move {
                sqlx::query("PRAGMA max_page_count = 40").execute(db).await?;
                Ok(())
            })
        })
        .await
        .unwrap();
    let huge = NewDelivery { payload: vec![0; 1 << 20], ..new_delivery("a") };
    let error = store.accept_delivery(huge).await.unwrap_err();
    insta::assert_snapshot!(error, @r"
    could not accept a delivery in the store: error returned from database: (code: 13) database or disk is full
      hint: the disk is full; free some space
    ");
    // Small writes go on working.
    store.accept_delivery(new_delivery("b")).await.unwrap();
    assert_eq!(store.delivery_counts().await.unwrap().received, 1);
}

#[tokio::test]
async fn a_timeline_is_ordered_and_bounded() {
    let store = TestStore::new().await;
    let job = store.add_run("a", &["test"]).await.jobs[0].id.clone();
    let event = |n: u32| JobEvent { attempt: 1, at_us: i64::from(n), kind: "tick".into(), detail: "é".repeat(4000) };
    let recording = (0..MAX_EVENTS_PER_JOB + 5).map(|n| store.record_event(&job, event(n)));
    futures::future::try_join_all(recording).await.unwrap();
    let events = store.events(&job).await.unwrap();
    assert_eq!(events.len(), usize::try_from(MAX_EVENTS_PER_JOB).unwrap());
    assert!(events.iter().all(|event| event.detail.len() == 4096));
    // For a job that is gone it does nothing.
    store.record_event(&JobId::random(), event(0)).await.unwrap();
}

#[tokio::test]
async fn only_what_ended_long_ago_is_forgotten() {
    let store = TestStore::new().await;
    let ended = store.add_run("ended", &["test"]).await;
    let open = store.add_run("open", &["test"]).await;
    let haunted = store.add_run("haunted", &["test"]).await;
    store.accept_delivery(new_delivery("waiting")).await.unwrap();
    let vm = VmId::random();
    store.queue_job(&haunted.jobs[0].id, 110).await.unwrap();
    store.lease_job(&haunted.jobs[0].id, 1, &vm, 120).await.unwrap();
    for run in [&ended, &haunted] {
        let job = &run.jobs[0].id;
        store.finish_job(job, 1, outcome(Conclusion::Success), json!({}), 200, |_| {}).await.unwrap();
    }

    let too_early = Retention { deliveries: Duration::from_millis(500), runs: Duration::from_millis(500) };
    assert_eq!(store.prune(600, too_early).await.unwrap(), Pruned::default());

    assert_eq!(store.prune(1000, NO_RETENTION).await.unwrap(), Pruned { deliveries: 3, runs: 1 });
    assert_eq!(store.run(&ended.id).await.unwrap(), None);
    assert_eq!(store.get_report(&ended.jobs[0].report.id).await.unwrap(), None);
    assert!(store.run(&open.id).await.unwrap().is_some());
    assert_eq!(store.due_deliveries(i64::MAX, 10).await.unwrap().len(), 1);

    // A run is kept for as long as something of its VM may exist.
    assert!(store.run(&haunted.id).await.unwrap().is_some());
    store.set_vm_state(&vm, VmState::Stopping, 300).await.unwrap();
    store.set_vm_state(&vm, VmState::Gone, 310).await.unwrap();
    assert_eq!(store.prune(1000, NO_RETENTION).await.unwrap(), Pruned { deliveries: 0, runs: 1 });
}

#[tokio::test]
async fn numbers_go_on_after_the_runs_were_forgotten() {
    let store = TestStore::new().await;
    let first = store.add_run("a", &[]).await;
    store.prune(1000, NO_RETENTION).await.unwrap();
    assert_eq!(store.run(&first.id).await.unwrap(), None);
    let second = store.add_run("b", &[]).await;
    assert_eq!(store.run(&second.id).await.unwrap().unwrap().number, 2);
}

/// The service ends at any moment, with writes in every state of progress.
#[test]
fn whatever_was_answered_survives_an_end_without_goodbye() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dayfly.db");
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let answered = Arc::new(Mutex::new(Vec::new()));
    let (enough, wait) = std::sync::mpsc::channel();
    let life = runtime();
    let store = life.block_on(Store::open(&path)).unwrap();
    for client in 0..8 {
        let (store, answered, enough) = (store.clone(), answered.clone(), enough.clone());
        life.spawn(async move {
            for n in 0.. {
                let id = format!("{client}-{n}");
                store.accept_delivery(new_delivery(&id)).await.unwrap();
                answered.lock().unwrap().push(id);
                if n == 10 {
                    enough.send(()).unwrap();
                }
            }
        });
    }
    wait.recv_timeout(Duration::from_secs(20)).expect("deliveries are accepted");
    life.shutdown_background();
    drop(store);

    let answered = answered.lock().unwrap().clone();
    runtime().block_on(async {
        let store = Store::open(&path).await.unwrap();
        for id in answered {
            assert_eq!(store.delivery_payload(&key(&id)).await.unwrap(), b"{}", "{id}");
        }
    });
}

#[tokio::test]
async fn what_an_earlier_version_stored_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dayfly.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = sqlx::sqlite::SqliteConnection::connect_with(&options).await.unwrap();
    let first = crate::store::MIGRATIONS.iter().next().unwrap().clone();
    let earlier = sqlx::migrate::Migrator { migrations: vec![first].into(), ..sqlx::migrate::Migrator::DEFAULT };
    earlier.run(&mut connection).await.unwrap();
    for (id, name, context) in [("run-222222222222", "held", "null"), ("run-333333333333", "ci", "{\"sha\": \"\"}")] {
        sqlx::query(
            "INSERT INTO runs (id, forge, delivery_id, repo, event, sha, workflow_path, workflow_name, context, number, \
             created_at) VALUES ($1, 'github', $1, 'demo/hello', 'pull_request', $2, 'ci.yml', $3, $4, 1, 50)",
        )
        .bind(id)
        .bind(sha().as_str())
        .bind(name)
        .bind(context)
        .execute(&mut connection)
        .await
        .unwrap();
    }
    connection.close().await.unwrap();

    let store = Store::open(&path).await.unwrap();
    for (id, is_held) in [("run-222222222222", true), ("run-333333333333", false)] {
        let run = store.run(&id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((run.origin.is_held, run.origin.arrived_at, run.attempt()), (is_held, 50, 1));
        assert_eq!((run.delivery.forge.as_str(), run.root()), ("github", &run.id));
    }
}
