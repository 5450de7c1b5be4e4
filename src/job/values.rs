//! What one job is given as `vars` and `secrets`.

use crate::core::Core;
use crate::policy::may_have_secrets;
use crate::store::Run;
use crate::workflow::contexts::GithubContext;
use crate::workflow::gate::NeedsResults;
use crate::workflow::plan::JobSpec;
use crate::workflow::values::{Values, environment_of};

/// The values for the job's repository and environment, without secrets where strangers wrote what it runs.
///
/// # Errors
/// Its `environment` cannot be computed; for its author.
pub(super) fn values_of(
    core: &Core, run: &Run, spec: &JobSpec, github: &GithubContext, needs: &NeedsResults,
) -> Result<Values, String> {
    let environment = environment_of(spec, &github.to_value(), needs).map_err(|complaint| complaint.to_string())?;
    let values = core.config.values_of(&run.forge, &run.access.repo, environment.as_deref(), &core.job_secrets);
    Ok(match may_have_secrets(run.origin.is_of_fork(), &github.event_name, &github.actor) {
        true => values,
        false => values.without_secrets(),
    })
}
