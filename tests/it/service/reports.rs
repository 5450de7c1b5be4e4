//! What a job's programs report, in what people see of the job.

use crate::support::http;
use crate::support::{Job, Scene, Settings, eventually};

/// The second attempt passes what the first one fails; both leave a report that is none.
const WORKFLOW: &str = r#"
name: CI
on: pull_request
jobs:
  test:
    runs-on: linux
    steps:
      - run: |
          mkdir -p out/deep .git/out
          ln -s /etc/passwd out/deep/link.xml
          if test "$GITHUB_RUN_ATTEMPT" = 1; then
            outcome='<failure message="1 != 2 &amp; more">src/sum.c:7: here</failure>'
          fi
          cat > out/deep/unit.xml <<END
          <testsuite name="sum"><testcase name="adds" time="0.5"/><testcase name="races">$outcome</testcase></testsuite>
          END
          echo '<html/>' > out/page.xml
          printf 'SF:%s/src/sum.c\nLF:4\nLH:3\nend_of_record\n' "$GITHUB_WORKSPACE" > /tmp/lcov.info
          printf '%s' '{"runs": [{"results": [{"ruleId": "style", "message": {"text": "two | spaces"}}]}]}' > lint.sarif
      - run: test "$GITHUB_RUN_ATTEMPT" = 2
"#;

const REPORTS: &str = r#"reports = [
  { kind = "junit", path = "out/**/*.xml" },
  { kind = "lcov", path = "/tmp/lcov.info" },
  { kind = "sarif", path = "lint.sarif" },
  { kind = "tap", path = "absent/*.tap" },
]"#;

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_shown_and_a_test_that_ended_both_ways_is_flaky() {
    let Some(scene) = Scene::start(Settings::new().with_profile_lines(REPORTS)).await else { return };
    let pull = scene.pull_request(WORKFLOW).await;
    let first = scene.ended(&pull.sha, "test").await;
    assert_eq!(first.job.verdict(), ("failure", ""), "{}", first.log);
    for text in [
        "1 failed, 1 passed in 500ms.",
        "| failed | sum › races | src/sum.c:7 |",
        "    1 != 2 & more",
        "| warning | style |  | two \\| spaces |",
        "75.0 % of 4 lines.",
        "`out/page.xml` is no whole junit report",
        "no file is like `absent/*.tap`",
    ] {
        assert!(first.summary().contains(text), "`{text}` is not in {}", first.summary());
    }
    assert!(first.log.contains("failed: sum › races (src/sum.c:7)"), "{}", first.log);
    let told = scene.ask_json(&["job", "show", &first.job.id]);
    assert_eq!(told["results"]["failures"][0]["name"], "races");
    assert_eq!(told["results"]["coverage"]["files"][0]["file"], "src/sum.c");

    let path = format!("/v1/jobs/{}/rerun", first.job.id);
    assert_eq!(http::post_to_socket(&scene.service.control_socket(), &path, &serde_json::Value::Null).await.0, 202);
    let is_new = |job: &Job| job.name == "test" && job.id != first.job.id && job.is_finished();
    let again = eventually("the job to end again", async || scene.jobs(&pull.sha).await.into_iter().find(is_new)).await;
    assert_eq!(again.verdict(), ("success", ""), "{}", scene.log(&again).await);
    let shown = scene.ask(&["job", "show", &again.id]);
    assert!(shown.contains("tests: 2 passed, 1 flaky"), "{shown}");
    assert!(shown.contains("flaky: sum › races (src/sum.c:7)"), "{shown}");
    scene.finish().await;
}
