//! What the host's limits leave free, and what takes of it.

use super::{Disk, Job, Reserve, Snapshot, Stage, WaitReason};
use crate::ids::VmId;

/// More openings than this are not counted: nobody asks for so many jobs at once.
const MOST_OPENINGS: u32 = 1000;

/// What a VM takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub memory_mib: u64,
    pub vcpus: u32,
}

/// What all VMs together may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub max_vms: usize,
    pub memory_mib: u64,
    pub vcpus: u32,
}

/// What is free of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub vms: usize,
    pub memory_mib: u64,
    pub vcpus: u32,
}

impl Room {
    /// Whether a VM of this size fits.
    pub fn has(&self, size: Size) -> bool {
        self.vms > 0 && size.memory_mib <= self.memory_mib && size.vcpus <= self.vcpus
    }

    /// A VM takes its part. Saturates: limits that were lowered may be exceeded by what already runs.
    pub fn take(&mut self, size: Size) {
        self.vms = self.vms.saturating_sub(1);
        self.memory_mib = self.memory_mib.saturating_sub(size.memory_mib);
        self.vcpus = self.vcpus.saturating_sub(size.vcpus);
    }

    /// What both have.
    fn least(self, other: Self) -> Self {
        Self {
            vms: self.vms.min(other.vms),
            memory_mib: self.memory_mib.min(other.memory_mib),
            vcpus: self.vcpus.min(other.vcpus),
        }
    }

    /// The same with one VM less.
    fn without(self, size: Size) -> Self {
        Self {
            vms: self.vms + 1,
            memory_mib: self.memory_mib.saturating_add(size.memory_mib),
            vcpus: self.vcpus.saturating_add(size.vcpus),
        }
    }
}

/// What the plan gives away.
pub(super) struct Free<'a> {
    limits: Limits,
    disk: Option<Disk>,
    /// Beside jobs and pools.
    pub(super) room: Room,
    /// VMs of pools that nobody has been given yet, longest ready first.
    reserve: Vec<&'a Reserve>,
}

/// How a job that shall start gets its room.
pub(super) enum Way<'a> {
    /// It takes free room.
    Fresh,
    /// It takes a VM that waits for it.
    Claim(&'a Reserve),
    /// These have to go first.
    Evict(Vec<&'a Reserve>),
    /// Not now.
    Wait(WaitReason),
}

impl<'a> Free<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let Limits { max_vms, memory_mib, vcpus } = snapshot.limits;
        let mut room = Room { vms: max_vms, memory_mib, vcpus };
        snapshot.jobs.iter().filter(|job| job.stage == Stage::Occupying).for_each(|job| room.take(job.size));
        snapshot.reserve.iter().for_each(|vm| room.take(vm.size));
        Self { limits: snapshot.limits, disk: snapshot.disk, room, reserve: snapshot.reserve.iter().collect() }
    }

    /// How a job of this profile and size gets its room; takes it.
    pub(super) fn find(&mut self, profile: Option<&str>, size: Size) -> Way<'a> {
        if let Some(Disk { free_mib, reserve_mib }) = self.disk.filter(|disk| disk.free_mib < disk.reserve_mib) {
            return Way::Wait(WaitReason::Disk { free_mib, reserve_mib });
        }
        let waits_for_it = |vm: &&Reserve| vm.is_ready && Some(vm.profile.as_str()) == profile;
        if let Some(at) = self.reserve.iter().position(waits_for_it) {
            return Way::Claim(self.reserve.remove(at));
        }
        if self.room.has(size) {
            self.room.take(size);
            return Way::Fresh;
        }
        self.make_room(size)
    }

    /// Has VMs of the pools go if that is enough, those first that are furthest from being of use.
    fn make_room(&mut self, size: Size) -> Way<'a> {
        let mut coming = self.room;
        self.reserve.iter().filter(|vm| vm.is_leaving).for_each(|vm| coming = coming.without(vm.size));
        let mut evicted = Vec::new();
        let mut candidates: Vec<&Reserve> = self.reserve.iter().copied().filter(|vm| !vm.is_leaving).collect();
        candidates.sort_by_key(|vm| vm.is_ready);
        for vm in candidates {
            if coming.has(size) {
                break;
            }
            coming = coming.without(vm.size);
            evicted.push(vm);
        }
        if !coming.has(size) {
            return Way::Wait(self.lacks(coming, size));
        }
        self.reserve.retain(|vm| !vm.is_leaving && !evicted.iter().any(|gone| gone.vm == vm.vm));
        coming.take(size);
        // What becomes free is this one's. Others get what is free now, as far as it will not need that.
        self.room = self.room.least(coming);
        Way::Evict(evicted)
    }

    /// Which resource is short, as if nothing waited in a pool.
    fn lacks(&self, room: Room, size: Size) -> WaitReason {
        if room.vms == 0 {
            WaitReason::Vms { max: self.limits.max_vms }
        } else if size.memory_mib > room.memory_mib {
            WaitReason::Memory { needed_mib: size.memory_mib, free_mib: room.memory_mib }
        } else {
            WaitReason::Vcpus { needed: size.vcpus, free: room.vcpus }
        }
    }
}

/// How a VM that no job asked for gets its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aside {
    /// It fits.
    Now,
    /// It will fit when these VMs of the pools are gone, with those that are going already.
    After(Vec<VmId>),
    /// It has to wait for others: jobs that could start come first, and what runs is not broken off for it.
    NotNow,
}

/// How a VM of this size that no job asked for gets its room. VMs that only wait for jobs give way to it, as what is prepared
/// would else never be made beside pools that take what there is.
pub fn aside(snapshot: &Snapshot, size: Size) -> Aside {
    let is_queued = |job: &Job| matches!(job.stage, Stage::Queued { .. });
    if snapshot.jobs.iter().any(is_queued) {
        return Aside::NotNow;
    }
    match Free::of(snapshot).find(None, size) {
        Way::Fresh => Aside::Now,
        Way::Evict(vms) => Aside::After(vms.into_iter().map(|vm| vm.vm.clone()).collect()),
        Way::Claim(_) | Way::Wait(_) => Aside::NotNow,
    }
}

/// How many more jobs of this profile could start now, after those that are queued; at most [`MOST_OPENINGS`].
pub(crate) fn openings(snapshot: &Snapshot, profile: &str, size: Size) -> u32 {
    let mut free = Free::of(snapshot);
    for job in snapshot.jobs.iter().filter(|job| matches!(job.stage, Stage::Queued { .. })) {
        if let Way::Wait(_) = free.find(job.profile.as_deref(), job.size) {
            // What becomes free is its.
            return 0;
        }
    }
    let mut count = 0;
    while count < MOST_OPENINGS && !matches!(free.find(Some(profile), size), Way::Wait(_)) {
        count += 1;
    }
    count
}

/// Why a VM of this size cannot start even on an idle host.
pub(crate) fn never_fits(size: Size, limits: Limits) -> Option<String> {
    if limits.max_vms == 0 {
        Some("no VM may run here: the limit is 0".to_owned())
    } else if size.memory_mib > limits.memory_mib {
        Some(format!("it takes {} MiB of memory; all VMs together have {} MiB", size.memory_mib, limits.memory_mib))
    } else if size.vcpus > limits.vcpus {
        Some(format!("it takes {} vCPUs; all VMs together have {}", size.vcpus, limits.vcpus))
    } else {
        None
    }
}
