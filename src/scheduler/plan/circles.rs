//! Jobs that wait for each other by way of concurrency groups. A run keeps its group until all of its jobs are over, so two runs can
//! each hold the group that a job of the other one wants. The job that entered its group last fails then, and the others go on.
//!
//! Groups of runs alone make no circles: each run is in one, and waits only for those before it.

use std::collections::{HashMap, HashSet};

use super::groups::{Groups, Holder};
use super::{Job, Snapshot, Stage};
use crate::ids::{JobId, RunId};

/// What is said of a job that fails for it.
pub(super) const WHY: &str = "a deadlock: it waits for a concurrency group that is kept by what waits for this job\n  \
     hint: a job and its workflow, or two workflows, take the same groups in another order";

/// What each job waits for.
struct Graph<'a> {
    groups: &'a Groups<'a>,
    by_id: HashMap<&'a JobId, &'a Job>,
    /// Those that have not finished.
    by_run: HashMap<&'a RunId, Vec<&'a Job>>,
}

/// The job that has to fail so that others go on; the next plan looks for another one.
pub(super) fn locked(snapshot: &Snapshot, groups: &Groups<'_>) -> Option<JobId> {
    let wants_turn = |job: &&Job| job.stage == Stage::Waiting && job.own_group.is_some() && !job.is_entered;
    let mut wanting: Vec<&Job> = snapshot.jobs.iter().filter(wants_turn).collect();
    if wanting.is_empty() {
        return None;
    }
    wanting.sort_by_key(|job| (std::cmp::Reverse(job.own_group.as_ref().map(|own| own.since)), &job.id));
    let open = || snapshot.jobs.iter().filter(|job| !matches!(job.stage, Stage::Finished(_)));
    let mut by_run: HashMap<&RunId, Vec<&Job>> = HashMap::new();
    open().for_each(|job| by_run.entry(&job.run).or_default().push(job));
    let graph = Graph { groups, by_id: open().map(|job| (&job.id, job)).collect(), by_run };
    wanting.into_iter().find(|job| graph.waits_for_itself(job)).map(|job| job.id.clone())
}

impl<'a> Graph<'a> {
    fn waits_for_itself(&self, job: &'a Job) -> bool {
        let (mut seen, mut next) = (HashSet::new(), self.before(job));
        while let Some(other) = next.pop() {
            if other.id == job.id {
                return true;
            }
            if seen.insert(&other.id) {
                next.extend(self.before(other));
            }
        }
        false
    }

    /// The jobs that have to finish before this one goes on. What has begun goes on by itself.
    fn before(&self, job: &Job) -> Vec<&'a Job> {
        if job.stage != Stage::Waiting {
            return Vec::new();
        }
        let of_run = |run: &RunId| self.by_run.get(run).cloned().unwrap_or_default();
        let needed: Vec<&Job> = of_run(&job.run).into_iter().filter(|other| job.needs.contains(&other.key)).collect();
        if !needed.is_empty() {
            return needed;
        }
        match self.groups.holder(job) {
            Some(Holder::Run(run, _)) => of_run(run),
            Some(Holder::Job(id)) => self.by_id.get(id).copied().into_iter().collect(),
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "circles_tests.rs"]
mod tests;
