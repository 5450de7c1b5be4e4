//! Which contexts and functions exist in which place of a workflow.
//!
//! A place offers what GitHub offers there and nothing else. What Dayfly does not (yet) give a value to is listed as `later`: it
//! is read, so that mistakes beside it are found, and then reported as unsupported rather than as unknown. Most jobs are
//! planned before any of them has run: where that needs `needs`, it is one of those.

use super::expression::Scope;

const VARS: &[&str] = &["vars"];
const VARS_SECRETS: &[&str] = &["vars", "secrets"];
const OF_EVENTS: &[&str] = &["github", "inputs"];
const OF_JOBS: &[&str] = &["github", "inputs", "needs", "strategy", "matrix"];
const OF_STEPS: &[&str] = &["github", "needs", "strategy", "matrix", "job", "runner", "env", "steps", "inputs"];

const fn plain(contexts: &'static [&'static str], later: &'static [&'static str]) -> Scope<'static> {
    Scope { contexts, later, status_functions: false, hash_files: false }
}

/// Where there are no expressions.
pub(super) const NOTHING: Scope<'static> = plain(&[], &[]);

/// `run-name` and `concurrency` of the workflow, and defaults of the inputs of reusable workflows.
pub(super) const WORKFLOW: Scope<'static> = plain(OF_EVENTS, VARS);

/// `env` of the workflow.
pub(super) const WORKFLOW_ENV: Scope<'static> = plain(OF_EVENTS, VARS_SECRETS);

/// Outputs of a reusable workflow.
pub(super) const CALL_OUTPUT: Scope<'static> = plain(&["github", "inputs", "jobs"], VARS);

/// `strategy` of a job.
pub(super) const STRATEGY: Scope<'static> = plain(OF_EVENTS, &["vars", "needs"]);

/// `name` and `runs-on` of a job.
pub(super) const PLANNED: Scope<'static> = plain(&["github", "inputs", "strategy", "matrix"], &["vars", "needs"]);

/// `if` of a job.
pub(super) const JOB_CONDITION: Scope<'static> =
    Scope { contexts: &["github", "needs", "inputs"], later: VARS, status_functions: true, hash_files: false };

/// `timeout-minutes`, `continue-on-error`, `concurrency`, `environment`, `container`, `services` and `with` of a job.
pub(super) const JOB: Scope<'static> = plain(OF_JOBS, VARS);

/// `env` of a job, and the secrets that it gives to a reusable workflow.
pub(super) const JOB_ENV: Scope<'static> = plain(OF_JOBS, VARS_SECRETS);

/// `defaults` of a job.
pub(super) const DEFAULTS: Scope<'static> = plain(&["github", "needs", "strategy", "matrix", "inputs", "env"], VARS);

/// `outputs` of a job.
pub(super) const OUTPUTS: Scope<'static> = plain(OF_STEPS, VARS_SECRETS);

/// `url` of a job's environment.
pub(super) const ENVIRONMENT_URL: Scope<'static> = plain(OF_STEPS, VARS);

/// Everything of a step but its `if`.
pub(super) const STEP: Scope<'static> =
    Scope { contexts: OF_STEPS, later: VARS_SECRETS, status_functions: false, hash_files: true };

/// `if` of a step.
pub(super) const STEP_CONDITION: Scope<'static> =
    Scope { contexts: OF_STEPS, later: VARS, status_functions: true, hash_files: true };

/// Defaults of an action's inputs.
pub(super) const ACTION_INPUT: Scope<'static> = Scope {
    contexts: &["github", "strategy", "matrix", "job", "runner"],
    later: &[],
    status_functions: false,
    hash_files: true,
};

/// Outputs of a composite action.
pub(super) const ACTION_OUTPUT: Scope<'static> =
    plain(&["github", "strategy", "matrix", "steps", "inputs", "job", "runner"], &[]);

/// Arguments and variables of an action's container.
pub(super) const ACTION_CONTAINER: Scope<'static> =
    plain(&["github", "inputs", "strategy", "matrix", "steps", "job", "runner", "env"], &[]);

/// `pre-if` and `post-if` of an action.
pub(super) const ACTION_HOOK: Scope<'static> = Scope {
    contexts: &["github", "strategy", "matrix", "job", "runner", "env"],
    later: &[],
    status_functions: true,
    hash_files: true,
};
