//! What GitLab hears of a job, in each case that the protocol provides for.

use std::time::Duration;

use serde_json::json;

use super::hall::{Hall, Plan, runner_with};
use crate::local_gitlab::{Fault, FaultKind, GitLab, Job, JobState, Options};
use crate::support::{DEADLINE, eventually};

fn verdict(job: &Job) -> (JobState, &str, Option<i64>, u32) {
    (job.state, job.failure_reason.as_deref().unwrap_or_default(), job.exit_code, job.finals)
}

#[tokio::test]
async fn jobs_are_taken_run_and_told() {
    let hall = Hall::open(Options { accepts_first: 1, ..Options::default() }).await;
    let text = "section_start:1:x\r\x1b[0Kgrün \x1b[32mok\x1b[0m\r\n$ echo\n";
    let plans = [
        Plan { pieces: vec![text.to_owned(), "no end".to_owned()], ..Plan::default() },
        Plan { exit_code: 3, ..Plan::says("failing\n") },
        Plan { is_lost: true, ..Plan::says("half a line") },
        Plan::default(),
        // More than one patch.
        Plan { repeat: 30_000, ..Plan::says("a line of a log of more than two megabytes, so to speak of it at all\n") },
    ];
    let ids: Vec<u64> = plans.iter().map(|plan| hall.gitlab.add_job(plan.job())).collect();
    let mut jobs = Vec::new();
    for id in &ids {
        jobs.push(hall.ended(*id).await);
    }
    assert_eq!(verdict(&jobs[0]), (JobState::Success, "", None, 1));
    assert_eq!(jobs[0].text(), format!("{text}no end"));
    assert_eq!(verdict(&jobs[1]), (JobState::Failed, "script_failure", Some(3), 1));
    assert_eq!(verdict(&jobs[2]), (JobState::Failed, "runner_system_failure", None, 1));
    let remark = "\x1b[31;1mERROR: Job failed (system failure): The VM was lost: its monitor ended\x1b[0;m\n";
    assert_eq!(jobs[2].text(), format!("half a line\n{remark}"));
    assert_eq!((verdict(&jobs[3]), jobs[3].trace.len()), ((JobState::Success, "", None, 1), 0));
    assert!(jobs[4].trace == hall.written(ids[4]) && jobs[4].trace.len() > 2_000_000);
    assert!(jobs.iter().all(|job| job.accepted == 1 && job.mismatches == 0));
    let foreign = hall.store.unsettled_foreign(None).await.unwrap();
    assert!(foreign.iter().all(|job| job.external_id != ids[0].to_string()) || foreign.len() < 5);
    hall.finish().await;
}

#[tokio::test]
async fn each_fault_costs_time_and_nothing_else() {
    let hall = Hall::open(Options::default()).await;
    let faults = [
        ("/jobs/request", FaultKind::Status(503)),
        ("/jobs/request", FaultKind::Status(409)),
        ("/jobs/request", FaultKind::Close),
        ("/trace", FaultKind::Status(500)),
        ("/trace", FaultKind::LoseAnswer),
        ("/trace", FaultKind::Close),
        ("/trace", FaultKind::LoseTrace(5)),
        ("/trace", FaultKind::Status(429)),
    ];
    for (path_contains, kind) in faults {
        hall.gitlab.inject(Fault { method: None, path_contains, kind, times: 1 });
    }
    let plan = Plan { repeat: 40, pause: 60, ..Plan::says("a line after the other\n") };
    let id = hall.gitlab.add_job(plan.job());
    let job = hall.ended(id).await;
    assert_eq!(verdict(&job), (JobState::Success, "", None, 1));
    assert_eq!(job.text(), "a line after the other\n".repeat(40));
    hall.finish().await;
}

#[tokio::test]
async fn the_end_is_told_until_it_is_known() {
    let hall = Hall::open(Options { accepts_first: 2, ..Options::default() }).await;
    let id = hall.gitlab.add_job(Plan { repeat: 4, pause: 20, ..Plan::says("text\n") }.job());
    let runs = |job: &Job| job.state == JobState::Running;
    hall.gitlab.wait_for_job(id, runs, DEADLINE).await.unwrap();
    for kind in [FaultKind::Status(502), FaultKind::LoseTrace(3), FaultKind::Close, FaultKind::LoseAnswer] {
        let method = Some(axum::http::Method::PUT);
        hall.gitlab.inject(Fault { method, path_contains: "/jobs/1001", kind, times: 1 });
    }
    let job = hall.ended(id).await;
    assert_eq!((verdict(&job), job.text().as_str()), ((JobState::Success, "", None, 1), "text\ntext\ntext\ntext\n"));
    hall.finish().await;
}

