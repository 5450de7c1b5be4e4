//! The machine, its kernel, the user who asks and what that user may do.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};

use super::finding::Finding;
use super::subject::Subject;
use super::{counted, listed};
use crate::scheduler::capacity;

/// From this kernel on, what is in a VM's cgroup is killed in one stroke.
const CGROUP_KILL: (u32, u32) = (5, 14);
/// From this kernel on, a process cannot be mistaken for another that got its id.
const PROCESS_DESCRIPTORS: (u32, u32) = (5, 3);

/// What the owner of VMs and images needs, and the bit of each in the kernel's sets.
const CAPABILITIES: [(&str, u32); 8] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_MKNOD", 27),
];

/// Descriptors of the service itself, and of each VM: disks, memory, channel, log.
const DESCRIPTORS: u64 = 256;
const DESCRIPTORS_PER_VM: u64 = 16;

/// Tasks (processes and their threads) of everything else on the host, and of each VM.
const TASKS: u64 = 1024;
const TASKS_PER_VM: u64 = 32;

#[derive(Debug, Clone)]
struct Facts {
    architecture: String,
    processors: usize,
    model: String,
    kernel: String,
    user: u32,
    /// Bits of the effective set.
    capabilities: u64,
    /// Open files that a process may have.
    descriptors: u64,
    /// Processes and threads that there may be.
    tasks: u64,
    /// VMs at a time.
    vms: usize,
}

pub(super) fn examine(subject: &Subject) -> Vec<Finding> {
    let facts = observe(subject);
    vec![machine(&facts), kernel(&facts), user(&facts), descriptors(&facts), tasks(&facts)]
}

fn observe(subject: &Subject) -> Facts {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let host = crate::host::facts();
    let max_vms = subject.configuration.config().map_or(0, |config| config.limits.max_vms);
    Facts {
        architecture: std::env::consts::ARCH.to_owned(),
        processors: host.cpus,
        model: field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown").to_owned(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        user: nix::unistd::geteuid().as_raw(),
        capabilities: field(&read("/proc/self/status"), "CapEff")
            .and_then(|hexadecimal| u64::from_str_radix(hexadecimal, 16).ok())
            .unwrap_or(0),
        descriptors: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
        tasks: allowed_tasks(),
        vms: capacity::max_vms(max_vms, host),
    }
}

/// The smallest of the limits on tasks that are known. The one on a user's processes does not hold for root.
fn allowed_tasks() -> u64 {
    let of_kernel = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    let of_kernel = of_kernel.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    let of_user = getrlimit(Resource::RLIMIT_NPROC).map(|(soft, _)| soft).ok();
    of_kernel.chain(of_user.filter(|_| !nix::unistd::geteuid().is_root())).min().unwrap_or(u64::MAX)
}

/// The value of the first line `name: value`.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim()))
}

fn machine(facts: &Facts) -> Finding {
    let Facts { architecture, processors, model, .. } = facts;
    let finding = if architecture == "x86_64" {
        let processors = counted(*processors, "processor", "processors");
        Finding::ok("host.machine", format!("x86-64, {processors} ({model})"))
    } else {
        Finding::problem("host.machine", format!("`{architecture}` is not supported: guests are x86-64"))
    };
    finding.data("architecture", architecture.as_str()).data("processors", *processors).data("model", model.as_str())
}

fn kernel(facts: &Facts) -> Finding {
    let title = format!("Linux {}", facts.kernel);
    let version = version_of(&facts.kernel).unwrap_or((0, 0));
    let finding = if version < PROCESS_DESCRIPTORS {
        Finding::warning("host.kernel", format!("{title} is old"))
            .detail("a process of a VM could be mistaken for another one that got its id")
            .hint("use Linux 5.14 or newer")
    } else if version < CGROUP_KILL {
        Finding::warning("host.kernel", format!("{title} is old"))
            .detail("processes of a VM are ended one by one, not with their cgroup")
            .hint("use Linux 5.14 or newer")
    } else {
        Finding::ok("host.kernel", title)
    };
    finding.data("release", facts.kernel.as_str())
}

/// `6.18` of `6.18.44-cloud-amd64`.
fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn user(facts: &Facts) -> Finding {
    let missing: Vec<&str> =
        CAPABILITIES.iter().filter(|(_, bit)| facts.capabilities & (1 << bit) == 0).map(|(name, _)| *name).collect();
    let finding = match (facts.user, missing.is_empty()) {
        (0, true) => Finding::ok("host.user", "running as root"),
        (0, false) => Finding::warning("host.user", format!("root lacks {}", listed(missing.iter().copied())))
            .detail("building an image may fail, and VMs may get no cgroup of their own")
            .hint("in a container: give it these capabilities; under systemd: see `CapabilityBoundingSet=`"),
        (user, _) => Finding::warning("host.user", format!("running as user {user}, not as root"))
            .detail("images cannot be built, and VMs get no cgroup of their own")
            .hint("run it with sudo; the service runs as root"),
    };
    finding.data("uid", facts.user).data("missing_capabilities", missing)
}

