//! The machine that a job gets: its own, of its size, with what it may not change.

use std::fs;

use crate::support::{Scene, Settings, host, job_of};

/// What tells one clone from another, and what size it is.
const LOOK: &str = r#"
echo "random=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' ')"
echo "uuid=$(cat /proc/sys/kernel/random/uuid)"
echo "machine=$(cat /etc/machine-id)"
echo "host=$(hostname)/$(cat /etc/hostname)"
echo "now=$(date +%s)"
echo "memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)"
echo "processors=$(nproc)"
echo "user=$(id -un)/$(sudo id -un)"
echo "left=$(ls /tmp /home/runner/work | grep -c trace)"
touch /tmp/trace
echo "disk=$(dd if=/dev/zero of=big bs=1M count=300 2>&1 | grep -o 'No space left on device')"
rm big && echo "usable=yes"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn two_clones_of_one_snapshot_share_nothing_but_the_image() {
    let lines = "vcpus = 2\nmemory = \"320 MiB\"\ndisk = \"256 MiB\"";
    let Some(scene) = Scene::start(Settings::new().with_profile("small", lines)).await else { return };
    let workflow = job_of("small", LOOK).replace("    runs-on", "    strategy: {matrix: {n: [1, 2]}}\n    runs-on");
    let pull = scene.pull_request(&workflow).await;
    let (first, second) = (scene.ended(&pull.sha, "test (1)").await, scene.ended(&pull.sha, "test (2)").await);

    for key in ["random", "uuid", "machine", "host"] {
        assert_ne!(first.said(key), second.said(key), "{key}");
    }
    let host_now = jiff::Timestamp::now().as_second();
    for clone in [&first, &second] {
        assert_eq!(clone.job.verdict(), ("success", ""), "{}", clone.log);
        let vm = clone.job.vm.as_deref().unwrap();
        assert_eq!(clone.said("host"), format!("{vm}/{vm}"));
        let clock: i64 = clone.said("now").parse().unwrap();
        let finished = clone.job.events.iter().find(|event| event.kind == "outcome_stored").unwrap();
        assert!(clock <= host_now && finished.at_us / 1_000_000 - clock < 60, "the guest's clock says {clock}");
        let memory: u64 = clone.said("memory").parse().unwrap();
        assert!((240..=320).contains(&memory), "{memory} MiB");
        assert_eq!((clone.said("processors"), clone.said("user")), ("2", "runner/root"));
        assert_eq!((clone.said("left"), clone.said("disk")), ("0", "No space left on device"));
        assert_eq!(clone.said("usable"), "yes");
    }
    scene.finish().await;
}

const USE_CACHE: &str = r#"
set +e
echo "content=$(cat /deps/package/file)"
device=$(findmnt -n -o SOURCE /deps 2>/dev/null || awk '$2 == "/deps" {print $1}' /proc/mounts)
echo "device=$device"
touch /deps/new 2>/dev/null; echo "write=$?"
sudo touch /deps/new 2>/dev/null; echo "root_write=$?"
sudo mount -o remount,rw /deps 2>/dev/null; sudo touch /deps/new 2>/dev/null; echo "remount=$?"
echo x | sudo dd of="$device" bs=512 conv=notrunc,fsync 2>/dev/null; echo "raw=$?"
echo "still=$(cat /deps/package/file)"
for disk in /sys/block/vd*; do
  echo "disk=$(cat $disk/serial) $(cat $disk/ro)"
done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_is_readable_and_nothing_can_write_to_it() {
    if !host::can_run_vms() {
        return;
    }
    let cache = host::short_directory();
    fs::create_dir(cache.path().join("package")).unwrap();
    fs::write(cache.path().join("package/file"), "first generation").unwrap();
    let lines = format!("cache = {{ path = \"{}\", mount = \"/deps\" }}", cache.path().display());
    let Some(scene) = Scene::start(Settings::new().with_profile("cached", &lines)).await else { return };

    let pull = scene.pull_request(&job_of("cached", USE_CACHE)).await;
    let ended = scene.ended(&pull.sha, "test").await;
    assert_eq!((ended.said("content"), ended.said("still")), ("first generation", "first generation"), "{}", ended.log);
    assert!(ended.said("device").starts_with("/dev/vd"), "{}", ended.log);
    for attack in ["write", "root_write", "remount", "raw"] {
        assert_ne!(ended.said(attack), "0", "{attack}: {}", ended.log);
    }
    for shared in ["dayfly-root", "dayfly-layer", "dayfly-cache"] {
        assert!(ended.log.contains(&format!("disk={shared} 1")), "{}", ended.log);
    }

    // The next job sees what the operator changed since; the one before saw one generation throughout.
    fs::write(cache.path().join("package/file"), "second generation!").unwrap();
    let pull = scene.pull_request(&job_of("cached", "echo \"content=$(cat /deps/package/file)\"")).await;
    assert_eq!(scene.ended(&pull.sha, "test").await.said("content"), "second generation!");
    scene.finish().await;
}