#[tokio::test]
async fn an_end_whose_acknowledgement_was_lost_is_told_once() {
    let hall = Hall::open(Options::default()).await;
    let id = hall.gitlab.add_job(Plan { is_endless: true, pause: 20, ..Plan::says(".") }.job());
    hall.gitlab.wait_for_job(id, |job| !job.trace.is_empty(), DEADLINE).await.unwrap();
    hall.gitlab.cancel(id, true);
    // The next state that is told is the final one: signs of life come later.
    let method = Some(axum::http::Method::PUT);
    hall.gitlab.inject(Fault { method, path_contains: "/jobs/", kind: FaultKind::LoseAnswer, times: 1 });
    let job = hall.ended(id).await;
    assert_eq!(verdict(&job), (JobState::Canceled, "job_canceled", None, 1));
    hall.finish().await;
}

#[tokio::test]
async fn a_cancelled_job_cleans_up_and_a_forced_one_does_not() {
    let hall = Hall::open(Options::default()).await;
    let endless = Plan { is_endless: true, pause: 30, ..Plan::says("on and on\n") };
    let ids = [true, false].map(|gracefully| (hall.gitlab.add_job(endless.job()), gracefully));
    for (id, gracefully) in ids {
        hall.gitlab.wait_for_job(id, |job| !job.trace.is_empty(), DEADLINE).await.unwrap();
        hall.gitlab.cancel(id, gracefully);
    }
    let graceful = hall.ended(ids[0].0).await;
    assert_eq!(verdict(&graceful), (JobState::Canceled, "job_canceled", None, 1));
    assert!(graceful.text().ends_with("on and on\nafter_script\n"), "{}", graceful.text());
    assert_eq!(graceful.trace, hall.written(ids[0].0));
    let forced = hall.ended(ids[1].0).await;
    assert_eq!(verdict(&forced), (JobState::Canceled, "", None, 0));
    assert!(hall.written(ids[1].0).starts_with(&forced.trace));
    hall.finish().await;
}

/// There is always more of its trace, which must keep nobody from hearing what GitLab wants.
#[tokio::test]
async fn a_job_that_never_stops_printing_is_sent_at_the_interval_and_can_be_cancelled() {
    let hall = Hall::open(Options::default()).await;
    let id = hall.gitlab.add_job(Plan { is_endless: true, pause: 1, ..Plan::says("on and on and on\n") }.job());
    let began = std::time::Instant::now();
    hall.gitlab.wait_for_job(id, |job| job.trace.len() > 5_000, DEADLINE).await.unwrap();
    let (patches, seconds) = (hall.gitlab.requests("PATCH", "/trace"), began.elapsed().as_secs());
    assert!(patches as u64 <= seconds + 3, "{patches} patches in {seconds} s, and GitLab wants one each second");
    hall.gitlab.cancel(id, true);
    let job = hall.ended(id).await;
    assert_eq!(verdict(&job), (JobState::Canceled, "job_canceled", None, 1));
    assert_eq!(job.trace, hall.written(id));
    hall.finish().await;
}

#[tokio::test]
async fn an_end_is_told_although_its_trace_is_refused() {
    let hall = Hall::open(Options::default()).await;
    let (method, kind) = (Some(axum::http::Method::PATCH), FaultKind::Status(404));
    hall.gitlab.inject(Fault { method, path_contains: "/trace", kind, times: 4 });
    let id = hall.gitlab.add_job(Plan { repeat: 3, pause: 300, ..Plan::says("a line\n") }.job());
    let job = hall.ended(id).await;
    assert_eq!((verdict(&job), &job.trace), ((JobState::Success, "", None, 1), &hall.written(id)));
    hall.finish().await;
}

#[tokio::test]
async fn what_is_no_job_is_not_asked_for_again_at_once() {
    let hall = Hall::open(Options::default()).await;
    let (method, kind) = (Some(axum::http::Method::POST), FaultKind::Status(201));
    let asked = || hall.gitlab.requests("POST", "/jobs/request");
    let (before, began) = (asked(), std::time::Instant::now());
    hall.gitlab.inject(Fault { method, path_contains: "/jobs/request", kind, times: 1000 });
    eventually("a few questions", async || (asked() >= before + 3).then_some(())).await;
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());
    hall.gitlab.clear_faults();
    hall.finish().await;
}

#[tokio::test]
async fn a_job_begins_when_gitlab_has_heard_that_there_is_a_machine() {
    let gitlab = GitLab::start(Options { two_phase: true, ..Options::default() }).await.unwrap();
    let runner = runner_with(&gitlab.add_runner(), "one", None);
    let hall = Hall::open_for(gitlab, vec![runner], 2).await;
    hall.gitlab.inject(Fault { method: None, path_contains: "/jobs/1001", kind: FaultKind::LoseAnswer, times: 1 });
    let id = hall.gitlab.add_job(Plan::says("begun\n").job());
    let job = hall.ended(id).await;
    assert_eq!((verdict(&job), job.text().as_str()), ((JobState::Success, "", None, 1), "begun\n"));
    // Another one is given to somebody else before its machine is there.
    hall.gitlab.inject(Fault { method: None, path_contains: "/jobs/1002", kind: FaultKind::Status(503), times: 2 });
    let taken = hall.gitlab.add_job(Plan::says("never\n").job());
    let waits = |job: &Job| job.state == JobState::WaitingForRunner;
    hall.gitlab.wait_for_job(taken, waits, DEADLINE).await.unwrap();
    hall.gitlab.take_away(taken);
    eventually("the job to be let go", async || (hall.declined() == 1).then_some(())).await;
    assert!(hall.written(taken).is_empty() && hall.gitlab.job(taken).trace.is_empty());
    hall.finish().await;
}

