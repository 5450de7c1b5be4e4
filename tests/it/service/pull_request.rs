//! A pull request as its author sees it: pending, live, done.

use futures::StreamExt;
use serde_json::Value;

use crate::local_forge::{CheckRun, WriteKind};
use crate::support::{DEADLINE, Ended, REPOSITORY, Scene, Settings, WORKFLOW, gate, http, job_of};

fn workflow() -> String {
    let gate = gate("go");
    format!(
        r#"
name: CI
on: pull_request
jobs:
  test:
    runs-on: linux
    steps:
      - name: Wait
        run: |
          echo it runs
          {gate}
      - uses: actions/checkout@v4
      - name: Look
        run: |
          echo "head=$(git rev-parse HEAD)"
          echo "commits=$(git rev-list --count HEAD)"
          echo "content=$(cat file)"
          echo "event=$(jq -r .pull_request.title "$GITHUB_EVENT_PATH")"
          echo "workspace=$(test "$PWD" = "$GITHUB_WORKSPACE" && echo yes)"
          env | grep -E '^(GITHUB|RUNNER|CI=)' | sort
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_gets_pending_a_live_log_and_success() {
    let Some(scene) = Scene::start(Settings::new()).await else { return };
    let pull = scene.pull_request_with(&[(WORKFLOW, &workflow()), ("file", "first")]).await;

    let running = |run: &CheckRun| {
        let shown = run.output["text"].as_str().unwrap_or_default();
        run.head_sha == pull.sha && run.status == "in_progress" && shown.contains("it runs")
    };
    let live = scene.forge.wait_for_check_run(running, DEADLINE).await.unwrap();
    let job = scene.job(&pull.sha, "test", |job| job.state == "running").await;
    assert_eq!(live.details_url.as_deref(), Some(job.log_url.as_str()));
    assert_eq!(scene.states(&pull.sha, "dayfly/CI/test").last().unwrap(), "pending");
    let (status, page) = http::get(&scene.reachable(&job.log_url)).await.unwrap();
    assert_eq!(status, 200);
    assert!(page.contains("demo/hello") && page.contains("test"), "{page}");
    let following = tokio::spawn(follow(format!("{}/events", scene.reachable(&job.log_url))));

    // The branch moves on before the job looks: what was asked for is what is tested.
    let moved = scene.forge.push_to_pull_request(REPOSITORY, pull.number, &[("file", "second")]).await.unwrap();
    assert_ne!(moved.sha, pull.sha);
    scene.open_gate("go").await;
    let ended = scene.ended(&pull.sha, "test").await;

    assert_eq!(ended.job.verdict(), ("success", ""), "{}", ended.log);
    assert_eq!((ended.said("head"), ended.said("commits")), (pull.sha.as_str(), "1"));
    assert_eq!((ended.said("content"), ended.said("event"), ended.said("workspace")), ("first", "A change", "yes"));
    assert_environment(&ended, &pull.sha);
    assert_reported(&scene, &ended, live.id);
    assert_events_in_order(&ended);
    assert_eq!(following.await.unwrap(), ended.log, "whoever followed saw what is stored");
    scene.finish().await;
}

fn assert_environment(ended: &Ended, sha: &str) {
    let workspace = ["", "home", "runner", "work", "hello", "hello"].join("/");
    for (name, value) in [
        ("CI", "true"),
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SHA", sha),
        ("GITHUB_REPOSITORY", REPOSITORY),
        ("GITHUB_EVENT_NAME", "pull_request"),
        ("GITHUB_REF", "refs/pull/1/head"),
        ("GITHUB_BASE_REF", "main"),
        ("GITHUB_WORKFLOW", "CI"),
        ("GITHUB_JOB", "test"),
        ("GITHUB_RUN_NUMBER", "1"),
        ("GITHUB_RUN_ATTEMPT", "1"),
        ("GITHUB_ACTOR", "octocat"),
        ("GITHUB_WORKSPACE", workspace.as_str()),
        ("RUNNER_OS", "Linux"),
        ("RUNNER_ARCH", "X64"),
        ("RUNNER_NAME", ended.job.vm.as_deref().unwrap()),
    ] {
        assert_eq!(ended.said(name), value, "{name}");
    }
    assert!(ended.said("GITHUB_RUN_ID").parse::<u64>().is_ok());
}

/// One check run, one final status, both with the link to the log.
fn assert_reported(scene: &Scene, ended: &Ended, live: u64) {
    let check = ended.check.as_ref().unwrap();
    assert_eq!((check.id, check.conclusion.as_deref()), (live, Some("success")));
    assert!(check.started_at.is_some() && check.completed_at >= check.started_at);
    assert!(check.output["text"].as_str().unwrap().contains("content=first"));
    assert!(ended.summary().contains("Look"), "{}", ended.summary());
    assert_eq!(ended.status.target_url.as_deref(), Some(ended.job.log_url.as_str()));
    let states = scene.states(&check.head_sha, &check.name);
    assert_eq!((states[0].as_str(), states.iter().filter(|state| *state == "success").count()), ("pending", 1));
    let created = scene.forge.writes().iter().filter(|w| matches!(w.kind, WriteKind::CheckRunCreated { .. })).count();
    assert_eq!(created, 1);
    let pending_at = scene.forge.statuses(&check.head_sha)[0].created_at;
    assert!(pending_at < ended.status.created_at);
}

fn assert_events_in_order(ended: &Ended) {
    let events = &ended.job.events;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let steps = ["step_started", "step_finished"].repeat(3);
    let begin = [
        "delivery_accepted",
        "job_queued",
        "vm_requested",
        "vm_restored",
        "agent_answered",
        "vm_identified",
        "vm_origin",
    ];
    let expected: Vec<&str> = [&begin[..], &steps[..]].concat();
    assert_eq!(kinds[..expected.len()], expected);
    let mut end = kinds[expected.len()..].to_vec();
    end.sort_unstable();
    assert_eq!(end, ["outcome_stored", "status_posted", "vm_destroyed", "vm_paused"]);
    assert!(events.is_sorted_by_key(|event| event.at_us), "{events:#?}");
    let at = |kind: &str| events.iter().find(|event| event.kind == kind).unwrap().at_us;
    assert!(at("vm_paused") <= at("outcome_stored") && at("outcome_stored") <= at("status_posted"));
    assert!(at("status_posted") <= at("vm_destroyed"));
    assert!(events.iter().all(|event| event.attempt == 1));
    let details = |kind: &str| events.iter().filter(|e| e.kind == kind).map(|e| e.detail.as_str()).collect::<Vec<_>>();
    assert_eq!(details("vm_destroyed"), ["absence verified"]);
    assert_eq!(details("step_finished"), ["1 success", "2 success", "3 success"]);
}

/// Follows a log to its end; gives it as text.
async fn follow(url: String) -> String {
    let answer = http::client().get(url).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let (mut bytes, mut seen) = (answer.bytes_stream(), Vec::new());
    let mut text = String::new();
    while let Some(chunk) = bytes.next().await {
        seen.extend_from_slice(&chunk.unwrap());
        while let Some(end) = seen.windows(2).position(|window| window == b"\n\n") {
            let event: Vec<u8> = seen.drain(..end + 2).collect();
            let event = String::from_utf8(event).unwrap();
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            match field("event:") {
                Some("end") => return text,
                Some("log") => text.push_str(&text_of(field("data:").unwrap())),
                _ => {}
            }
        }
    }
    panic!("the stream ended before the log did: {text}");
}

fn text_of(entries: &str) -> String {
    let entries: Vec<Value> = serde_json::from_str(entries).unwrap();
    let texts = entries.iter().map(|entry| {
        let text = entry["piece"]["text"].as_str().unwrap();
        if entry["piece"]["stream"] == "heading" { format!("==> {text}\n") } else { text.to_owned() }
    });
    texts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_token_gets_statuses_only_and_a_failed_test_is_a_failure() {
    let Some(scene) = Scene::start(Settings::new().with_plain_token()).await else { return };
    let pull = scene.pull_request(&job_of("linux", "echo before\necho to stderr >&2\nexit 3\necho after")).await;
    let ended = scene.ended(&pull.sha, "test").await;

    assert_eq!(ended.job.verdict(), ("failure", ""));
    assert_eq!(ended.status.state, "failure");
    let description = ended.status.description.as_deref().unwrap();
    assert!(description.contains('3'), "the exit code is missing: {description}");
    assert!(ended.log.contains("before\n") && ended.log.contains("to stderr\n"), "{}", ended.log);
    assert!(!ended.log.lines().any(|line| line == "after"));
    assert!(scene.forge.check_runs().is_empty(), "a person's token cannot make check runs");
    assert!(scene.forge.writes().iter().all(|write| write.kind == WriteKind::Status));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_runs_the_workflows_of_its_commit_under_a_name_of_its_own() {
    let Some(scene) = Scene::start(Settings::new()).await else { return };
    let workflow = job_of("linux", "echo $GITHUB_REF").replace("on: pull_request", "on: [push, pull_request]");
    let files = [(WORKFLOW, workflow.as_str())];
    let before = scene.forge.branch(REPOSITORY, "main").await.unwrap();
    let sha = scene.forge.commit(REPOSITORY, "main", &files, "Add CI").await.unwrap();
    let pushed = crate::local_forge::Pushed {
        branch: "main",
        before: before.as_deref(),
        after: Some(&sha),
        changed: &[WORKFLOW],
    };
    let payload = scene.forge.push_payload(REPOSITORY, pushed);
    assert_eq!(scene.forge.deliver("push", &payload).await.unwrap().status, 202);

    let ended = scene.ended(&sha, "test").await;
    assert_eq!(ended.job.verdict(), ("success", ""));
    assert_eq!(ended.status.context, "dayfly/CI/test (push)");
    assert!(ended.log.contains("refs/heads/main"), "{}", ended.log);
    scene.finish().await;
}
