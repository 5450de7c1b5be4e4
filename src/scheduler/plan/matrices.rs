//! The cells of each matrix together: how many more may begin, and which end because one failed.

use std::collections::HashMap;

use super::{Job, Snapshot, Stage};
use crate::ids::{JobId, RunId};
use crate::workflow::contexts::Outcome;
use crate::workflow::plan::StrategyCell;
use crate::workflow::strategy::{self, Cell};

type Key<'a> = (&'a RunId, &'a str);

struct Matrix<'a> {
    strategy: StrategyCell,
    jobs: Vec<&'a Job>,
    /// Cells that may still begin.
    places: usize,
}

/// Every matrix of which a job has not finished.
pub(super) struct Matrices<'a>(HashMap<Key<'a>, Matrix<'a>>);

impl<'a> Matrices<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let mut matrices: HashMap<Key<'a>, Matrix<'a>> = HashMap::new();
        for job in &snapshot.jobs {
            let Some(strategy) = job.matrix else { continue };
            let new = || Matrix { strategy, jobs: Vec::new(), places: 0 };
            matrices.entry((&job.run, job.key.as_str())).or_insert_with(new).jobs.push(job);
        }
        for matrix in matrices.values_mut() {
            matrix.places = strategy::places(matrix.strategy, &matrix.cells());
        }
        Self(matrices)
    }

    /// Jobs that end because another cell of their matrix failed, and were not told so yet.
    pub(super) fn lost(&self) -> impl Iterator<Item = JobId> {
        let failed = self.0.values().filter(|matrix| strategy::fails_fast(matrix.strategy, &matrix.cells()));
        let open = |job: &&&Job| !matches!(job.stage, Stage::Finished(_)) && !job.is_ending;
        let mut lost: Vec<JobId> =
            failed.flat_map(|matrix| matrix.jobs.iter().filter(open)).map(|job| job.id.clone()).collect();
        lost.sort();
        lost.into_iter()
    }

    /// The number of cells that may run at a time, where that many do.
    pub(super) fn full(&self, job: &Job) -> Option<u32> {
        let matrix = self.0.get(&(&job.run, job.key.as_str()))?;
        matrix.strategy.max_parallel.filter(|_| matrix.places == 0)
    }

    /// Takes the place of a job that begins.
    pub(super) fn begins(&mut self, job: &'a Job) {
        if let Some(matrix) = self.0.get_mut(&(&job.run, job.key.as_str())) {
            matrix.places = matrix.places.saturating_sub(1);
        }
    }
}

impl Matrix<'_> {
    fn cells(&self) -> Vec<Cell> {
        let outcome = |job: &Job| if job.has_failed { Outcome::Failure } else { Outcome::Success };
        let cell = |job: &&Job| match job.stage {
            // A call whose jobs are there has no machine, and runs all the same.
            Stage::Waiting if job.is_entered => Cell::Runs,
            Stage::Waiting | Stage::Queued { .. } => Cell::Waits,
            Stage::Occupying => Cell::Runs,
            Stage::Finished(_) => Cell::Ended(outcome(job)),
        };
        self.jobs.iter().map(cell).collect()
    }
}
