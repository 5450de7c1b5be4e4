use super::*;
use crate::store::{Joined, NewSchedule, Telling, Unfolded};
use crate::workflow::concurrency::Group;
use crate::workflow::model::Queue;

async fn names(store: &TestStore, run: &NewRun) -> Vec<String> {
    store.jobs_of_run(&run.id).await.unwrap().into_iter().map(|job| job.key).collect()
}

async fn due(store: &TestStore) -> Vec<String> {
    let due = store.due_reports(i64::MAX, 100).await.unwrap();
    let mut due: Vec<String> = due.into_iter().map(|report| report.desired.context).collect();
    due.sort();
    due
}

/// A run of three jobs, the second of which others may take the place of.
async fn with_placeholder(store: &TestStore) -> NewRun {
    store.accept_delivery(new_delivery("d")).await.unwrap();
    let mut run = new_run("ci.yml", &["a", "b", "c"]);
    run.jobs[1].telling = Telling::IfItEndsSo;
    store.create_runs(&key("d"), vec![run.clone()], DeliveryState::Processed, 100).await.unwrap();
    run
}

#[tokio::test]
async fn cells_stand_where_their_job_stood_and_are_there_once() {
    let store = TestStore::new().await;
    let run = with_placeholder(&store).await;
    assert_eq!(due(&store).await, ["dayfly/ci/a", "dayfly/ci/c"], "nobody is told of what others replace");
    let own = &run.jobs[1].id;
    store.request_cancel(own, "no more").await.unwrap();
    for expected in [true, false] {
        let cells = vec![new_job("b1"), new_job("b2"), new_job("b3")];
        assert_eq!(store.unfold_job(own, cells, Unfolded::Replaced, 200).await.unwrap(), expected);
        assert_eq!(names(&store, &run).await, ["a", "b1", "b2", "b3", "c"]);
    }
    assert_eq!(store.job(own).await.unwrap(), None);
    let cells = store.jobs_of_run(&run.id).await.unwrap();
    let ends = |job: &crate::store::Job| (job.cancel_requested, job.cancel_why.clone());
    assert_eq!(ends(&cells[2]), (true, Some("no more".to_owned())), "what was asked for before is not lost");
    assert!(!cells[0].cancel_requested && !cells[4].cancel_requested);
    assert_eq!(due(&store).await.len(), 5);
}

#[tokio::test]
async fn a_call_stays_and_is_told_of_only_if_it_ends_before_its_jobs_are_there() {
    let store = TestStore::new().await;
    let run = with_placeholder(&store).await;
    let own = &run.jobs[1].id;
    let how = Unfolded::Entered { prefix: "b/".to_owned() };
    assert!(store.unfold_job(own, vec![new_job("b/x")], how, 200).await.unwrap());
    assert_eq!(names(&store, &run).await, ["a", "b", "b/x", "c"]);
    let scheduled = store.unfinished_jobs().await.unwrap();
    assert_eq!(scheduled[1].inner_prefix.as_deref(), Some("b/"));
    let skipped = Outcome { conclusion: Conclusion::Skipped, reason: None, detail: String::new() };
    store.finish_job(own, 1, skipped.clone(), json!(null), 300, |_| {}).await.unwrap();
    assert!(!due(&store).await.contains(&"dayfly/ci/b".to_owned()));

    store.accept_delivery(new_delivery("e")).await.unwrap();
    let mut run = new_run("ci.yml", &["lonely"]);
    run.jobs[0].telling = Telling::IfItEndsSo;
    store.create_runs(&key("e"), vec![run.clone()], DeliveryState::Processed, 100).await.unwrap();
    store.finish_job(&run.jobs[0].id, 1, skipped, json!(null), 300, |_| {}).await.unwrap();
    assert!(due(&store).await.contains(&"dayfly/ci/lonely".to_owned()));
}

#[tokio::test]
async fn a_newer_job_ends_the_one_that_waits_in_its_group() {
    let store = TestStore::new().await;
    let jobs: Vec<JobId> = store.add_run("d", &["a", "b", "c", "d"]).await.jobs.into_iter().map(|job| job.id).collect();
    let group = |queue, cancel_in_progress| Group { name: "deploy".to_owned(), cancel_in_progress, queue };
    let ending = async || -> Vec<String> {
        let jobs = store.unfinished_jobs().await.unwrap();
        jobs.into_iter().filter(|job| job.cancel_requested).map(|job| job.key).collect()
    };
    for (at, job) in (0_i64..).zip(&jobs[..3]) {
        assert_eq!(store.join_group(job, group(Queue::Single, false), at).await.unwrap(), Joined::In);
        if at == 0 {
            store.queue_job(job, 1).await.unwrap();
        }
    }
    assert_eq!(ending().await, ["b"], "the first has begun, the last waits");
    store.join_group(&jobs[3], group(Queue::Max, false), 9).await.unwrap();
    assert_eq!(ending().await, ["b"]);
    let places = store.unfinished_jobs().await.unwrap();
    assert_eq!(places[3].own_group, Some(("deploy".to_owned(), 9)));
    store.join_group(&jobs[3], group(Queue::Single, true), 10).await.unwrap();
    assert_eq!(ending().await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_schedule_keeps_its_time_until_it_was_attended_to() {
    let store = TestStore::new().await;
    let repo = access().repo;
    let asked = crate::webhook::Dispatch {
        repository: crate::webhook::Repository {
            forge: "github".into(),
            access: access(),
            id: 1,
            default_branch: "main".into(),
        },
        event: "schedule".into(),
        action: None,
        git_ref: "refs/heads/main".into(),
        workflow: Some("ci.yml".into()),
        schedule: Some("0 6 * * *".into()),
        sender: "octocat".into(),
    };
    let new = |cron: &str, next_at| NewSchedule {
        workflow_path: "ci.yml".into(),
        cron: cron.into(),
        next_at,
        asked: asked.clone(),
        payload: json!({ "schedule": cron }),
    };
    assert!(store.set_schedules("github", &repo, vec![new("0 6 * * *", 50), new("0 7 * * *", 70)], 10).await.unwrap());
    assert!(store.set_schedules("github", &repo, vec![new("0 6 * * *", 99)], 20).await.unwrap());
    assert!(!store.set_schedules("github", &repo, vec![], 15).await.unwrap(), "an older push");
    assert_eq!(store.due_schedules(49, 10).await.unwrap(), []);
    let [due] = store.due_schedules(50, 10).await.unwrap().try_into().unwrap();
    store.advance_schedule(&due, Some(150)).await.unwrap();
    store.advance_schedule(&due, Some(999)).await.unwrap();
    assert_eq!(store.next_schedule_due().await.unwrap(), Some(150), "the second time it is another one");
}
