//! Reads the workflows that stand in the pinned commit and plans their jobs.

use super::context::github_context;
use super::{IntakeError, naming};
use crate::config::RepositorySettings;
use crate::core::{Core, heavy};
use crate::document::Diagnostic;
use crate::document::reader::quoted;
use crate::forge::{Conclusion, DirectoryEntry, Forge, ForgeError, Report, ReportState};
use crate::ids::{JobId, LogToken, ReportId, RunId};
use crate::policy::Request;
use crate::store::{NewJob, NewRun, Outcome, Reason};
use crate::workflow::plan::{PlanInput, PlannedJob, plan};
use crate::workflow::trigger::{Match, matches};
use crate::workflow::{Workflow, parse};

/// The largest workflow file, as GitHub has it.
pub(crate) const MAX_FILE_BYTES: usize = 500 * 1024;

/// Workflow files of one commit that are read.
pub(crate) const MAX_FILES: usize = 64;

/// Complaints about one workflow that its report lists.
const MAX_LISTED: usize = 20;

/// The run of an event that may not run: one report that says so.
pub(super) fn held(core: &Core, request: &Request, why: &str) -> NewRun {
    let mut report = new_report(request, "dayfly".to_owned(), why.to_owned());
    report.state = ReportState::Held;
    report.summary = format!(
        "{why}.\n\nThe code of a fork was written by somebody who may not write to `{}`. Commit `{}` was not run.",
        request.access.repo, request.sha
    );
    let workflows_dir = core.config.repository(&request.access.repo).map_or("", |settings| settings.workflows_dir);
    new_run(request, workflows_dir, "held", serde_json::Value::Null, Some(report), Vec::new())
}

/// One run for every workflow of the commit that asks for the event, and for every one that cannot be read.
pub(super) async fn planned(
    core: &Core, request: &Request, settings: &RepositorySettings<'_>, payload: &[u8], received_at: i64,
) -> Result<Vec<NewRun>, IntakeError> {
    let payload = serde_json::from_slice(payload).map_err(|error| IntakeError::Payload(error.to_string()))?;
    let (mut runs, mut workflows) = (Vec::new(), Vec::new());
    for path in workflow_files(core, request, settings.workflows_dir).await? {
        let text = match core.forge.read_file(&request.access, &path, &request.sha, MAX_FILE_BYTES).await {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned()),
            Err(ForgeError::Permanent { detail, .. }) => Err(detail),
            Err(error) => return Err(error.into()),
        };
        let parsed =
            text.map_err(|message| vec![complaint(&path, message)]).and_then(|text| heavy(|| parse(&path, &text)));
        match parsed {
            Err(complaints) => runs.push(unreadable(request, &path, &complaints)),
            Ok(workflow) => workflows.push((path, workflow)),
        }
    }
    let suffixes = naming::suffixes(&workflows);
    let full = full_queue(core.store.count_unfinished_jobs().await?, core.config.limits.queue);
    for (path, workflow) in &workflows {
        if matches(workflow, &request.trigger) != Match::Starts {
            continue;
        }
        let suffix = suffixes.get(path).map_or("", String::as_str);
        runs.push(match &full {
            Some(why) => refused(request, path, why),
            None => run_of(core, request, settings, Source { path, workflow, suffix }, &payload, received_at),
        });
    }
    naming::make_unique(&mut runs);
    Ok(runs)
}

async fn workflow_files(core: &Core, request: &Request, directory: &str) -> Result<Vec<String>, IntakeError> {
    let entries = entries_of(&*core.forge, request, directory).await?;
    let is_workflow = |name: &str| name.ends_with(".yml") || name.ends_with(".yaml");
    let mut names: Vec<String> =
        entries.into_iter().filter(|e| e.is_file && is_workflow(&e.name)).map(|e| e.name).collect();
    names.sort();
    names.truncate(MAX_FILES);
    Ok(names.into_iter().map(|name| format!("{directory}/{name}")).collect())
}

