//! Jobs that use their machine up.

use super::{Attack, under_attack};

/// Takes all of the disk, without a file system's help in the end.
const FILL: &str = "fallocate -l 900M big\ncat /dev/zero > rest";

/// What later steps find when processes are left that fill the table.
const BOMB: &str = "(while :; do sleep 600 & done) > /dev/null 2>&1 &\nsleep 6\necho \"armed=yes\"";

/// The same as root, whom no limit of processes holds.
const ROOT_BOMB: &str = "sudo sh -c 'while :; do sleep 600 & done' > /dev/null 2>&1 &\nsleep 12\necho \"armed=yes\"";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_lacks_is_named() {
    let attacks = [
        Attack { name: "disk", profile: "linux", steps: &[FILL] },
        Attack { name: "processes", profile: "linux", steps: &[BOMB, "echo \"ran=on\""] },
        Attack { name: "root-processes", profile: "linux", steps: &[ROOT_BOMB, "echo \"ran=on\""] },
    ];
    let Some(ends) = under_attack(&attacks).await else { return };
    let [disk, processes, root_processes] = ends.as_slice() else { panic!("three were started") };

    assert_eq!(disk.job.verdict(), ("error", "guest_disk_full"), "{}", disk.log);
    assert!(disk.title().contains("the machine's disk is full"), "{}", disk.title());
    assert!(disk.log.contains("a profile with a larger disk may help"), "{}", disk.log);

    for ended in [processes, root_processes] {
        assert_eq!(ended.said("armed"), "yes", "{}", ended.log);
        assert_eq!(ended.job.verdict(), ("failure", ""), "{:?}\n{}", ended.job.detail, ended.log);
        let detail = ended.job.detail.as_deref().unwrap();
        assert!(detail.contains("can run no more processes"), "{detail}\n{}", ended.log);
    }
}
