//! What cannot be done, and how it is said.

use std::os::unix::net::UnixListener;

use crate::support::command::{dayfly, run};
use crate::support::{Scene, Settings, host, job_of};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused_with_a_remedy() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let pull = scene.pull_request(&job_of("linux", "true")).await;
    let job = scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    for (arguments, error) in [
        (&["job", "show", "job-zzzzzzzzzzzz"][..], "there is no job `job-zzzzzzzzzzzz`"),
        (&["job", "show", "job"], "there is no job"),
        (&["why", "../../etc"], "there is no job `../../etc`"),
        (&["logs", "-f", "%00%0a"], "there is no job"),
        (&["cancel", &job.id], "has ended already"),
        (&["logs", "--attempt", "2", &job.id], "no attempt 2"),
        (&["jobs", "--sha", "main"], "`main` is not a commit id"),
        (&["jobs", "--repo", "nonsense"], "owner/name"),
        (&["approve", &"4f".repeat(20)], "nothing is held at this commit"),
        (&["rerun", "job-zzzz"], "there is no job"),
        (&["deliveries", "--redeliver", "absent"], "there is no delivery `absent`"),
        (&["deliveries", "--redeliver", "github/absent"], "there is no delivery `github/absent`"),
    ] {
        let refused = scene.command(arguments);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.starts_with("error: ") && refused.stderr.contains(error), "{}", refused.stderr);
    }
    // One that cannot be ended does not keep the others.
    let several = scene.command(&["cancel", &job.id, "job-zzzz"]);
    assert_eq!((several.code, several.stderr.matches("error:").count()), (Some(1), 2), "{}", several.stderr);

    // A job that never had a VM has no log, and did not succeed.
    assert_eq!(scene.ask(&["logs", &job.id]), "");
    let followed = scene.command(&["logs", "-f", "--exit-status", &job.id]);
    assert_eq!((followed.code, followed.stdout.as_str(), followed.stderr.as_str()), (Some(1), "", ""));
    assert_eq!(scene.command(&["logs", "-f", &job.id]).code, Some(0));
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
        &["logs", "--exit-status", "job-1234"],
        &["cancel"],
        &["man", "nonsense"],
        &["completions", "tcsh"],
    ] {
        assert_eq!(run(wrong).code, Some(64), "{wrong:?}");
    }
}