/// What is in the directory. "Not found" is believed only of a commit that can be read: it is also what a forge says about
/// commits that it has not replicated yet and about everything that it may not show.
async fn entries_of(forge: &dyn Forge, request: &Request, directory: &str) -> Result<Vec<DirectoryEntry>, IntakeError> {
    let Request { access, sha, .. } = request;
    match forge.list_directory(access, directory, sha).await {
        Err(ForgeError::NotFound { .. }) => {}
        answer => return Ok(answer?),
    }
    if !forge.has_commit(access, sha).await? {
        return Err(IntakeError::CommitUnreadable { repo: access.repo.clone(), sha: sha.clone() });
    }
    // The commit may have become readable only now.
    match forge.list_directory(access, directory, sha).await {
        Err(ForgeError::NotFound { .. }) => Ok(Vec::new()),
        answer => Ok(answer?),
    }
}

/// A workflow that starts.
#[derive(Debug, Clone, Copy)]
struct Source<'w> {
    path: &'w str,
    workflow: &'w Workflow,
    /// What tells its contexts from those of a workflow with the same name.
    suffix: &'w str,
}

fn run_of(
    core: &Core, request: &Request, settings: &RepositorySettings<'_>, source: Source<'_>, payload: &serde_json::Value,
    received_at: i64,
) -> NewRun {
    let Source { path, workflow, .. } = source;
    let name = workflow.display_name();
    let github = &core.config.github;
    let context = github_context(request, payload, path, name, github.url.as_str(), github.api_url.as_str());
    let input = PlanInput { github: context.to_value(), ..PlanInput::default() };
    let planned = match heavy(|| plan(workflow, &input)) {
        Ok(planned) => planned,
        Err(complaints) => return unreadable(request, path, &complaints),
    };
    let limit = core.config.limits.max_jobs_per_run as usize;
    if planned.len() > limit {
        let message =
            format!("the workflow becomes {} jobs; this service runs at most {limit} of one event", planned.len());
        return unreadable(request, path, &[complaint(path, message)]);
    }
    let jobs = planned.into_iter().map(|job| new_job(core, request, settings, source, job, received_at)).collect();
    let context = serde_json::to_value(&context).unwrap_or_default();
    new_run(request, path, name, context, None, jobs)
}

fn new_job(
    core: &Core, request: &Request, settings: &RepositorySettings<'_>, source: Source<'_>, job: PlannedJob,
    received_at: i64,
) -> NewJob {
    let log_token = LogToken::random();
    let mut report = new_report(request, context_name(request, source, &job.name), "Waiting to start".to_owned());
    report.details_url = Some(core.log_url(&log_token));
    let chosen = match &job.group {
        Some(group) => Err(no_groups(group)),
        None => core.config.select_profile_for(settings, &job.labels).map_err(|no_profile| no_profile.to_string()),
    };
    let (profile, outcome) = match chosen {
        Ok(profile) => {
            report.title = format!("Queued for the profile `{}`", profile.name);
            (Some(profile.name.clone()), None)
        }
        Err(detail) => {
            report.title = first_line(&detail);
            report.summary = detail.clone();
            report.state = ReportState::Finished(Conclusion::Error);
            report.finished_at = Some(received_at);
            (None, Some(Outcome { conclusion: Conclusion::Error, reason: Some(Reason::NoProfile), detail }))
        }
    };
    NewJob {
        id: JobId::random(),
        key: job.key,
        name: job.name,
        needs: job.needs,
        spec: serde_json::to_value(&job.spec).unwrap_or_default(),
        profile,
        log_token,
        report,
        outcome,
    }
}

/// What a job that asks for a runner group is told. To ignore the group would give it a machine that it did not ask for.
fn no_groups(group: &str) -> String {
    format!(
        "there are no runner groups here, so none is named {}\n  hint: ask by labels, like `runs-on: linux`",
        quoted(group)
    )
}

