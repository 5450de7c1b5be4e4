//! An operator's look at jobs that run: one VM, and a job that waits for it.

use std::process::Stdio;

use crate::support::command::{Outcome, dayfly};
use crate::support::{Scene, Settings, eventually, gate, job_of};

/// Output with a colour, a title, and a line without an end.
const TALK: &str = r#"printf '\033[31mred\033[0m \033]0;owned\007title\n'
echo "before=gate""#;

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_watched_and_a_waiting_one_explained() {
    let Some(scene) = Scene::start(Settings::new().with_limits("max_vms = 1\n")).await else { return };
    let script = format!("{TALK}\n{}\nprintf 'after=gate'", gate("go"));
    let first = scene.pull_request(&job_of("linux", &script)).await;
    let running = scene.job(&first.sha, "test", |job| job.state == "running").await;
    let second = scene.pull_request(&job_of("linux", "true")).await;
    let queued = scene.job(&second.sha, "test", |job| job.state == "queued").await;

    let why = scene.ask_json(&["why", &queued.id]);
    assert_eq!(why["code"], "waiting_for_vm", "{why}");
    let vms = scene.ask_json(&["vms"]);
    assert_eq!((vms.as_array().unwrap().len(), vms[0]["job"].as_str()), (1, Some(&*running.id)), "{vms}");
    assert_eq!((vms[0]["state"].as_str(), vms[0]["memory_mib"].as_u64()), (Some("running"), Some(256)));
    assert_eq!(scene.ask_json(&["jobs", "--unfinished"]).as_array().unwrap().len(), 2);
    eventually("the step to be told", async || {
        let why = scene.ask(&["why", &running.id]);
        (why.contains("at step 1") && why.contains("of at most 1h")).then_some(())
    })
    .await;
    eventually("the log so far", async || {
        scene.ask(&["logs", "--tail", "1", &running.id]).contains("before=gate").then_some(())
    })
    .await;
    let socket = scene.service.control_socket();
    let follow = |options: &[&str]| {
        let mut command = dayfly();
        command.args(["logs", "-f", &running.id, "--socket"]).arg(&socket).args(options);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let (plain, coloured) = (follow(&["--exit-status"]), follow(&["--json"]));

    assert_eq!(scene.ask(&["cancel", &queued.id[..12]]), format!("{} is being cancelled\n", queued.id));
    let cancelled = scene.job(&second.sha, "test", |job| job.is_finished()).await;
    assert_eq!((cancelled.verdict(), cancelled.attempt), (("cancelled", "cancelled"), 1));
    scene.open_gate("go").await;
    let ended = scene.ended(&first.sha, "test").await;

    let followed = Outcome::from(plain.wait_with_output().unwrap());
    assert_eq!((followed.code, followed.stderr.as_str()), (Some(0), ""));
    assert_eq!(followed.stdout, ended.log, "what is followed is the log");
    assert_eq!(scene.ask(&["logs", &running.id]), ended.log);
    assert!(ended.log.contains("red title\n") && ended.log.ends_with("after=gate"), "{:?}", ended.log);
    let lines = Outcome::from(coloured.wait_with_output().unwrap()).stdout;
    assert!(lines.lines().last().unwrap().starts_with("{\"end\""), "{lines}");
    assert!(lines.contains(r#""conclusion":"success""#) && !lines.contains("\\u001b"), "{lines}");
    let shown = scene.ask(&["job", "show", &running.id]);
    assert!(shown.contains("success") && shown.contains("vm_destroyed"), "{shown}");
    assert_eq!(scene.ask_json(&["why", &running.id])["code"], "success");
    scene.finish().await;
}
