//! Jobs that become others: the service is killed before and after that is stored, and each of them is there once. Then a re-run of what
//! became others.

use dayfly::lifecycle::{STEPS, Step};

use crate::local_forge::PullRequest;
use crate::support::{Job, Scene, Settings, WORKFLOW, eventually, http};

const CALLED: &str = ".dayfly/workflows/called.yml";

const CALLING: &str = r#"
name: CI
on: pull_request
jobs:
  list:
    runs-on: linux
    outputs: {all: "${{ steps.all.outputs.all }}"}
    steps:
      - {id: all, run: 'echo "all=[1, $((GITHUB_RUN_ATTEMPT + 1))]" >> "$GITHUB_OUTPUT"'}
  cell:
    needs: list
    strategy: {matrix: {n: "${{ fromJSON(needs.list.outputs.all) }}"}}
    uses: ./.dayfly/workflows/called.yml
    with: {n: "${{ matrix.n }}"}
"#;

const INNER: &str = r#"
on: {workflow_call: {inputs: {n: {type: number, required: true}}}}
jobs:
  say: {runs-on: linux, steps: [{run: 'echo "n=${{ inputs.n }}"'}]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_others_become_are_there_once_and_anew_in_a_re_run() {
    let Some(mut scene) = Scene::start(Settings::new()).await else { return };
    assert!(scene.service.stop().await.success());
    let pull = scene.open_pull_request(&[(WORKFLOW, CALLING), (CALLED, INNER)]).await;
    let mut is_delivered = false;
    for info in STEPS.iter().filter(|info| info.step.is_of_an_unfolding()) {
        // It may come by before it serves.
        if scene.restart_with(Some(&format!("kill@{}", info.name))).await {
            is_delivered = is_delivered || scene.redeliver_opened(&pull, Step::UnfoldPlanned.info().name).await;
            eventually("the service to die", async || scene.service.has_ended().then_some(())).await;
        }
    }
    assert!(is_delivered);
    scene.restart().await;
    for n in ["1", "2"] {
        let inner = scene.ended(&pull.sha, &format!("cell ({n}) / say")).await;
        assert_eq!((inner.job.verdict(), inner.said("n")), (("success", ""), n), "{}", inner.log);
    }
    assert_eq!(
        names(&scene.jobs(&pull.sha).await),
        ["cell (1)", "cell (1) / say", "cell (2)", "cell (2) / say", "list"]
    );

    all_end(&scene, &pull).await;

    // The matrix comes from a job that runs again, so it is another one then.
    // Its machine may have gone with a service that was killed, which nobody saw.
    let list = scene.jobs(&pull.sha).await.into_iter().find(|job| job.name == "list").unwrap();
    let path = format!("/v1/jobs/{}/rerun", list.id);
    assert_eq!(http::post_to_socket(&scene.service.control_socket(), &path, &serde_json::Value::Null).await.0, 202);
    let third = eventually("the new cell", async || {
        let jobs = scene.jobs(&pull.sha).await;
        jobs.into_iter().find(|job| job.name == "cell (3) / say" && job.is_finished())
    })
    .await;
    assert_eq!(third.verdict(), ("success", ""), "{}", scene.log(&third).await);
    all_end(&scene, &pull).await;
    let jobs = scene.jobs(&pull.sha).await;
    let again = names(&jobs);
    assert_eq!(again.iter().filter(|name| name.starts_with("cell (2)")).count(), 2, "of the first attempt: {again:?}");
    assert_eq!(again.iter().filter(|name| name.starts_with("cell (1)")).count(), 4, "{again:?}");
    scene.finish().await;
}

async fn all_end(scene: &Scene, pull: &PullRequest) {
    let is_over = async || scene.jobs(&pull.sha).await.into_iter().all(|job| job.is_finished()).then_some(());
    eventually("all jobs to end", is_over).await;
}

fn names(jobs: &[Job]) -> Vec<&str> {
    let mut names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    names.sort_unstable();
    names
}