#[tokio::test]
async fn a_job_that_cannot_be_run_fails_with_its_reason() {
    let hall = Hall::open(Options::default()).await;
    let unreadable = hall.gitlab.add_job(json!({"steps": "none"}));
    let strange = hall.gitlab.add_job(json!({"git_info": {"sha": "main"}}));
    for (id, why) in [(unreadable, "cannot read the job's description"), (strange, "`main` is not a full commit id")] {
        let job = hall.ended(id).await;
        assert_eq!(verdict(&job), (JobState::Failed, "runner_system_failure", None, 1));
        assert!(job.text().contains(why), "{}", job.text());
    }
    let good = hall.gitlab.add_job(Plan::says("still here\n").job());
    assert_eq!(hall.ended(good).await.text(), "still here\n");
    hall.finish().await;
}

#[tokio::test]
async fn a_runner_that_gitlab_refuses_does_not_keep_others_from_work() {
    let gitlab = GitLab::start(Options::default()).await.unwrap();
    let runners = vec![runner_with("glrt-wrong", "wrong", None), runner_with(&gitlab.add_runner(), "right", Some(1))];
    let hall = Hall::open_for(gitlab, runners, 4).await;
    let plan = Plan { pause: 50, repeat: 2, ..Plan::says("one at a time\n") };
    let ids: Vec<u64> = (0..3).map(|_| hall.gitlab.add_job(plan.job())).collect();
    for id in ids {
        assert_eq!(hall.ended(id).await.state, JobState::Success);
    }
    assert_eq!(hall.most_at_once(), 1, "the runner's limit");
    let expected = ["dayfly_gitlab_runners_refused 1\n", "dayfly_gitlab_jobs_total{result=\"acknowledged\"} 3\n"];
    eventually("the metrics to tell", async || {
        let metrics = hall.metrics.encode().unwrap();
        expected.iter().all(|line| metrics.contains(line)).then_some(())
    })
    .await;
    hall.finish().await;
}

#[tokio::test]
async fn a_restart_loses_no_byte_and_doubles_none() {
    let mut hall = Hall::open(Options::default()).await;
    let endless = Plan { is_endless: true, pause: 10, ..Plan::says("a line, and one more of its kind\n") };
    let broken_off = hall.gitlab.add_job(endless.job());
    hall.gitlab.wait_for_job(broken_off, |job| job.trace.len() > 500, DEADLINE).await.unwrap();
    // A second job has ended, and GitLab does not take its end while this run of the service lasts.
    let ended = hall.gitlab.add_job(Plan { repeat: 3, pause: 300, ..Plan::says("ended before\n") }.job());
    hall.gitlab.wait_for_job(ended, |job| job.keep_alives > 0, DEADLINE).await.unwrap();
    let (method, kind) = (Some(axum::http::Method::PUT), FaultKind::Status(500));
    hall.gitlab.inject(Fault { method, path_contains: "/jobs/1002", kind, times: 3 });
    let tried = async || (hall.gitlab.requests("PUT", "/jobs/1002") >= 3).then_some(());
    eventually("the second job's end to be tried", tried).await;
    hall.restart().await;
    let job = hall.ended(broken_off).await;
    assert_eq!(verdict(&job), (JobState::Failed, "runner_system_failure", None, 1));
    let (log, remark) =
        job.text().split_once("\x1b[31;1mERROR").map(|(log, rest)| (log.to_owned(), rest.to_owned())).unwrap();
    assert!(remark.contains("the service restarted"), "{remark}");
    assert_eq!(
        log.escape_debug().to_string(),
        String::from_utf8(hall.written(broken_off)).unwrap().escape_debug().to_string()
    );
    let job = hall.ended(ended).await;
    assert_eq!(
        (verdict(&job), job.text().as_str()),
        ((JobState::Success, "", None, 1), "ended before\nended before\nended before\n")
    );
    hall.finish().await;
}

#[tokio::test]
async fn a_wake_from_a_webhook_is_not_needed_for_long_polls() {
    let hall = Hall::open(Options { long_poll: Duration::from_secs(40), ..Options::default() }).await;
    let first = hall.gitlab.add_job(Plan::says("1").job());
    hall.ended(first).await;
    let begun = std::time::Instant::now();
    let second = hall.gitlab.add_job(Plan::says("2").job());
    hall.ended(second).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "the request that was held back is answered at once");
    hall.finish().await;
}
