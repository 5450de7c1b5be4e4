//! Pools, jobs and what is prepared for jobs share one host, and a preparation that fails is tried again.

use serde_json::Value;

use super::prepared::{listed, look, origin, push, ready};
use crate::support::{Scene, Settings, eventually, gate, http, job_of, scrape, waiting};

/// The files on which the preparations here depend.
const FILES: [(&str, &str); 2] = [("deps.lock", "one\n"), (".gitignore", "deps/\n")];

fn prepared_by(script: &str) -> Settings {
    let install = "mkdir deps; cp deps.lock deps/installed";
    let prepare = format!("prepare = {{ key = [\"deps.lock\"], run = \"\"\"{script}\n{install}\"\"\" }}");
    Settings::new().with_profile_lines(&prepare).with_github("forks = \"run\"\n").with_plain_token()
}

/// All VMs of the service, as kind and state.
async fn vms(scene: &Scene) -> Option<Vec<(String, String)>> {
    let vms: Vec<Value> = http::get_from_socket(&scene.service.control_socket(), "/v1/vms").await?;
    let word = |vm: &Value, key: &str| vm[key].as_str().unwrap().to_owned();
    Some(vms.iter().map(|vm| (word(vm, "kind"), word(vm, "state"))).collect())
}

async fn is_preparing(scene: &Scene) {
    eventually("the preparation to have the only VM", async || {
        vms(scene).await.filter(|vms| *vms == [("upkeep".to_owned(), "preparing".to_owned())])
    })
    .await;
}

/// There is room for one VM. A pool gives it to a preparation, which gives it to a job, and nobody waits for ever.
#[tokio::test(flavor = "multi_thread")]
async fn pools_preparations_and_jobs_take_turns() {
    let settings = prepared_by(&gate("go")).with_profile_lines("pool = { min = 1 }").with_limits("max_vms = 1\n");
    let Some(scene) = Scene::start(settings).await else { return };
    waiting(&scene, 1).await;
    let base = push(&scene, &FILES).await;
    is_preparing(&scene).await;
    let metrics = scrape(&scene.service.url("/metrics")).await;
    assert_eq!(metrics["dayfly_upkeep_vms{state=\"preparing\"}"], 1.0);
    assert_eq!(metrics["dayfly_pool_vms_lost_total{reason=\"room\"}"], 1.0);
    assert!(scene.ask(&["vms"]).contains("preparing"));

    let pull = scene.pull_request(&job_of("linux", "echo \"ran=yes\"")).await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!((ended.job.verdict(), ended.job.attempt), (("success", ""), 1), "{}", ended.log);
    assert!(scene.service.has_logged("upkeep was interrupted"));

    // It takes its turn again after the wait of those that were in the way, and loses no try by that.
    is_preparing(&scene).await;
    scene.open_gate("go").await;
    let key = ready(&scene, &base).await;
    let idle = waiting(&scene, 1).await;
    // What is prepared is worth more than what only waits: that goes, and another VM has its id.
    let (_, ended) = look(&scene, &[("src/new", "")], false).await;
    assert!(origin(&ended).starts_with(&format!("prepared {}", &key[..12])), "{}", origin(&ended));
    assert!(idle.contains(ended.job.vm.as_deref().unwrap()));
    assert_eq!((ended.said("installed"), ended.job.attempt), ("one", 1));
    assert!(ended.job.events.iter().all(|event| event.detail != "from the pool"));
    // Nothing holds the snapshot any more once its VM runs.
    scene.ask(&["prepared", "rm", &key]);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preparation_that_fails_is_tried_again_and_by_a_restart_at_once() {
    let is_mended = "git ls-remote --exit-code http://127.0.0.1:9418/demo/hello refs/heads/mended > /dev/null";
    let Some(mut scene) = Scene::start(prepared_by(&format!("echo installing; {is_mended} || exit 7"))).await else {
        return;
    };
    let base = push(&scene, &FILES).await;
    let failed = eventually("a try that fails", async || {
        listed(&scene).into_iter().find(|one| one["wish"]["detail"].as_str().is_some_and(|detail| !detail.is_empty()))
    })
    .await;
    let wish = &failed["wish"];
    assert!(wish["detail"].as_str().unwrap().contains("exit code 7"), "{wish}");
    assert_eq!((failed["state"].as_str(), wish["tries"].as_u64()), (Some("wanted"), Some(1)));
    let wait = wish["next_try_at"].as_i64().unwrap() - wish["started_at"].as_i64().unwrap();
    assert!(wait >= 60_000, "{wait} ms");
    let key = failed["hash"].as_str().unwrap();
    assert!(scene.ask(&["prepared", "show", key, "--log"]).contains("installing"));
    let metrics = scrape(&scene.service.url("/metrics")).await;
    assert_eq!(metrics["dayfly_upkeep_total{result=\"postponed\"}"], 1.0);

    // Jobs do without.
    let pull = scene.pull_request(&job_of("linux", "echo \"ran=yes\"")).await;
    assert_eq!(scene.ended(&pull.sha, "test").await.said("ran"), "yes");
    scene.open_gate("mended").await;
    assert!(scene.service.stop().await.success());
    scene.restart().await;
    assert_eq!(ready(&scene, &base).await, key);
    assert_eq!(listed(&scene)[0]["wish"]["tries"].as_u64(), Some(2));
    scene.finish().await;
}
