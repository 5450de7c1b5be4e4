//! Jobs whose scripts run in containers, beside services, in VMs of an image with Docker: `DAYFLY_TEST_IMAGES=docker`.

use std::fs;

use serde_json::{Value, json};

use super::{Hall, artifact, plain, steps, unpacked, variable, verdict};
use crate::exec::containers::{BAKE, RECIPE};
use crate::local_gitlab::JobState;
use crate::support::{Settings, has_test_image, host};

/// The image that the machine has.
const TINY: &str = "local/tiny:1";

/// With the recipe of the image, as long as that is needed.
async fn open() -> Option<(Hall, tempfile::TempDir)> {
    if !has_test_image("docker") {
        return None;
    }
    let recipes = tempfile::tempdir().unwrap();
    let recipe = recipes.path().join("docker-tiny");
    fs::create_dir(&recipe).unwrap();
    fs::write(recipe.join("image.toml"), RECIPE).unwrap();
    fs::write(recipe.join("bake.sh"), BAKE).unwrap();
    let lines = "image = \"docker-tiny\"\nmemory = \"1 GiB\"\ndisk = \"2 GiB\"\negress = { mode = \"none\" }\n";
    let settings =
        Settings::new().with_profile("docker", lines).with_images(&host::shared_images(), Some(recipes.path()));
    Some((Hall::open_with(&[("README.md", "# Hello\n")], settings, "docker", false).await?, recipes))
}

