//! One planned job to one stored job, with the report that the forge shows for it.

use crate::config::RepositorySettings;
use crate::core::Core;
use crate::document::reader::quoted;
use crate::forge::{CommitSha, Conclusion, RepoAccess, Report, ReportPlace, ReportState};
use crate::ids::{JobId, LogToken, ReportId};
use crate::store::{NewJob, Outcome, Reason, Telling};
use crate::workflow::plan::PlannedJob;

/// A job that waits, or has ended already because no profile takes it. `report` makes its report from a title.
pub(super) fn new_job(
    core: &Core, settings: &RepositorySettings<'_>, job: PlannedJob, report: impl FnOnce(String) -> Report,
    arrived_at: i64,
) -> NewJob {
    let log_token = LogToken::random();
    let unfolds = job.spec.unfolds();
    let chosen = match &job.group {
        _ if unfolds => Ok(None),
        Some(group) => Err(no_groups(group)),
        None => core.config.select_profile_for(settings, &job.labels).map(Some).map_err(|none| none.to_string()),
    };
    let (profile, title, outcome) = match chosen {
        Ok(None) => (None, "Waiting for what it needs".to_owned(), None),
        Ok(Some(profile)) => (Some(profile.name.clone()), format!("Queued for the profile `{}`", profile.name), None),
        Err(detail) => {
            let title = first_line(&detail);
            (None, title, Some(Outcome { conclusion: Conclusion::Error, reason: Some(Reason::NoProfile), detail }))
        }
    };
    let mut report = report(title);
    report.details_url = Some(core.log_url(&log_token));
    if let Some(outcome) = &outcome {
        report.summary = outcome.detail.clone();
        report.state = ReportState::Finished(outcome.conclusion);
        report.finished_at = Some(arrived_at);
    }
    NewJob {
        id: JobId::random(),
        key: job.key,
        name: job.name,
        needs: job.needs,
        spec: serde_json::to_value(&job.spec).unwrap_or_default(),
        profile,
        log_token,
        report,
        telling: if unfolds && outcome.is_none() { Telling::IfItEndsSo } else { Telling::AtOnce },
        outcome,
    }
}

/// A report about something that waits.
pub(super) fn new_report(access: &RepoAccess, sha: &CommitSha, context: String, title: String) -> Report {
    Report {
        id: ReportId::random(),
        access: access.clone(),
        sha: sha.clone(),
        context,
        state: ReportState::Queued,
        title,
        summary: String::new(),
        log: String::new(),
        annotations: Vec::new(),
        coverage: None,
        place: ReportPlace::default(),
        details_url: None,
        started_at: None,
        finished_at: None,
    }
}

/// What a job that asks for a runner group is told. To ignore the group would give it a machine that it did not ask for.
fn no_groups(group: &str) -> String {
    format!(
        "there are no runner groups here, so none is named {}\n  hint: ask by labels, like `runs-on: linux`",
        quoted(group)
    )
}

pub(super) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_group_is_answered_with_what_to_use() {
        insta::assert_snapshot!(no_groups("large"), @"
        there are no runner groups here, so none is named `large`
          hint: ask by labels, like `runs-on: linux`
        ");
    }
}
