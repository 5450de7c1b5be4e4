//! Compares what was seen with what should have been.

use crate::control::{Event, Job};
use crate::forge::{CheckRun, Status};
use crate::scene::CONTEXT;
use crate::watch::Seen;

/// What happens in every job's life, in this order, with the steps between the two halves.
const BEFORE_STEPS: [&str; 7] =
    ["delivery_accepted", "job_queued", "vm_requested", "vm_restored", "agent_answered", "vm_identified", "vm_origin"];
const AFTER_STEPS: [&str; 4] = ["vm_paused", "outcome_stored", "status_posted", "vm_destroyed"];

/// What one pull request should lead to.
#[derive(Debug)]
pub(crate) struct Expected {
    /// Of the job and of its check run and status.
    pub(crate) conclusion: &'static str,
    /// Of the steps, in order.
    pub(crate) steps: &'static [&'static str],
    /// Lines that the log has.
    pub(crate) log: &'static [&'static str],
}

/// The differences so far.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    compared: usize,
    differences: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_clean(&self) -> bool {
        self.differences.is_empty()
    }

    pub(crate) fn compared(&self) -> usize {
        self.compared
    }

    pub(crate) fn differences(&self) -> &[String] {
        &self.differences
    }

    /// Notes `difference` unless it `holds`.
    pub(crate) fn expect(&mut self, holds: bool, difference: impl FnOnce() -> String) {
        self.compared += 1;
        if !holds {
            self.differences.push(difference());
        }
    }

    fn equal(&mut self, what: &str, seen: &str, expected: &str) {
        self.expect(seen == expected, || format!("{what} is `{seen}`, but should be `{expected}`"));
    }

    /// What the service said about the job.
    pub(crate) fn on_job(&mut self, seen: &Seen, expected: &Expected) {
        let Job { attempt, conclusion, reason, detail, events, .. } = &seen.job;
        self.expect(seen.jobs.len() == 1, || format!("the commit has {} jobs, but should have one", seen.jobs.len()));
        self.expect(*attempt == 1, || format!("the job took {attempt} attempts"));
        let conclusion = conclusion.as_deref().unwrap_or("missing");
        self.expect(conclusion == expected.conclusion, || {
            format!(
                "the job's conclusion is `{conclusion}` ({reason:?}, {detail:?}), but should be `{}`",
                expected.conclusion
            )
        });
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        let per_step = expected.steps.iter().flat_map(|_| ["step_started", "step_finished"]);
        let life: Vec<&str> = BEFORE_STEPS.into_iter().chain(per_step).chain(AFTER_STEPS).collect();
        self.expect(kinds == life, || format!("the job's life was {kinds:?}, but should be {life:?}"));
        self.expect(events.is_sorted_by_key(|event| event.at_us), || {
            format!("the times are not in order: {events:#?}")
        });
        let steps: Vec<&str> =
            events.iter().filter(|event| event.kind == "step_finished").filter_map(conclusion_of).collect();
        self.expect(steps == expected.steps, || {
            format!("the steps ended as {steps:?}, but should as {:?}", expected.steps)
        });
    }

    /// The log as it was streamed, as the page has it, and as the forge shows it.
    pub(crate) fn on_logs(&mut self, logs: [(&str, &str); 3], expected: &Expected) {
        for (place, log) in logs {
            for line in expected.log {
                self.expect(log.contains(line), || format!("{place} lacks the line `{line}`:\n{log}"));
            }
        }
    }

    /// What the forge has of the commit.
    pub(crate) fn on_forge(&mut self, checks: &[CheckRun], statuses: &[Status], job: &Job, expected: &Expected) {
        self.expect(checks.len() == 1, || format!("there are {} check runs, but should be one", checks.len()));
        for check in checks {
            self.equal("the check run's name", &check.name, CONTEXT);
            self.equal(
                "the check run's conclusion",
                check.conclusion.as_deref().unwrap_or("missing"),
                expected.conclusion,
            );
            self.equal("the check run's link", check.details_url.as_deref().unwrap_or("missing"), &job.log_url);
        }
        let others = statuses.iter().filter(|status| status.context != CONTEXT).count();
        self.expect(others == 0, || format!("there are {others} statuses of other contexts than `{CONTEXT}`"));
        let ends: Vec<&Status> = statuses.iter().filter(|status| status.state != "pending").collect();
        self.expect(ends.len() == 1, || format!("there are {} final statuses, but should be exactly one", ends.len()));
        self.expect(statuses.last().is_some_and(|last| last.state != "pending"), || {
            "the last status is not final".to_owned()
        });
        for status in ends {
            self.equal("the final status", &status.state, expected.conclusion);
            self.equal("the status's link", status.target_url.as_deref().unwrap_or("missing"), &job.log_url);
        }
    }
}

fn conclusion_of(event: &Event) -> Option<&str> {
    event.step().map(|(_, conclusion)| conclusion)
}
