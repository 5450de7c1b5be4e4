#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::forge::{CommitSha, RepoAccess, RepoName};

fn report(state: ReportState) -> Report {
    Report {
        id: "rep-222222222222".parse().unwrap(),
        access: RepoAccess { repo: RepoName::parse("octocat/hello").unwrap(), installation: Some(5) },
        sha: CommitSha::parse("ec26c3e57ca3a959ca5aad62de7213c562f8c821").unwrap(),
        context: "dayfly/ci/test".to_owned(),
        state,
        title: "Passed in 3 s".to_owned(),
        summary: "All **3** steps passed.".to_owned(),
        log: "hello\n".to_owned(),
        annotations: Vec::new(),
        coverage: None,
        place: crate::forge::ReportPlace::default(),
        details_url: Some("https://ci.example.com/log/x".to_owned()),
        started_at: Some(1_700_000_000_000),
        finished_at: Some(1_700_000_003_250),
    }
}

#[test]
fn a_new_check_run() {
    let body = check_run_body(&report(ReportState::Finished(Conclusion::Success)), true);
    insta::assert_snapshot!(serde_json::to_string_pretty(&body).unwrap(), @r#"
    {
      "name": "dayfly/ci/test",
      "head_sha": "ec26c3e57ca3a959ca5aad62de7213c562f8c821",
      "external_id": "rep-222222222222",
      "status": "completed",
      "conclusion": "success",
      "started_at": "2023-11-14T22:13:20Z",
      "completed_at": "2023-11-14T22:13:23.25Z",
      "details_url": "https://ci.example.com/log/x",
      "output": {
        "title": "Passed in 3 s",
        "summary": "All **3** steps passed.",
        "text": "````````````````text\nhello\n````````````````"
      }
    }
    "#);
}

#[test]
fn a_changed_check_run_has_no_commit_and_no_end_before_its_end() {
    let mut report = report(ReportState::Running);
    report.log.clear();
    report.summary.clear();
    let body = check_run_body(&report, false);
    insta::assert_snapshot!(body, @r#"{"name":"dayfly/ci/test","external_id":"rep-222222222222","status":"in_progress","started_at":"2023-11-14T22:13:20Z","details_url":"https://ci.example.com/log/x","output":{"title":"Passed in 3 s","summary":"Passed in 3 s"}}"#);
}

#[test]
fn states_in_both_vocabularies() {
    let words = |state| {
        let not_started = Report { started_at: None, ..report(state) };
        let (check, status) = (check_run_body(&not_started, true), commit_status_body(&not_started));
        let conclusion = check["conclusion"].as_str().unwrap_or("-").to_owned();
        format!("{} {conclusion} {}", check["status"].as_str().unwrap(), status["state"].as_str().unwrap())
    };
    let expected = [
        (ReportState::Queued, "queued - pending"),
        (ReportState::Running, "in_progress - pending"),
        (ReportState::Held, "completed action_required pending"),
        (ReportState::Finished(Conclusion::Success), "completed success success"),
        (ReportState::Finished(Conclusion::Failure), "completed failure failure"),
        (ReportState::Finished(Conclusion::Error), "completed failure error"),
        (ReportState::Finished(Conclusion::TimedOut), "completed timed_out error"),
        (ReportState::Finished(Conclusion::Cancelled), "completed cancelled error"),
        (ReportState::Finished(Conclusion::Skipped), "completed skipped success"),
    ];
    for (state, line) in expected {
        assert_eq!(words(state), line);
        assert_eq!(is_completed(state), line.starts_with("completed"));
    }
}

#[test]
fn a_job_that_is_queued_again_does_not_take_its_check_run_back() {
    assert_eq!(check_run_body(&report(ReportState::Queued), false)["status"], "in_progress");
}

#[test]
fn a_long_title_becomes_a_short_description() {
    let mut report = report(ReportState::Running);
    report.title = format!("two\nlines {}", "é".repeat(200));
    let body = commit_status_body(&report);
    let description = body["description"].as_str().unwrap();
    assert_eq!(description.chars().count(), MAX_DESCRIPTION);
    assert!(description.starts_with("two lines é") && description.ends_with("é…"));
}

#[test]
fn a_long_log_keeps_its_tail_and_says_what_is_missing() {
    let log: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    let text = log_text(&log, Some("https://ci.example.com/log/x"));
    assert!(text.len() <= MAX_OUTPUT && text.len() > MAX_OUTPUT - 64, "{}", text.len());
    let (note, rest) = text.split_once("\n\n").unwrap();
    let kept = rest.strip_prefix("````````````````text\n…").unwrap().strip_suffix("\n````````````````").unwrap();
    assert!(log.trim_end().ends_with(kept));
    let dropped = log.trim_end().len() - kept.len();
    assert_eq!(
        note,
        format!("The first {dropped} bytes are not shown here: [the whole log](https://ci.example.com/log/x).")
    );
}

#[test]
fn a_log_cannot_close_its_fence() {
    let log = format!("a\n{FENCE}\n   {FENCE}`\nx\r{FENCE}\n<b>\n```\n");
    let text = log_text(&log, None);
    let closers = text.split(['\n', '\r']).filter(|line| line.trim_start().starts_with(FENCE)).count();
    assert_eq!(closers, 2, "the opening and the closing fence only: {text}");
    assert!(text.contains("\n```\n"), "shorter runs are left alone");
}

#[test]
fn a_long_summary_keeps_its_head() {
    let summary = keep_head(&"é".repeat(MAX_OUTPUT), MAX_OUTPUT);
    assert!(summary.len() <= MAX_OUTPUT && summary.starts_with("éé") && summary.ends_with("é\n\n… (cut)"));
}

proptest! {
    #[test]
    fn any_log_fits_and_stays_fenced(pieces in prop::collection::vec("[a`é \n\r]{0,40}", 1..40), times in 1usize..400) {
        let log = pieces.concat().replace('a', FENCE).repeat(times);
        let text = log_text(&log, Some("https://ci.example.com/"));
        prop_assert!(text.len() <= MAX_OUTPUT);
        let closers = text.split(['\n', '\r']).filter(|line| line.trim_start().starts_with(FENCE)).count();
        prop_assert_eq!(closers, 2);
    }
}
