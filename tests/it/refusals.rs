//! Workflows and events that cannot run: their author is told at once where and why. No VM is needed.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use crate::local_forge::{CheckRun, NewPullRequest};
use crate::support::{DEADLINE, REPOSITORY, Scene, Settings, WORKFLOW, job_of};

/// Far less than a person waits, far more than it takes.
const AT_ONCE: Duration = Duration::from_secs(15);

/// What the forge shows of a workflow that cannot run.
async fn refused(scene: &Scene, workflow: &str) -> (CheckRun, String) {
    let began = Instant::now();
    let pull = scene.pull_request(workflow).await;
    let is_done = |run: &CheckRun| run.head_sha == pull.sha && run.status == "completed";
    let check = scene.forge.wait_for_check_run(is_done, DEADLINE).await.unwrap();
    let status = scene.forge.wait_for_status(&pull.sha, &check.name, |status| status.state == "error", DEADLINE);
    status.await.unwrap_or_else(|why| panic!("{workflow}\n{why}"));
    assert!(began.elapsed() < AT_ONCE, "it took {:?}: {workflow}", began.elapsed());
    assert_eq!(check.conclusion.as_deref(), Some("failure"));
    let text = format!("{}\n{}", check.output["title"].as_str().unwrap(), check.output["summary"].as_str().unwrap());
    (check, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_a_workflow_is_named_with_file_line_and_column() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let step = "    runs-on: linux\n    steps:\n      - run: x\n";
    let cases = [
        ("syntax", "name: CI\non: pull_request\njobs: {a: [\n".to_owned(), "ci.yml:", ""),
        ("key", format!("on: pull_request\njobs:\n  a:\n    run-on: linux\n{step}"), "ci.yml:4:5", "`runs-on`"),
        ("expression", job_of("linux", "echo ${{ github.event_name == }}"), "ci.yml:8:", "expression"),
        (
            "function",
            format!("on: pull_request\njobs:\n  a:\n    if: startWith('a', 'b')\n{step}"),
            "ci.yml:4:",
            "startsWith",
        ),
        (
            "cycle",
            format!("on: pull_request\njobs:\n  a:\n    needs: b\n{step}  b:\n    needs: a\n{step}"),
            "ci.yml:",
            "needs",
        ),
        (
            "missing",
            format!("on: pull_request\njobs:\n  a:\n    needs: bild\n{step}  build:\n{step}"),
            "ci.yml:4:",
            "build",
        ),
        (
            "action",
            format!("on: pull_request\njobs:\n  a:\n{step}      - uses: some/action\n"),
            "ci.yml:7:",
            "some/action",
        ),
        ("empty", String::new(), "ci.yml", ""),
        ("binary", "\u{0}\u{1}".to_owned(), "ci.yml", ""),
    ];
    for (name, workflow, place, words) in cases {
        let (check, text) = refused(&scene, &workflow).await;
        assert!(check.name.starts_with("dayfly/ci.yml"), "{name}: {}", check.name);
        assert!(text.contains(&format!(".dayfly/workflows/{place}")), "{name}: no place in: {text}");
        assert!(text.contains(words), "{name}: no `{words}` in: {text}");
    }
    assert!(scene.service.log().iter().all(|line| line["level"] != "ERROR" || line["fields"]["profile"].is_string()));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_workflow_costs_nothing_but_a_refusal() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let mut bomb = "on: pull_request\na: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (letter, before) in ('b'..='z').zip('a'..) {
        let references = vec![format!("*{before}"); 9].join(", ");
        bomb.push_str(&format!("{letter}: &{letter} [{references}]\n"));
    }
    bomb.push_str("jobs: *z\n");
    let cells = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let step = "    runs-on: linux\n    steps:\n      - run: x\n";
    let wide = format!(
        "on: pull_request\njobs:\n  a:\n    strategy: {{matrix: {{x: [{0}], y: [{0}], z: [{0}]}}}}\n{step}",
        cells(100)
    );
    let deep = format!("on: pull_request\njobs: {}{}\n", "[".repeat(20_000), "]".repeat(20_000));
    let large = format!("# {}\non: pull_request\n", "x".repeat(600 * 1024));
    let nested = job_of("linux", &format!("echo ${{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)));
    for (name, workflow) in [("bomb", bomb), ("wide", wide), ("deep", deep), ("large", large), ("nested", nested)] {
        let (_, text) = refused(&scene, &workflow).await;
        assert!(text.len() < 8 * 1024, "{name}: a report of {} bytes", text.len());
        assert!(text.contains("ci.yml"), "{name}: {text}");
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_no_profile_has_name_the_nearest() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let (check, text) = refused(&scene, &job_of("[linux, x46]", "true")).await;
    assert_eq!(check.name, "dayfly/CI/test");
    for words in ["x46", "`linux`", "x64"] {
        assert!(text.contains(words), "no `{words}` in: {text}");
    }
    let job = scene.job(&check.head_sha, "test", |job| job.is_finished()).await;
    assert_eq!((job.verdict(), &job.vm), (("error", "no_profile"), &None));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forks_pull_request_is_held_where_everybody_sees_it() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let files = [(WORKFLOW, job_of("linux", "echo owned"))];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let new = NewPullRequest { files: &files, author: "stranger", from_fork: true, ..NewPullRequest::default() };
    let pull = scene.forge.open_pull_request(REPOSITORY, new).await.unwrap();
    assert_eq!(scene.deliver_opened(&pull).await.status, 202);

    let held = |run: &CheckRun| run.head_sha == pull.sha && run.conclusion.as_deref() == Some("action_required");
    let check = scene.forge.wait_for_check_run(held, DEADLINE).await.unwrap();
    let is_pending = |status: &crate::local_forge::Status| status.state == "pending";
    let status = scene.forge.wait_for_status(&pull.sha, &check.name, is_pending, DEADLINE).await.unwrap();
    assert!(status.description.as_deref().unwrap().contains("fork"), "{status:?}");
    assert!(check.output["summary"].as_str().unwrap().contains(&pull.sha));
    assert!(scene.jobs(&pull.sha).await.is_empty(), "nothing of a stranger runs");

    // The next push is another commit, and held again.
    let pull = scene.forge.push_to_pull_request(REPOSITORY, pull.number, &[("more", "")]).await.unwrap();
    let payload = scene.forge.pull_request_payload(&pull, "synchronize");
    assert_eq!(scene.forge.deliver("pull_request", &payload).await.unwrap().status, 202);
    let held = |run: &CheckRun| run.head_sha == pull.sha && run.conclusion.as_deref() == Some("action_required");
    scene.forge.wait_for_check_run(held, DEADLINE).await.unwrap();
    assert!(scene.jobs(&pull.sha).await.is_empty());
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broken_file_does_not_hold_up_the_others() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let good = job_of("nowhere", "true");
    let files = [
        (".dayfly/workflows/a.yml", "on: {"),
        (".dayfly/workflows/b.yaml", good.as_str()),
        (".dayfly/workflows/c.yml", "on: push\njobs: {a: {runs-on: linux, steps: [{run: x}]}}"),
        (".dayfly/workflows/notes.txt", "not a workflow"),
        (".dayfly/workflows/more/d.yml", "not: read"),
    ];
    let pull = scene.pull_request_with(&files).await;
    scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    let is_broken =
        |run: &CheckRun| run.head_sha == pull.sha && run.name == "dayfly/a.yml" && run.status == "completed";
    scene.forge.wait_for_check_run(is_broken, DEADLINE).await.unwrap();
    let is_good = |run: &CheckRun| run.head_sha == pull.sha && run.name == "dayfly/CI/test";
    scene.forge.wait_for_check_run(is_good, DEADLINE).await.unwrap();
    assert_eq!(scene.forge.check_runs().len(), 2, "{:#?}", scene.forge.check_runs());
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_without_its_image_tells_the_author_what_to_ask_for() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let (check, text) = refused(&scene, &job_of("linux", "true")).await;
    assert!(text.contains("there is no image `absent`") && text.contains("hint:"), "{text}");
    let job = scene.job(&check.head_sha, "test", |job| job.is_finished()).await;
    assert_eq!((job.verdict(), job.attempt), (("error", "image"), 1));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_too_large_to_keep_is_refused_by_itself() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    // Small as a file, and with its matrix more than one run may take.
    let cells = (0..200).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let large = format!(
        "name: Large\non: pull_request\njobs:\n  large:\n    strategy: {{matrix: {{n: [{cells}]}}}}\n    runs-on: linux\n    \
         steps:\n      - run: echo {}\n",
        "x".repeat(200_000)
    );
    let small = job_of("linux", "true");
    let pull = scene.pull_request_with(&[(".dayfly/workflows/large.yml", &large), (WORKFLOW, &small)]).await;
    let is_refused = |run: &CheckRun| run.head_sha == pull.sha && run.name == "dayfly/large.yml";
    let refused = scene.forge.wait_for_check_run(is_refused, DEADLINE).await.unwrap();
    let title = refused.output["title"].as_str().unwrap();
    assert!(title.contains("the workflow is too large") && title.contains("the limit is 33554432 bytes"), "{title}");
    scene.job(&pull.sha, "test", |job| job.is_finished()).await;
    scene.finish().await;
}
