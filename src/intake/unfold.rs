//! Planned jobs that take the place of a stored one, as new jobs of its run.

use std::collections::BTreeSet;

use super::jobs::{new_job, new_report};
use crate::clock;
use crate::core::Core;
use crate::store::{Job, NewJob, Run};
use crate::workflow::plan::{MAX_PLANNED, PlannedJob};

/// The names of the run's jobs but this one.
pub(crate) fn taken_names(members: &[Job], job: &Job) -> BTreeSet<String> {
    members.iter().filter(|member| member.id != job.id).map(|member| member.name.clone()).collect()
}

/// The jobs as they are stored; each is shown where the forge would have shown `job`, under its own name.
///
/// # Errors
/// The run has no place for so many, or nothing of it is configured any more; for people.
pub(crate) fn new_jobs(
    core: &Core, run: &Run, members: &[Job], job: &Job, context: &str, planned: Vec<PlannedJob>,
) -> Result<Vec<NewJob>, String> {
    let Some(settings) = core.config.repository(&run.forge, &run.access.repo) else {
        return Err("the repository is not configured any more".to_owned());
    };
    let limit = MAX_PLANNED.min(core.config.limits.max_jobs_per_run as usize);
    let count = members.len() + planned.len() - 1;
    if count > limit {
        return Err(format!("`{}` would give the run {count} jobs; a run has at most {limit}", job.name));
    }
    let now = clock::now_ms();
    let new = |planned: PlannedJob| {
        let context = context_of(&run.workflow_name, &job.name, context, &planned.name);
        new_job(core, &settings, planned, |title| new_report(&run.access, &run.sha, context, title), now)
    };
    Ok(planned.into_iter().map(new).collect())
}

/// `context` with another job's name in the place of `name`.
pub(super) fn context_of(workflow: &str, name: &str, context: &str, other: &str) -> String {
    let rest = context.strip_prefix(&format!("dayfly/{workflow}/{name}")).unwrap_or_default();
    format!("dayfly/{workflow}/{other}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_keeps_what_tells_its_workflow_and_event_from_others() {
        for (context, expected) in [
            ("dayfly/CI/test", "dayfly/CI/test (a)"),
            ("dayfly/CI/test (push)", "dayfly/CI/test (a) (push)"),
            ("dayfly/CI/test [nightly] (push)", "dayfly/CI/test (a) [nightly] (push)"),
        ] {
            assert_eq!(context_of("CI", "test", context, "test (a)"), expected);
        }
    }
}
