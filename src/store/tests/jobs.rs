use super::*;
use crate::forge::ExternalIds;
use crate::ids::VmId;
use crate::store::{Finished, JobFilter, JobState, Lifecycle, Reason, Requeued, StoreError, VmState};

/// Takes a new job to `state`; returns it with its current attempt.
async fn job_in(store: &TestStore, delivery: &str, state: JobState) -> JobId {
    let job = store.add_run(delivery, &["test"]).await.jobs[0].id.clone();
    if state != JobState::Waiting {
        store.queue_job(&job, 110).await.unwrap();
    }
    if matches!(state, JobState::Leased | JobState::Running | JobState::Finished) {
        store.lease_job(&job, 1, &VmId::random(), 120).await.unwrap();
    }
    if matches!(state, JobState::Running | JobState::Finished) {
        store.start_job(&job, 1, 130).await.unwrap();
    }
    if state == JobState::Finished {
        finish(store, &job, Conclusion::Success).await.unwrap();
    }
    job
}

async fn finish(store: &Store, job: &JobId, conclusion: Conclusion) -> Result<Finished, StoreError> {
    store.finish_job(job, 1, outcome(conclusion), json!({}), 140, |_| {}).await
}

#[tokio::test]
async fn every_pair_of_job_states_follows_the_table() {
    let store = TestStore::new().await;
    for from in JobState::ALL {
        for to in [JobState::Queued, JobState::Leased, JobState::Running, JobState::Finished] {
            let job = job_in(&store, &format!("{from}-{to}"), *from).await;
            let result = match to {
                JobState::Queued if matches!(from, JobState::Leased | JobState::Running) => {
                    store.requeue_job(&job, 1, 3).await.map(drop)
                }
                JobState::Queued => store.queue_job(&job, 200).await,
                JobState::Leased => store.lease_job(&job, 1, &VmId::random(), 200).await,
                JobState::Running => store.start_job(&job, 1, 200).await,
                // Another outcome than the stored one.
                JobState::Finished => finish(&store, &job, Conclusion::Failure).await.map(drop),
                JobState::Waiting => unreachable!("nothing leads back to waiting"),
            };
            assert_eq!(result.is_ok(), from.may_become(to), "{from} → {to}: {result:?}");
            let now = store.job(&job).await.unwrap().unwrap().state;
            assert_eq!(now, if result.is_ok() { to } else { *from }, "{from} → {to}");
        }
    }
}

#[tokio::test]
async fn a_planned_stop_costs_no_attempt_and_is_told_at_once() {
    let store = TestStore::new().await;
    let job = job_in(&store, "a", JobState::Running).await;
    let report = store.job(&job).await.unwrap().unwrap().report;
    store.report_sent(&report, 1, &ExternalIds::default(), 1_000).await.unwrap();
    assert_eq!(store.next_report_due().await.unwrap(), None);
    for attempt in 1..=3 {
        assert_eq!(store.release_job(&job, attempt, "stopped", 1_001).await.unwrap(), Some(attempt + 1));
        assert_eq!(store.release_job(&job, attempt, "stopped", 1_002).await.unwrap(), None, "it has moved on");
        assert_eq!(store.release_job(&job, attempt + 1, "stopped", 1_003).await.unwrap(), None, "it has no VM");
        store.lease_job(&job, attempt + 1, &VmId::random(), 1_004).await.unwrap();
    }
    let told = store.get_report(&report).await.unwrap().unwrap();
    assert_eq!((told.desired.title.as_str(), told.next_try_at), ("Queued again (attempt 4): stopped", 1_001));
    assert_eq!(store.requeue_job(&job, 4, 2).await.unwrap(), Requeued::Queued { attempt: 5 });
    store.lease_job(&job, 5, &VmId::random(), 1_005).await.unwrap();
    assert_eq!(store.requeue_job(&job, 5, 2).await.unwrap(), Requeued::Exhausted, "two attempts were its own fault");
}

