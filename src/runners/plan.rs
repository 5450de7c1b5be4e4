//! How many machines with GitHub's runner there should be, from the jobs that wait for one and the machines that are there.
//! Pure.
//!
//! GitHub gives a job to any runner that has its labels, so no machine is *for* a job: each waiting job is a need of one, and
//! each machine that no job has been seen to take meets one need of its group. A machine that says that it works meets one
//! until GitHub has said at which job it is: that job still looks as if it waited.

use std::collections::{BTreeMap, BTreeSet};

use crate::forge::RunnerPlace;

/// Jobs and machines that can come together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    pub profile: String,
    pub place: RunnerPlace,
}

/// How far a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Its job is stored, and no machine is made for it yet.
    Queued,
    /// It is being made, or its runner is not known to GitHub yet.
    Starting,
    /// Its runner waits for a job.
    Idle,
    /// Its runner has a job.
    Busy,
}

impl Stage {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Busy => "busy",
        }
    }
}

/// A machine that is there, or will be; `I` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm<I> {
    pub id: I,
    pub group: Group,
    pub stage: Stage,
    /// GitHub has named the job that its runner has or had.
    pub is_taken: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<I> {
    /// Machines to add; by group, at least 1 of each.
    pub add: BTreeMap<Group, usize>,
    /// Machines whose runner GitHub does not know, and that nobody needs any more.
    pub drop: Vec<I>,
    /// Machines that wait for a job which will not come, as far as is known: another one may.
    pub spare: Vec<I>,
}

/// What a group may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Machines of the profile, over all of its groups.
    pub most_of_profile: usize,
    /// Nothing is added for now.
    pub is_held_back: bool,
}

/// The plan. `waiting` are the groups of the jobs that wait for a runner, one entry for each job; `vms` are oldest first.
pub fn plan<I: Clone>(waiting: &[Group], vms: &[Vm<I>], bounds: impl Fn(&Group) -> Bounds) -> Plan<I> {
    let mut plan = Plan { add: BTreeMap::new(), drop: Vec::new(), spare: Vec::new() };
    let mut by_profile: BTreeMap<&str, usize> = BTreeMap::new();
    for vm in vms {
        *by_profile.entry(&vm.group.profile).or_default() += 1;
    }
    let groups: BTreeSet<&Group> = waiting.iter().chain(vms.iter().map(|vm| &vm.group)).collect();
    for group in groups {
        let needed = waiting.iter().filter(|waits_in| *waits_in == group).count();
        let free: Vec<&Vm<I>> = vms.iter().filter(|vm| vm.group == *group && !vm.is_taken).collect();
        if free.len() < needed {
            let bounds = bounds(group);
            let of_profile = by_profile.entry(&group.profile).or_default();
            let room = bounds.most_of_profile.saturating_sub(*of_profile);
            let count = (needed - free.len()).min(room);
            if count > 0 && !bounds.is_held_back {
                *of_profile += count;
                plan.add.insert(group.clone(), count);
            }
        } else {
            plan.shed(&free, free.len() - needed);
        }
    }
    plan
}

impl<I: Clone> Plan<I> {
    /// Lets so many go: those first that have cost least, of these the newest.
    fn shed(&mut self, free: &[&Vm<I>], count: usize) {
        let mut candidates: Vec<&&Vm<I>> = free.iter().rev().filter(|vm| vm.stage != Stage::Busy).collect();
        candidates.sort_by_key(|vm| vm.stage);
        for vm in candidates.into_iter().take(count) {
            match vm.stage {
                Stage::Queued | Stage::Starting => self.drop.push(vm.id.clone()),
                Stage::Idle | Stage::Busy => self.spare.push(vm.id.clone()),
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
