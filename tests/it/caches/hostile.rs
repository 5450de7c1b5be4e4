//! Jobs that try to change what other jobs see, as root and by every way that leads to the volume; and producers that hand
//! in something else than a volume.

use dayfly::ids::VmId;
use std::fs;

use dayfly::caches::CacheError;
use dayfly::config::CacheMode;

use super::bench::{Bench, TARGET, wish};
use crate::support::leaks;

/// Each attack says `NAME=STATUS`; 0 means that the guest believes that it worked. Some leave something running.
const ATTACKS: &str = r#"
for disk in /sys/block/*; do
  if [ "$(cat $disk/serial 2>/dev/null)" = dayfly-cache ]; then name=${disk##*/}; fi
done
device=/dev/$name
try() { label=$1; shift; "$@" >/dev/null 2>&1; echo "$label=$?"; }
write() { dd if=/dev/urandom of="$1" bs=4096 count=64 seek="${2:-0}" conv=notrunc,fsync; }
for place in /deps /run/dayfly/cache; do
  if mountpoint -q $place; then try remount mount -o remount,rw $place; fi
done
try raw write $device
try direct dd if=/dev/zero of=$device bs=4096 count=64 oflag=direct conv=notrunc
blockdev --setrw $device
echo 0 >/sys/block/$name/ro
try after-setrw write $device
try middle write $device 2000
mknod /tmp/alias b $(cut -d: -f1 /sys/block/$name/dev) $(cut -d: -f2 /sys/block/$name/dev)
try alias write /tmp/alias
try discard blkdiscard -f $device
try zero blkdiscard -f -z $device
mkdir -p /tmp/again /tmp/bound
try mounted-again mount -t ext4 -o rw,noload $device /tmp/again
if [ -d /run/dayfly/cache ]; then try bound mount --bind -o rw /run/dayfly/cache /tmp/bound; fi
modprobe loop; modprobe dm-mod
try loop sh -c 'losetup -f '$device' && dd if=/dev/zero of=/dev/loop0 bs=4096 count=64 conv=fsync'
try mapper sh -c 'dmsetup create x --table "0 131072 linear '$device' 0" && dd if=/dev/zero of=/dev/mapper/x bs=4096 count=64 conv=fsync'
try repair e2fsck -fy $device
driver=$(basename $(readlink -f /sys/block/$name/device/driver)); slot=$(basename $(readlink -f /sys/block/$name/device))
for place in /tmp/bound /tmp/again; do echo evil >$place/file; echo evil >$place/new; done 2>/dev/null
sync
setsid sh -c 'while true; do echo evil >/tmp/again/file; dd if=/dev/zero of='$device' bs=4096 count=1; done' >/dev/null 2>&1 &
echo "attacked $driver $slot"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn no_job_changes_a_byte_that_another_one_sees() {
    let Some(bench) = Bench::open().await else { return };
    let fill = format!("cd {TARGET} && echo good >file && head -c 2000000 /dev/urandom >data && sha256sum data >sum");
    bench.produce("key", 1, &fill).await.unwrap();
    let generation = bench.generations().pop().unwrap();
    let before = fs::metadata(generation.volume()).unwrap();

    for mode in [CacheMode::ReadOnly, CacheMode::Overlay] {
        let held = generation.hold().unwrap();
        let (mut machine, code, output) = bench.run(&held.mount(mode, TARGET), ATTACKS).await;
        assert!(code == 0 && output.contains("\nattacked "), "{mode:?}: {output}");
        // Whatever a kernel of the attacker's own would send: the monitor has no way to write there.
        assert!(opened(&bench, &generation.volume()).iter().all(|flags| flags & 0o3 == 0), "{mode:?}");
        for attack in ["raw", "direct", "after-setrw", "middle", "alias", "discard", "zero", "loop", "mapper"] {
            assert!(!output.contains(&format!("{attack}=0\n")), "{mode:?}: {output}");
        }
        assert!(generation.is_whole().unwrap(), "{mode:?}: while the attacker runs");
        machine.destroy().await.unwrap();
        assert!(generation.is_whole().unwrap(), "{mode:?}: {output}");
        let seen = bench.use_it(mode, "cd /deps; sha256sum -c sum; cat file; ls").await;
        assert_eq!(seen, "data: OK\ngood\ndata\nfile\nsum\n");
    }
    let after = fs::metadata(generation.volume()).unwrap();
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    bench.finish();
}

