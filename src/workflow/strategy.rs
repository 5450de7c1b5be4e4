//! How the cells of one matrix run beside each other: `fail-fast` and `max-parallel`.

use super::contexts::Outcome;
use super::plan::StrategyCell;

/// Where one cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// It has not begun.
    Waits,
    /// It has a machine, or will have one at once.
    Runs,
    Ended {
        outcome: Outcome,
        /// Whether `continue-on-error` allows what went wrong.
        tolerated: bool,
    },
}

/// Whether the cells that have not ended are cancelled, because one of them failed.
pub fn fails_fast(strategy: StrategyCell, cells: &[Cell]) -> bool {
    let has_failed = |cell: &Cell| matches!(cell, Cell::Ended { outcome: Outcome::Failure, tolerated: false });
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
        let ended = |outcome, tolerated| Cell::Ended { outcome, tolerated };
        for (fail_fast, cell, expected) in [
            (true, ended(Outcome::Failure, false), true),
            (true, ended(Outcome::Failure, true), false),
            (true, ended(Outcome::Cancelled, false), false),
            (true, ended(Outcome::Success, false), false),
            (false, ended(Outcome::Failure, false), false),
        ] {
            let strategy = StrategyCell { fail_fast, max_parallel: None, job_index: 0, job_total: 3 };
            assert_eq!(fails_fast(strategy, &[Cell::Waits, cell, Cell::Runs]), expected, "{fail_fast} {cell:?}");
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
