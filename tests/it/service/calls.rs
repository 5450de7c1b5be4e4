//! Workflows of another repository of the forge, called by a service.

use serde_json::Value;

use crate::local_forge::CheckRun;
use crate::support::{DEADLINE, Job, Scene, Settings, WORKFLOW, eventually, http};

const SHARED: &str = "demo/shared";

const CALLING: &str = "name: CI\non: pull_request\njobs:\n  call:\n    uses: demo/shared/.github/workflows/build.yml@stable\n    \
                       secrets: inherit\n";

fn called(word: &str) -> String {
    format!(
        "on: workflow_call\njobs:\n  say:\n    runs-on: linux\n    steps:\n      - run: |\n          echo \"word={word}\"\n          \
         test \"${{{{ secrets.TOKEN }}}}\" = s3cret-text && echo \"secret=known\"\n"
    )
}

fn settings(private: &str) -> Settings {
    Settings::new()
        .with_secret("token-of-jobs", "s3cret-text\n")
        .with_section(&format!("[secrets]\nTOKEN = {{ file = \"token-of-jobs\" }}\n[actions]\nprivate = [{private}]\n"))
}

async fn share(scene: &Scene, word: &str) -> String {
    let file = called(word);
    scene.forge.commit(SHARED, "stable", &[(".github/workflows/build.yml", &file)], word).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_workflow_is_called_where_it_is_listed_and_a_repetition_calls_the_same() {
    let Some(scene) = Scene::start(settings("\"demo/shared\"")).await else { return };
    scene.forge.create_repository(SHARED).await.unwrap();
    let commit = share(&scene, "first").await;
    let pull = scene.pull_request_with(&[(WORKFLOW, CALLING)]).await;
    let first = scene.ended(&pull.sha, "call / say").await;
    assert_eq!((first.said("word"), first.said("secret")), ("first", "known"), "{}", first.log);
    let told = format!("Using the workflow demo/shared/.github/workflows/build.yml@stable at commit {commit}");
    assert!(first.log.contains(&told), "{}", first.log);

    share(&scene, "second").await;
    let path = format!("/v1/jobs/{}/rerun", first.job.id);
    assert_eq!(http::post_to_socket(&scene.service.control_socket(), &path, &Value::Null).await.0, 202);
    let is_new = |job: &Job| job.name == "call / say" && job.id != first.job.id && job.is_finished();
    let again = eventually("the job to end again", async || scene.jobs(&pull.sha).await.into_iter().find(is_new)).await;
    let log = scene.log(&again).await;
    assert!(log.contains("word=first") && log.contains(&told), "{log}");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_workflow_that_is_not_listed_is_not_there() {
    let settings = Settings::without_vms().with_section("[actions]\nallowed_workflows = [\"demo/*\"]\n");
    let Some(scene) = Scene::start(settings).await else { return };
    scene.forge.create_repository(SHARED).await.unwrap();
    share(&scene, "first").await;
    let elsewhere = CALLING.replace("demo/shared", "other/shared");
    for (workflow, why) in [
        (CALLING, "its repository is not there, or not readable without a credential"),
        (&elsewhere, "is not among those that are allowed here"),
    ] {
        let pull = scene.pull_request_with(&[(WORKFLOW, workflow)]).await;
        let is_told =
            |run: &CheckRun| run.name == "dayfly/ci.yml" && run.head_sha == pull.sha && run.status == "completed";
        let check = scene.forge.wait_for_check_run(is_told, DEADLINE).await.unwrap();
        let summary = check.output["summary"].as_str().unwrap();
        assert!(summary.contains(why), "{summary}");
    }
    scene.finish().await;
}