#[tokio::test]
async fn a_job_reads_back_with_its_times_and_its_vm() {
    let store = TestStore::new().await;
    let job = job_in(&store, "a", JobState::Running).await;
    let read = store.job(&job).await.unwrap().unwrap();
    assert_eq!((read.created_at, read.queued_at, read.started_at, read.finished_at), (100, Some(110), Some(130), None));
    assert_eq!((read.key.as_str(), read.name.as_str(), read.attempt), ("test", "TEST", 1));
    assert_eq!(read.spec, json!({ "steps": ["test"] }));
    let vm = store.vm(&read.vm.clone().unwrap()).await.unwrap().unwrap();
    assert_eq!((vm.job, vm.state), (job, VmState::Creating));
    assert_eq!(store.job_by_log_token(&read.log_token).await.unwrap().unwrap().id, read.id);
    assert_eq!(store.job_by_log_token(&LogToken::random()).await.unwrap(), None);
}

#[tokio::test]
async fn an_outcome_is_stored_once() {
    let store = TestStore::new().await;
    let job = job_in(&store, "a", JobState::Running).await;
    let timeout =
        Outcome { conclusion: Conclusion::TimedOut, reason: Some(Reason::Timeout), detail: "after 60 s".into() };
    let outputs = json!({ "version": "1" });
    let first = store.finish_job(&job, 1, timeout.clone(), outputs.clone(), 150, |_| {}).await.unwrap();
    let again = store.finish_job(&job, 1, timeout.clone(), outputs.clone(), 999, |_| {}).await.unwrap();
    assert_eq!((first, again), (Finished::Now, Finished::Before));
    let read = store.job(&job).await.unwrap().unwrap();
    assert_eq!((read.outcome, read.outputs, read.finished_at), (Some(timeout), outputs, Some(150)));

    let other = finish(&store, &job, Conclusion::Success).await.unwrap_err().to_string().replace(job.as_str(), "job-0");
    insta::assert_snapshot!(other, @r#"job `job-0` already ended with `{"conclusion":"timed_out","reason":"timeout","detail":"after 60 s"}`; it cannot end with `{"conclusion":"success","reason":null,"detail":""}` as well"#);
}

#[tokio::test]
async fn finishing_a_job_finishes_its_report_in_the_same_step() {
    let store = TestStore::new().await;
    let job = job_in(&store, "a", JobState::Running).await;
    let describe = |report: &mut Report| report.title = "3 tests failed".into();
    store.finish_job(&job, 1, outcome(Conclusion::Failure), json!({}), 150, describe).await.unwrap();
    let report = store.job(&job).await.unwrap().unwrap().report;
    let stored = store.get_report(&report).await.unwrap().unwrap();
    assert_eq!(stored.desired.state, ReportState::Finished(Conclusion::Failure));
    assert_eq!(stored.desired.title, "3 tests failed");
    assert_eq!((stored.desired.started_at, stored.desired.finished_at), (Some(130), Some(150)));
    assert_eq!((stored.version, stored.sent_version, stored.job), (2, 0, Some(job)));
}

#[tokio::test]
async fn a_lost_attempt_cannot_touch_the_next_one() {
    let store = TestStore::new().await;
    let job = job_in(&store, "a", JobState::Running).await;
    assert_eq!(store.requeue_job(&job, 1, 2).await.unwrap(), Requeued::Queued { attempt: 2 });
    let queued = store.job(&job).await.unwrap().unwrap();
    assert_eq!((queued.attempt, queued.vm, queued.started_at), (2, None, None));
    store.lease_job(&job, 2, &VmId::random(), 200).await.unwrap();
    let late = finish(&store, &job, Conclusion::Success).await.unwrap_err();
    assert!(matches!(late, StoreError::OtherAttempt { attempt: 1, current: 2, .. }), "{late}");

    assert_eq!(store.requeue_job(&job, 2, 2).await.unwrap(), Requeued::Exhausted);
    assert_eq!(store.job(&job).await.unwrap().unwrap().state, JobState::Leased);
}

#[tokio::test]
async fn cancelling_is_noted_until_the_job_is_finished() {
    let store = TestStore::new().await;
    let job = job_in(&store, "a", JobState::Running).await;
    assert_eq!(store.request_cancel(&job, "Cancelled").await.unwrap(), JobState::Running);
    assert!(store.unfinished_jobs().await.unwrap()[0].cancel_requested);
    let done = job_in(&store, "b", JobState::Finished).await;
    assert_eq!(store.request_cancel(&done, "Cancelled").await.unwrap(), JobState::Finished);
    assert!(!store.job(&done).await.unwrap().unwrap().cancel_requested);
    assert!(matches!(store.request_cancel(&JobId::random(), "Cancelled").await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_job_that_cannot_run_is_stored_as_finished() {
    let store = TestStore::new().await;
    store.accept_delivery(new_delivery("a")).await.unwrap();
    let mut run = new_run("ci.yml", &["gpu", "test"]);
    let refused = Outcome { reason: Some(Reason::NoProfile), ..outcome(Conclusion::Error) };
    run.jobs[0].outcome = Some(refused.clone());
    run.jobs[0].profile = None;
    store.create_runs(&key("a"), vec![run.clone()], DeliveryState::Processed, 100).await.unwrap();
    let jobs = store.jobs_of_run(&run.id).await.unwrap();
    assert_eq!(
        (jobs[0].state, jobs[0].outcome.clone(), jobs[0].finished_at),
        (JobState::Finished, Some(refused), Some(100))
    );
    assert_eq!(jobs[1].state, JobState::Waiting);
    // The scheduler sees both: the other job may need the refused one.
    let seen: Vec<_> = store.unfinished_jobs().await.unwrap().into_iter().map(|job| job.conclusion).collect();
    assert_eq!(seen, [Some(Conclusion::Error), None]);
}

#[tokio::test]
async fn lists_filter_and_limit() {
    let store = TestStore::new().await;
    job_in(&store, "a", JobState::Finished).await;
    let running = job_in(&store, "b", JobState::Running).await;
    assert_eq!(store.recent_jobs(10, &JobFilter::default()).await.unwrap().len(), 2);
    assert_eq!(store.recent_jobs(1, &JobFilter::default()).await.unwrap().len(), 1);
    let filter =
        JobFilter { state: Some(JobState::Running), sha: Some(sha()), repo: Some(access().repo), ..Default::default() };
    let listed = store.recent_jobs(10, &filter).await.unwrap();
    assert_eq!(listed.iter().map(|job| &job.id).collect::<Vec<_>>(), [&running]);
    let elsewhere = JobFilter { repo: Some(RepoName::parse("demo/other").unwrap()), ..Default::default() };
    assert_eq!(store.recent_jobs(10, &elsewhere).await.unwrap(), []);
}

#[tokio::test]
async fn every_pair_of_vm_states_follows_the_table() {
    let store = TestStore::new().await;
    let way = [VmState::Creating, VmState::Running, VmState::Stopping, VmState::Gone];
    for (reached, from) in way.iter().enumerate() {
        for to in VmState::ALL {
            let job = job_in(&store, &format!("{from}-{to}"), JobState::Leased).await;
            let vm = store.job(&job).await.unwrap().unwrap().vm.unwrap();
            for state in &way[1..=reached] {
                store.set_vm_state(&vm, *state, 200).await.unwrap();
            }
            let allowed = store.set_vm_state(&vm, *to, 300).await.is_ok();
            assert_eq!(allowed, from.may_become(*to), "{from} → {to}");
        }
    }
}

#[tokio::test]
async fn a_vm_counts_until_it_is_gone() {
    let store = TestStore::new().await;
    let job = job_in(&store, "a", JobState::Leased).await;
    let vm = store.vms_not_gone().await.unwrap().remove(0);
    assert_eq!(vm.job, job);
    store.set_vm_state(&vm.id, VmState::Stopping, 200).await.unwrap();
    assert_eq!(store.vms_not_gone().await.unwrap().len(), 1);
    store.set_vm_state(&vm.id, VmState::Gone, 210).await.unwrap();
    store.set_vm_state(&vm.id, VmState::Gone, 220).await.unwrap();
    assert_eq!(store.vms_not_gone().await.unwrap(), []);
    assert_eq!(store.vm(&vm.id).await.unwrap().unwrap().gone_at, Some(210));
}
