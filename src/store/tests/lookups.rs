//! What operators look for.

use super::*;
use crate::store::{DeliveryFilter, JobFilter, JobState, Reopened};

#[tokio::test]
async fn jobs_and_commits_are_found_by_how_they_begin() {
    let store = TestStore::new().await;
    let run = store.add_run("d1", &["a", "b"]).await;
    let ids: Vec<JobId> = run.jobs.iter().map(|job| job.id.clone()).collect();
    for id in &ids {
        for length in [8, 12, id.as_str().len()] {
            let found = store.jobs_beginning(&id.as_str()[..length], 10).await.unwrap();
            let expected = ids.iter().filter(|other| other.as_str().starts_with(&id.as_str()[..length])).count();
            assert!(found.contains(id) && found.len() == expected, "{found:?}");
        }
    }
    assert_eq!(store.jobs_beginning("job-", 1).await.unwrap().len(), 1, "the limit holds");
    for none in ["", "job-~", "%", "JOB-"] {
        let found = store.jobs_beginning(none, 10).await.unwrap();
        assert_eq!(found.len(), if none.is_empty() { 2 } else { 0 }, "{none}");
    }
    assert_eq!(store.commits_beginning("a1a1", 10).await.unwrap(), [sha()]);
    assert_eq!(store.commits_beginning("a2", 10).await.unwrap(), []);
    assert_eq!(store.runs_of_commit(&sha(), 10).await.unwrap()[0].id, run.id);
    assert_eq!(store.runs_of_delivery(&key("d1")).await.unwrap()[0].id, run.id);
    assert_eq!(store.reports_of_run(&run.id).await.unwrap().len(), 2);
}

#[tokio::test]
async fn jobs_are_filtered_by_how_they_ended_and_where_they_ran() {
    let store = TestStore::new().await;
    let run = store.add_run("d1", &["a", "b"]).await;
    store.finish_job(&run.jobs[0].id, 1, outcome(Conclusion::TimedOut), json!({}), 200, |_| {}).await.unwrap();
    let filters = [
        (JobFilter { conclusion: Some(Conclusion::TimedOut), ..Default::default() }, vec!["A"]),
        (JobFilter { conclusion: Some(Conclusion::Success), ..Default::default() }, vec![]),
        (JobFilter { is_unfinished: true, ..Default::default() }, vec!["B"]),
        (JobFilter { state: Some(JobState::Finished), ..Default::default() }, vec!["A"]),
        (JobFilter { profile: Some("linux".into()), ..Default::default() }, vec!["A", "B"]),
        (JobFilter { profile: Some("big".into()), ..Default::default() }, vec![]),
        (JobFilter { workflow: Some("ci".into()), is_unfinished: true, ..Default::default() }, vec!["B"]),
        (JobFilter { workflow: Some("%".into()), ..Default::default() }, vec![]),
    ];
    for (filter, expected) in filters {
        let names: Vec<String> =
            store.recent_jobs(10, &filter).await.unwrap().into_iter().map(|job| job.name).collect();
        assert_eq!(names, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn deliveries_are_listed_found_by_their_text_and_reopened() {
    let store = TestStore::new().await;
    store.add_run("done", &["a"]).await;
    for (id, state) in
        [("failed", DeliveryState::Failed), ("ignored", DeliveryState::Ignored), ("invalid", DeliveryState::Invalid)]
    {
        let payload = format!(r#"{{"after": "{}", "id": "{id}"}}"#, sha()).into_bytes();
        store.accept_delivery(NewDelivery { payload, ..new_delivery(id) }).await.unwrap();
        store.finish_delivery(&key(id), state, "because", 20).await.unwrap();
    }
    let ids = async |filter| -> Vec<String> {
        store.recent_deliveries(10, &filter).await.unwrap().into_iter().map(|delivery| delivery.key.id).collect()
    };
    assert_eq!(ids(DeliveryFilter::default()).await, ["done", "failed", "ignored", "invalid"]);
    assert_eq!(ids(DeliveryFilter { state: Some(DeliveryState::Failed), ..Default::default() }).await, ["failed"]);
    assert_eq!(ids(DeliveryFilter { event: Some("release".into()), ..Default::default() }).await, [""; 0]);
    assert_eq!(ids(DeliveryFilter { id_prefix: Some("i".into()), ..Default::default() }).await, ["ignored", "invalid"]);
    assert_eq!(ids(DeliveryFilter { id_prefix: Some("_".into()), ..Default::default() }).await, [""; 0]);

    let naming = store.fruitless_deliveries_with(&format!("\"{}", &sha().as_str()[..7]), 10).await.unwrap();
    assert_eq!(naming.len(), 3);
    assert_eq!(store.fruitless_deliveries_with("\"b1", 10).await.unwrap(), []);

    assert_eq!(store.reopen_delivery(&key("failed"), 30).await.unwrap(), Reopened::Due);
    assert_eq!(store.reopen_delivery(&key("failed"), 30).await.unwrap(), Reopened::Due, "it may be asked for twice");
    assert_eq!(store.delivery(&key("failed")).await.unwrap().unwrap().state, DeliveryState::Received);
    assert_eq!(store.due_deliveries(30, 10).await.unwrap().len(), 1);
    for (id, state) in [("done", DeliveryState::Processed), ("invalid", DeliveryState::Invalid)] {
        assert_eq!(store.reopen_delivery(&key(id), 30).await.unwrap(), Reopened::Not(state));
    }
    assert!(store.reopen_delivery(&key("absent"), 30).await.is_err());
    assert_eq!(store.delivery(&key("absent")).await.unwrap(), None);
}
