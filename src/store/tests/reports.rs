use super::*;
use crate::forge::{Earlier, ExternalIds};
use crate::store::StoreError;

async fn one_report(store: &TestStore) -> ReportId {
    store.add_run("a", &["test"]).await.jobs[0].report.id.clone()
}

#[tokio::test]
async fn a_report_is_due_until_its_latest_version_was_sent() {
    let store = TestStore::new().await;
    let id = one_report(&store).await;
    let due = store.due_reports(100, 10).await.unwrap().remove(0);
    assert_eq!((due.version, due.forge.as_str(), due.desired.log.as_str()), (1, "github", ""));

    store.report_sending(&id).await.unwrap();
    // It changes while version 1 is on its way.
    assert_eq!(store.set_report(&id, 105, |report| report.state = ReportState::Running).await.unwrap(), 2);
    let external: ExternalIds = serde_json::from_value(json!({ "check_run": 42 })).unwrap();
    store.report_sent(&id, 1, &external, 105).await.unwrap();
    assert_eq!(store.due_reports(5104, 10).await.unwrap(), [], "what follows at once is sent together");
    let due = store.due_reports(5105, 10).await.unwrap().remove(0);
    assert_eq!((due.version, due.sent_version, due.external.check_run), (2, 1, Some(42)));
    store.report_sent(&id, 2, &due.external, 5105).await.unwrap();
    assert_eq!(store.due_reports(i64::MAX, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_call_without_an_answer_stays_uncertain_over_a_restart() {
    let store = TestStore::new().await;
    let id = one_report(&store).await;
    assert_eq!(store.get_report(&id).await.unwrap().unwrap().earlier(), Earlier::None);
    store.report_sending(&id).await.unwrap();
    let store = store.reopen().await;
    assert_eq!(store.get_report(&id).await.unwrap().unwrap().earlier(), Earlier::Uncertain);
    store.report_sent(&id, 1, &ExternalIds::default(), 100).await.unwrap();
    assert_eq!(store.get_report(&id).await.unwrap().unwrap().earlier(), Earlier::None);
}

#[tokio::test]
async fn a_failed_report_waits_even_if_it_changes() {
    let store = TestStore::new().await;
    let id = one_report(&store).await;
    store.report_failed(&id, 5000).await.unwrap();
    store.set_report(&id, 200, |report| report.title = "Running".into()).await.unwrap();
    assert_eq!(store.due_reports(4999, 10).await.unwrap(), []);
    assert_eq!(store.next_report_due().await.unwrap(), Some(5000));
    assert_eq!(store.due_reports(5000, 10).await.unwrap()[0].tries, 1);
}

#[tokio::test]
async fn an_abandoned_version_stays_visible_and_the_next_is_tried() {
    let store = TestStore::new().await;
    let id = one_report(&store).await;
    store.report_abandoned(&id, 1, "the commit is gone").await.unwrap();
    assert_eq!(store.due_reports(i64::MAX, 10).await.unwrap(), []);
    assert_eq!(store.next_report_due().await.unwrap(), None);
    assert_eq!(store.abandoned_reports(10).await.unwrap()[0].abandoned.as_deref(), Some("the commit is gone"));

    store.set_report(&id, 200, |report| report.title = "Running".into()).await.unwrap();
    assert_eq!(store.due_reports(200, 10).await.unwrap()[0].abandoned, None);
    assert_eq!(store.abandoned_reports(10).await.unwrap(), []);
}

#[tokio::test]
async fn an_end_waits_for_no_live_update_and_is_sent_before_any() {
    let store = TestStore::new().await;
    let run = store.add_run("a", &["live", "ending"]).await;
    let [live, ending] = [0, 1].map(|n| run.jobs[n].report.id.clone());
    for id in [&live, &ending] {
        store.report_sent(id, 1, &ExternalIds::default(), 100).await.unwrap();
    }
    store.refresh_report(&live, 200).await.unwrap();
    store.set_report(&ending, 300, |report| report.state = ReportState::Running).await.unwrap();
    assert_eq!(store.due_reports(5099, 10).await.unwrap(), []);
    let end = |report: &mut Report| report.state = ReportState::Finished(Conclusion::Success);
    store.set_report(&ending, 400, end).await.unwrap();
    assert_eq!(store.due_reports(400, 10).await.unwrap().len(), 1);
    let due = store.due_reports(9000, 10).await.unwrap();
    assert_eq!(due.iter().map(|due| &due.desired.id).collect::<Vec<_>>(), [&ending, &live]);
}

#[tokio::test]
async fn a_refresh_is_a_new_version_only_if_the_current_one_is_on_its_way() {
    let store = TestStore::new().await;
    let id = one_report(&store).await;
    let version = async || store.get_report(&id).await.unwrap().unwrap().version;
    store.refresh_report(&id, 100).await.unwrap();
    assert_eq!(version().await, 1);
    store.report_sending(&id).await.unwrap();
    store.refresh_report(&id, 100).await.unwrap();
    assert_eq!(version().await, 2);
}

#[tokio::test]
async fn a_used_up_budget_stops_one_installation_and_no_other() {
    let store = TestStore::new().await;
    store.add_run("a", &["test", "lint"]).await;
    store.accept_delivery(new_delivery("b")).await.unwrap();
    let mut other = new_run("ci.yml", &["build"]);
    other.access.installation = None;
    store.create_runs(&key("b"), vec![other.clone()], DeliveryState::Processed, 100).await.unwrap();
    store.postpone_reports("github", Some(7), 60_000).await.unwrap();
    let due = store.due_reports(59_999, 10).await.unwrap();
    assert_eq!(due.iter().map(|due| &due.run).collect::<Vec<_>>(), [&other.id]);
    store.postpone_reports("github", None, 60_000).await.unwrap();
    assert_eq!(store.due_reports(59_999, 10).await.unwrap(), []);
    assert_eq!(store.due_reports(60_000, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn an_abandoned_report_gets_another_chance() {
    let store = TestStore::new().await;
    let id = one_report(&store).await;
    store.report_abandoned(&id, 1, "the repository was not there").await.unwrap();
    assert_eq!(store.revive_abandoned_reports(200).await.unwrap(), 1);
    assert_eq!(store.due_reports(200, 10).await.unwrap().len(), 1);
    assert_eq!(store.revive_abandoned_reports(200).await.unwrap(), 0);
}

#[tokio::test]
async fn a_finished_report_never_changes() {
    let store = TestStore::new().await;
    let id = one_report(&store).await;
    let end = |report: &mut Report| report.state = ReportState::Finished(Conclusion::Success);
    assert_eq!(store.set_report(&id, 200, end).await.unwrap(), 2);
    assert_eq!(store.set_report(&id, 201, end).await.unwrap(), 2, "the same again is no change");
    let refused = store.set_report(&id, 202, |report| report.title = "late".into()).await.unwrap_err();
    assert!(matches!(refused, StoreError::ReportFinished { .. }), "{refused}");
}

#[tokio::test]
async fn a_change_cannot_move_a_report_to_another_place() {
    let store = TestStore::new().await;
    let id = one_report(&store).await;
    let before = store.get_report(&id).await.unwrap().unwrap();
    let version = store
        .set_report(&id, 200, |report| {
            report.context = "another".into();
            report.id = ReportId::random();
            report.log = "secret".into();
        })
        .await
        .unwrap();
    assert_eq!((version, store.get_report(&id).await.unwrap().unwrap()), (1, before));
}

#[tokio::test]
async fn a_run_may_have_a_report_and_no_job() {
    let store = TestStore::new().await;
    store.accept_delivery(new_delivery("a")).await.unwrap();
    let run = NewRun { report: Some(new_report("dayfly/ci")), ..new_run("ci.yml", &[]) };
    store.create_runs(&key("a"), vec![run.clone()], DeliveryState::Processed, 100).await.unwrap();
    let due = store.due_reports(100, 10).await.unwrap().remove(0);
    assert_eq!((due.run, due.job), (run.id, None));
}

#[tokio::test]
async fn an_unknown_report_is_named() {
    let store = TestStore::new().await;
    assert!(matches!(store.report_sending(&ReportId::random()).await, Err(StoreError::NotFound { .. })));
    assert_eq!(store.get_report(&ReportId::random()).await.unwrap(), None);
}
