use std::time::Duration;

use super::*;
use crate::store::{Approval, Approved, FromPullRequest, JobState, ReplacedHead, Retention};

const NUMBER: u64 = 3;

fn other_sha() -> CommitSha {
    CommitSha::parse(&"b2".repeat(20)).unwrap()
}

fn of_fork(run: NewRun) -> NewRun {
    let pull_request = Some(FromPullRequest { number: NUMBER, is_fork: true });
    NewRun { origin: Origin { pull_request, ..run.origin }, ..run }
}

/// A run that waits for an approval of [`sha`].
async fn hold(store: &TestStore, delivery: &str) -> NewRun {
    store.accept_delivery(new_delivery(delivery)).await.unwrap();
    let mut run = of_fork(new_run("held", &[]));
    run.origin.is_held = true;
    run.report = Some(Report { state: ReportState::Held, ..new_report("dayfly") });
    store.create_runs(&key(delivery), vec![run.clone()], DeliveryState::Processed, 100).await.unwrap();
    run
}

fn approval(at: i64) -> Approval {
    let repo = access().repo;
    Approval { forge: "github".into(), repo, number: NUMBER, sha: sha(), person: Some("octocat".into()), at }
}

async fn approve(store: &TestStore, delivery: &str, at: i64, run: &NewRun) -> Approved {
    store.accept_delivery(new_delivery(delivery)).await.unwrap();
    let title = "Approved by @octocat".to_owned();
    store.approve(&key(delivery), approval(at), vec![run.clone()], title, 200).await.unwrap()
}

async fn push_over(store: &TestStore, sha: CommitSha, arrived_at: i64) {
    let repo = access().repo;
    store.replace_head(ReplacedHead { forge: "github".into(), repo, number: NUMBER, sha, arrived_at }).await.unwrap();
}

async fn counts(store: &TestStore) -> bool {
    store.approval("github", &access().repo, NUMBER, &sha()).await.unwrap().is_some()
}

fn report_of(run: &NewRun) -> ReportId {
    run.report.as_ref().unwrap().id.clone()
}

