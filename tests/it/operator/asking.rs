//! What a service tells about jobs, commits and deliveries.

use axum::http::Method;
use serde_json::Value;

use crate::local_forge::{Fault, FaultKind, NewPullRequest, PullRequest};
use crate::support::{REPOSITORY, Scene, Settings, WORKFLOW, eventually, job_of};

/// Keys that scripts may rely on.
const JOB_KEYS: [&str; 19] = [
    "id",
    "run",
    "run_number",
    "repo",
    "sha",
    "event",
    "workflow",
    "name",
    "profile",
    "state",
    "attempt",
    "vm",
    "conclusion",
    "reason",
    "detail",
    "log_url",
    "created_at",
    "started_at",
    "finished_at",
];
const DELIVERY_KEYS: [&str; 11] =
    ["forge", "id", "event", "state", "repo", "subject", "outcome", "detail", "tries", "received_at", "next_try_at"];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

async fn held(scene: &Scene) -> PullRequest {
    let workflow = job_of("linux", "true");
    let new = NewPullRequest {
        files: &[(WORKFLOW, &workflow)],
        branch: "from-a-fork",
        author: "stranger",
        from_fork: true,
        ..NewPullRequest::default()
    };
    let pull = scene.forge.open_pull_request(REPOSITORY, new).await.unwrap();
    assert_eq!(scene.deliver_opened(&pull).await.status, 202);
    pull
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_shown_and_explained() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let pull = scene.pull_request(&job_of("linux", "true")).await;
    let other = scene.pull_request(&job_of("nowhere", "true")).await;
    let job = scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    let unlabelled = scene.job(&other.sha, "test", |job| job.is_finished()).await;

    let all = scene.ask_json(&["jobs"]);
    assert_eq!((all.as_array().unwrap().len(), keys(&all[0])), (2, JOB_KEYS.to_vec()));
    let found = |filters: &[&str]| -> Vec<String> {
        let listed = scene.ask_json(&[&["jobs"], filters].concat());
        listed.as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    // Whichever of the two was processed later comes first.
    let both = found(&[]);
    let (first, latest) = (vec![job.id.clone()], both[..1].to_vec());
    for (filters, expected) in [
        (&["--sha", &pull.sha[..7]][..], &first),
        (&["--profile", "linux"], &first),
        (&["--conclusion", "error", "--repo", REPOSITORY], &both),
        (&["--state", "finished", "--workflow", "CI"], &both),
        (&["-n", "1"], &latest),
        (&["--unfinished"], &vec![]),
        (&["--conclusion", "success"], &vec![]),
        (&["--repo", "demo/other"], &vec![]),
    ] {
        assert_eq!(&found(filters), expected, "{filters:?}");
    }
    let table = scene.ask(&["jobs"]);
    let row = table.lines().find(|line| line.starts_with(&job.id[..10])).unwrap();
    assert!(row.contains("error") && row.contains("CI / test") && row.contains(&pull.sha[..8]), "{table}");
    assert!(!table.contains('\x1b'), "a pipe gets no colours: {table:?}");

    // Any beginning names a job, with or without what all ids begin with.
    for name in [&job.id[..], &job.id[..10], &job.id[4..12]] {
        let shown = scene.ask_json(&["job", "show", name]);
        assert_eq!(
            (shown["id"].as_str(), shown["events"][0]["kind"].as_str()),
            (Some(&*job.id), Some("delivery_accepted"))
        );
    }
    let shown = scene.ask(&["job", "show", &job.id]);
    assert!(shown.contains("error (image)") && shown.contains("vm_requested"), "{shown}");
    for (job, code, remedy) in [(&job, "image", "base"), (&unlabelled, "no_profile", "linux")] {
        let why = scene.ask_json(&["why", &job.id]);
        assert_eq!((why["code"].as_str(), why["job"].as_str()), (Some(code), Some(&*job.id)), "{why}");
        assert!(why["hint"].as_str().unwrap().contains(remedy), "{why}");
    }
    eventually("the forge to be told", async || {
        scene.ask(&["why", &job.id]).contains("github shows this").then_some(())
    })
    .await;
    let said = scene.ask(&["rerun", &job.id[..12]]);
    assert!(said.starts_with(&format!("{} is being run again", job.id)), "{said}");
    eventually("the re-run to end", async || {
        let jobs = scene.ask_json(&["jobs", "--sha", &pull.sha, "--state", "finished"]);
        (jobs.as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    let of_commit = scene.ask(&["why", &pull.sha]);
    assert!(of_commit.contains("2 runs, all ended") && of_commit.contains("1 did not succeed"), "{of_commit}");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_started_nothing_says_why() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let pull = held(&scene).await;
    eventually("the commit to be held", async || {
        let why = scene.ask_json(&["why", &pull.sha[..12]]);
        (why["code"] == "held").then(|| {
            assert_eq!(why["sha"], *pull.sha);
            let hint = why["hint"].as_str().unwrap();
            assert!(hint.contains(&format!("dayfly approve --repo {REPOSITORY} {}", pull.sha)), "{hint}");
        })
    })
    .await;
    let held = scene.ask(&["deliveries"]);
    let row = held.lines().nth(1).unwrap();
    assert!(row.contains(REPOSITORY) && row.contains(&format!("#{}", pull.number)), "{held}");
    assert!(row.ends_with("held: waits for approval"), "{held}");
    for (refused, hint) in [
        (&["--repo", "demo/other", &pull.sha][..], format!("--repo {REPOSITORY}")),
        (&[&"4f".repeat(20)[..]], format!("held are `{}` of `{REPOSITORY}`", pull.sha)),
    ] {
        let refused = scene.command(&[&["approve"], refused].concat());
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("nothing is held") && refused.stderr.contains(&hint), "{}", refused.stderr);
    }
    scene.ask(&["approve", "--repo", REPOSITORY, &pull.sha]);
    let approved = scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    assert_eq!(scene.ask_json(&["why", &pull.sha])["code"], "ended", "{approved:?}");
    // While the forge cannot say whether the approval still counts, a re-run waits, and a second one is told so.
    let silent =
        Fault { method: Some(Method::GET), path_contains: "/pulls/", kind: FaultKind::Status(502), times: 1000 };
    scene.forge.inject(silent);
    scene.ask(&["rerun", &approved.id]);
    let twice = scene.command(&["rerun", &approved.id]);
    assert_eq!(twice.code, Some(1), "{}", twice.stdout);
    assert!(twice.stderr.contains("asked for already"), "{}", twice.stderr);
    let again = scene.command(&["approve", &pull.sha]);
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    assert!(again.stderr.contains("nothing is held"), "{}", again.stderr);
    let without = scene.open_pull_request(&[("README.md", "# No workflow\n")]).await;
    assert_eq!(scene.deliver_opened(&without).await.status, 202);
    eventually("the event to be ignored", async || {
        let why = scene.ask(&["why", &without.sha]);
        (why.contains("has started nothing") && why.contains("no workflow of the commit")).then_some(())
    })
    .await;
    let broken = scene.pull_request("on: pull_request\njobs: {}\n").await;
    eventually("the broken workflow to be told of", async || {
        let why = scene.ask(&["why", &broken.sha]);
        why.contains("error  `.dayfly/workflows/ci.yml` cannot be run").then_some(())
    })
    .await;
    let none = scene.command(&["jobs", "--sha", &broken.sha]);
    assert!(none.stderr.contains(&format!("dayfly why {}", broken.sha)), "{}", none.stderr);
    let unknown = scene.ask_json(&["why", &"ab".repeat(20)]);
    assert_eq!(unknown["code"], "unknown");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_failed_is_processed_again_on_demand() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let pull = scene.open_pull_request(&[(WORKFLOW, &job_of("nowhere", "true"))]).await;
    let refused =
        Fault { method: Some(Method::GET), path_contains: "/contents/", kind: FaultKind::Status(422), times: 1 };
    scene.forge.inject(refused);
    let delivery = scene.deliver_opened(&pull).await.delivery;
    let failed = eventually("the delivery to fail", async || {
        let listed = scene.ask_json(&["deliveries", "--state", "failed"]);
        listed.as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!((failed["id"].as_str(), keys(&failed)), (Some(&*delivery), DELIVERY_KEYS.to_vec()));
    assert!(scene.ask(&["deliveries"]).contains("422"), "the list says why");

    let said = scene.ask(&["deliveries", "--redeliver", &delivery[..delivery.len() - 1]]);
    assert_eq!(said, format!("github/{delivery} is being processed again\n"));
    scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    let shown = scene.ask_json(&["deliveries", &format!("github/{delivery}")]);
    assert_eq!((shown["state"].as_str(), shown["runs"][0]["sha"].as_str()), (Some("processed"), Some(&*pull.sha)));
    assert!(scene.ask(&["deliveries", &delivery]).contains("run-"));

    let again = scene.command(&["deliveries", "--redeliver", &delivery]);
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    assert!(
        again.stderr.contains("processed and stays so") && again.stderr.contains("dayfly rerun"),
        "{}",
        again.stderr
    );
    assert_eq!(scene.jobs(&pull.sha).await.len(), 1);
    scene.finish().await;
}
