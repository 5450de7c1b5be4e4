//! A named cache as jobs of a service and its operator see it.

use std::path::Path;

use dayfly::caches::CacheId;
use dayfly::forge::RepoName;
use serde_json::Value;

use super::bench::Bench;
use crate::support::command::{Outcome, dayfly};
use crate::support::{REPOSITORY, Scene, Settings, eventually, gate, job_of, scrape, waiting};

const PROFILE: &str = r#"
cache = { name = "deps", mount = "/deps", mode = "overlay", fill = { run = "true", key = ["lock"] } }
"#;

/// What is there, whether a job can write to it, and the same once more when it is told to look.
fn look() -> String {
    let look = "echo \"seen=$(ls /deps | tr '\\n' ' ')$(cat /deps/file 2>/dev/null)\"";
    format!("{look}\necho mine >/deps/mine && echo writes=yes\n{}\n{}", gate("look"), look.replace("seen", "later"))
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_find_the_newest_generation_and_operators_see_who_uses_it() {
    let Some(scene) = Scene::start(Settings::new().with_profile("cached", PROFILE)).await else { return };
    let cache = cache_of(&scene);

    let missed = scene.pull_request(&job_of("cached", "ls -A /deps; touch /deps/x && echo \"writes=yes\"")).await;
    assert_eq!(scene.ended(&missed.sha, "test").await.said("writes"), "yes");

    let bench = Bench::beside(scene.state_dir(), cache).await;
    bench.produce("one", 1, "echo first >/deps/file; chown runner /deps").await.unwrap();
    let pull = scene.pull_request(&job_of("cached", &look())).await;
    scene.job(&pull.sha, "test", |job| job.events.iter().any(|event| event.kind == "step_started")).await;
    // The one that runs keeps what it has, whatever is published and removed meanwhile.
    bench.produce("two", 2, "echo second >/deps/file; chown runner /deps").await.unwrap();
    let listed = listed(scene.state_dir());
    let used: Vec<_> = listed.iter().map(|one| (one["generation"].as_u64().unwrap(), &one["is_in_use"])).collect();
    assert_eq!(used, [(1, &true.into()), (2, &false.into())]);
    let refused = cache_command(scene.state_dir(), &["rm", "deps"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("is in use\n  hint: "), "{}", refused.stderr);
    assert!(refused.stdout.starts_with("generation 2 of `"), "what is not in use is removed: {}", refused.stdout);
    let forced = cache_command(scene.state_dir(), &["rm", "cached/deps", "--force"]);
    assert_eq!((forced.code, forced.stderr.as_str()), (Some(0), ""));
    scene.open_gate("look").await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!(ended.job.verdict(), ("success", ""), "{}", ended.log);
    assert_eq!((ended.said("seen"), ended.said("later")), ("file first", "file mine first"));

    let metrics = scrape(&scene.service.url("/metrics")).await;
    let lookups = ["hit", "miss"].map(|result| metrics[&format!("dayfly_cache_lookups_total{{result=\"{result}\"}}")]);
    assert_eq!(lookups, [1.0, 1.0]);
    scene.finish().await;
}

/// VMs that wait are of one generation: when there is a newer one, those of the older go, and jobs get the newer one.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_waits_with_the_newest_generation_of_a_cache_for_all() {
    let lines = PROFILE.replace("name =", &format!("repository = \"{REPOSITORY}\", name =")) + "pool = { min = 1 }\n";
    let Some(scene) = Scene::start(Settings::new().with_profile("cached", &lines)).await else { return };
    let empty = waiting(&scene, 1).await;
    let bench = Bench::beside(scene.state_dir(), cache_of(&scene)).await;
    let mut before = empty;
    for (order, key) in [(1, "one"), (2, "two")] {
        bench.produce(key, order, &format!("echo {key} >/deps/file; chown runner /deps")).await.unwrap();
        let with_it = eventually("a VM with the new generation", async || {
            Some(waiting(&scene, 1).await).filter(|vms| vms.is_disjoint(&before))
        });
        before = with_it.await;
    }
    let pull = scene.pull_request(&job_of("cached", "echo \"seen=$(cat /deps/file)\"")).await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!(ended.said("seen"), "two", "{}", ended.log);
    assert!(before.contains(ended.job.vm.as_deref().unwrap()));
    scene.finish().await;
}

fn cache_of(scene: &Scene) -> CacheId {
    let url = url::Url::parse(&scene.forge.url()).unwrap();
    let host = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    CacheId::new(&host, &RepoName::parse(REPOSITORY).unwrap(), "cached", "deps")
}

fn cache_command(state_dir: &Path, arguments: &[&str]) -> Outcome {
    dayfly().arg("cache").args(arguments).arg("--state-dir").arg(state_dir).output().unwrap().into()
}

fn listed(state_dir: &Path) -> Vec<Value> {
    let listed = cache_command(state_dir, &["list", "--json"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    serde_json::from_str(&listed.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_name_show_and_collect_generations() {
    let Some(bench) = Bench::open().await else { return };
    let state = bench.state_dir();
    let none = cache_command(state, &["list"]);
    assert_eq!((none.code, none.stdout.as_str(), none.stderr.as_str()), (Some(0), "", "no caches\n"));
    let unknown = cache_command(state, &["show", "deps"]);
    assert_eq!(unknown.code, Some(69));
    assert!(unknown.stderr.contains("there is no cache `deps`\n  hint: "), "{}", unknown.stderr);

    bench.produce("one", 1, "echo x >/deps/file").await.unwrap();
    bench.produce("two", 2, "echo y >/deps/file").await.unwrap();
    let table = cache_command(state, &["list"]).stdout;
    assert!(table.starts_with("CACHE") && table.contains("git.example.org/acme/site:linux/deps"), "{table}");
    let shown = cache_command(state, &["show", "deps", "--verify"]);
    assert_eq!(shown.stderr, "generation 1 has its digest\ngeneration 2 has its digest\n");
    assert!(shown.stdout.contains("made by    job of two"), "{}", shown.stdout);

    let dry = cache_command(state, &["gc", "--keep", "1", "--dry-run"]);
    assert!(dry.stdout.contains("1 generation would go"), "{}", dry.stdout);
    assert_eq!(listed(state).len(), 2);
    let gone = cache_command(state, &["gc", "--keep", "1"]);
    assert_eq!((gone.code, gone.stdout.lines().count()), (Some(0), 2), "{}", gone.stdout);
    assert_eq!(listed(state)[0]["key"], "two");
    let missing = cache_command(state, &["rm", "deps", "--generation", "7"]);
    assert_eq!(missing.code, Some(69), "{}", missing.stdout);
    assert_eq!(cache_command(state, &["rm", "deps"]).code, Some(0));
    assert!(listed(state).is_empty());
    bench.finish();
}
