//! Whether each VM's monitor can be confined: tried, part by part, and with QEMU.

use std::fs;
use std::sync::Arc;

use super::finding::{Finding, Status};
use super::subject::Subject;
use super::trial::{self, Outcome};
use crate::host::cgroup::{CONTROLLERS, Hierarchy, hierarchy};
use crate::host::process::find_program;
use crate::host::uids::UidRange;
use crate::vm::confinement::try_jail;

/// What it means that monitors cannot be confined.
const UNCONFINED: &str =
    "a guest that takes over its monitor becomes this host's root: it sees all files, processes and networks";

#[derive(Debug, Clone)]
struct Facts {
    uids: UidRange,
    is_required: bool,
    /// VMs at a time that the configuration allows; 0 without a number.
    max_vms: u32,
    /// Whom ids of the range belong to already.
    taken: Vec<String>,
    /// Why a process cannot go into a jail, if it cannot.
    jail: Result<(), String>,
    /// How QEMU ran in one, if it is there.
    qemu: Option<Outcome>,
    has_groups: bool,
}

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    judge(&observe(&subject).await)
}

async fn observe(subject: &Subject) -> Facts {
    let config = subject.configuration.config();
    let uids = config.map_or_else(UidRange::default, |config| config.vm.uids);
    let tried = try_jail(uids).map_err(|error| error.to_string());
    let qemu = match &tried {
        Ok(uids) if find_program(&subject.qemu).is_some() => Some(trial::confined(&subject.qemu, uids).await),
        _ => None,
    };
    Facts {
        uids,
        is_required: config.is_some_and(|config| config.vm.require_confinement),
        max_vms: config.map_or(0, |config| config.limits.max_vms),
        taken: taken(uids, &read("/etc/passwd"), &read("/etc/subuid")),
        jail: tried.map(drop),
        qemu,
        has_groups: has_groups(&hierarchy()),
    }
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

fn has_groups(hierarchy: &Hierarchy) -> bool {
    match hierarchy {
        Hierarchy::V2 { controllers, is_writable } => {
            *is_writable && CONTROLLERS.iter().all(|wanted| controllers.iter().any(|there| there == wanted))
        }
        Hierarchy::V1 { .. } | Hierarchy::Missing(_) => false,
    }
}

/// Users with an id in the range, and users who may make others of ids in it.
fn taken(uids: UidRange, passwd: &str, subuid: &str) -> Vec<String> {
    let (first, end) = (u64::from(uids.first), u64::from(uids.first) + u64::from(uids.count));
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let number = |field: Option<&String>| field.and_then(|text| text.parse::<u64>().ok());
    let users = passwd.lines().map(fields).filter_map(|fields| {
        let uid = number(fields.get(2)).filter(|uid| (first..end).contains(uid))?;
        Some(format!("user `{}` is {uid}", fields[0]))
    });
    let ranges = subuid.lines().map(fields).filter_map(|fields| {
        let (from, count) = (number(fields.get(1))?, number(fields.get(2))?);
        (from < end && first < from.saturating_add(count))
            .then(|| format!("user `{}` may use {count} ids from {from} on (/etc/subuid)", fields[0]))
    });
    users.chain(ranges).collect()
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![jail(facts), users(facts), qemu(facts)];
    if facts.is_required {
        findings.push(required(facts));
    }
    findings
}

fn jail(facts: &Facts) -> Finding {
    const ID: &str = "confinement.jail";
    match &facts.jail {
        Ok(()) => Finding::ok(
            ID,
            "each VM's monitor gets a user, namespaces, a root and a filter of system calls of its own, and no capabilities",
        ),
        Err(why) => Finding::warning(ID, "monitors of VMs cannot be confined")
            .detail(format!("{why}; {UNCONFINED}"))
            .hint("run it as root, on Linux 5.14 or newer; a container needs `CAP_SYS_ADMIN` and the right to mount"),
    }
}

fn users(facts: &Facts) -> Finding {
    const ID: &str = "confinement.users";
    let UidRange { first, count } = facts.uids;
    let range = format!("{first} to {}", u64::from(first) + u64::from(count) - 1);
    let finding = if !facts.taken.is_empty() {
        Finding::warning(ID, format!("user ids {range} are not the monitors' alone"))
            .detail(facts.taken.join("\n"))
            .hint("choose others: `[vm] uids = { first = …, count = … }`")
    } else if facts.max_vms > count {
        Finding::warning(ID, format!("{count} user ids are fewer than the {} VMs of `limits.max_vms`", facts.max_vms))
            .hint("raise `count` in `[vm] uids`")
    } else {
        Finding::ok(ID, format!("monitors run as users {range}, which nobody else is"))
    };
    finding.data("first", first).data("count", count).data("taken", facts.taken.clone())
}

fn qemu(facts: &Facts) -> Finding {
    const ID: &str = "confinement.qemu";
    match &facts.qemu {
        None => Finding::skipped(ID, "QEMU is not tried in a jail: one of the two is missing"),
        Some(Outcome::Ran(took)) => Finding::ok(ID, format!("QEMU runs in it ({} ms)", took.as_millis()))
            .data("milliseconds", took.as_millis() as u64),
        Some(Outcome::Failed(said)) => {
            Finding::problem(ID, "QEMU does not run where it is confined").explained_by(said)
        }
        Some(Outcome::TimedOut(limit)) => {
            Finding::problem(ID, format!("QEMU did not run within {} s where it is confined", limit.as_secs()))
                .hint("is this host overloaded?")
        }
    }
}

/// Only with `require_confinement`.
fn required(facts: &Facts) -> Finding {
    const ID: &str = "confinement.required";
    let ran = matches!(facts.qemu, Some(Outcome::Ran(_)));
    let status = if ran && facts.has_groups { Status::Ok } else { Status::Problem };
    let finding = match status {
        Status::Ok => Finding::ok(ID, "`[vm] require_confinement` is met"),
        _ => Finding::problem(
            ID,
            "`[vm] require_confinement` is set, and something is missing: the service does not start",
        )
        .hint("see the other findings here and `host.cgroups`"),
    };
    finding.data("jail", facts.jail.is_ok()).data("cgroups", facts.has_groups)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::finding::sketch;
    use super::*;

    fn facts() -> Facts {
        Facts {
            uids: UidRange { first: 900_000, count: 10 },
            is_required: true,
            max_vms: 4,
            taken: Vec::new(),
            jail: Ok(()),
            qemu: Some(Outcome::Ran(Duration::from_millis(70))),
            has_groups: true,
        }
    }

    #[test]
    fn every_kind_of_confinement_has_its_words() {
        let poor = Facts {
            jail: Err("confining it failed at making its namespaces: EPERM".into()),
            qemu: None,
            taken: vec!["user `ann` is 900001".into()],
            ..facts()
        };
        let few = Facts { max_vms: 11, is_required: false, ..facts() };
        let broken = Facts { qemu: Some(Outcome::Failed("no library".into())), has_groups: false, ..facts() };
        let slow = Facts { qemu: Some(Outcome::TimedOut(Duration::from_secs(8))), ..few.clone() };
        let all = [judge(&facts()), judge(&poor), judge(&few), judge(&broken).split_off(2), judge(&slow).split_off(2)];
        insta::assert_snapshot!(sketch(&all.concat()), @"
        ok confinement.jail: each VM's monitor gets a user, namespaces, a root and a filter of system calls of its own, and no capabilities
        ok confinement.users: monitors run as users 900000 to 900009, which nobody else is
        ok confinement.qemu: QEMU runs in it (70 ms)
        ok confinement.required: `[vm] require_confinement` is met
        warning confinement.jail: monitors of VMs cannot be confined
            confining it failed at making its namespaces: EPERM; a guest that takes over its monitor becomes this host's root: it sees all files, processes and networks
            -> run it as root, on Linux 5.14 or newer; a container needs `CAP_SYS_ADMIN` and the right to mount
        warning confinement.users: user ids 900000 to 900009 are not the monitors' alone
            user `ann` is 900001
            -> choose others: `[vm] uids = { first = …, count = … }`
        skipped confinement.qemu: QEMU is not tried in a jail: one of the two is missing
        problem confinement.required: `[vm] require_confinement` is set, and something is missing: the service does not start
            -> see the other findings here and `host.cgroups`
        ok confinement.jail: each VM's monitor gets a user, namespaces, a root and a filter of system calls of its own, and no capabilities
        warning confinement.users: 10 user ids are fewer than the 11 VMs of `limits.max_vms`
            -> raise `count` in `[vm] uids`
        ok confinement.qemu: QEMU runs in it (70 ms)
        problem confinement.qemu: QEMU does not run where it is confined
            no library
        problem confinement.required: `[vm] require_confinement` is set, and something is missing: the service does not start
            -> see the other findings here and `host.cgroups`
        problem confinement.qemu: QEMU did not run within 8 s where it is confined
            -> is this host overloaded?
        ");
    }

    #[test]
    fn ids_of_others_are_found_by_their_numbers() {
        let uids = UidRange { first: 900_000, count: 10 };
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:900009:100::/:/bin/sh\nbob:x:900010:100::/:/bin/sh\n";
        let subuid = "ann:100000:65536\nbob:899990:11\ncarol:900010:5\n";
        assert_eq!(
            taken(uids, passwd, subuid),
            ["user `ann` is 900009", "user `bob` may use 11 ids from 899990 on (/etc/subuid)"]
        );
        assert!(taken(uids, "", "broken\n:::\n").is_empty());
    }
}
