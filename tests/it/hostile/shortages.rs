//! Jobs that use their machine up.

use super::{Attack, under_attack};

/// Takes all of the disk: most of it at once, then what is left.
const FILL: &str = "fallocate -l 900M big\ncat /dev/zero > rest";

/// Leaves a process behind that fills the table with threads, which cost little else, and keeps it full.
const BOMB: &str = r#"
import _thread, os, time
ready, tell = os.pipe()
if os.fork():
    os.read(ready, 1)
    print("armed=yes", flush=True)
    os._exit(0)
_thread.stack_size(32768)
while True:
    try:
        _thread.start_new_thread(time.sleep, (600,))
    except RuntimeError:
        os.write(tell, b"x")
        time.sleep(0.1)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_lacks_is_named() {
    let bomb = |python: &str| format!("cat > bomb.py <<'END'\n{BOMB}\nEND\nexec {python} bomb.py");
    // No limit of processes holds root; there only the kernel's own table ends.
    let (user, root) = (bomb("python3"), bomb("sudo python3"));
    let next = "echo \"ran=on\"";
    let attacks = [
        Attack { name: "disk", profile: "linux", steps: &[FILL] },
        Attack { name: "processes", profile: "linux", steps: &[&user, next] },
        Attack { name: "root-processes", profile: "linux", steps: &[&root, next] },
    ];
    let Some(ends) = under_attack(&attacks).await else { return };
    let [disk, processes, root_processes] = ends.as_slice() else { panic!("three were started") };

    assert_eq!(disk.job.verdict(), ("error", "guest_disk_full"), "{}", disk.log);
    assert!(disk.title().contains("the machine's disk is full"), "{}", disk.title());
    assert!(disk.log.contains("a profile with a larger disk may help"), "{}", disk.log);

    // The account's limit leaves room for the agent, which is root's, and for one more shell.
    assert_eq!((processes.said("armed"), processes.said("ran")), ("yes", "on"), "{}", processes.log);
    assert_eq!(processes.job.verdict(), ("success", ""), "{:?}", processes.job.detail);

    assert_eq!(root_processes.said("armed"), "yes", "{}", root_processes.log);
    let detail = root_processes.job.detail.as_deref().unwrap();
    assert_eq!(root_processes.job.verdict(), ("failure", ""), "{detail}\n{}", root_processes.log);
    assert!(detail.contains("the machine can run no more processes"), "{detail}");
}
