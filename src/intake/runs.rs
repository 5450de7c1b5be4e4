//! Reads the workflows that stand in the pinned commit and plans their jobs.

use serde_json::Value as Json;

use super::calls::{Gathered, called_by, stored};
use super::context::github_context;
use super::jobs::{first_line, new_job, new_report};
use super::{IntakeError, naming};
use crate::config::{JobSecrets, RepositorySettings};
use crate::core::{Core, heavy};
use crate::document::Diagnostic;
use crate::forge::{Conclusion, DirectoryEntry, Forge, ForgeError, Report, ReportState};
use crate::ids::RunId;
use crate::policy::{OfPullRequest, Request};
use crate::store::{CalledWorkflow, Concurrency, FromPullRequest, NewJob, NewRun, Origin, check_size};
use crate::webhook::Dispatch;
use crate::workflow::contexts::GithubContext;
use crate::workflow::model::Queue;
use crate::workflow::plan::{PlanInput, PlannedJob, plan};
use crate::workflow::schedule::Schedule;
use crate::workflow::trigger::{Match, matches};
use crate::workflow::values::Values;
use crate::workflow::{MAX_FILE_BYTES, Workflow, concurrency, parse};

/// Workflow files of one commit that are read.
pub(crate) const MAX_FILES: usize = 64;

/// Complaints about one workflow that its report lists.
const MAX_LISTED: usize = 20;

/// What all runs of one event have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planner<'a> {
    pub(super) core: &'a Core,
    pub(super) request: &'a Request,
    pub(super) settings: &'a RepositorySettings<'a>,
    /// The event's payload.
    pub(super) payload: &'a Json,
    /// When the delivery arrived, in milliseconds since the epoch.
    pub(super) arrived_at: i64,
    /// What was asked for, of events that name no commit.
    pub(super) asked: Option<&'a Dispatch>,
}

/// What follows from a commit's workflows.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) runs: Vec<NewRun>,
    /// When they start by themselves, with their paths.
    pub(super) schedules: Vec<(String, Schedule)>,
}

/// A workflow that starts.
#[derive(Debug, Clone, Copy)]
struct Source<'w> {
    path: &'w str,
    workflow: &'w Workflow,
    /// What tells its contexts from those of a workflow with the same name.
    suffix: &'w str,
}

