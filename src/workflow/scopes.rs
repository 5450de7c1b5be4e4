//! Which contexts and functions exist in which place of a workflow.
//!
//! A place offers what GitHub offers there and nothing else. What is computed before a job has a machine has neither `env`
//! nor `steps`, and what people see of a job before it starts has no `secrets`.

use super::expression::Scope;

const OF_EVENTS: &[&str] = &["github", "inputs", "vars"];
const OF_JOBS: &[&str] = &["github", "inputs", "vars", "needs", "strategy", "matrix"];
const OF_STEPS: &[&str] = &["github", "needs", "strategy", "matrix", "job", "runner", "env", "vars", "steps", "inputs"];
const OF_STEPS_AND_SECRETS: &[&str] =
    &["github", "needs", "strategy", "matrix", "job", "runner", "env", "vars", "secrets", "steps", "inputs"];

const fn plain(contexts: &'static [&'static str]) -> Scope<'static> {
    Scope { contexts, status_functions: false, hash_files: false }
}

/// Where there are no expressions.
pub(super) const NOTHING: Scope<'static> = plain(&[]);

/// `run-name` and `concurrency` of the workflow, and defaults of the inputs of reusable workflows.
pub(super) const WORKFLOW: Scope<'static> = plain(OF_EVENTS);

/// `env` of the workflow.
pub(super) const WORKFLOW_ENV: Scope<'static> = plain(&["github", "inputs", "vars", "secrets"]);

/// Outputs of a reusable workflow.
pub(super) const CALL_OUTPUT: Scope<'static> = plain(&["github", "inputs", "vars", "jobs"]);

/// `strategy` of a job.
pub(super) const STRATEGY: Scope<'static> = plain(&["github", "inputs", "vars", "needs"]);

/// `if` of a job.
pub(super) const JOB_CONDITION: Scope<'static> =
    Scope { contexts: &["github", "needs", "inputs", "vars"], status_functions: true, hash_files: false };

/// `name`, `runs-on`, `timeout-minutes`, `continue-on-error`, `concurrency`, `environment`, `container`, `services` and `with`
/// of a job.
pub(super) const JOB: Scope<'static> = plain(OF_JOBS);

/// `env` of a job, and the secrets that it gives to a reusable workflow.
pub(super) const JOB_ENV: Scope<'static> =
    plain(&["github", "inputs", "vars", "needs", "strategy", "matrix", "secrets"]);

/// `credentials` of a job's containers.
pub(super) const CONTAINER_CREDENTIALS: Scope<'static> =
    plain(&["github", "inputs", "vars", "needs", "strategy", "matrix", "env", "secrets"]);

/// `env` of a job's containers.
pub(super) const CONTAINER_ENV: Scope<'static> =
    plain(&["github", "inputs", "vars", "needs", "strategy", "matrix", "job", "runner", "env", "secrets"]);

/// `defaults` of a job.
pub(super) const DEFAULTS: Scope<'static> = plain(&["github", "needs", "strategy", "matrix", "inputs", "vars", "env"]);

/// `outputs` of a job.
pub(super) const OUTPUTS: Scope<'static> = plain(OF_STEPS_AND_SECRETS);

/// `url` of a job's environment.
pub(super) const ENVIRONMENT_URL: Scope<'static> = plain(OF_STEPS);

/// Everything of a step but its `if`.
pub(super) const STEP: Scope<'static> =
    Scope { contexts: OF_STEPS_AND_SECRETS, status_functions: false, hash_files: true };

/// `if` of a step.
pub(super) const STEP_CONDITION: Scope<'static> =
    Scope { contexts: OF_STEPS, status_functions: true, hash_files: true };

/// Defaults of an action's inputs.
pub(super) const ACTION_INPUT: Scope<'static> =
    Scope { contexts: &["github", "strategy", "matrix", "job", "runner"], status_functions: false, hash_files: true };

/// Outputs of a composite action.
pub(super) const ACTION_OUTPUT: Scope<'static> =
    plain(&["github", "strategy", "matrix", "steps", "inputs", "job", "runner"]);

/// Arguments and variables of an action's container.
pub(super) const ACTION_CONTAINER: Scope<'static> =
    plain(&["github", "inputs", "strategy", "matrix", "steps", "job", "runner", "env"]);

/// `pre-if` and `post-if` of an action.
pub(super) const ACTION_HOOK: Scope<'static> = Scope {
    contexts: &["github", "strategy", "matrix", "job", "runner", "env"],
    status_functions: true,
    hash_files: true,
};
