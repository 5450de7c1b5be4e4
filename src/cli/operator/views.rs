//! What the control API tells, as these commands read it. What it tells besides is ignored, so that a newer service can be asked.

use serde::Deserialize;

use crate::cli::table::Cell;
use crate::cli::terminal::Style;
use crate::clock::span;
use crate::workflow::commands::Annotation;

/// Letters of a shortened id beside its prefix: enough to be unique among many thousand.
const SHORTEST: usize = 6;

/// What ids of jobs begin with.
const JOB: &str = "job-";

#[derive(Debug, Clone, Deserialize)]
pub(super) struct JobView {
    pub(super) id: String,
    pub(super) run: String,
    pub(super) run_number: u64,
    pub(super) repo: String,
    pub(super) sha: String,
    pub(super) event: String,
    pub(super) workflow: String,
    pub(super) name: String,
    pub(super) profile: Option<String>,
    pub(super) state: String,
    pub(super) attempt: u32,
    pub(super) vm: Option<String>,
    pub(super) conclusion: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) log_url: String,
    pub(super) created_at: i64,
    pub(super) started_at: Option<i64>,
    pub(super) finished_at: Option<i64>,
    /// Only in the answer about one job.
    #[serde(default)]
    pub(super) events: Vec<EventView>,
    #[serde(default)]
    pub(super) annotations: Vec<Annotation>,
    pub(super) egress: Option<EgressView>,
}

/// Connections of a job by how they ended, and their bytes.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct EgressView {
    pub(super) allowed: u64,
    pub(super) audited: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct EventView {
    pub(super) attempt: u32,
    pub(super) at_us: i64,
    pub(super) kind: String,
    pub(super) detail: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct VmView {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) state: String,
    /// Absent of a VM that serves none.
    pub(super) job: Option<String>,
    pub(super) job_name: Option<String>,
    pub(super) repo: Option<String>,
    pub(super) attempt: Option<u32>,
    pub(super) profile: Option<String>,
    pub(super) vcpus: Option<u32>,
    pub(super) memory_mib: Option<u64>,
    pub(super) private_bytes: Option<u64>,
    pub(super) proportional_bytes: Option<u64>,
    pub(super) created_at: i64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct DeliveryView {
    pub(super) forge: String,
    pub(super) id: String,
    pub(super) event: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) repo: Option<String>,
    #[serde(default)]
    pub(super) subject: Option<String>,
    #[serde(default)]
    pub(super) outcome: Option<String>,
    pub(super) detail: String,
    pub(super) tries: u32,
    pub(super) received_at: i64,
    pub(super) next_try_at: Option<i64>,
    /// Only in the answer about one delivery.
    #[serde(default)]
    pub(super) runs: Vec<RunView>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct RunView {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) repo: String,
    pub(super) sha: String,
    pub(super) workflow: String,
}

impl JobView {
    /// How it stands, in one word.
    pub(super) fn standing(&self) -> &str {
        self.conclusion.as_deref().unwrap_or(&self.state)
    }

    pub(super) fn style(&self) -> Style {
        match self.standing() {
            "success" => Style::GREEN,
            "failure" | "error" | "timed_out" => Style::RED,
            "running" | "leased" => Style::BLUE,
            "queued" | "waiting" => Style::YELLOW,
            _ => Style::DIM,
        }
    }

    pub(super) fn standing_cell(&self) -> Cell {
        Cell::styled(self.standing(), self.style())
    }

    /// How long it ran, so far if it still does; empty before it does.
    pub(super) fn took(&self, now: i64) -> String {
        self.started_at.map_or_else(String::new, |started| span(self.finished_at.unwrap_or(now) - started))
    }

    /// The commit, for people.
    pub(super) fn short_sha(&self) -> &str {
        self.sha.get(..8).unwrap_or(&self.sha)
    }
}

/// How many bytes of these ids of jobs a table shows: few, but all of them stay apart.
pub(super) fn short_length<'a>(ids: impl Iterator<Item = &'a str> + Clone) -> usize {
    telling_length(ids, JOB.len() + SHORTEST)
}

/// The same of any ids, from `shortest` bytes on.
pub(super) fn telling_length<'a>(ids: impl Iterator<Item = &'a str> + Clone, shortest: usize) -> usize {
    let mut length = shortest;
    let longest = ids.clone().map(str::len).max().unwrap_or(length);
    while length < longest {
        let mut seen = std::collections::HashSet::new();
        if ids.clone().all(|id| seen.insert(shortened(id, length))) {
            break;
        }
        length += 1;
    }
    length
}

/// An id's first bytes.
pub(super) fn shortened(id: &str, length: usize) -> &str {
    id.get(..length).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_stay_apart() {
        let ids = ["job-0123456789bc", "job-0123457789bc", "job-zzzzzzzzzzzz"];
        assert_eq!(short_length(ids.into_iter()), "job-0123457".len());
        assert_eq!(short_length([].into_iter()), "job-".len() + SHORTEST);
        assert_eq!(short_length(["job-0123456789bc"; 2].into_iter()), "job-0123456789bc".len());
    }
}
