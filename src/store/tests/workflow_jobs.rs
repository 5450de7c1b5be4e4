use super::*;
use crate::store::{DemandState, WorkflowJob};

fn heard(id: u64, state: DemandState, at: i64) -> WorkflowJob {
    let runner = (state >= DemandState::InProgress).then(|| format!("dayfly-{id}"));
    WorkflowJob {
        forge: "github".into(),
        id,
        access: access(),
        organization: None,
        run: 7,
        sha: sha(),
        name: "build".into(),
        profile: "linux".into(),
        state,
        runner,
        conclusion: (state == DemandState::Completed).then(|| "success".to_owned()),
        seen_at: at,
        checked_at: at,
    }
}

#[tokio::test]
async fn demand_never_comes_back_whatever_the_order_of_events() {
    use DemandState::{Completed, InProgress, Queued, Refused, Unjudged};
    let store = TestStore::new().await;
    let orders: [(&[DemandState], Option<DemandState>); 8] = [
        (&[Queued, InProgress, Completed], None),
        (&[Completed, Queued, InProgress], None),
        (&[InProgress, Queued, Queued], None),
        (&[Queued, Queued], Some(Queued)),
        (&[Unjudged, Refused, Unjudged, Queued], Some(Refused)),
        (&[Unjudged, Queued, Unjudged], Some(Queued)),
        (&[Unjudged, Refused, Completed], None),
        (&[Unjudged], Some(Unjudged)),
    ];
    for (id, (events, end)) in orders.into_iter().enumerate() {
        for event in events {
            store.note_workflow_job(heard(id as u64, *event, 100)).await.unwrap();
        }
        let waiting = store.waiting_workflow_jobs().await.unwrap();
        let found = waiting.iter().find(|job| job.id == id as u64).map(|job| job.state);
        assert_eq!(found, end, "{events:?}");
    }
    assert!(store.note_workflow_job(heard(50, Queued, 100)).await.unwrap());
    assert!(!store.note_workflow_job(heard(50, Queued, 101)).await.unwrap(), "the same again is no news");
}

#[tokio::test]
async fn a_runner_is_known_by_its_job_and_what_is_old_is_forgotten() {
    let store = TestStore::new().await;
    store.note_workflow_job(heard(1, DemandState::Completed, 100)).await.unwrap();
    store.note_workflow_job(heard(2, DemandState::Queued, 200)).await.unwrap();
    let names = ["dayfly-1".to_owned(), "dayfly-2".to_owned()];
    assert_eq!(store.runners_with_jobs(&names).await.unwrap(), ["dayfly-1".to_owned()].into());
    let job = store.workflow_job_of("dayfly-1").await.unwrap().unwrap();
    assert_eq!((job.id, job.conclusion.as_deref()), (1, Some("success")));
    store.confirm_workflow_job("github", 2, 300).await.unwrap();
    assert_eq!(store.forget_workflow_jobs(300).await.unwrap(), 1);
    assert_eq!(store.waiting_workflow_jobs().await.unwrap()[0].checked_at, 300);
}