#[tokio::test]
async fn an_approval_is_used_once_and_finishes_what_was_held() {
    let store = TestStore::new().await;
    let held = hold(&store, "a").await;
    assert_eq!(store.held_at(&sha()).await.unwrap().len(), 1);
    let run = of_fork(new_run("ci.yml", &["test"]));
    assert_eq!(approve(&store, "b", 50, &run).await, Approved::Now(vec![run.id.clone()]));
    assert!(counts(&store).await);
    assert_eq!(store.held_at(&sha()).await.unwrap(), []);
    let shown = store.get_report(&report_of(&held)).await.unwrap().unwrap().desired;
    assert_eq!(
        (shown.state, shown.title.as_str()),
        (ReportState::Finished(Conclusion::Success), "Approved by @octocat")
    );

    let again = of_fork(new_run("ci.yml", &["test"]));
    assert_eq!(approve(&store, "c", 60, &again).await, Approved::Before);
    assert_eq!(store.run(&again.id).await.unwrap(), None);
    // Processed a second time, it changes nothing.
    assert_eq!(approve(&store, "b", 50, &again).await, Approved::Now(vec![]));
    assert_eq!(store.unfinished_jobs().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_push_voids_the_approval_and_what_has_not_started() {
    let store = TestStore::new().await;
    let run = of_fork(new_run("ci.yml", &["running", "waiting"]));
    approve(&store, "a", 50, &run).await;
    let running = &run.jobs[0].id;
    store.queue_job(running, 210).await.unwrap();
    store.lease_job(running, 1, &crate::ids::VmId::random(), 220).await.unwrap();
    // Another commit of the pull request, and a push that came before the approval was asked for.
    push_over(&store, other_sha(), 70).await;
    push_over(&store, sha(), 40).await;
    assert!(counts(&store).await);
    push_over(&store, sha(), 60).await;
    assert!(!counts(&store).await);
    let jobs = store.jobs_of_run(&run.id).await.unwrap();
    assert_eq!(jobs.iter().map(|job| job.cancel_requested).collect::<Vec<_>>(), [false, true]);
    assert_eq!(jobs[0].state, JobState::Leased, "what runs was approved");
    insta::assert_snapshot!(jobs[1].cancel_why.as_deref().unwrap(), @"Cancelled: the approval of a1a1a1a1a1a1 is void, as the pull request was pushed to");
}

#[tokio::test]
async fn an_approval_that_was_asked_for_before_a_push_does_not_count_after_it() {
    let store = TestStore::new().await;
    let held = hold(&store, "a").await;
    let run = of_fork(new_run("ci.yml", &["test"]));
    push_over(&store, sha(), 60).await;
    assert_eq!(approve(&store, "b", 60, &run).await, Approved::Overtaken);
    assert!(!counts(&store).await && store.unfinished_jobs().await.unwrap().is_empty());
    assert_eq!(store.get_report(&report_of(&held)).await.unwrap().unwrap().desired.state, ReportState::Held);
    // Pushed back to the same commit, somebody looks again: that is another approval.
    assert_eq!(approve(&store, "c", 61, &run).await, Approved::Now(vec![run.id.clone()]));
    assert!(counts(&store).await);
}

#[tokio::test]
async fn what_is_created_after_its_approval_became_void_ends_at_once() {
    let store = TestStore::new().await;
    approve(&store, "approved", 50, &of_fork(new_run("ci.yml", &["test"]))).await;
    push_over(&store, sha(), 60).await;
    for (delivery, arrived_at, is_ended) in [("reopened", 55, true), ("at once", 60, true), ("after it", 61, false)] {
        store.accept_delivery(new_delivery(delivery)).await.unwrap();
        let mut run = of_fork(new_run("ci.yml", &["test"]));
        run.origin.arrived_at = arrived_at;
        store.create_runs_of_news(&key(delivery), None, vec![run.clone()], 200).await.unwrap();
        let job = store.job(&run.jobs[0].id).await.unwrap().unwrap();
        assert_eq!((job.cancel_requested, job.cancel_why.is_some()), (is_ended, is_ended), "{delivery}");
    }
}

#[tokio::test]
async fn what_nobody_approves_ends_and_is_forgotten_once_that_is_told() {
    let store = TestStore::new().await;
    let held = report_of(&hold(&store, "a").await);
    let end = |report: &mut Report| report.state = ReportState::Finished(Conclusion::Cancelled);
    let age = Duration::from_millis(100);
    let retention = Retention { deliveries: age, runs: age };
    assert_eq!(store.end_long_held(200, age, end).await.unwrap(), 0, "its time is not over");
    assert_eq!(store.end_long_held(201, age, end).await.unwrap(), 1);
    assert_eq!(store.end_long_held(202, age, end).await.unwrap(), 0, "it has ended");
    assert_eq!(store.held_at(&sha()).await.unwrap(), []);
    let due = store.due_reports(202, 10).await.unwrap();
    let [report] = due.as_slice() else { panic!("{due:?}") };
    assert_eq!((&report.desired.id, report.desired.state), (&held, ReportState::Finished(Conclusion::Cancelled)));

    assert_eq!(store.prune(202, retention).await.unwrap().runs, 0, "the forge does not know yet");
    store.report_sent(&held, report.version, &report.external, 203).await.unwrap();
    assert_eq!(store.prune(203, retention).await.unwrap().runs, 1);

    // A forge that never answers does not keep it for ever.
    let forgotten = report_of(&hold(&store, "b").await);
    let week = 7 * 24 * 60 * 60 * 1000;
    store.end_long_held(week, age, end).await.unwrap();
    assert_eq!(store.prune(week + 200, retention).await.unwrap().runs, 0);
    assert_eq!(store.prune(week + 201, retention).await.unwrap().runs, 1);
    assert_eq!(store.get_report(&forgotten).await.unwrap(), None);
}

#[tokio::test]
async fn jobs_of_forks_tell_whether_they_were_approved() {
    let store = TestStore::new().await;
    store.add_run("of the repository", &["test"]).await;
    store.accept_delivery(new_delivery("let in")).await.unwrap();
    let let_in = NewRun { sha: other_sha(), ..of_fork(new_run("ci.yml", &["test"])) };
    store.create_runs(&key("let in"), vec![let_in.clone()], DeliveryState::Processed, 100).await.unwrap();
    let approved = of_fork(new_run("ci.yml", &["test"]));
    approve(&store, "approved", 50, &approved).await;
    push_over(&store, sha(), 60).await;
    let jobs = store.unfinished_fork_jobs().await.unwrap();
    let told: Vec<_> = jobs.into_iter().map(|job| (job.id, job.was_approved)).collect();
    assert_eq!(told, [(let_in.jobs[0].id.clone(), false), (approved.jobs[0].id.clone(), true)]);
}

#[tokio::test]
async fn the_newest_held_report_is_the_one_that_answers() {
    let store = TestStore::new().await;
    let repo = access().repo;
    assert!(!store.change_held("github", &repo, NUMBER, 100, |_| {}).await.unwrap());
    hold(&store, "a").await;
    store.accept_delivery(new_delivery("b")).await.unwrap();
    let mut newer = of_fork(new_run("held", &[]));
    newer.origin.is_held = true;
    newer.report = Some(Report { state: ReportState::Held, ..new_report("dayfly") });
    store.create_runs(&key("b"), vec![newer.clone()], DeliveryState::Processed, 101).await.unwrap();
    assert!(store.change_held("github", &repo, NUMBER, 102, |report| report.summary = "no".into()).await.unwrap());
    assert_eq!(store.get_report(&report_of(&newer)).await.unwrap().unwrap().desired.summary, "no");
}
