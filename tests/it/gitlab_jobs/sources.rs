//! What a job finds in its machine: sources, variables, and a log that hides what it should.

use serde_json::json;

use super::{Hall, plain, steps, variable, verdict};
use crate::local_gitlab::JobState;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_finds_its_commit_and_its_variables() {
    let Some(hall) = Hall::open(&[("README.md", "# Hello\n")]).await else { return };
    let job = hall
        .run(json!({
            "git_info": {"depth": 1, "refspecs": ["+refs/heads/main:refs/remotes/origin/main", "+refs/tags/v1:refs/tags/v1"]},
            "hooks": [{"name": "pre_get_sources_script", "script": ["echo before the sources in $PWD"]}],
            "steps": steps(&[
                ("script", &[
                    "echo \"$PWD $CI_PROJECT_DIR $CI_SERVER $CI_DISPOSABLE_ENVIRONMENT $CI_JOB_STATUS\"",
                    "echo commits=$(git rev-list --count HEAD) head=$(git rev-parse HEAD) tag=$(git describe --tags)",
                    "cat \"$CONFIG\" && test \"$CONFIG\" = \"$CI_PROJECT_DIR.tmp/CONFIG\"",
                    "echo \"nested=$NESTED raw=$RAW twice=$TWICE\"",
                    "printf %s 'hunter2-' && sleep 0.2 && echo 'secret' && echo glpat-abcdef && echo $CI_JOB_TOKEN",
                    "read line || echo no input",
                    "LOCAL=1",
                    "echo local=$LOCAL",
                    "if [ -n \"$BASH\" ]; then\n  echo in bash\nfi",
                    "echo LATER=made by the script >> $GITLAB_ENV",
                    "git clone -q \"$CI_SERVER_URL/demo/other.git\" ../other && cat ../other/part",
                    "git remote get-url origin; env | grep -c '^GET_' || true",
                    "git push -q origin HEAD:refs/heads/new 2>&1 | head -1 || true",
                ]),
                ("after_script", &["echo \"$CI_JOB_STATUS; local=[$LOCAL]; $LATER\""]),
            ]),
            "more_variables": [
                variable("CONFIG", "line of $NAME\n", json!({"file": true})),
                variable("NAME", "hello", json!({})),
                variable("NESTED", "<$NAME>", json!({})),
                variable("RAW", "$NAME $$", json!({"raw": true})),
                variable("TWICE", "first", json!({})),
                variable("TWICE", "second", json!({})),
                variable("SECRET", "hunter2-secret", json!({"masked": true, "public": false})),
            ],
            "image": {"name": "alpine:3"},
        }))
        .await;
    let text = plain(&job);
    assert_eq!(verdict(&job).0, JobState::Success, "{text}");
    for line in [
        "before the sources in /",
        "/builds/demo/hello /builds/demo/hello yes true running",
        &format!("commits=1 head={} tag=v1", hall.sha),
        "line of hello",
        "nested=<hello> raw=$NAME $$ twice=second",
        "[MASKED]",
        "glpat-[MASKED]",
        "no input",
        "local=1",
        "$ if [ -n \"$BASH\" ]; then # collapsed multi-line command",
        "of another project",
        "http://127.0.0.1:9418/demo/hello.git",
        "success; local=[]; made by the script",
        "WARNING: the job's image `alpine:3` is not used: it runs in the machine of this runner's profile",
        "Job succeeded",
    ] {
        assert!(text.lines().any(|one| one == line), "`{line}` is not in\n{text}");
    }
    assert!(text.contains("jobs cannot push"), "{text}");
    assert!(!text.contains("hunter2-secret") && !text.contains(&job.token), "{text}");
    let trace = job.text();
    for section in ["prepare_executor", "prepare_script", "get_sources", "step_script", "after_script"] {
        let name = format!("{section}\r\x1b[0K");
        for mark in ["section_start:", "section_end:"] {
            let behind = trace.split(mark).skip(1).filter_map(|rest| rest.split_once(':'));
            assert_eq!(behind.filter(|(_, rest)| rest.starts_with(&name)).count(), 1, "{mark} {section}");
        }
    }
    hall.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_change_how_sources_are_got() {
    let Some(hall) = Hall::open(&[("README.md", "# Hello\n")]).await else { return };
    let with = |variables: &[(&str, &str)], script: &[&str]| {
        let variables: Vec<_> = variables.iter().map(|(key, value)| variable(key, value, json!({}))).collect();
        hall.plan(json!({"more_variables": variables, "steps": steps(&[("script", script)])}))
    };
    let none = with(&[("GIT_STRATEGY", "none")], &["ls -A | wc -l; pwd"]);
    let elsewhere = with(&[("GIT_CLONE_PATH", "$CI_BUILDS_DIR/go/src")], &["pwd; ls"]);
    let inner = with(&[("GIT_SUBMODULE_STRATEGY", "recursive")], &["cat vendor/other/part; git submodule status"]);
    let unknown = with(&[("GIT_STRATEGY", "pull"), ("GET_SOURCES_ATTEMPTS", "2")], &["ls"]);
    let missing = hall.gitlab.add_job(json!({
        "git_info": {"sha": "1".repeat(40)},
        "more_variables": [variable("GET_SOURCES_ATTEMPTS", "2", json!({}))],
        "steps": steps(&[("script", &["echo never"]), ("after_script", &["echo never"])]),
    }));
    let none = plain(&hall.ended(none).await);
    assert!(none.contains("\n0\n/builds/demo/hello\n"), "{none}");
    let elsewhere = plain(&hall.ended(elsewhere).await);
    assert!(elsewhere.contains("\n/builds/go/src\nREADME.md\nsecond\nvendor\n"), "{elsewhere}");
    let inner = plain(&hall.ended(inner).await);
    assert!(inner.contains("\nof another project\n") && inner.contains("Job succeeded"), "{inner}");
    let unknown = plain(&hall.ended(unknown).await);
    assert!(unknown.contains("WARNING: GIT_STRATEGY: expected") && unknown.contains("Job succeeded"), "{unknown}");
    let missing = hall.ended(missing).await;
    let text = plain(&missing);
    assert_eq!(verdict(&missing).0, JobState::Failed, "{text}");
    assert!(text.contains("it is tried again") && !text.contains("never"), "{text}");
    hall.close().await;
}
