//! Jobs that seem to wait: each is asked for after a while, and at once where it may be the one that a machine has just done.

use std::collections::HashMap;
use std::time::Duration;

use super::super::board::{Doubt, Unseen};
use super::super::{RunnersError, group_of};
use super::pass::Pass;
use super::{PAUSE, millis};
use crate::core::Core;
use crate::forge::{ForgeError, RunnerApi};
use crate::metrics::labels::Reconciled;
use crate::store::{DemandState, WorkflowJob};

/// After how long without news a job that waits is asked for. Later it is asked for as often as it has grown older by half.
const STALE: Duration = Duration::from_secs(120);
const LONGEST_STALE: Duration = Duration::from_secs(30 * 60);

/// Jobs that are asked for in one round.
const CHECKS_PER_ROUND: usize = 20;

/// A job is gone when GitHub has not shown it so often and for so long. Right after its event, and where the credential may not
/// read it, GitHub says the same.
const GONE_AFTER_TIMES: u32 = 3;
const GONE_AFTER: Duration = Duration::from_secs(5 * 60);

/// Asks about jobs that may not wait any more, and about those whose code may be a fork's.
pub(super) async fn check(
    core: &Core, api: &dyn RunnerApi, now: i64, has_changed: &mut bool,
) -> Result<(), RunnersError> {
    let doubts = core.runners.doubts(now);
    let waiting = core.store.waiting_workflow_jobs().await?;
    core.runners.keep_unseen(&waiting.iter().map(|job| job.id).collect());
    let mut due: Vec<(bool, &WorkflowJob)> = waiting
        .iter()
        .map(|job| (is_doubted(core, &doubts, job, now - millis(PAUSE)), job))
        .filter(|(is, job)| *is || is_due(job, now))
        .collect();
    // Whoever was asked for last comes last, whatever came of it: so everybody has a turn.
    due.sort_by_key(|(is_doubted, job)| (!is_doubted, job.checked_at, job.id));
    let mut pass = Pass::new(core);
    for (_, job) in due.into_iter().take(CHECKS_PER_ROUND) {
        if !pass.may_ask(&job.access) {
            continue;
        }
        let told = match job.state {
            DemandState::Unjudged => judged(core, api, job, now).await,
            _ => standing(core, api, job, now).await,
        };
        if !matches!(told, Err(ForgeError::RateLimited { .. })) {
            core.store.confirm_workflow_job(&job.forge, job.id, now).await?;
        }
        if let Some(group) = group_of(core, job) {
            core.runners.note_answer(&group, job.id, told.is_ok());
        }
        if let Some(Some(news)) = pass.take(told)? {
            *has_changed |= note(core, job, news).await?;
        }
    }
    pass.tell("jobs that wait");
    *has_changed |= settle(core, now).await?;
    Ok(())
}

/// Whether a runner that has ended may have had this job. One that GitHub gave no answer about counts only if it was asked for
/// before that time.
fn is_doubted(core: &Core, doubts: &HashMap<String, Doubt>, job: &WorkflowJob, asked_before: i64) -> bool {
    let may_be = |doubt: &Doubt| {
        doubt.is_about(job.id, job.checked_at, asked_before) && group_of(core, job).as_ref() == Some(&doubt.group)
    };
    job.state == DemandState::Queued && doubts.values().any(may_be)
}

/// Ends the doubts that an event or an answer has resolved.
async fn settle(core: &Core, now: i64) -> Result<bool, RunnersError> {
    let doubts = core.runners.doubts(now);
    if doubts.is_empty() {
        return Ok(false);
    }
    let waiting = core.store.waiting_workflow_jobs().await?;
    let mut has_changed = false;
    for (runner, doubt) in &doubts {
        let alone = HashMap::from([(runner.clone(), doubt.clone())]);
        let is_resolved = core.store.workflow_job_of(runner).await?.is_some()
            || !waiting.iter().any(|job| is_doubted(core, &alone, job, i64::MAX));
        if is_resolved {
            core.runners.settle(runner);
            has_changed = true;
        }
    }
    Ok(has_changed)
}

/// Whether GitHub is to be asked about a job: where forks may have no machine, at once, and then until it has answered.
fn is_due(job: &WorkflowJob, now: i64) -> bool {
    let patience = match job.state {
        DemandState::Unjudged if job.checked_at == job.seen_at => 0,
        DemandState::Unjudged => millis(PAUSE),
        _ => (job.checked_at - job.seen_at).clamp(millis(STALE), millis(LONGEST_STALE)),
    };
    now - job.checked_at >= patience
}

