//! `[vm]`: what runs the machines, and what of the host that may have.

use std::path::Path;

use super::sections::{Claimed, GIB, Sections};
use super::units::size_between;
use super::values::program;
use super::{Backend, Firecracker, Limits, Vm};
use crate::document::{Complaint, Item, Table};
use crate::host::cgroup::IoLimits;
use crate::host::uids::UidRange;

/// User ids below are those of people and of the system.
const FIRST_UID: u32 = 10_000;
/// The last two numbers mean "nobody in particular" to the kernel.
const LAST_UID: u32 = u32::MAX - 2;
const MAX_UIDS: u32 = 1 << 20;

const MIB: u64 = 1 << 20;

/// The section, with `state_dir` for its defaults.
pub(super) fn read(sections: &Sections<'_>, root: &Table<'_>, state_dir: Option<&Path>) -> Option<Vm> {
    let known = &["backend", "qemu", "firecracker", "images_dir", "recipes_dir", "uids", "io", "require_confinement"];
    let table = root.section("vm", known)?;
    let backends = [
        ("auto", Backend::Auto),
        ("qemu-kvm", Backend::QemuKvm),
        ("qemu-tcg", Backend::QemuTcg),
        ("firecracker", Backend::Firecracker),
    ];
    let program_of = |table: &Table<'_>, key: &str, usual: &str| {
        table.read_or(key, usual.into(), |item| program(item, sections.directory()))
    };
    let firecracker = table.section("firecracker", &["binary", "jailer"])?;
    let recipes_dir = table.get("recipes_dir").map_or_else(Vec::new, |item| item.one_or_list());
    let recipe_paths = recipes_dir.iter().map(|item| sections.existing_path(item, Claimed::Directory));
    Some(Vm {
        backend: table.read_or("backend", Backend::Auto, |item| item.one_of(&backends)),
        qemu: program_of(&table, "qemu", "qemu-system-x86_64"),
        firecracker: Firecracker {
            binary: program_of(&firecracker, "binary", "firecracker"),
            jailer: program_of(&firecracker, "jailer", "jailer"),
        },
        recipes_dir: recipe_paths.flatten().collect(),
        uids: table.read_or("uids", UidRange::default(), uids),
        io: table.read_or("io", IoLimits::default(), io),
        require_confinement: table.read_or("require_confinement", false, |item| item.bool()),
        images_dir: match table.get("images_dir") {
            Some(item) => sections.path(&item)?,
            None => state_dir?.join("images"),
        },
    })
}

fn uids(item: &Item<'_>) -> Option<UidRange> {
    let table = item.table(&["first", "count"])?;
    let hint = "like `uids = { first = 900000, count = 4096 }`";
    let first = table.required_hint("first", hint).and_then(|item| item.integer_in(FIRST_UID..=LAST_UID));
    let count = table.required_hint("count", hint).and_then(|item| item.integer_in(1..=MAX_UIDS));
    let (first, count) = (first?, count?);
    if LAST_UID - first < count - 1 {
        item.refuse(Complaint::new(format!("{count} ids from {first} on go beyond the last one, {LAST_UID}")));
        return None;
    }
    Some(UidRange { first, count })
}

/// Each VM has a user of its own.
pub(super) fn refuse_too_few_users(root: &Table<'_>, vm: &Vm, limits: &Limits) {
    let Some(section) = root.get("limits").filter(|_| limits.max_vms > vm.uids.count) else { return };
    let (vms, users) = (limits.max_vms, vm.uids.count);
    section.refuse(
        Complaint::new(format!("`max_vms` is {vms}, and there are {users} users for VMs, each of which needs one"))
            .hint("raise `count` of `uids` in `[vm]`, or lower `max_vms`"),
    );
}

fn io(item: &Item<'_>) -> Option<IoLimits> {
    let table = item.table(&["bandwidth", "operations"])?;
    Some(IoLimits {
        bandwidth: table.read_or("bandwidth", None, |item| size_between(item, MIB, 1024 * GIB).map(Some)),
        operations: table.read_or("operations", None, |item| item.integer_in(10..=100_000_000).map(Some)),
    })
}
