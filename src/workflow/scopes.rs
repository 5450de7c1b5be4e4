//! Which contexts and functions exist in which place of a workflow.
//!
//! What GitHub offers in a place and Dayfly does not (yet) is listed as `later`, so that the author is told so instead of
//! being told that there is no such thing. Jobs are planned before any of them has run: `needs` cannot be asked there.

use super::expression::Scope;

const LATER: &[&str] = &["secrets", "vars"];
const LATER_IN_PLANS: &[&str] = &["secrets", "vars", "needs"];
const OF_JOBS: &[&str] = &["github", "needs", "strategy", "matrix", "inputs"];
const OF_STEPS: &[&str] = &["github", "needs", "strategy", "matrix", "job", "runner", "env", "steps", "inputs"];

const fn plain(contexts: &'static [&'static str], later: &'static [&'static str]) -> Scope<'static> {
    Scope { contexts, later, status_functions: false, hash_files: false }
}

/// `run-name`, `concurrency` and `env` of the workflow.
pub(super) const WORKFLOW: Scope<'static> = plain(&["github", "inputs"], LATER);

/// `strategy` of a job.
pub(super) const STRATEGY: Scope<'static> = plain(&["github", "inputs"], LATER_IN_PLANS);

/// `name` and `runs-on` of a job.
pub(super) const PLANNED: Scope<'static> = plain(&["github", "inputs", "strategy", "matrix"], LATER_IN_PLANS);

/// `if` of a job.
pub(super) const JOB_CONDITION: Scope<'static> =
    Scope { contexts: &["github", "needs", "inputs"], later: LATER, status_functions: true, hash_files: false };

/// `env`, `timeout-minutes`, `continue-on-error`, `concurrency` and `environment` of a job.
pub(super) const JOB: Scope<'static> = plain(OF_JOBS, LATER);

/// `defaults` of the workflow and of a job.
pub(super) const DEFAULTS: Scope<'static> = plain(&["github", "needs", "strategy", "matrix", "inputs", "env"], LATER);

/// `outputs` of a job.
pub(super) const OUTPUTS: Scope<'static> = plain(OF_STEPS, LATER);

/// Everything of a step but its `if`.
pub(super) const STEP: Scope<'static> =
    Scope { contexts: OF_STEPS, later: LATER, status_functions: false, hash_files: true };

/// `if` of a step.
pub(super) const STEP_CONDITION: Scope<'static> =
    Scope { contexts: OF_STEPS, later: LATER, status_functions: true, hash_files: true };
