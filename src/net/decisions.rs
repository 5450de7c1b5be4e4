//! What a VM was allowed and refused by one of the host's services: a bounded list, as the guest decides how often it asks for
//! what.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::document::reader::quoted;

/// Different decisions of a kind, allowed or not, that are kept between two takings; more are only counted.
const MAX_DECISIONS: usize = 100;

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// Not made, and why.
    Refused(String),
    /// Made or attempted without success, and why.
    Failed(String),
}

/// One kind of request and how often it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The service that was asked, for people.
    pub service: &'static str,
    /// What was asked for, on one line of bounded length.
    pub target: String,
    pub verdict: Verdict,
    pub count: u64,
}

impl fmt::Display for Decision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, target, verdict, .. } = self;
        match verdict {
            Verdict::Allowed => write!(out, "{service}: allowed: {target}")?,
            Verdict::Refused(why) => write!(out, "{service}: refused: {target}: {why}")?,
            Verdict::Failed(why) => write!(out, "{service}: failed: {target}: {why}")?,
        }
        if self.count > 1 { write!(out, " ({} times)", self.count) } else { Ok(()) }
    }
}

/// What happened since the last taking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// In the order in which each came first.
    pub list: Vec<Decision>,
    /// Requests that were not allowed or failed, and did not fit into the list.
    pub left_out: u64,
    /// Bytes of all answers since the VM began.
    pub response_bytes: u64,
}

/// Decisions as they are made.
#[derive(Debug)]
pub(super) struct Record {
    service: &'static str,
    decisions: Mutex<Decisions>,
}

impl Record {
    pub(super) fn new(service: &'static str) -> Self {
        Self { service, decisions: Mutex::default() }
    }

    pub(super) fn add(&self, target: &str, verdict: Verdict) {
        let target = quoted(target);
        let mut decisions = self.lock();
        let same = |known: &&mut Decision| known.target == target && known.verdict == verdict;
        if let Some(known) = decisions.list.iter_mut().find(same) {
            known.count += 1;
        } else if decisions.list.iter().filter(|known| of_this_kind(known, &verdict)).count() < MAX_DECISIONS {
            decisions.list.push(Decision { service: self.service, target, verdict, count: 1 });
        } else if verdict != Verdict::Allowed {
            decisions.left_out += 1;
        }
    }

    pub(super) fn take(&self, response_bytes: u64) -> Decisions {
        Decisions { response_bytes, ..std::mem::take(&mut *self.lock()) }
    }

    fn lock(&self) -> MutexGuard<'_, Decisions> {
        // Whoever panicked while holding the lock left a list that is still a list.
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What went well, however much it is, leaves room for what did not.
fn of_this_kind(known: &Decision, verdict: &Verdict) -> bool {
    (known.verdict == Verdict::Allowed) == (*verdict == Verdict::Allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_decisions_are_counted_and_the_list_is_bounded() {
        let record = Record::new("git");
        for _ in 0..3 {
            record.add("fetch from acme/site", Verdict::Allowed);
        }
        for number in 0..500 {
            record.add(&format!("GET /\u{1b}{number}{}", "x".repeat(9000)), Verdict::Refused("no".into()));
        }
        let taken = record.take(7);
        assert_eq!(taken.list[0].to_string(), "git: allowed: `fetch from acme/site` (3 times)");
        assert_eq!((taken.list.len(), taken.left_out, taken.response_bytes), (MAX_DECISIONS + 1, 400, 7));
        let shown = taken.list[1].to_string();
        assert!(shown.len() < 150 && !shown.contains('\u{1b}'), "{shown}");
        assert_eq!(record.take(7).list, []);
    }

    #[test]
    fn what_went_well_hides_nothing() {
        let record = Record::new("registry");
        for number in 0..500 {
            record.add(&format!("GET /{number}"), Verdict::Allowed);
        }
        record.add("GET /500", Verdict::Refused("no".into()));
        let taken = record.take(0);
        assert_eq!((taken.list.len(), taken.left_out), (MAX_DECISIONS + 1, 0));
    }
}