fn web() -> Value {
    json!({
        "name": "local/tiny:$TAG", "alias": "web,www", "entrypoint": ["sh"],
        "command": ["-c", "mkdir /www; echo \"hello $GREETED from $TAG [$SECRET]\" > /www/x; echo serving; exec httpd -f -p 80 -h /www"],
        "variables": [{"key": "HEALTHCHECK_TCP_PORT", "value": "80"}, {"key": "GREETED", "value": "mona", "public": true}],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_run_in_their_image_beside_services() {
    let Some((hall, _recipes)) = open().await else { return };
    let job = hall
        .run(json!({
            "image": {"name": TINY},
            "services": [web()],
            "steps": steps(&[
                ("script", &[
                    "test -x /bin/busybox && test ! -e /etc/debian_version && echo \"inside as $(id -u) in $PWD, image $CI_JOB_IMAGE\"",
                    "cat README.md \"$CONFIG\"; echo \"$NESTED\"",
                    "for host in web www local__tiny local-tiny; do wget -Y off -q -O - \"http://$host/x\"; done",
                    "wget -q -O - \"http://127.0.0.1:9418/demo/other.git/info/refs?service=git-upload-pack\" | grep -c main",
                    "git clone -q \"$CI_SERVER_URL/demo/other.git\" /tmp/other && cat /tmp/other/part && git log -1 --format='head %H'",
                    "mkdir out; echo made > out/made; chmod 600 out/made; chmod 700 out",
                    "echo LATER=kept >> $GITLAB_ENV; echo well hidden; read line || echo no input",
                ]),
                ("after_script", &["echo \"after: $CI_JOB_STATUS $LATER\"; test -e /tmp/x || touch /tmp/x"]),
            ]),
            "artifacts": [{"name": "out", "paths": ["out"], "when": "always", "artifact_type": "archive", "artifact_format": "zip"}],
            "more_variables": [
                variable("TAG", "1", json!({})),
                variable("CONFIG", "of a file\n", json!({"file": true})),
                variable("NESTED", "<$TAG>", json!({})),
                variable("SECRET", "well hidden", json!({"masked": true, "public": false})),
                variable("CI_DEBUG_SERVICES", "true", json!({})),
            ],
        }))
        .await;
    let text = plain(&job);
    assert_eq!(verdict(&job).0, JobState::Success, "{text}");
    for line in [
        "inside as 0 in /builds/demo/hello, image local/tiny:1",
        "# Hello",
        "of a file",
        "<1>",
        "[MASKED]",
        "of another project",
        &format!("head {}", hall.sha),
        "no input",
        "after: success kept",
        "[service:local__tiny] serving",
        "Job succeeded",
    ] {
        assert!(text.lines().any(|one| one == line), "`{line}` is not in\n{text}");
    }
    assert_eq!(text.matches("\nhello mona from 1 []").count(), 4, "{text}");
    assert_eq!(
        unpacked(artifact(&job, "archive")),
        [("out/".to_owned(), String::new()), ("out/made".to_owned(), "made\n".to_owned())]
    );
    ends(&hall).await;
    hall.close().await;
}

/// How jobs in containers end.
async fn ends(hall: &Hall) {
    let of = |script: &[&str], more: Value| {
        let after = ["echo \"after: $CI_JOB_STATUS\""];
        let mut job = json!({"image": {"name": TINY, "entrypoint": ["/bin/sh", "-c"]},
            "steps": steps(&[("script", script), ("after_script", &after)])});
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        hall.plan(job)
    };
    let failed = hall.ended(of(&["echo x > /left", "sh -c 'exit 42'", "echo never"], json!({}))).await;
    assert_eq!(verdict(&failed), (JobState::Failed, Some("script_failure"), Some(42)), "{}", plain(&failed));
    assert!(plain(&failed).contains("after: failed\n") && !plain(&failed).contains("never"), "{}", plain(&failed));

    let cancelled = of(&["echo begun", "sleep 600"], json!({}));
    let is_begun = |job: &crate::local_gitlab::Job| job.text().contains("\nbegun");
    hall.gitlab.wait_for_job(cancelled, is_begun, super::LIMIT).await.unwrap();
    hall.gitlab.cancel(cancelled, true);
    let cancelled = hall.ended(cancelled).await;
    assert_eq!(cancelled.state, JobState::Canceled, "{}", plain(&cancelled));
    assert!(plain(&cancelled).contains("after: canceled\n"), "{}", plain(&cancelled));

    let ended = json!({"services": [{"name": TINY, "alias": "gone", "entrypoint": ["sh"], "command": ["-c", "echo it says why; exit 7"],
        "variables": [{"key": "HEALTHCHECK_TCP_PORT", "value": "9"}]}]});
    let ended = hall.ended(of(&["echo it goes on"], ended)).await;
    assert_eq!(verdict(&ended).0, JobState::Success, "{}", plain(&ended));
    let text = plain(&ended);
    assert!(text.contains("the service local/tiny:1 probably didn't start properly"), "{text}");
    assert!(text.contains("] it says why\n") && text.contains("\nit goes on\n"), "{text}");

    let beside = json!({"image": null, "services": [web()], "more_variables": [variable("TAG", "1", json!({}))]});
    let beside = hall.ended(of(&["(: < /dev/tcp/www/80) && echo found it; echo \"$no_proxy\""], beside)).await;
    assert_eq!(verdict(&beside).0, JobState::Success, "{}", plain(&beside));
    assert!(plain(&beside).contains("\nfound it\n"), "{}", plain(&beside));

    // Of a registry that wants a password, which is in no command line: the image keeps a list of those.
    let auth = r#"{"auths": {"127.0.0.1:5000": {"auth": "bWU6d2VsbCBoaWRkZW4="}}}"#;
    let pulled = json!({
        "image": {"name": "127.0.0.1:5000/tiny:1", "pull_policy": ["always"]},
        "more_variables": [variable("DOCKER_AUTH_CONFIG", auth, json!({"public": false}))],
        "hooks": [{"name": "pre_get_sources_script", "script":
            ["grep -c 'pull --quiet' /var/log/docker-words; if grep -e hidden -e bWU6d2V /var/log/docker-words; then exit 9; fi; test ! -e /run/dayfly-docker"]}],
    });
    let pulled = hall.ended(of(&["echo of the registry"], pulled)).await;
    assert_eq!(verdict(&pulled).0, JobState::Success, "{}", plain(&pulled));

    let absent = json!({"image": {"name": "local/absent:1", "pull_policy": ["never"]}});
    let absent = hall.ended(of(&["echo never"], absent)).await;
    assert_eq!(verdict(&absent), (JobState::Failed, Some("image_pull_failure"), None), "{}", plain(&absent));
    assert!(plain(&absent).contains("the image `local/absent:1` could not be pulled"), "{}", plain(&absent));
}
