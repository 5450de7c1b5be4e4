//! Jobs that are not known when their run begins, what they are given, and whose turn it is.

use crate::support::{Scene, Settings, WORKFLOW, gate};

const CALLED: &str = ".dayfly/workflows/called.yml";

const CALLING: &str = r#"
name: CI
on: pull_request
env: {FROM_WORKFLOW: "${{ secrets.TOKEN }}"}
jobs:
  plan:
    runs-on: linux
    environment: production
    outputs:
      matrix: ${{ steps.make.outputs.matrix }}
      leak: ${{ secrets.TOKEN }}
    steps:
      - id: make
        run: |
          echo 'matrix={"n": [1, 2]}' >> "$GITHUB_OUTPUT"
          test "$FROM_WORKFLOW" = s3cret-text && echo "secret=known"
          echo "var=${{ vars.region }} ${{ vars.ABSENT || 'none' }} ${{ secrets.GITHUB_TOKEN || 'no token' }}"
  cells:
    needs: plan
    name: cell ${{ matrix.n }}
    strategy: {matrix: "${{ fromJSON(needs.plan.outputs.matrix) }}"}
    runs-on: linux
    concurrency: {group: "cells-${{ matrix.n }}"}
    steps:
      - run: echo "cell=${{ matrix.n }} of ${{ strategy.job-total }}, [${{ needs.plan.outputs.leak }}]"
  broken:
    needs: plan
    strategy: {matrix: "${{ fromJSON(needs.plan.outputs.nothing) }}"}
    runs-on: linux
    steps: [{run: exit 1}]
  call:
    needs: cells
    uses: ./.dayfly/workflows/called.yml
    with: {word: "${{ needs.plan.outputs.matrix && 'never' || 'plain' }}"}
    secrets: {GIVEN: "${{ secrets.TOKEN }}"}
  after:
    needs: [call, broken]
    if: always()
    runs-on: linux
    steps:
      - run: echo "after=${{ needs.call.result }} ${{ needs.call.outputs.said }} ${{ needs.broken.result }}"
"#;

const INNER: &str = r#"
on:
  workflow_call:
    inputs: {word: {type: string, required: true}}
    secrets: {GIVEN: {required: true}}
    outputs: {said: {value: "${{ jobs.say.outputs.said }}"}}
jobs:
  say:
    runs-on: linux
    outputs: {said: "${{ steps.say.outputs.said }}"}
    steps:
      - id: say
        env: {GIVEN: "${{ secrets.given }}"}
        run: |
          echo "said=${{ inputs.word }}-said" >> "$GITHUB_OUTPUT"
          test "$GIVEN" = s3cret-text && echo "given=known"
          echo "others=[${{ secrets.TOKEN }}]"
"#;

fn settings() -> Settings {
    Settings::new()
        .with_secret("token-of-jobs", "s3cret-text\n")
        .with_section("[vars]\nREGION = \"somewhere\"\n[secrets]\nTOKEN = { file = \"token-of-jobs\" }\n")
        .with_section("[[github.repository]]\nname = \"demo/*\"\n")
        .with_section("[github.repository.environment.production]\nvars = { REGION = \"production\" }\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_become_others_and_get_what_the_operator_gives() {
    let Some(scene) = Scene::start(settings()).await else { return };
    let pull = scene.pull_request_with(&[(WORKFLOW, CALLING), (CALLED, INNER)]).await;

    let plan = scene.ended(&pull.sha, "plan").await;
    assert_eq!(plan.job.verdict(), ("success", ""), "{}", plan.log);
    assert_eq!((plan.said("secret"), plan.said("var")), ("known", "production none no token"));
    for n in ["1", "2"] {
        let cell = scene.ended(&pull.sha, &format!("cell {n}")).await;
        assert_eq!(cell.said("cell"), format!("{n} of 2, []"), "an output with a secret is left out");
    }
    let broken = scene.ended(&pull.sha, "broken").await;
    assert_eq!(broken.job.verdict(), ("error", "workflow"));
    let told = broken.job.detail.unwrap();
    assert!(told.contains("jobs.broken.strategy.matrix") && told.contains("is not JSON"), "{told}");

    let inner = scene.ended(&pull.sha, "call / say").await;
    assert_eq!((inner.said("given"), inner.said("others")), ("known", "[]"));
    let after = scene.ended(&pull.sha, "after").await;
    assert_eq!(after.said("after"), "success plain-said failure");
    let names: Vec<String> = scene.jobs(&pull.sha).await.into_iter().map(|job| job.name).collect();
    assert_eq!(names.len(), 7, "{names:?}");
    assert!(scene.states(&pull.sha, "dayfly/CI/call").is_empty(), "a call is shown as its jobs");
    scene.finish().await;
}

fn deploy(script: &str) -> String {
    format!(
        "name: Deploy\non: pull_request\njobs:\n  build: {{runs-on: linux, if: 'false', steps: [{{run: exit 1}}]}}\n  deploy:\n    \
         needs: build\n    if: always()\n    runs-on: linux\n    concurrency: Production\n    steps:\n      - run: {script}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_of_a_group_runs_and_the_newest_waits() {
    let Some(scene) = Scene::start(Settings::new()).await else { return };
    let runs = |job: &crate::support::Job| job.events.iter().any(|event| event.kind == "step_started");
    let first = scene.pull_request(&deploy(&gate("opened"))).await;
    let running = scene.job(&first.sha, "deploy", runs).await;
    let second = scene.pull_request(&deploy("echo second")).await;
    let told = crate::support::eventually("the second to wait for its group", async || {
        let job = scene.jobs(&second.sha).await.into_iter().find(|job| job.name == "deploy")?;
        Some(scene.ask(&["why", &job.id])).filter(|told| told.contains("`production`"))
    })
    .await;
    assert!(told.contains(&running.id), "{told}");
    let third = scene.pull_request(&deploy("echo third")).await;
    let superseded = scene.ended(&second.sha, "deploy").await;
    assert_eq!(superseded.job.verdict(), ("cancelled", "cancelled"));
    assert!(superseded.job.detail.unwrap().contains("superseded by `deploy` of run #3"));
    scene.open_gate("opened").await;
    assert_eq!(scene.ended(&first.sha, "deploy").await.job.verdict().0, "success");
    assert_eq!(scene.ended(&third.sha, "deploy").await.job.verdict().0, "success");
    scene.finish().await;
}
