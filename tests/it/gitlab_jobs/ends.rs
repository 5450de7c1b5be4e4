//! How jobs end, and what is done then.

use serde_json::json;

use super::{Hall, LIMIT, plain, steps, unpacked, variable, verdict};
use crate::local_gitlab::JobState;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_end_has_its_reason_and_its_code() {
    let Some(hall) = Hall::open(&[("file", "x\n")]).await else { return };
    let kept = json!([{"paths": ["out"], "when": "on_failure", "artifact_type": "archive", "artifact_format": "zip"}]);
    let after = "echo \"after: $CI_JOB_STATUS\"; exit 9";
    let failed = hall.plan(json!({
        "steps": steps(&[("script", &["echo x > out", "sh -c 'exit 42'", "echo never"]), ("after_script", &[after])]),
        "artifacts": kept,
    }));
    let refused = hall.plan(json!({"services": [{"name": "postgres:16"}]}));
    let limited = hall.plan(json!({
        "steps": steps(&[("script", &["sleep 600"]), ("after_script", &["echo \"after: $CI_JOB_STATUS\""])]),
        "more_variables": [variable("RUNNER_SCRIPT_TIMEOUT", "1s", json!({}))],
    }));
    let overran = hall.plan(json!({"runner_info": {"timeout": 15}, "steps": steps(&[("script", &["sleep 600"])])}));
    let cancelled = hall.plan(json!({
        "steps": steps(&[("script", &["echo begun", "trap '' TERM; sleep 600"]), ("after_script", &["echo \"after: $CI_JOB_STATUS\""])]),
        "artifacts": [{"paths": ["file"], "when": "always"}],
    }));
    let forced = hall.plan(json!({
        "job_info": {"name": "forced"},
        "steps": steps(&[("script", &["echo begun", "sleep 600"]), ("after_script", &["echo after begun", "sleep 600"])]),
    }));
    let is_begun = |job: &crate::local_gitlab::Job| job.text().contains("\nbegun");
    hall.gitlab.wait_for_job(forced, is_begun, LIMIT).await.unwrap();
    hall.gitlab.cancel(forced, true);
    let is_after = |job: &crate::local_gitlab::Job| job.text().contains("\nafter begun");
    hall.gitlab.wait_for_job(forced, is_after, LIMIT).await.unwrap();
    hall.gitlab.cancel(forced, false);
    // Long before the time of `after_script` is over.
    let forced = hall.scene.job(&hall.sha, "forced", crate::support::Job::is_finished).await;
    assert_eq!(forced.detail.as_deref(), Some("GitLab has ended the job"));
    hall.gitlab.wait_for_job(cancelled, is_begun, LIMIT).await.unwrap();
    hall.gitlab.cancel(cancelled, true);

    let failed = hall.ended(failed).await;
    assert_eq!(verdict(&failed), (JobState::Failed, Some("script_failure"), Some(42)), "{}", plain(&failed));
    let text = plain(&failed);
    assert!(text.contains("after: failed\n") && !text.contains("echo never"), "{text}");
    assert!(text.contains("ERROR: Job failed: exit code 42\n"), "{text}");
    assert_eq!(unpacked(&failed.artifacts[0]), [("out".to_owned(), "x\n".to_owned())]);

    let refused = hall.ended(refused).await;
    assert_eq!(verdict(&refused), (JobState::Failed, Some("runner_unsupported"), None));
    assert!(plain(&refused).contains("the job asks for the service `postgres:16`"), "{}", plain(&refused));

    let limited = hall.ended(limited).await;
    assert_eq!(verdict(&limited), (JobState::Failed, Some("job_execution_timeout"), None), "{}", plain(&limited));
    assert!(plain(&limited).contains("after: timedout\n"), "{}", plain(&limited));

    let overran = hall.ended(overran).await;
    assert_eq!(verdict(&overran), (JobState::Failed, Some("job_execution_timeout"), None), "{}", plain(&overran));
    assert!(plain(&overran).contains("execution took longer than 15s"), "{}", plain(&overran));

    let cancelled = hall.ended(cancelled).await;
    assert_eq!(cancelled.state, JobState::Canceled, "{}", plain(&cancelled));
    assert!(plain(&cancelled).contains("after: canceled\n"), "{}", plain(&cancelled));
    assert_eq!(cancelled.artifacts.len(), 1);
    hall.close().await;
}

/// The same job, planned by GitLab and by a workflow on GitHub.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_job_ends_the_same_on_both_forges() {
    let script =
        "mkdir -p out\nprintf '%s|%s' \"$GREETING\" \"$EMPTY\" > out/result\nwc -c < README.md\ncat out/result\nexit 3";
    let Some(hall) = Hall::open(&[("README.md", "# Hello\n")]).await else { return };
    let job = hall
        .run(json!({
            "steps": steps(&[("script", &[script])]),
            "more_variables": [variable("GREETING", "it's \"äö\"\n$HOME", json!({"raw": true})), variable("EMPTY", "", json!({}))],
            "artifacts": [{"name": "out", "paths": ["out/result"], "when": "always"}],
        }))
        .await;
    let workflow = format!(
        "name: CI\non: pull_request\njobs:\n  test:\n    runs-on: linux\n    steps:\n      - uses: actions/checkout@v4\n      - env:\n          \
         GREETING: \"it's \\\"äö\\\"\\n$HOME\"\n          EMPTY: ''\n        run: |\n{}\n      - if: always()\n        \
         uses: actions/upload-artifact@v4\n        with: {{ name: out, path: out/result }}\n",
        script.lines().map(|line| format!("          {line}")).collect::<Vec<_>>().join("\n"),
    );
    let pull = hall.scene.pull_request(&workflow).await;
    let ended = hall.scene.ended(&pull.sha, "test").await;
    assert_eq!(verdict(&job), (JobState::Failed, Some("script_failure"), Some(3)), "{}", plain(&job));
    assert_eq!(ended.job.verdict().0, "failure");
    assert!(ended.log.contains("exit code 3"), "{}", ended.log);
    let printed = "8\nit's \"äö\"\n$HOME|";
    assert!(plain(&job).contains(printed), "{}", plain(&job));
    assert!(ended.log.contains(printed), "{}", ended.log);
    let of_gitlab = unpacked(&job.artifacts[0]);
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_str().unwrap();
    hall.scene.ask(&["artifact", "download", &ended.job.id, "out", "--extract", place]);
    let of_github = std::fs::read_to_string(directory.path().join("result")).unwrap();
    assert_eq!(of_gitlab, [("out/result".to_owned(), of_github)]);
    hall.close().await;
}