/// How the monitors of the bench have a file open, as `open` takes it.
fn opened(bench: &Bench, file: &std::path::Path) -> Vec<u32> {
    let file = file.canonicalize().unwrap();
    let mut flags = Vec::new();
    for pid in leaks::monitors(bench.state_dir()) {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            if fs::read_link(entry.path()).is_ok_and(|target| target == file) {
                let info = entry.path().to_string_lossy().replace("/fd/", "/fdinfo/");
                let text = fs::read_to_string(info).unwrap();
                let octal = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim().to_owned();
                flags.push(u32::from_str_radix(&octal, 8).unwrap());
            }
        }
    }
    assert!(!flags.is_empty(), "no monitor has the volume open");
    flags
}

/// Scripts of producers, and words of the refusal.
const GARBAGE: [(&str, &str); 4] = [
    ("umount /deps; head -c 40000000 /dev/urandom >$device; sync", "it does not hold a whole file system"),
    ("umount /deps; dd if=/dev/zero of=$device bs=1M count=20 conv=fsync", "it does not hold a whole file system"),
    // The root directory and what lies about it, under a mounted file system.
    ("sync; dd if=/dev/urandom of=$device bs=4096 seek=1 count=200 conv=fsync", "it does not hold a whole file system"),
    // Something else.
    ("umount /deps; mkswap -f $device; sync", "it does not hold a whole file system"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_volume_is_refused_and_leaves_nothing() {
    let Some(bench) = Bench::open().await else { return };
    for (script, words) in GARBAGE {
        let find = "for disk in /sys/block/*; do \
                    if [ \"$(cat $disk/serial 2>/dev/null)\" = dayfly-fill ]; then device=/dev/${disk##*/}; fi; done";
        let producing = bench.begin("key", 1).await.unwrap();
        // A guest that lies would not say that it is not sealed either.
        drop(
            bench.fill(&producing, &format!("{find}; echo x >/deps/file; {{ {script}; }} >/dev/null 2>&1; true")).await,
        );
        let refused = bench.engine.publish_cache(VmId::random(), producing, &bench.prepared).await.unwrap_err();
        assert!(matches!(refused, CacheError::Refused(_)), "{script}: {refused}");
        assert!(refused.to_string().contains(words), "{script}: {refused}");
        assert_eq!(bench.left(), [""; 0], "{script}");
    }
    assert!(bench.engine.caches().current(&bench.cache).unwrap().is_none());
    bench.finish();
}

/// The disk that a job has in the place of a volume to fill keeps nothing, however much is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fills_nothing_writes_nowhere() {
    let Some(bench) = Bench::open().await else { return };
    bench.produce("key", 1, "echo x >/deps/file").await.unwrap();
    let script = "for disk in /sys/block/*; do \
                  if [ \"$(cat $disk/serial 2>/dev/null)\" = dayfly-fill ]; then device=/dev/${disk##*/}; fi; done; \
                  dd if=/dev/urandom of=$device bs=1M count=8 conv=fsync 2>/dev/null && blockdev --flushbufs $device && \
                  head -c 1000000 $device | tr -d '\\0' | wc -c; mount -t ext4 $device /mnt 2>/dev/null || echo none";
    assert_eq!(bench.use_it(CacheMode::ReadOnly, script).await, "0\nnone\n");
    assert!(bench.engine.caches().begin(wish(&bench.cache, &bench.prepared, "key", 2)).await.unwrap().is_none());
    bench.finish();
}
