//! What a workflow says is what happens.

use crate::support::{Scene, Settings};

const WORKFLOW: &str = r#"
name: CI
on: pull_request
env: {LEVEL: workflow}
jobs:
  build:
    runs-on: linux
    env: {LEVEL: job}
    outputs:
      version: ${{ steps.version.outputs.version }}
    steps:
      - id: version
        shell: python
        run: |
          import os
          open(os.environ["GITHUB_OUTPUT"], "a").write("version=1.2.3\n")
          print("python=" + os.environ["LEVEL"])
      - shell: sh
        env: {LEVEL: step}
        run: |
          echo "shell=$(ps -o comm= -p $$)"
          echo "sh=$LEVEL"
          mkdir -p sub
          echo "FROM_FILE=set by a step" >> "$GITHUB_ENV"
          mkdir -p "$HOME/tools" && printf '#!/bin/sh\necho "tool=found"\n' > "$HOME/tools/a-tool"
          chmod +x "$HOME/tools/a-tool" && echo "$HOME/tools" >> "$GITHUB_PATH"
          echo "**A summary** of the job" >> "$GITHUB_STEP_SUMMARY"
      - working-directory: sub
        run: |
          echo "directory=$(basename "$PWD")"
          echo "from_file=$FROM_FILE"
          a-tool
          echo "pipefail=$(set -o | grep -c 'pipefail.*on')"
      - id: tolerated
        continue-on-error: true
        run: exit 7
      - run: echo "tolerated=${{ steps.tolerated.outcome }}/${{ steps.tolerated.conclusion }}"
      - id: slow
        timeout-minutes: 0.03
        continue-on-error: true
        run: |
          echo "slow=began"
          sleep 600
          echo "slow=ended"
      - run: echo "after_slow=${{ steps.slow.outcome }}"
      - run: cat; echo "stdin=empty"
  use:
    needs: build
    runs-on: [self-hosted, Linux]
    steps:
      - run: echo "needed=${{ needs.build.outputs.version }}"
      - name: Breaks
        run: "false"
      - run: echo "not=reached"
      - if: failure()
        run: echo "on_failure=yes"
      - if: success()
        run: echo "on_success=yes"
      - if: always()
        run: echo "always=yes"
  after:
    needs: [build, use]
    if: always()
    runs-on: linux
    steps:
      - run: echo "results=${{ needs.build.result }},${{ needs.use.result }}"
  never:
    needs: use
    runs-on: linux
    steps:
      - run: echo unreachable
  cells:
    strategy:
      matrix:
        word: [one, two]
    runs-on: linux
    steps:
      - run: echo "word=${{ matrix.word }}"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn steps_and_jobs_do_what_the_dialect_says() {
    let Some(scene) = Scene::start(Settings::new()).await else { return };
    let pull = scene.pull_request(WORKFLOW).await;

    let build = scene.ended(&pull.sha, "build").await;
    assert_eq!(build.job.verdict(), ("success", ""), "{}", build.log);
    let said = [
        ("python", "job"),
        ("shell", "sh"),
        ("sh", "step"),
        ("directory", "sub"),
        ("from_file", "set by a step"),
        ("tool", "found"),
        ("pipefail", "0"),
        ("tolerated", "failure/success"),
        ("slow", "began"),
        ("after_slow", "failure"),
        ("stdin", "empty"),
    ];
    for (key, value) in said {
        assert_eq!(build.said(key), value, "{key}");
    }
    assert!(!build.log.contains("slow=ended"));
    assert!(build.summary().contains("**A summary** of the job"), "{}", build.summary());

    let used = scene.ended(&pull.sha, "use").await;
    assert_eq!(used.job.verdict(), ("failure", ""));
    assert!(used.title().contains("Breaks"), "{}", used.title());
    assert_eq!((used.said("needed"), used.said("on_failure"), used.said("always")), ("1.2.3", "yes", "yes"));
    assert!(!used.log.contains("not=reached") && !used.log.contains("on_success=yes"), "{}", used.log);

    assert_eq!(scene.ended(&pull.sha, "after").await.said("results"), "success,failure");
    let never = scene.ended(&pull.sha, "never").await;
    assert_eq!((never.job.verdict(), never.job.vm.is_none()), (("skipped", "skipped"), true));
    assert_eq!(never.check.as_ref().unwrap().conclusion.as_deref(), Some("skipped"));
    for word in ["one", "two"] {
        assert_eq!(scene.ended(&pull.sha, &format!("cells ({word})")).await.said("word"), word);
    }
    scene.finish().await;
}
