//! Jobs that put an end to their machine, or to its agent, or take the agent's place.

use super::{Attack, under_attack};

/// What a job's root can do to PID 1: copy a descriptor of its ports, and speak in its stead. The ports themselves are open
/// already, and open once only.
macro_rules! as_agent {
    ($says:expr) => {
        concat!(
            "sudo cat /dev/vport0p1 2>&1 | grep -q busy && echo \"port=busy\"\n",
            "sudo perl -e 'my $agent = syscall(434, 1, 0); my $port = syscall(438, $agent, 3, 0);",
            " open(my $out, \"+>&=\", $port) or die $!; syswrite($out, ",
            $says,
            "); sleep 600'"
        )
    };
}

const SIGNALS: &str = "for signal in KILL SEGV TERM HUP STOP ABRT CHLD PIPE INT USR1; do sudo kill -s $signal 1; done\n\
                       sleep 0.5\necho \"alive=$(cat /proc/1/comm)\"";
const FREEZE: &str = "sudo sh -c 'cd /sys/fs/cgroup && mkdir ice && echo 1 > ice/cgroup.procs && echo 1 > ice/cgroup.freeze'\n\
                      sleep 600";
const SPIN: &str =
    "sudo sh -c 'echo -1 > /proc/sys/kernel/sched_rt_runtime_us; exec chrt -f 99 sh -c \"while :; do :; done\"'";

/// Name, profile, script, conclusion and reason, what the detail says.
type Row = (&'static str, &'static str, &'static str, (&'static str, &'static str), &'static str);

const TABLE: [Row; 12] = [
    (
        "power-off",
        "linux",
        "echo o | sudo tee /proc/sysrq-trigger; sleep 600",
        ("error", "powered_off"),
        "powered itself off",
    ),
    (
        "restart",
        "linux",
        "echo b | sudo tee /proc/sysrq-trigger; sleep 600",
        ("error", "powered_off"),
        "restarted itself",
    ),
    (
        "panic",
        "linux",
        "echo c | sudo tee /proc/sysrq-trigger; sleep 600",
        ("error", "kernel_panic"),
        "sysrq triggered crash",
    ),
    (
        "no-memory",
        "linux",
        "sudo sh -c 'echo -1000 > /proc/self/oom_score_adj; exec tail /dev/zero'; sleep 600",
        ("error", "kernel_panic"),
        "deadlocked on memory",
    ),
    (
        "no-ports",
        "linux",
        "echo virtio0 | sudo tee /sys/bus/virtio/drivers/virtio_console/unbind; sleep 600",
        ("error", "kernel_panic"),
        "Attempted to kill init",
    ),
    ("garbage", "linux", as_agent!("\"garbage\" x 10000"), ("error", "guest_misbehaved"), "no frame of this protocol"),
    (
        "huge-frame",
        "linux",
        as_agent!("pack(\"CCvVV\", 0xDF, 3, 0, 1, 0xFFFFFFFF)"),
        ("error", "guest_misbehaved"),
        "no frame of this protocol",
    ),
    (
        "stream-of-its-own",
        "linux",
        as_agent!("pack(\"CCvVV\", 0xDF, 2, 0, 2, 0)"),
        ("error", "guest_misbehaved"),
        "opened a stream where it may not",
    ),
    (
        "stream-of-another",
        "linux",
        as_agent!("pack(\"CCvVVa\", 0xDF, 3, 0, 999, 1, \"x\")"),
        ("error", "guest_misbehaved"),
        "used stream 999",
    ),
    ("frozen-agent", "short", FREEZE, ("timed_out", "timeout"), "longer than its limit of 8s"),
    ("spinning-kernel", "short", SPIN, ("timed_out", "timeout"), "longer than its limit of 8s"),
    ("signals", "linux", SIGNALS, ("success", ""), "1 step succeeded"),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_end_has_its_name_and_its_machine_is_gone() {
    let scripts = TABLE.map(|(_, _, script, ..)| [script]);
    let attacks: Vec<Attack<'_>> = std::iter::zip(&TABLE, &scripts)
        .map(|((name, profile, ..), script)| Attack { name, profile, steps: script })
        .collect();
    let Some(ends) = under_attack(&attacks).await else { return };
    for ((name, _, _, verdict, detail), ended) in std::iter::zip(TABLE, ends) {
        let said = ended.job.detail.as_deref().unwrap_or_default();
        assert_eq!(ended.job.verdict(), verdict, "{name}: {said}\n{}", ended.log);
        assert!(said.contains(detail), "{name}: {said}");
        assert_eq!(ended.job.attempt, 1, "{name}: what a job did to its machine is not tried again");
        assert!(ended.title().contains(said.lines().next().unwrap()), "{name}: {}", ended.title());
        match verdict.1 {
            "guest_misbehaved" => assert_eq!(ended.said("port"), "busy", "{name}"),
            "kernel_panic" => assert!(ended.log.contains("\n  | "), "{name}: {}", ended.log),
            "" => assert_eq!(ended.said("alive"), "init"),
            _ => {}
        }
    }
}
