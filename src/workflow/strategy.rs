//! How the cells of one matrix run beside each other: `fail-fast` and `max-parallel`.

use super::contexts::Outcome;
use super::plan::StrategyCell;

/// What those are told that [`fails_fast`] ends.
pub const FAILED_FAST: &str = "Cancelled: another job of its matrix failed, and `fail-fast` is on";

/// Where one cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// It has not begun.
    Waits,
    /// It has a machine, or will have one at once.
    Runs,
    /// How others see that it ended: a failure that `continue-on-error` allows is a success.
    Ended(Outcome),
}

/// Whether the cells that have not ended are cancelled, because one of them failed.
pub fn fails_fast(strategy: StrategyCell, cells: &[Cell]) -> bool {
    let has_failed = |cell: &Cell| *cell == Cell::Ended(Outcome::Failure);
    strategy.fail_fast && cells.iter().any(has_failed)
}

/// How many more cells may begin now.
pub fn places(strategy: StrategyCell, cells: &[Cell]) -> usize {
    let count = |wanted| cells.iter().filter(|cell| **cell == wanted).count();
    let most = strategy.max_parallel.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    most.saturating_sub(count(Cell::Runs)).min(count(Cell::Waits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_nobody_allows_ends_the_others() {
        for (fail_fast, outcome, expected) in [
            (true, Outcome::Failure, true),
            (true, Outcome::Cancelled, false),
            (true, Outcome::Success, false),
            (false, Outcome::Failure, false),
        ] {
            let strategy = StrategyCell { fail_fast, max_parallel: None, job_index: 0, job_total: 3 };
            let cells = [Cell::Waits, Cell::Ended(outcome), Cell::Runs];
            assert_eq!(fails_fast(strategy, &cells), expected, "{fail_fast} {outcome:?}");
        }
    }

    #[test]
    fn no_more_than_so_many_run() {
        use Cell::{Runs, Waits};
        for (max_parallel, cells, expected) in [
            (None, &[Waits, Runs, Waits][..], 2),
            (Some(2), &[Waits, Runs, Waits], 1),
            (Some(2), &[Runs, Runs, Waits], 0),
            (Some(1), &[Runs, Runs, Waits], 0),
            (Some(9), &[Waits], 1),
        ] {
            let strategy = StrategyCell { fail_fast: true, max_parallel, job_index: 0, job_total: 3 };
            assert_eq!(places(strategy, cells), expected, "{max_parallel:?} {cells:?}");
        }
    }
}
