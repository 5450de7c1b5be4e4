//! The jobs that a local run would have, without running them.

use super::super::table::Table;
use super::super::terminal::Look;
use super::events::described;
use crate::local::session::Job;

/// What stands where there is nothing.
const NONE: &str = "-";

/// For people.
pub(super) fn table(jobs: &[Job], look: Look) -> String {
    let mut table = Table::new(["JOB", "ID", "NEEDS", "RUNS ON"], &[0, 2, 3]);
    for job in jobs {
        let planned = &job.planned;
        table.row([
            job.full_name().into(),
            (&planned.key).into(),
            listed(&planned.needs).into(),
            listed(&planned.labels).into(),
        ]);
    }
    table.render(look)
}

/// For programs.
pub(super) fn json(jobs: &[Job]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&jobs.iter().map(described).collect::<Vec<_>>())
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { NONE.to_owned() } else { names.join(", ") }
}
