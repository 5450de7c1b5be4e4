//! What cannot be done, and how it is said.

use std::os::unix::net::UnixListener;

use crate::support::command::{dayfly, run};
use crate::support::{Scene, Settings, host, job_of};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused_with_a_remedy() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let pull = scene.pull_request(&job_of("linux", "true")).await;
    let job = scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    let (refused_by_service, wrong_usage) = (Some(1), Some(64));
    for (arguments, code, error) in [
        (&["job", "show", "job-zzzzzzzzzzzz"][..], refused_by_service, "there is no job `job-zzzzzzzzzzzz`"),
        (&["job", "show", "job"], wrong_usage, "`job` is too short for a job's id"),
        (&["why", "4f"], wrong_usage, "a commit at least 7 digits"),
        (&["why", "4f2a9"], refused_by_service, "a commit at least 7 digits"),
        (&["why", "../../etc"], refused_by_service, "there is no job `../../etc`"),
        (&["logs", "-f", "%00%0a"], refused_by_service, "there is no job"),
        (&["cancel", &job.id], refused_by_service, "has ended already"),
        (&["logs", "--attempt", "2", &job.id], refused_by_service, "no attempt 2"),
        (&["jobs", "--sha", "main"], wrong_usage, "`main` is not a commit id"),
        (&["jobs", "--repo", "nonsense"], wrong_usage, "`nonsense` is not a repository's `owner/name`"),
        (&["approve", &"4f".repeat(20)], refused_by_service, "nothing is held at this commit"),
        (&["rerun", "job-zzzz"], refused_by_service, "there is no job"),
        (&["deliveries", "--redeliver", "absent"], refused_by_service, "there is no delivery `absent`"),
        (&["deliveries", "--redeliver", "github/absent"], refused_by_service, "there is no delivery `github/absent`"),
    ] {
        let refused = scene.command(arguments);
        assert_eq!((refused.code, refused.stdout.as_str()), (code, ""), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.starts_with("error: ") && refused.stderr.contains(error), "{}", refused.stderr);
    }
    // One that cannot be ended does not keep the others.
    let several = scene.command(&["cancel", &job.id, "job-zzzz"]);
    assert_eq!((several.code, several.stderr.matches("error:").count()), (Some(1), 2), "{}", several.stderr);

    // A job that never had a VM has no log, and did not succeed.
    for (options, code) in [(&[][..], 0), (&["-f"], 0), (&["-f", "--exit-status"], 1), (&["--exit-status"], 1)] {
        let silent = scene.command(&[&["logs", &job.id], options].concat());
        assert_eq!((silent.code, silent.stdout.as_str()), (Some(code), ""), "{options:?}");
        assert!(silent.stderr.starts_with("note: the job has no log: It ended with an error"), "{}", silent.stderr);
    }
    let none = scene.command(&["jobs", "--unfinished"]);
    assert_eq!((none.code, none.stdout.as_str(), none.stderr.as_str()), (Some(0), "", "no jobs\n"));
    assert_eq!(scene.ask_json(&["vms"]), serde_json::json!([]));

    // The same service by its configuration, which wins over what the environment says.
    let config = scene.state_dir().parent().unwrap().join("dayfly.toml");
    let by_config =
        dayfly().args(["jobs", "--json", "--config"]).arg(&config).env("DAYFLY_SOCKET", "/nowhere").output().unwrap();
    assert!(by_config.status.success() && String::from_utf8_lossy(&by_config.stdout).contains(&job.id));
    scene.finish().await;
}

#[test]
fn without_a_service_it_says_so() {
    let directory = host::short_directory();
    let socket = directory.path().join("control.sock");
    let arguments = ["jobs", "--socket", socket.to_str().unwrap()];
    for is_left_over in [false, true] {
        if is_left_over {
            drop(UnixListener::bind(&socket).unwrap());
        }
        let refused = run(&arguments);
        assert_eq!(refused.code, Some(69), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("no service answers") && refused.stderr.contains("hint:"),
            "{}",
            refused.stderr
        );
    }
    let config = directory.path().join("dayfly.toml");
    std::fs::write(&config, "[server]\nlissten = 1\n").unwrap();
    let refused = run(&["vms", "--config", config.to_str().unwrap()]);
    assert_eq!(refused.code, Some(64));
    assert!(refused.stderr.contains("lissten"), "{}", refused.stderr);
    for wrong in [
        &["approve", "4f2a91c"][..],
        &["approve", "--repo", "x", &"4f".repeat(20)],
        &["jobs", "--state", "done"],
        &["jobs", "-n", "0"],
        &["logs", "--attempt", "0", "job-1234"],
        &["cancel"],
        &["man", "nonsense"],
        &["completions", "tcsh"],
    ] {
        assert_eq!(run(wrong).code, Some(64), "{wrong:?}");
    }
}
