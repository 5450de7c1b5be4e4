//! How many machines with GitHub's runner there should be, from the jobs that wait for one and the machines that are there.
//! Pure.
//!
//! GitHub gives a job to any runner that has its labels, so no machine is *for* a job: each waiting job is a need of one, and
//! each machine that no job has been seen to take meets one need of its group. A machine that says that it works meets one
//! until GitHub has said at which job it is: that job still looks as if it waited.

use std::collections::BTreeMap;

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

/// The plan. `waiting` are the groups of the jobs that wait for a runner, one entry for each job, oldest first; `vms` are oldest
/// first. What room a profile has goes to the jobs that have waited longest, wherever their runners are registered.
pub fn plan<I: Clone>(waiting: &[Group], vms: &[Vm<I>], bounds: impl Fn(&Group) -> Bounds) -> Plan<I> {
    let mut plan = Plan { add: BTreeMap::new(), drop: Vec::new(), spare: Vec::new() };
    let mut free: BTreeMap<&Group, Vec<&Vm<I>>> = BTreeMap::new();
    let mut of_profile: BTreeMap<&str, usize> = BTreeMap::new();
    for vm in vms {
        *of_profile.entry(&vm.group.profile).or_default() += 1;
        let free = free.entry(&vm.group).or_default();
        free.extend((!vm.is_taken).then_some(vm));
    }
    let mut needed: BTreeMap<&Group, usize> = BTreeMap::new();
    for group in waiting {
        let needed = needed.entry(group).or_default();
        *needed += 1;
        if *needed <= free.get(group).map_or(0, Vec::len) {
            continue;
        }
        let (bounds, of_profile) = (bounds(group), of_profile.entry(&group.profile).or_default());
        if *of_profile < bounds.most_of_profile && !bounds.is_held_back {
            *of_profile += 1;
            *plan.add.entry(group.clone()).or_default() += 1;
        }
    }
    for (group, free) in free {
        plan.shed(&free, free.len().saturating_sub(needed.get(group).copied().unwrap_or(0)));
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
