//! Whether the configuration's limits and pools are what this host can carry.

use super::counted;
use super::finding::Finding;
use super::subject::Subject;
use crate::config::{Config, Profile};
use crate::host;
use crate::scheduler::capacity;
use crate::scheduler::plan::{Disk, Limits};

#[derive(Debug, Clone)]
struct Facts {
    host: host::Facts,
    limits: Limits,
    disk: Option<Disk>,
    profiles: Vec<Profile>,
}

/// Nothing without a configuration: commands have no limits.
pub(super) fn examine(subject: &Subject) -> Vec<Finding> {
    let Some(config) = subject.configuration.config() else { return Vec::new() };
    let facts = observe(config);
    [Some(room(&facts)), facts.disk.map(disk), pools(&facts)].into_iter().flatten().collect()
}

fn observe(config: &Config) -> Facts {
    let host = host::facts();
    let (limits, disk) = (capacity::limits(config, host), capacity::disk(config));
    Facts { host, limits, disk, profiles: config.profiles.clone() }
}

fn room(facts: &Facts) -> Finding {
    const ID: &str = "capacity.limits";
    let Limits { max_vms, memory_mib, vcpus } = facts.limits;
    let sum = format!("{}, {memory_mib} MiB of memory, {vcpus} vCPUs", counted(max_vms, "VM", "VMs"));
    let does_not_fit = |profile: &&Profile| profile.memory >> 20 > memory_mib || profile.vcpus > vcpus;
    let too_large: Vec<&str> =
        facts.profiles.iter().filter(does_not_fit).map(|profile| profile.name.as_str()).collect();
    let finding = if !too_large.is_empty() {
        Finding::problem(ID, format!("jobs of {} can never start", super::listed(too_large)))
            .detail(format!("all VMs together may take {sum}"))
            .hint("raise `limits.memory` and `limits.vcpus`, or lower `memory` and `vcpus` of the profile")
    } else if memory_mib > facts.host.memory_mib {
        Finding::warning(ID, format!("VMs may take more memory than the {} MiB of this host", facts.host.memory_mib))
            .detail(format!("at a time: {sum}"))
            .hint("this suits jobs that use a part of their `memory`; else lower `limits.memory`")
    } else {
        Finding::ok(ID, format!("at a time: {sum}"))
    };
    finding.data("max_vms", max_vms).data("memory_mib", memory_mib).data("vcpus", vcpus)
}

fn disk(disk: Disk) -> Finding {
    const ID: &str = "capacity.disk";
    let Disk { free_mib, reserve_mib } = disk;
    let finding = if free_mib < reserve_mib {
        Finding::problem(ID, format!("no job starts: {free_mib} MiB are free, and {reserve_mib} MiB are kept free"))
            .hint("free some space where `state_dir` is, or lower `limits.disk_reserve`")
    } else {
        Finding::ok(ID, format!("jobs start as long as {reserve_mib} MiB are free where `state_dir` is"))
    };
    finding.data("free_mib", free_mib).data("reserve_mib", reserve_mib)
}

/// Nothing where no profile has a pool.
fn pools(facts: &Facts) -> Option<Finding> {
    const ID: &str = "capacity.pools";
    let pooled: Vec<_> = facts.profiles.iter().filter_map(|profile| Some((profile, profile.pool?))).collect();
    if pooled.is_empty() {
        return None;
    }
    let sum = |of: fn(&Profile) -> u64| -> u64 {
        pooled
            .iter()
            .map(|(profile, pool)| u64::from(pool.min).saturating_mul(of(profile)))
            .fold(0, u64::saturating_add)
    };
    let (vms, memory, vcpus) =
        (sum(|_| 1), sum(|profile| profile.memory >> 20), sum(|profile| u64::from(profile.vcpus)));
    let Limits { max_vms, memory_mib, vcpus: max_vcpus } = facts.limits;
    let told = format!("the pools keep {vms} VMs, with {memory} MiB of memory and {vcpus} vCPUs, without any demand");
    let finding = if vms > max_vms as u64 || memory > memory_mib || vcpus > u64::from(max_vcpus) {
        Finding::warning(ID, "the pools can never have as many VMs as `min` says")
            .detail(format!("{told}; all VMs together may be {max_vms}, with {memory_mib} MiB and {max_vcpus} vCPUs"))
            .hint("lower `min` of the pools, or raise the limits")
    } else {
        Finding::ok(ID, told)
    };
    Some(finding.data("vms", vms).data("memory_mib", memory).data("vcpus", vcpus))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::finding::sketch;
    use super::*;

    fn facts(lines: &str) -> Facts {
        let text = format!(
            "[server]\npublic_url = 'https://ci.example.org'\n[github]\nwebhook_secret = {{ env = 'HOOK' }}\n\
             token = {{ env = 'TOKEN' }}\n[profile.linux]\nlabels = ['linux']\n{lines}"
        );
        let (config, _) = Config::parse("dayfly.toml", &text).unwrap();
        let host = host::Facts { cpus: 2, memory_mib: 4096 };
        let limits = capacity::limits(&config, host);
        Facts { host, limits, disk: Some(Disk { free_mib: 500, reserve_mib: 400 }), profiles: config.profiles }
    }

    #[test]
    fn what_a_host_cannot_carry_is_told() {
        let (plain, pooled) = (facts(""), facts("pool = { min = 2 }\n"));
        let crowded = facts("memory = '1 GiB'\npool = { min = 4 }\n");
        let generous = facts("[limits]\nmemory = '16 GiB'\n");
        let small = facts("vcpus = 2\n[limits]\nmemory = '256 MiB'\n");
        let full = Disk { free_mib: 399, ..plain.disk.unwrap() };
        assert_eq!(pools(&plain).map(|finding| finding.title), None);
        insta::assert_snapshot!(sketch(&[
            room(&plain), disk(plain.disk.unwrap()), disk(full), room(&generous), room(&small),
            pools(&pooled).unwrap(), pools(&crowded).unwrap(),
        ]), @"
        ok capacity.limits: at a time: 4 VMs, 3276 MiB of memory, 4 vCPUs
        ok capacity.disk: jobs start as long as 400 MiB are free where `state_dir` is
        problem capacity.disk: no job starts: 399 MiB are free, and 400 MiB are kept free
            -> free some space where `state_dir` is, or lower `limits.disk_reserve`
        warning capacity.limits: VMs may take more memory than the 4096 MiB of this host
            at a time: 4 VMs, 16384 MiB of memory, 4 vCPUs
            -> this suits jobs that use a part of their `memory`; else lower `limits.memory`
        problem capacity.limits: jobs of `linux` can never start
            all VMs together may take 4 VMs, 256 MiB of memory, 4 vCPUs
            -> raise `limits.memory` and `limits.vcpus`, or lower `memory` and `vcpus` of the profile
        ok capacity.pools: the pools keep 2 VMs, with 1024 MiB of memory and 2 vCPUs, without any demand
        warning capacity.pools: the pools can never have as many VMs as `min` says
            the pools keep 4 VMs, with 4096 MiB of memory and 4 vCPUs, without any demand; all VMs together may be 4, with 3276 MiB and 4 vCPUs
            -> lower `min` of the pools, or raise the limits
        ");
    }
}
