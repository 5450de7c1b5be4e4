//! VMs that wait for their jobs: each serves one, whatever happens to it before.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Ended, Scene, Settings, WORKFLOW, eventually, gate, host, job_of, leaks, scrape, waiting};

/// Says who the machine is.
const LOOK: &str = r#"
echo "host=$(hostname)"
echo "random=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' ')"
echo "now=$(date +%s)"
echo "content=$(cat /deps/file 2>/dev/null)"
"#;

fn with_pool(pool: &str) -> Settings {
    Settings::new().with_profile("pooled", &format!("pool = {pool}"))
}

/// What the timeline says of how the VM was had.
fn origin(ended: &Ended) -> &str {
    &ended.job.events.iter().find(|event| event.kind == "vm_identified").unwrap().detail
}

/// The monitor of a VM.
fn monitor(scene: &Scene, vm: &str) -> Pid {
    let name = format!("dayfly-{vm}");
    let is_there =
        |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(&name));
    leaks::monitors(scene.state_dir()).into_iter().find(is_there).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_take_vms_that_wait_and_each_vm_serves_one() {
    let Some(mut scene) = Scene::start(with_pool("{ min = 2, max = 2 }").with_limits("max_vms = 4\n")).await else {
        return;
    };
    let first = waiting(&scene, 2).await;
    let workflow = job_of("pooled", LOOK).replace("    runs-on", "    strategy: {matrix: {n: [1, 2]}}\n    runs-on");
    let pull = scene.pull_request(&workflow).await;
    let ended = [scene.ended(&pull.sha, "test (1)").await, scene.ended(&pull.sha, "test (2)").await];
    let host_now = jiff::Timestamp::now().as_second();
    for job in &ended {
        let vm = job.job.vm.as_deref().unwrap();
        assert_eq!((job.job.verdict(), origin(job)), (("success", ""), "from the pool"), "{}", job.log);
        assert!(first.contains(vm) && job.said("host") == vm, "{vm} is not one of {first:?}");
        assert!((host_now - job.said("now").parse::<i64>().unwrap()).abs() < 60, "its clock was not set");
    }
    assert_ne!(ended[0].job.vm, ended[1].job.vm);
    assert_ne!(ended[0].said("random"), ended[1].said("random"));
    let second = waiting(&scene, 2).await;
    assert!(first.is_disjoint(&second), "a VM that served a job waits again");
    let metrics = scrape(&scene.service.url("/metrics")).await;
    assert_eq!(metrics["dayfly_pool_takes_total{result=\"promised\"}"], 2.0);
    assert_eq!(metrics["dayfly_pool_claim_seconds_count"], 2.0);
    assert!(metrics["dayfly_vm_memory_bytes{kind=\"private\"}"] > 0.0);

    // Nobody is left to see them off: the next start destroys them, and makes its own.
    scene.service.kill();
    assert_eq!(leaks::monitors(scene.state_dir()).len(), 2);
    scene.restart().await;
    let third = waiting(&scene, 2).await;
    assert!(second.is_disjoint(&third) && leaks::monitors(scene.state_dir()).len() == 2);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_vm_is_never_handed_out() {
    let Some(scene) = Scene::start(with_pool("{ min = 1, max = 1 }")).await else { return };
    let killed = waiting(&scene, 1).await.pop_first().unwrap();
    kill(monitor(&scene, &killed), Signal::SIGKILL).unwrap();
    let hung =
        eventually("another VM to wait", async || waiting(&scene, 1).await.pop_first().filter(|vm| *vm != killed))
            .await;
    assert!(scene.service.has_logged("a VM of the pool has died"));

    // Nobody can tell that this one does not answer, before it is asked to.
    kill(monitor(&scene, &hung), Signal::SIGSTOP).unwrap();
    let pull = scene.pull_request(&job_of("pooled", LOOK)).await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!((ended.job.verdict(), ended.job.attempt, origin(&ended)), (("success", ""), 1, ""), "{}", ended.log);
    assert_eq!((ended.job.vm.as_deref(), ended.said("host")), (Some(hung.as_str()), hung.as_str()));
    let metrics = scrape(&scene.service.url("/metrics")).await;
    assert_eq!(metrics["dayfly_pool_takes_total{result=\"dead\"}"], 1.0);
    assert_eq!(metrics["dayfly_pool_vms_lost_total{reason=\"died\"}"], 1.0);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_gives_way_to_jobs_and_fills_again_after_a_failure() {
    let limits = "max_vms = 1\n";
    let Some(mut scene) = Scene::start(with_pool("{ min = 1, max = 1 }").with_limits(limits)).await else { return };
    assert!(scene.service.stop().await.success());
    leaks::assert_none(scene.state_dir());
    assert!(scene.restart_with(Some("fail@state-loaded")).await);
    let idle = waiting(&scene, 1).await;
    assert!(scene.service.has_logged("a VM of the pool could not be made"));

    let pull = scene.pull_request(&job_of("linux", &gate("go"))).await;
    let job = scene.job(&pull.sha, "test", |job| job.state == "running").await;
    assert!(!idle.contains(job.vm.as_deref().unwrap()));
    assert_eq!(leaks::monitors(scene.state_dir()).len(), 1, "a job and a pool have more VMs than there may be");
    scene.open_gate("go").await;
    assert_eq!(scene.ended(&pull.sha, "test").await.job.verdict(), ("success", ""));
    assert!(idle.is_disjoint(&waiting(&scene, 1).await));
    let metrics = scrape(&scene.service.url("/metrics")).await;
    for reason in ["failed", "room"] {
        assert_eq!(metrics[&format!("dayfly_pool_vms_lost_total{{reason=\"{reason}\"}}")], 1.0, "{reason}");
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_outdated_does_not_wait() {
    if !host::can_run_vms() {
        return;
    }
    let cache = host::short_directory();
    fs::write(cache.path().join("file"), "first").unwrap();
    let lines = format!("pool = {{ min = 1 }}\ncache = {{ path = \"{}\", mount = \"/deps\" }}", cache.path().display());
    let Some(scene) = Scene::start(Settings::new().with_profile("pooled", &lines)).await else { return };
    let first = waiting(&scene, 1).await;
    fs::write(cache.path().join("file"), "second generation").unwrap();
    let second = eventually("a VM with the new cache", async || {
        Some(waiting(&scene, 1).await).filter(|vms| vms.is_disjoint(&first))
    })
    .await;
    let pull = scene.pull_request_with(&[(WORKFLOW, &job_of("pooled", LOOK))]).await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!((ended.said("content"), origin(&ended)), ("second generation", "from the pool"), "{}", ended.log);
    assert!(second.contains(ended.job.vm.as_deref().unwrap()));
    scene.finish().await;
}
