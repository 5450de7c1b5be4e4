//! Whether each VM's monitor can be bounded from outside.

use super::finding::Finding;
use super::listed;
use super::subject::Subject;
use crate::host::cgroup::{CONTROLLERS, Hierarchy, hierarchy};

/// What it means that there is no cgroup for a VM.
const UNBOUNDED: &str = "VMs run, but memory and processor time of their monitors are not bounded by the kernel";

pub(super) fn examine(_: &Subject) -> Vec<Finding> {
    vec![judge(&hierarchy())]
}

fn judge(hierarchy: &Hierarchy) -> Finding {
    const ID: &str = "host.cgroups";
    match hierarchy {
        Hierarchy::V2 { controllers, is_writable } => {
            let missing = CONTROLLERS.into_iter().filter(|wanted| controllers.iter().all(|there| there != wanted));
            let missing: Vec<&str> = missing.collect();
            let finding = match (missing.is_empty(), is_writable) {
                (true, true) => Finding::ok(ID, "cgroup v2: each VM gets its own, with limits"),
                (true, false) => Finding::warning(ID, "cgroup v2, but this user may make no groups")
                    .detail(UNBOUNDED)
                    .hint("run it as root; in a container, mount /sys/fs/cgroup writable"),
                (false, _) => Finding::warning(ID, format!("cgroup v2 without {}", listed(missing.iter().copied())))
                    .detail(UNBOUNDED)
                    .hint("in a container: delegate these controllers to it"),
            };
            finding.data("version", 2).data("controllers", controllers.clone()).data("writable", *is_writable)
        }
        Hierarchy::V1 { is_hybrid } => {
            let title = if *is_hybrid { "cgroup v1, with an empty v2 beside it" } else { "cgroup v1" };
            Finding::warning(ID, title)
                .detail(UNBOUNDED)
                .hint("start the host with `systemd.unified_cgroup_hierarchy=1` on the kernel's command line")
                .data("version", 1)
                .data("hybrid", *is_hybrid)
        }
        Hierarchy::Missing(why) => Finding::warning(ID, "there are no cgroups").detail(format!("{why}; {UNBOUNDED}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::sketch;
    use super::*;

    #[test]
    fn every_kind_of_cgroups_has_its_words() {
        let v2 = |names: &[&str], is_writable| {
            judge(&Hierarchy::V2 { controllers: names.iter().map(|&name| name.to_owned()).collect(), is_writable })
        };
        insta::assert_snapshot!(sketch(&[
            v2(&["cpuset", "cpu", "io", "memory", "pids"], true),
            v2(&CONTROLLERS, false),
            v2(&["pids"], true),
            judge(&Hierarchy::V1 { is_hybrid: false }),
            judge(&Hierarchy::V1 { is_hybrid: true }),
            judge(&Hierarchy::Missing("/sys/fs/cgroup: ENOENT".into())),
        ]), @"
        ok host.cgroups: cgroup v2: each VM gets its own, with limits
        warning host.cgroups: cgroup v2, but this user may make no groups
            VMs run, but memory and processor time of their monitors are not bounded by the kernel
            -> run it as root; in a container, mount /sys/fs/cgroup writable
        warning host.cgroups: cgroup v2 without `memory`, `cpu`
            VMs run, but memory and processor time of their monitors are not bounded by the kernel
            -> in a container: delegate these controllers to it
        warning host.cgroups: cgroup v1
            VMs run, but memory and processor time of their monitors are not bounded by the kernel
            -> start the host with `systemd.unified_cgroup_hierarchy=1` on the kernel's command line
        warning host.cgroups: cgroup v1, with an empty v2 beside it
            VMs run, but memory and processor time of their monitors are not bounded by the kernel
            -> start the host with `systemd.unified_cgroup_hierarchy=1` on the kernel's command line
        warning host.cgroups: there are no cgroups
            /sys/fs/cgroup: ENOENT; VMs run, but memory and processor time of their monitors are not bounded by the kernel
        ");
    }
}
