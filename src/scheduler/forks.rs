//! Code of forks that was admitted before the service stopped, and must not start after it came back with other rules.
//!
//! Whether an event may run is decided once, when it is processed. The configuration changes only between two runs of the
//! service, so that a start is the moment to look again at what waits.

use crate::config::Forks;
use crate::core::Core;
use crate::store::{ForkJob, StoreError};

/// What authors read of a job that may not start any more.
const WHY: &str = "Cancelled: forks are not run here any more";

/// Asks for the end of all unfinished jobs of forks that the configuration does not admit.
pub(super) async fn cancel_inadmissible(core: &Core) -> Result<(), StoreError> {
    for job in core.store.unfinished_fork_jobs().await? {
        let forks = core.config.repository(&job.forge, &job.repo).map(|settings| settings.forks);
        if !is_admitted(&job, forks) {
            tracing::warn!(job = %job.id, repo = %job.repo, "a fork's job is cancelled: forks are not run here any more");
            core.store.request_cancel(&job.id, WHY).await?;
        }
    }
    Ok(())
}

/// `forks` is what becomes of them in the job's repository; `None` if its events are ignored.
fn is_admitted(job: &ForkJob, forks: Option<Forks>) -> bool {
    match forks {
        Some(Forks::Run) => true,
        // An approval that is void by now ended what waited then; what asks for more has been admitted since.
        Some(Forks::Approve) => job.was_approved,
        Some(Forks::Deny) | None => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::forge::RepoName;
    use crate::ids::JobId;

    #[test]
    fn stricter_rules_hold_for_what_waits() {
        for (forks, approved, unapproved) in [
            (Some(Forks::Run), true, true),
            (Some(Forks::Approve), true, false),
            (Some(Forks::Deny), false, false),
            (None, false, false),
        ] {
            let told = [true, false].map(|was_approved| {
                let repo = RepoName::parse("demo/hello").unwrap();
                let forge = "github".to_owned();
                is_admitted(&ForkJob { id: JobId::random(), forge, repo, was_approved }, forks)
            });
            assert_eq!(told, [approved, unapproved], "{forks:?}");
        }
    }
}
