//! Events about GitHub's own jobs, and GitHub's answers about them, into the store.

use crate::clock;
use crate::config::{Forks, RepositorySettings};
use crate::core::Core;
use crate::forge::{JobStage, RepoAccess, WorkflowJobNow, github};
use crate::store::{DemandState, StoreError, WorkflowJob};
use crate::webhook;

/// Notes what an event says. Gives in words what follows from it.
pub(crate) async fn heard(
    core: &Core, event: &webhook::WorkflowJob, settings: &RepositorySettings<'_>,
) -> Result<String, StoreError> {
    let news = WorkflowJobNow {
        id: event.id,
        run: event.run,
        name: event.name.clone(),
        sha: event.head_sha.clone(),
        labels: event.labels.clone(),
        stage: event.stage,
        conclusion: event.conclusion.clone(),
        runner: event.runner.clone(),
        organization: event.organization.clone(),
    };
    let Some(job) = known_as(core, &event.repository.access, settings, news) else {
        return Ok(match event.stage {
            JobStage::Waiting => "the job waits for somebody's approval".to_owned(),
            _ => "no profile with GitHub's runner has the job's labels".to_owned(),
        });
    };
    let profile = job.profile.clone();
    let state = job.state;
    let is_news = core.store.note_workflow_job(job).await?;
    core.wake.runners.notify_one();
    Ok(match (state, is_news) {
        (_, false) => "that was known".to_owned(),
        (DemandState::Queued, true) => format!("one more job waits for the profile `{profile}`"),
        (DemandState::Unjudged, true) => format!("a job waits for the profile `{profile}`, if its code is no fork's"),
        (_, true) => format!("a job of the profile `{profile}` is {}", state.as_str()),
    })
}

/// A job as the store knows it; `None` if it makes and takes no demand here. A fork's code is judged later, as its event does
/// not tell; where forks need an approval, GitHub has asked for it before it queued the job.
pub(super) fn known_as(
    core: &Core, access: &RepoAccess, settings: &RepositorySettings<'_>, news: WorkflowJobNow,
) -> Option<WorkflowJob> {
    let profile = core.config.select_runner_profile(settings, &news.labels)?;
    let state = match (DemandState::of(news.stage)?, settings.forks) {
        (DemandState::Queued, Forks::Deny) => DemandState::Unjudged,
        (state, _) => state,
    };
    let now = clock::now_ms();
    Some(WorkflowJob {
        forge: github::NAME.to_owned(),
        id: news.id,
        access: access.clone(),
        organization: news.organization,
        run: news.run,
        sha: news.sha,
        name: news.name,
        profile: profile.name.clone(),
        state,
        runner: news.runner,
        conclusion: news.conclusion,
        seen_at: now,
        checked_at: now,
    })
}