/// Whether a job may have a machine, where forks may have none. `None` if GitHub does not say yet.
async fn judged(
    core: &Core, api: &dyn RunnerApi, job: &WorkflowJob, now: i64,
) -> Result<Option<WorkflowJob>, ForgeError> {
    let state = match api.is_of_fork(&job.access, job.run).await {
        Ok(true) => DemandState::Refused,
        Ok(false) => DemandState::Queued,
        Err(ForgeError::NotFound { .. }) if is_gone(core.runners.not_seen(job.id, now), now) => DemandState::Completed,
        Err(ForgeError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(WorkflowJob { state, checked_at: now, ..job.clone() }))
}

/// What became of a job that does not wait any more; `None` for one that does.
async fn standing(
    core: &Core, api: &dyn RunnerApi, job: &WorkflowJob, now: i64,
) -> Result<Option<WorkflowJob>, ForgeError> {
    let (state, runner, conclusion) = match api.workflow_job(&job.access, job.id).await {
        Ok(told) => {
            core.runners.seen(job.id);
            (DemandState::of(told.stage), told.runner, told.conclusion)
        }
        Err(ForgeError::NotFound { .. }) if is_gone(core.runners.not_seen(job.id, now), now) => {
            (Some(DemandState::Completed), None, None)
        }
        Err(ForgeError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let state = state.filter(|state| *state >= DemandState::InProgress);
    Ok(state.map(|state| WorkflowJob { state, runner, conclusion, checked_at: now, ..job.clone() }))
}

fn is_gone(unseen: Unseen, now: i64) -> bool {
    unseen.times >= GONE_AFTER_TIMES && now - unseen.since >= millis(GONE_AFTER)
}

async fn note(core: &Core, job: &WorkflowJob, news: WorkflowJob) -> Result<bool, RunnersError> {
    core.runners.seen(job.id);
    let (state, was_unjudged) = (news.state, job.state == DemandState::Unjudged);
    let is_news = core.store.note_workflow_job(news).await?;
    if state == DemandState::Refused {
        tracing::info!(job = job.id, repo = %job.access.repo, "a fork's job gets no machine: `forks` is `deny`");
    } else if is_news && !was_unjudged {
        tracing::info!(job = job.id, repo = %job.access.repo, state = state.as_str(), "a job waits no more, which no event told");
        core.metrics.runners.reconciled(Reconciled::DroppedDemand);
    }
    Ok(is_news)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::forge::{CommitSha, RepoAccess, RepoName};

    fn job(state: DemandState, seen_at: i64, checked_at: i64) -> WorkflowJob {
        WorkflowJob {
            forge: "github".into(),
            id: 1,
            access: RepoAccess { repo: RepoName::parse("demo/hello").unwrap(), installation: None },
            organization: None,
            run: 2,
            sha: CommitSha::parse(&"a1".repeat(20)).unwrap(),
            name: "test".into(),
            profile: "gh".into(),
            state,
            runner: None,
            conclusion: None,
            seen_at,
            checked_at,
        }
    }

    #[test]
    fn a_job_is_asked_for_less_often_the_longer_it_waits() {
        let minutes = |count: i64| count * 60_000;
        let due = |seen, checked, now| is_due(&job(DemandState::Queued, minutes(seen), minutes(checked)), minutes(now));
        let cases = [(0, 0, 1, false), (0, 0, 2, true), (0, 2, 3, false), (0, 2, 4, true), (0, 10, 19, false)];
        for (seen, checked, now, expected) in cases.into_iter().chain([(0, 10, 20, true), (0, 500, 530, true)]) {
            assert_eq!(due(seen, checked, now), expected, "seen at {seen}, checked at {checked}, {now} now");
        }
        assert!(is_due(&job(DemandState::Unjudged, 7, 7), 7), "a fork's job is judged at once");
        assert!(!is_due(&job(DemandState::Unjudged, 7, 8), 9));
    }

    #[test]
    fn a_job_that_github_does_not_show_is_gone_after_several_answers_over_minutes() {
        let unseen = |times| Unseen { times, since: 0 };
        assert!(!is_gone(unseen(9), 299_999));
        assert!(!is_gone(unseen(2), 300_000));
        assert!(is_gone(unseen(3), 300_000));
    }
}