fn descriptors(facts: &Facts) -> Finding {
    let needed = DESCRIPTORS + DESCRIPTORS_PER_VM * facts.vms as u64;
    let hint = "`ulimit -n` for a shell, `LimitNOFILE=` for the service";
    enough("host.descriptors", "open files", facts.descriptors, needed, facts.vms, hint)
}

fn tasks(facts: &Facts) -> Finding {
    let needed = TASKS + TASKS_PER_VM * facts.vms as u64;
    let hint = "`sysctl kernel.pid_max` and `kernel.threads-max`; `ulimit -u` for a user";
    enough("host.tasks", "processes and threads", facts.tasks, needed, facts.vms, hint)
}

/// Whether a limit suffices for so many VMs.
fn enough(id: &str, what: &str, limit: u64, needed: u64, vms: usize, hint: &str) -> Finding {
    let for_vms = counted(vms, "VM", "VMs");
    let finding = if limit >= needed {
        Finding::ok(id, format!("{limit} {what} are allowed, enough for {for_vms}"))
    } else {
        Finding::warning(id, format!("{limit} {what} are allowed, {needed} may be needed"))
            .detail(format!("this is for {for_vms} at a time"))
            .hint(hint)
    };
    finding.data("limit", limit).data("needed", needed).data("vms", vms)
}

#[cfg(test)]
mod tests {
    use super::super::finding::sketch;
    use super::*;

    fn facts() -> Facts {
        Facts {
            architecture: "x86_64".into(),
            processors: 2,
            model: "A Processor".into(),
            kernel: "6.1.0-18-amd64".into(),
            user: 0,
            capabilities: u64::MAX,
            descriptors: 1024,
            tasks: 32_768,
            vms: 4,
        }
    }

    #[test]
    fn every_shortcoming_of_a_host_has_its_words() {
        let healthy = facts();
        insta::assert_snapshot!(sketch(&[machine(&healthy), kernel(&healthy), user(&healthy), descriptors(&healthy), tasks(&healthy)]), @"
        ok host.machine: x86-64, 2 processors (A Processor)
        ok host.kernel: Linux 6.1.0-18-amd64
        ok host.user: running as root
        ok host.descriptors: 1024 open files are allowed, enough for 4 VMs
        ok host.tasks: 32768 processes and threads are allowed, enough for 4 VMs
        ");
        let arm = Facts { architecture: "aarch64".into(), ..facts() };
        let old = Facts { kernel: "5.10.0".into(), ..facts() };
        let ancient = Facts { kernel: "4.18".into(), ..facts() };
        let contained = Facts { capabilities: !(1 << 21 | 1 << 27), ..facts() };
        let person = Facts { user: 1000, capabilities: 0, ..facts() };
        let crowded = Facts { vms: 2000, ..facts() };
        insta::assert_snapshot!(sketch(&[
            machine(&arm), kernel(&old), kernel(&ancient), user(&contained), user(&person), descriptors(&crowded), tasks(&crowded),
        ]), @"
        problem host.machine: `aarch64` is not supported: guests are x86-64
        warning host.kernel: Linux 5.10.0 is old
            processes of a VM are ended one by one, not with their cgroup
            -> use Linux 5.14 or newer
        warning host.kernel: Linux 4.18 is old
            a process of a VM could be mistaken for another one that got its id
            -> use Linux 5.14 or newer
        warning host.user: root lacks `CAP_SYS_ADMIN`, `CAP_MKNOD`
            building an image may fail, and VMs may get no cgroup of their own
            -> in a container: give it these capabilities; under systemd: see `CapabilityBoundingSet=`
        warning host.user: running as user 1000, not as root
            images cannot be built, and VMs get no cgroup of their own
            -> run it with sudo; the service runs as root
        warning host.descriptors: 1024 open files are allowed, 32256 may be needed
            this is for 2000 VMs at a time
            -> `ulimit -n` for a shell, `LimitNOFILE=` for the service
        warning host.tasks: 32768 processes and threads are allowed, 65024 may be needed
            this is for 2000 VMs at a time
            -> `sysctl kernel.pid_max` and `kernel.threads-max`; `ulimit -u` for a user
        ");
    }

    #[test]
    fn releases_are_read_as_far_as_needed() {
        for (release, version) in [("6.1.0-18-amd64", Some((6, 1))), ("5.14", Some((5, 14))), ("", None), ("x.y", None)]
        {
            assert_eq!(version_of(release), version, "{release}");
        }
    }
}
