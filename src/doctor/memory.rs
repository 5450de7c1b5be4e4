//! Whether the host has the memory that the profiles ask for.

use std::fs;

use super::finding::Finding;
use super::subject::{Subject, Wanted};

/// What a monitor takes beside its guest's memory, in MiB, at most.
const MONITOR_MIB: u64 = 512;

#[derive(Debug, Clone)]
struct Facts {
    total_mib: u64,
    available_mib: u64,
    swap_mib: u64,
    /// `vm.overcommit_memory`.
    overcommit: Option<u8>,
    /// What the cgroup of this process allows, where it is less than the host has.
    allowed_mib: Option<u64>,
    /// Name and memory of the profiles, in MiB.
    profiles: Vec<(String, u64)>,
}

pub(super) fn examine(subject: &Subject) -> Vec<Finding> {
    let facts = observe(&subject.profiles);
    vec![room(&facts), accounting(&facts)]
}

fn observe(profiles: &[Wanted]) -> Facts {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_mib = mib_of(&meminfo, "MemTotal:");
    let overcommit = fs::read_to_string("/proc/sys/vm/overcommit_memory").ok();
    let name = |wanted: &Wanted| wanted.profile.clone().unwrap_or_else(|| "dayfly exec".to_owned());
    Facts {
        total_mib,
        available_mib: mib_of(&meminfo, "MemAvailable:"),
        swap_mib: mib_of(&meminfo, "SwapTotal:"),
        overcommit: overcommit.and_then(|text| text.trim().parse().ok()),
        allowed_mib: allowed_mib().filter(|allowed| *allowed < total_mib),
        profiles: profiles.iter().map(|wanted| (name(wanted), wanted.shape.memory_mib)).collect(),
    }
}

fn mib_of(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// The memory limit of the cgroup that a container shows as its root.
fn allowed_mib() -> Option<u64> {
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let text = limits.iter().find_map(|file| fs::read_to_string(file).ok())?;
    Some(text.trim().parse::<u64>().ok()? >> 20)
}

fn room(facts: &Facts) -> Finding {
    let Facts { total_mib, available_mib, swap_mib, allowed_mib, profiles, .. } = facts;
    let (most, available) =
        (allowed_mib.unwrap_or(*total_mib), allowed_mib.map_or(*available_mib, |allowed| allowed.min(*available_mib)));
    let smallest = profiles.iter().map(|(_, mib)| *mib).min().unwrap_or(0);
    let too_large: Vec<String> =
        profiles.iter().filter(|(_, mib)| *mib > most).map(|(name, mib)| format!("`{name}` takes {mib} MiB")).collect();
    let finding = if smallest > most {
        Finding::problem("memory.room", format!("no profile fits into the {most} MiB of this host"))
            .detail(too_large.join(", "))
            .hint("lower `memory` in the profiles")
    } else if !too_large.is_empty() {
        Finding::warning("memory.room", format!("not every profile fits into the {most} MiB of this host"))
            .detail(too_large.join(", "))
            .hint("lower `memory` in these profiles, or remove them")
    } else if available < smallest + MONITOR_MIB {
        Finding::warning("memory.room", format!("{available} MiB of memory are free now, of {most} MiB"))
            .detail(format!("the smallest VM may take {} MiB, with its monitor", smallest + MONITOR_MIB))
    } else {
        Finding::ok("memory.room", format!("{available} MiB of memory are free, of {most} MiB"))
    };
    finding
        .data("total_mib", *total_mib)
        .data("available_mib", *available_mib)
        .data("allowed_mib", *allowed_mib)
        .data("swap_mib", *swap_mib)
}

/// Clones map their snapshot's memory privately: they can write all of it, and few do.
fn accounting(facts: &Facts) -> Finding {
    let finding = match facts.overcommit {
        Some(2) => Finding::warning("memory.accounting", "the kernel promises no more memory than there is")
            .detail("each VM counts with its full size, although VMs share most of their memory: fewer run at a time")
            .hint("`sysctl vm.overcommit_memory=0`"),
        Some(_) => Finding::ok("memory.accounting", "VMs can share the memory of their snapshot"),
        None => Finding::skipped("memory.accounting", "`/proc/sys/vm/overcommit_memory` cannot be read"),
    };
    finding.data("overcommit_memory", facts.overcommit)
}

#[cfg(test)]
mod tests {
    use super::super::finding::sketch;
    use super::*;

    fn facts() -> Facts {
        Facts {
            total_mib: 8000,
            available_mib: 6000,
            swap_mib: 0,
            overcommit: Some(0),
            allowed_mib: None,
            profiles: vec![("linux".into(), 512), ("big".into(), 4096)],
        }
    }

    #[test]
    fn memory_is_compared_with_what_profiles_ask_for() {
        let small = Facts { total_mib: 2000, available_mib: 1800, ..facts() };
        let tiny = Facts { total_mib: 400, available_mib: 300, ..facts() };
        let busy = Facts { available_mib: 700, ..facts() };
        let contained = Facts { allowed_mib: Some(1024), ..facts() };
        let strict = Facts { overcommit: Some(2), ..facts() };
        insta::assert_snapshot!(sketch(&[
            room(&facts()), accounting(&facts()), room(&small), room(&tiny), room(&busy), room(&contained), accounting(&strict),
        ]), @"
        ok memory.room: 6000 MiB of memory are free, of 8000 MiB
        ok memory.accounting: VMs can share the memory of their snapshot
        warning memory.room: not every profile fits into the 2000 MiB of this host
            `big` takes 4096 MiB
            -> lower `memory` in these profiles, or remove them
        problem memory.room: no profile fits into the 400 MiB of this host
            `linux` takes 512 MiB, `big` takes 4096 MiB
            -> lower `memory` in the profiles
        warning memory.room: 700 MiB of memory are free now, of 8000 MiB
            the smallest VM may take 1024 MiB, with its monitor
        warning memory.room: not every profile fits into the 1024 MiB of this host
            `big` takes 4096 MiB
            -> lower `memory` in these profiles, or remove them
        warning memory.accounting: the kernel promises no more memory than there is
            each VM counts with its full size, although VMs share most of their memory: fewer run at a time
            -> `sysctl vm.overcommit_memory=0`
        ");
    }

    #[test]
    fn numbers_are_found_in_what_the_kernel_says() {
        assert_eq!(mib_of("MemTotal:       24576 kB\nMemAvailable:   2048 kB\n", "MemAvailable:"), 2);
        assert_eq!(mib_of("", "MemTotal:"), 0);
    }
}