impl Planner<'_> {
    /// One run for every workflow of the commit that asks for the event, and for every one that cannot be read.
    pub(super) async fn plan(&self) -> Result<Planned, IntakeError> {
        let Self { core, request, .. } = self;
        let forge = core.forges.of(&request.forge)?;
        let (mut runs, mut workflows) = (Vec::new(), Vec::new());
        for path in workflow_files(core, request, self.settings.workflows_dir).await? {
            let text = match forge.read_file(&request.access, &path, &request.sha, MAX_FILE_BYTES).await {
                Ok(bytes) => String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned()),
                Err(ForgeError::Permanent { detail, .. }) => Err(detail),
                Err(error) => return Err(error.into()),
            };
            let parsed =
                text.map_err(|message| vec![complaint(&path, message)]).and_then(|text| heavy(|| parse(&path, &text)));
            match parsed {
                Err(complaints) if self.may_mean(&path) => runs.push(self.unreadable(&path, &complaints)),
                Err(_) => {}
                Ok(workflow) => workflows.push((path, workflow)),
            }
        }
        let suffixes = naming::suffixes(&workflows);
        let full = full_queue(core.store.count_unfinished_jobs().await?, core.config.limits.queue);
        for (path, workflow) in &workflows {
            if matches(workflow, &request.trigger) != Match::Starts || !self.is_meant(path, workflow) {
                continue;
            }
            let suffix = suffixes.get(path).map_or("", String::as_str);
            runs.push(match &full {
                Some(why) => self.refused(path, why),
                None => match called_by(core, request, workflow).await? {
                    Ok(Gathered { root, called }) => {
                        self.run_of(Source { path, workflow: &root, suffix }, stored(called))
                    }
                    Err(complaints) => self.unreadable(path, &complaints),
                },
            });
        }
        naming::make_unique(&mut runs);
        let of_workflow = |(path, workflow): &(String, Workflow)| {
            workflow.schedules.iter().map(|schedule| (path.clone(), schedule.clone())).collect::<Vec<_>>()
        };
        Ok(Planned { runs, schedules: workflows.iter().flat_map(of_workflow).collect() })
    }

    /// Whether it is the one workflow that was asked for, or all were.
    fn is_meant(&self, path: &str, workflow: &Workflow) -> bool {
        let has = |cron: &String| workflow.schedules.iter().any(|schedule| schedule.source() == cron);
        self.may_mean(path) && self.asked.and_then(|asked| asked.schedule.as_ref()).is_none_or(has)
    }

    fn may_mean(&self, path: &str) -> bool {
        self.asked.and_then(|asked| asked.workflow.as_ref()).is_none_or(|wanted| wanted == path)
    }

    fn run_of(&self, source: Source<'_>, called: Vec<CalledWorkflow>) -> NewRun {
        let Source { path, workflow, .. } = source;
        let name = workflow.display_name();
        let github = self.context(path, name);
        // What is computed before a job starts is stored, and has no secrets.
        let vars = self.values_of_all().vars();
        let inputs = self.payload.get("inputs").cloned().unwrap_or_default().into();
        let is_of_fork = self.request.pull_request.is_some_and(|pull| pull.is_fork);
        let input = PlanInput { github: github.to_value(), inputs, vars, is_of_fork };
        let grouped = || concurrency::group(workflow, &input).map_err(|complaint| vec![complaint]);
        let (planned, group) = match heavy(|| plan(workflow, &input).and_then(|planned| Ok((planned, grouped()?)))) {
            Ok(planned) => planned,
            Err(complaints) => return self.unreadable(path, &complaints),
        };
        let limit = self.core.config.limits.max_jobs_per_run as usize;
        if planned.len() > limit {
            let message =
                format!("the workflow becomes {} jobs; this service runs at most {limit} of one event", planned.len());
            return self.unreadable(path, &[complaint(path, message)]);
        }
        let new = |job: PlannedJob| {
            let Request { access, sha, .. } = self.request;
            let context = context_name(self.request, source, &job.name);
            let report = |title| new_report(access, sha, context, title);
            new_job(self.core, self.settings, job, report, self.arrived_at)
        };
        let mut run = self.new_run(path, name, None, planned.into_iter().map(new).collect());
        run.called = called;
        run.origin.concurrency = group.map(|group| Concurrency {
            group: group.name,
            cancels: group.cancel_in_progress,
            queues: group.queue == Queue::Max,
        });
        match check_size(&run) {
            Ok(()) => run,
            // By itself: the other workflows of the commit are none the worse for it.
            Err(error) => self.unreadable(path, &[complaint(path, format!("the workflow is too large: {error}"))]),
        }
    }

    /// The run of a workflow that is not even planned.
    fn refused(&self, path: &str, why: &str) -> NewRun {
        let mut report = self.report(path, first_line(why));
        report.summary = format!("`{path}` was not run: {why}");
        self.new_run(path, file_name(path), Some(report), Vec::new())
    }

    /// A run that consists of complaints about its workflow.
    fn unreadable(&self, path: &str, complaints: &[Diagnostic]) -> NewRun {
        let title =
            complaints.first().map_or_else(|| "The workflow cannot be read".to_owned(), |c| first_line(&c.to_string()));
        let mut report = self.report(path, title);
        let listed: Vec<String> = complaints.iter().take(MAX_LISTED).map(Diagnostic::to_string).collect();
        let left_out = complaints.len().saturating_sub(MAX_LISTED);
        report.summary =
            format!("`{path}` cannot be run.\n\n```text\n{}\n```\n", listed.join("\n").replace("```", "'''"));
        if left_out > 0 {
            report.summary.push_str(&format!("\n… and {left_out} more.\n"));
        }
        self.new_run(path, file_name(path), Some(report), Vec::new())
    }

    /// The report of a workflow that becomes no jobs.
    fn report(&self, path: &str, title: String) -> Report {
        let Request { access, sha, .. } = self.request;
        let mut report = new_report(access, sha, format!("dayfly/{}", file_name(path)), title);
        report.state = ReportState::Finished(Conclusion::Error);
        report
    }

    fn new_run(&self, path: &str, name: &str, report: Option<Report>, jobs: Vec<NewJob>) -> NewRun {
        let context = serde_json::to_value(self.context(path, name)).unwrap_or_default();
        NewRun {
            workflow_path: path.to_owned(),
            workflow_name: name.to_owned(),
            context,
            report,
            jobs,
            ..empty_run(self.request, self.arrived_at)
        }
    }

    fn context(&self, path: &str, name: &str) -> GithubContext {
        let addresses = self.core.config.addresses_of(&self.request.forge);
        let api = (addresses.api_url(), addresses.graphql_url());
        github_context(self.request, self.payload, path, name, addresses.server_url(), api)
    }

    /// What jobs of the repository are given without a deployment environment, and without its secrets.
    fn values_of_all(&self) -> Values {
        let Request { forge, access, .. } = self.request;
        self.core.config.values_of(forge, &access.repo, None, &JobSecrets::new())
    }
}

/// A run of an event without anything in it.
pub(super) fn empty_run(request: &Request, arrived_at: i64) -> NewRun {
    let of_pull_request = |pull: OfPullRequest| FromPullRequest { number: pull.number, is_fork: pull.is_fork };
    NewRun {
        id: RunId::random(),
        forge: request.forge.clone(),
        access: request.access.clone(),
        event: request.trigger.event.clone(),
        sha: request.sha.clone(),
        workflow_path: String::new(),
        workflow_name: String::new(),
        context: Json::Null,
        origin: Origin { pull_request: request.pull_request.map(of_pull_request), arrived_at, ..Origin::default() },
        report: None,
        called: Vec::new(),
        jobs: Vec::new(),
    }
}

pub(super) async fn workflow_files(
    core: &Core, request: &Request, directory: &str,
) -> Result<Vec<String>, IntakeError> {
    let entries = entries_of(&**core.forges.of(&request.forge)?, request, directory).await?;
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

/// Why nothing more is taken, if so many jobs are unfinished.
pub(super) fn full_queue(unfinished: u64, limit: u32) -> Option<String> {
    (unfinished >= u64::from(limit)).then(|| {
        format!(
            "the queue is full: {unfinished} jobs have not finished, and this service takes {limit}\n  hint: push again \
             later; the operator sets `limits.queue`"
        )
    })
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

/// Something that is wrong with a whole file.
pub(crate) fn complaint(file: &str, message: String) -> Diagnostic {
    Diagnostic { file: file.to_owned(), position: None, path: String::new(), message, hint: None }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
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
}
