//! Jobs that wait and of which no event told.

use super::super::RunnersError;
use super::super::news::known_as;
use super::pass::{Pass, repositories};
use crate::core::Core;
use crate::forge::{RepoName, RunnerApi, github};
use crate::metrics::labels::Reconciled;
use crate::store::DemandState;
use crate::sweep::plan::portion;

/// Looks through the repositories from the one behind `last` on.
pub(super) async fn find(
    core: &Core, api: &dyn RunnerApi, last: &mut Option<RepoName>, has_changed: &mut bool,
) -> Result<(), RunnersError> {
    let mut pass = Pass::new(core);
    for access in portion(repositories(core).await?, last.as_ref()) {
        let Some(settings) = core.config.repository(github::NAME, &access.repo) else { continue };
        if !pass.may_ask(&access) {
            continue;
        }
        let answer = api.unfinished_jobs(&access).await;
        // Before the answer is looked at: one that never comes must not be the first one again.
        *last = Some(access.repo.clone());
        for news in pass.take(answer)?.unwrap_or_default() {
            let id = news.id;
            let Some(job) = known_as(core, &access, &settings, news) else { continue };
            let waits = matches!(job.state, DemandState::Queued | DemandState::Unjudged);
            if core.store.note_workflow_job(job).await? && waits {
                *has_changed = true;
                tracing::info!(job = id, repo = %access.repo, "a job waits of which no event told");
                core.metrics.runners.reconciled(Reconciled::LostEvent);
            }
        }
    }
    pass.tell("the jobs of some repositories");
    Ok(())
}