/// Why nothing more is taken, if so many jobs are unfinished.
fn full_queue(unfinished: u64, limit: u32) -> Option<String> {
    (unfinished >= u64::from(limit)).then(|| {
        format!(
            "the queue is full: {unfinished} jobs have not finished, and this service takes {limit}\n  hint: push again \
             later; the operator sets `limits.queue`"
        )
    })
}

/// The run of a workflow that is not even planned.
fn refused(request: &Request, path: &str, why: &str) -> NewRun {
    let file = file_name(path);
    let mut report = new_report(request, format!("dayfly/{file}"), first_line(why));
    report.state = ReportState::Finished(Conclusion::Error);
    report.summary = format!("`{path}` was not run: {why}");
    new_run(request, path, file, serde_json::Value::Null, Some(report), Vec::new())
}

/// A run that consists of complaints about its workflow.
fn unreadable(request: &Request, path: &str, complaints: &[Diagnostic]) -> NewRun {
    let file = file_name(path);
    let title =
        complaints.first().map_or_else(|| "The workflow cannot be read".to_owned(), |c| first_line(&c.to_string()));
    let mut report = new_report(request, format!("dayfly/{file}"), title);
    report.state = ReportState::Finished(Conclusion::Error);
    let listed: Vec<String> = complaints.iter().take(MAX_LISTED).map(Diagnostic::to_string).collect();
    let left_out = complaints.len().saturating_sub(MAX_LISTED);
    report.summary = format!("`{path}` cannot be run.\n\n```text\n{}\n```\n", listed.join("\n").replace("```", "'''"));
    if left_out > 0 {
        report.summary.push_str(&format!("\n… and {left_out} more.\n"));
    }
    new_run(request, path, file, serde_json::Value::Null, Some(report), Vec::new())
}

fn new_run(
    request: &Request, path: &str, name: &str, context: serde_json::Value, report: Option<Report>, jobs: Vec<NewJob>,
) -> NewRun {
    NewRun {
        id: RunId::random(),
        access: request.access.clone(),
        event: request.trigger.event.clone(),
        sha: request.sha.clone(),
        workflow_path: path.to_owned(),
        workflow_name: name.to_owned(),
        context,
        report,
        jobs,
    }
}

fn new_report(request: &Request, context: String, title: String) -> Report {
    Report {
        id: ReportId::random(),
        access: request.access.clone(),
        sha: request.sha.clone(),
        context,
        state: ReportState::Queued,
        title,
        summary: String::new(),
        log: String::new(),
        details_url: None,
        started_at: None,
        finished_at: None,
    }
}

/// What the forge calls the job. Branch protection refers to it, so a pull request's name has nothing in it that changes;
/// other events at the same commit must not overwrite it.
fn context_name(request: &Request, source: Source<'_>, job: &str) -> String {
    let Source { workflow, suffix, .. } = source;
    let name = workflow.display_name();
    match request.trigger.event.as_str() {
        "pull_request" => format!("dayfly/{name}/{job}{suffix}"),
        event => format!("dayfly/{name}/{job}{suffix} ({event})"),
    }
}

fn complaint(file: &str, message: String) -> Diagnostic {
    Diagnostic { file: file.to_owned(), position: None, path: String::new(), message, hint: None }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_says_how_full() {
        assert_eq!(full_queue(9, 10), None);
        insta::assert_snapshot!(full_queue(10, 10).unwrap_or_default(), @"
        the queue is full: 10 jobs have not finished, and this service takes 10
          hint: push again later; the operator sets `limits.queue`
        ");
    }

    #[test]
    fn a_runner_group_is_answered_with_what_to_use() {
        insta::assert_snapshot!(no_groups("large"), @"
        there are no runner groups here, so none is named `large`
          hint: ask by labels, like `runs-on: linux`
        ");
    }
}
