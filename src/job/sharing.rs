//! Which cells of a matrix start from one machine, and where that is.
//!
//! ```text
//!  first cell leased ─► it leads: runs the common steps, is frozen ─► the others start from there
//!                                └── anything else that happens ──► each of them runs all of its steps itself
//! ```
//! While one leads, the scheduler holds the others back, so that none takes up a VM to wait in. All of this is in memory: after
//! a restart what was frozen is removed, the cell that led has its second attempt, and only first attempts take part.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use super::verdict::StepLine;
use crate::engine::Prepared;
use crate::ids::{JobId, RunId};
use crate::store::{JobState, ScheduledJob};
use crate::workflow::run::Progress;

/// The cells of one job on one kind of machine, in one run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Cells {
    run: RunId,
    key: String,
    profile: String,
}

impl Cells {
    /// Those that a job belongs to; `None` for one that was started before.
    fn of(job: &ScheduledJob) -> Option<Self> {
        let profile = job.profile.clone().filter(|_| job.attempt == 1)?;
        Some(Self { run: job.run.clone(), key: job.key.clone(), profile })
    }

    /// Whether a job is one of them that has not started.
    fn may_start_with(&self, job: &ScheduledJob) -> bool {
        matches!(job.state, JobState::Waiting | JobState::Queued) && Self::of(job).as_ref() == Some(self)
    }
}

/// A frozen machine, and what its job had come to.
#[derive(Debug)]
pub(crate) struct ForkPoint {
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) progress: Progress,
    pub(crate) lines: Vec<StepLine>,
    /// The cell that ran the common steps, and where its log is.
    pub(crate) leader: JobId,
    pub(crate) leader_name: String,
    pub(crate) log_url: String,
    pub(crate) took: Duration,
    /// The files of the machine, which go with this.
    pub(crate) _directory: TempDir,
}

#[derive(Debug)]
enum Stage {
    Led(JobId),
    Forked(Arc<ForkPoint>),
    /// Each runs all of its steps.
    Apart,
}

/// What a cell has to do with the others of its matrix.
#[derive(Debug)]
pub(crate) enum Part {
    Alone,
    Lead(Leading),
    Follow(Arc<ForkPoint>),
}

/// The matrices of which a cell may lead. Clones are of the same.
#[derive(Debug, Clone, Default)]
pub struct Sharing(Arc<Mutex<HashMap<Cells, Stage>>>);

impl Sharing {
    fn stages(&self) -> MutexGuard<'_, HashMap<Cells, Stage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cell that a job has to wait for, because it runs their common steps.
    pub(crate) fn leader(&self, job: &ScheduledJob) -> Option<JobId> {
        match self.stages().get(&Cells::of(job)?) {
            Some(Stage::Led(leader)) if *leader != job.id => Some(leader.clone()),
            _ => None,
        }
    }

    /// What becomes of a job that starts, of which `shared` steps are common to its matrix. `jobs` are all that have not ended.
    pub(crate) fn take_part(&self, job: &ScheduledJob, shared: usize, jobs: &[ScheduledJob]) -> Part {
        let Some(cells) = Cells::of(job).filter(|_| shared > 0) else { return Part::Alone };
        let mut stages = self.stages();
        match stages.get(&cells) {
            Some(Stage::Forked(point)) => Part::Follow(Arc::clone(point)),
            Some(Stage::Led(_) | Stage::Apart) => Part::Alone,
            None if !jobs.iter().any(|other| other.id != job.id && cells.may_start_with(other)) => Part::Alone,
            None => {
                stages.insert(cells.clone(), Stage::Led(job.id.clone()));
                Part::Lead(Leading { sharing: self.clone(), cells, shared })
            }
        }
    }

    /// Drops what no job will start from any more. `jobs` are all that have not ended.
    pub(crate) fn forget_all_but(&self, jobs: &[ScheduledJob]) {
        self.stages()
            .retain(|cells, stage| matches!(stage, Stage::Led(_)) || jobs.iter().any(|job| cells.may_start_with(job)));
    }
}

/// The duty of the cell that leads. Dropped before [`Leading::fork`], it leaves the others to themselves.
#[derive(Debug)]
pub(crate) struct Leading {
    sharing: Sharing,
    cells: Cells,
    /// How many steps it runs for all of them.
    pub(crate) shared: usize,
}

impl Leading {
    /// Whether the others still wait for it.
    pub(crate) fn is_awaited(&self) -> bool {
        matches!(self.sharing.stages().get(&self.cells), Some(Stage::Led(_)))
    }

    /// Lets the others start from there.
    pub(crate) fn fork(&self, point: Arc<ForkPoint>) {
        self.sharing.stages().insert(self.cells.clone(), Stage::Forked(point));
    }

    /// Lets the others start by themselves.
    pub(crate) fn give_up(&self) {
        let mut stages = self.sharing.stages();
        if matches!(stages.get(&self.cells), Some(Stage::Led(_))) {
            stages.insert(self.cells.clone(), Stage::Apart);
        }
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::forge::RepoName;

    fn cell(run: &RunId, key: &str, attempt: u32, state: JobState) -> ScheduledJob {
        ScheduledJob {
            id: JobId::random(),
            run: run.clone(),
            repo: RepoName::parse("demo/hello").unwrap(),
            key: key.to_owned(),
            needs: Vec::new(),
            profile: Some("linux".to_owned()),
            state,
            attempt,
            vm: None,
            created_at: 0,
            queued_at: None,
            cancel_requested: false,
            cancel_why: None,
            inner_prefix: None,
            own_group: None,
            group: None,
            conclusion: None,
        }
    }

    #[test]
    fn the_first_cell_leads_and_the_others_are_held_until_it_does_not() {
        let (sharing, run, queued) = (Sharing::default(), RunId::random(), JobState::Queued);
        let jobs = [
            cell(&run, "a", 1, queued),
            cell(&run, "a", 1, queued),
            cell(&run, "a", 2, queued),
            cell(&run, "b", 1, queued),
        ];
        let [first, second, again, other] = &jobs;
        assert!(matches!(sharing.take_part(first, 0, &jobs), Part::Alone), "there is nothing to share");
        assert!(matches!(sharing.take_part(again, 2, &jobs), Part::Alone), "it had its chance");
        assert!(matches!(sharing.take_part(other, 2, &jobs), Part::Alone), "nobody would follow it");
        let Part::Lead(leading) = sharing.take_part(first, 2, &jobs) else { panic!("nobody leads") };
        assert!(leading.is_awaited());
        let held = || jobs.iter().map(|job| sharing.leader(job).is_some()).collect::<Vec<_>>();
        assert_eq!(held(), [false, true, false, false]);
        sharing.forget_all_but(&[]);
        assert_eq!(sharing.leader(second).as_ref(), Some(&first.id), "it still leads");
        drop(leading);
        assert_eq!(held(), [false; 4]);
        assert!(matches!(sharing.take_part(second, 2, &jobs), Part::Alone), "each runs by itself now");
        sharing.forget_all_but(&[cell(&run, "a", 1, JobState::Running)]);
        assert!(sharing.stages().is_empty());
    }
}
