use super::*;
use crate::ids::VmId;
use crate::store::{JobState, NewForeign, Reason, Requeued};

fn asked(id: &str) -> NewForeign {
    NewForeign { source: "gitlab/linux".into(), external_id: id.into(), request: json!({ "token": "secret" }) }
}

fn own(path: &str) -> NewRun {
    let mut run = new_run(path, &["build"]);
    run.jobs[0].telling = Telling::Never;
    run
}

#[tokio::test]
async fn a_job_of_a_forges_own_is_taken_once_and_never_reported() {
    let store = TestStore::new().await;
    let job = store.accept_foreign(own("x"), asked("7"), 100).await.unwrap().unwrap();
    assert_eq!(store.accept_foreign(own("x"), asked("7"), 101).await.unwrap(), None, "given away twice");
    assert!(store.accept_foreign(own("x"), asked("8"), 102).await.unwrap().is_some());
    assert_eq!(store.job(&job).await.unwrap().unwrap().state, JobState::Queued);
    store.note_foreign_progress(&job, json!({ "sent": 12 })).await.unwrap();
    store.note_foreign_verdict(&job, json!({ "exit_code": 3 })).await.unwrap();
    let store = store.reopen().await;
    let open = store.unsettled_foreign(Some("gitlab/linux")).await.unwrap();
    assert_eq!(open.iter().map(|job| job.external_id.as_str()).collect::<Vec<_>>(), ["7", "8"]);
    assert_eq!((&open[0].progress["sent"], &open[0].verdict["exit_code"]), (&json!(12), &json!(3)));
    assert_eq!(store.unsettled_foreign(Some("gitlab/other")).await.unwrap(), []);

    store.lease_job(&job, 1, &VmId::random(), 200).await.unwrap();
    store.finish_job(&job, 1, outcome(Conclusion::Success), json!(null), 200, |_| {}).await.unwrap();
    assert_eq!(store.due_reports(i64::MAX, 10).await.unwrap(), []);
    store.settle_foreign(&job).await.unwrap();
    let settled = store.foreign_job(&job).await.unwrap().unwrap();
    assert!(settled.settled && settled.request.is_null(), "its tokens are forgotten");
    assert_eq!(store.unsettled_foreign(None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_has_started_for_a_forge_never_runs_again() {
    let store = TestStore::new().await;
    let job = store.accept_foreign(own("x"), asked("7"), 100).await.unwrap().unwrap();
    store.lease_job(&job, 1, &VmId::random(), 110).await.unwrap();
    assert_eq!(store.requeue_job(&job, 1, 3).await.unwrap(), Requeued::Queued { attempt: 2 }, "nothing ran");
    store.lease_job(&job, 2, &VmId::random(), 120).await.unwrap();
    store.start_job(&job, 2, 130).await.unwrap();
    assert_eq!(store.requeue_job(&job, 2, 3).await.unwrap(), Requeued::Exhausted);
    let lost = Outcome { reason: Some(Reason::VmLost), ..outcome(Conclusion::Error) };
    store.finish_job(&job, 2, lost, json!(null), 140, |_| {}).await.unwrap();
}
