//! Reads GitHub's deliveries: two headers and a JSON body become an [`Event`].

use std::collections::BTreeSet;

use serde_json::Value;

use super::event::{
    AuthorAssociation, CheckRunRerequested, CheckSuiteRerequested, DeliveryId, Dispatch, Event, EventName,
    IssueComment, IssueCommentAction, MergeGroup, MergeGroupAction, PullRequest, PullRequestAction, Push, PushTarget,
    Repository, WorkflowJob,
};
use super::json::{self, Field, PayloadError};
use crate::forge::{JobStage, RepoAccess, github};

/// Largest body that is read, in bytes: GitHub's own limit for payloads.
pub const MAX_BODY: usize = 25 * 1024 * 1024;

/// Longest ref name, in bytes. Git hosts allow about 250.
pub(super) const MAX_REF: usize = 1024;
/// Longest account name, in bytes. GitHub allows 39, and suffixes such as `[bot]`.
const MAX_LOGIN: usize = 100;
/// Longest action, label and check run name, in bytes.
pub(super) const MAX_NAME: usize = 256;
/// Labels of one job: GitHub gives a runner no more.
const MAX_LABELS: usize = 100;
/// Longest title that is kept, in bytes.
pub(super) const MAX_TITLE: usize = 256;
/// Longest comment that is kept, in bytes; GitHub allows 65,536 characters.
pub(super) const MAX_COMMENT: usize = 64 * 1024;
/// Longest path of a changed file, in bytes.
const MAX_PATH: usize = 4096;
/// Changed paths of one push that are kept; more of them count as unknown.
const MAX_CHANGED_PATHS: usize = 10_000;
/// A push's payload lists at most this many commits: a list this long may be incomplete.
const LISTED_COMMITS: usize = 2048;
/// A commit in a push's payload lists at most this many files: a list this long may be incomplete.
const LISTED_FILES_PER_COMMIT: usize = 3000;

/// The headers of a delivery that Dayfly uses besides the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitHubHeaders {
    pub event: EventName,
    pub delivery: DeliveryId,
}

/// A delivery whose headers are missing or odd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("the delivery has no `{header}` header")]
    Missing { header: &'static str },
    #[error("the `{header}` header: {problem}")]
    Malformed { header: &'static str, problem: String },
}

impl GitHubHeaders {
    /// Checks the values of `X-GitHub-Event` and `X-GitHub-Delivery`.
    pub fn parse(event: Option<&[u8]>, delivery: Option<&[u8]>) -> Result<Self, HeaderError> {
        Ok(Self {
            event: header("X-GitHub-Event", event, EventName::parse)?,
            delivery: header("X-GitHub-Delivery", delivery, DeliveryId::parse)?,
        })
    }
}

fn header<T>(
    header: &'static str, value: Option<&[u8]>, parse: fn(&str) -> Result<T, String>,
) -> Result<T, HeaderError> {
    let value = value.ok_or(HeaderError::Missing { header })?;
    parse(&String::from_utf8_lossy(value)).map_err(|problem| HeaderError::Malformed { header, problem })
}

/// Reads the body of a delivery whose signature was verified.
///
/// Events and actions that Dayfly does not know give [`Event::Other`]; a body that is not JSON, is larger than
/// [`MAX_BODY`], or lacks a field that is used gives an error.
pub fn parse_github(name: &EventName, body: &[u8]) -> Result<Event, PayloadError> {
    if body.len() > MAX_BODY {
        return Err(PayloadError::TooLarge { size: body.len(), limit: MAX_BODY });
    }
    let document = json::read(body)?;
    let payload = Field::root(&document);
    let action = payload.get("action").present().map(|action| action.name(MAX_NAME)).transpose()?;
    match (name.as_str(), action.as_deref()) {
        ("ping", _) => Ok(Event::Ping),
        ("pull_request", Some(action)) => pull_request(&payload, action).map(Event::PullRequest),
        ("push", _) => push(&payload).map(Event::Push),
        ("check_run", Some("rerequested")) => check_run(&payload).map(Event::CheckRunRerequested),
        ("check_suite", Some("rerequested")) => check_suite(&payload).map(Event::CheckSuiteRerequested),
        ("merge_group", Some(action)) => merge_group(&payload, action).map(Event::MergeGroup),
        ("issue_comment", Some(action)) => issue_comment(&payload, action).map(Event::IssueComment),
        ("workflow_dispatch" | "repository_dispatch", _) => parse_dispatch(github::NAME, name, body),
        ("workflow_job", Some(action)) => match job_stage(action) {
            Some(stage) => workflow_job(&payload, stage).map(Event::WorkflowJob),
            None => Ok(Event::Other { name: name.clone(), action: Some(action.to_owned()) }),
        },
        _ => Ok(Event::Other { name: name.clone(), action }),
    }
}

/// Reads a start that names no commit. They have one form, whatever the forge: most are Dayfly's own.
///
/// # Errors
/// As [`parse_github`].
pub(super) fn parse_dispatch(forge: &str, name: &EventName, body: &[u8]) -> Result<Event, PayloadError> {
    let document = json::read(body)?;
    let payload = Field::root(&document);
    let action = payload.get("action").present().map(|action| action.name(MAX_NAME)).transpose()?;
    match (name.as_str(), action) {
        ("workflow_dispatch", _) => workflow_dispatch(forge, &payload).map(Event::Dispatch),
        ("repository_dispatch", Some(action)) => repository_dispatch(forge, &payload, &action).map(Event::Dispatch),
        (_, action) => Ok(Event::Other { name: name.clone(), action }),
    }
}

fn repository(payload: &Field<'_>) -> Result<Repository, PayloadError> {
    repository_of(github::NAME, payload)
}

fn repository_of(forge: &str, payload: &Field<'_>) -> Result<Repository, PayloadError> {
    let repository = payload.get("repository");
    let installation = payload.get("installation").present();
    let name = repository.get("full_name");
    Ok(Repository {
        forge: forge.to_owned(),
        access: RepoAccess {
            repo: if forge == github::NAME { name.repo_name()? } else { name.project_path()? },
            installation: installation.map(|installation| installation.get("id").u64()).transpose()?,
        },
        id: repository.get("id").u64()?,
        default_branch: repository.get("default_branch").name(MAX_REF)?,
    })
}

/// The account's name; GitHub calls a deleted account `ghost` wherever it shows one.
fn login(account: &Field<'_>) -> Result<String, PayloadError> {
    account.clone().present().map_or_else(|| Ok("ghost".to_owned()), |account| account.get("login").name(MAX_LOGIN))
}

fn association(field: &Field<'_>) -> AuthorAssociation {
    match field.str() {
        Ok("OWNER") => AuthorAssociation::Owner,
        Ok("MEMBER") => AuthorAssociation::Member,
        Ok("COLLABORATOR") => AuthorAssociation::Collaborator,
        Ok("CONTRIBUTOR") => AuthorAssociation::Contributor,
        Ok("FIRST_TIME_CONTRIBUTOR") => AuthorAssociation::FirstTimeContributor,
        Ok("FIRST_TIMER") => AuthorAssociation::FirstTimer,
        Ok("MANNEQUIN") => AuthorAssociation::Mannequin,
        _ => AuthorAssociation::None,
    }
}

/// Only for comparing: what does not read counts as not told.
fn time(field: &Field<'_>) -> Option<i64> {
    field.str().ok()?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

fn pull_request(payload: &Field<'_>, action: &str) -> Result<PullRequest, PayloadError> {
    let repository = repository(payload)?;
    let pull = payload.get("pull_request");
    let (head, base) = (pull.get("head"), pull.get("base"));
    let head_repo = head.get("repo").present();
    // Not `head.repo.fork`: the base may itself be a fork of something else.
    let is_fork = match &head_repo {
        Some(repo) => repo.get("id").u64()? != repository.id,
        None => true,
    };
    Ok(PullRequest {
        action: PullRequestAction::from(action.to_owned()),
        number: pull.get("number").u64()?,
        title: pull.get("title").prose(MAX_TITLE)?,
        head_sha: head.get("sha").sha()?,
        before: payload.get("before").present().map(|before| before.sha_or_null_id()).transpose()?.flatten(),
        head_ref: head.get("ref").name(MAX_REF)?,
        head_repo: head_repo.map(|repo| repo.get("full_name").repo_name()).transpose()?,
        base_sha: Some(base.get("sha").sha()?),
        base_ref: base.get("ref").name(MAX_REF)?,
        is_fork,
        draft: pull.get("draft").present().map_or(Ok(false), |draft| draft.bool())?,
        merged: pull.get("merged").present().map_or(Ok(false), |merged| merged.bool())?,
        author: login(&pull.get("user"))?,
        author_association: association(&pull.get("author_association")),
        sender: login(&payload.get("sender"))?,
        label: payload.get("label").present().map(|label| label.get("name").name(MAX_NAME)).transpose()?,
        changed_at: time(&pull.get("updated_at")),
        repository,
    })
}

fn push(payload: &Field<'_>) -> Result<Push, PayloadError> {
    let ref_name = payload.get("ref").name(MAX_REF)?;
    let target = PushTarget::of(&ref_name);
    let before = payload.get("before").sha_or_null_id()?;
    let after = payload.get("after").sha_or_null_id()?;
    let forced = payload.get("forced").present().map_or(Ok(false), |forced| forced.bool())?;
    let is_plain = before.is_some() && after.is_some() && !forced;
    Ok(Push {
        repository: repository(payload)?,
        target,
        created: payload.get("created").bool()?,
        deleted: payload.get("deleted").bool()?,
        sender: login(&payload.get("sender"))?,
        changed_paths: if is_plain { changed_paths(payload.get("commits").array()?) } else { None },
        ref_name,
        before,
        after,
    })
}

/// The paths that the commits touched, or `None` as soon as the list may be incomplete or is not as expected.
pub(super) fn changed_paths(commits: &[Value]) -> Option<Vec<String>> {
    if commits.len() >= LISTED_COMMITS {
        return None;
    }
    let mut paths = BTreeSet::new();
    for commit in commits {
        let mut files = Vec::new();
        for list in ["added", "modified", "removed"] {
            files.extend(commit.get(list)?.as_array()?);
        }
        if files.len() >= LISTED_FILES_PER_COMMIT {
            return None;
        }
        for file in files {
            paths.insert(file.as_str().filter(|path| path.len() <= MAX_PATH)?);
            if paths.len() > MAX_CHANGED_PATHS {
                return None;
            }
        }
    }
    Some(paths.into_iter().map(str::to_owned).collect())
}

fn check_run(payload: &Field<'_>) -> Result<CheckRunRerequested, PayloadError> {
    let check_run = payload.get("check_run");
    Ok(CheckRunRerequested {
        repository: repository(payload)?,
        check_run_id: check_run.get("id").u64()?,
        // Other applications put anything there; only an id of ours means something.
        external_id: check_run.get("external_id").str().ok().and_then(|id| id.parse().ok()),
        name: check_run.get("name").name(MAX_NAME)?,
        head_sha: check_run.get("head_sha").sha()?,
        sender: login(&payload.get("sender"))?,
    })
}

fn check_suite(payload: &Field<'_>) -> Result<CheckSuiteRerequested, PayloadError> {
    let suite = payload.get("check_suite");
    Ok(CheckSuiteRerequested {
        repository: repository(payload)?,
        check_suite_id: suite.get("id").u64()?,
        head_sha: suite.get("head_sha").sha()?,
        head_branch: suite.get("head_branch").present().map(|branch| branch.name(MAX_REF)).transpose()?,
        sender: login(&payload.get("sender"))?,
    })
}

fn merge_group(payload: &Field<'_>, action: &str) -> Result<MergeGroup, PayloadError> {
    let group = payload.get("merge_group");
    Ok(MergeGroup {
        action: match action {
            "checks_requested" => MergeGroupAction::ChecksRequested,
            "destroyed" => MergeGroupAction::Destroyed,
            _ => MergeGroupAction::Other,
        },
        repository: repository(payload)?,
        head_sha: group.get("head_sha").sha()?,
        head_ref: group.get("head_ref").name(MAX_REF)?,
        base_sha: group.get("base_sha").sha()?,
        base_ref: group.get("base_ref").name(MAX_REF)?,
        sender: login(&payload.get("sender"))?,
    })
}

fn issue_comment(payload: &Field<'_>, action: &str) -> Result<IssueComment, PayloadError> {
    let (issue, comment) = (payload.get("issue"), payload.get("comment"));
    Ok(IssueComment {
        action: match action {
            "created" => IssueCommentAction::Created,
            "edited" => IssueCommentAction::Edited,
            "deleted" => IssueCommentAction::Deleted,
            _ => IssueCommentAction::Other,
        },
        repository: repository(payload)?,
        is_pull_request: issue.get("pull_request").present().is_some(),
        number: issue.get("number").u64()?,
        comment_id: comment.get("id").u64()?,
        body: comment.get("body").prose(MAX_COMMENT)?,
        author: login(&comment.get("user"))?,
        author_association: association(&comment.get("author_association")),
        sender: login(&payload.get("sender"))?,
    })
}

fn workflow_dispatch(forge: &str, payload: &Field<'_>) -> Result<Dispatch, PayloadError> {
    let workflow = payload.get("workflow").present().map(|workflow| workflow.name(MAX_PATH)).transpose()?;
    Ok(Dispatch { workflow, ..dispatch(forge, payload, "workflow_dispatch", payload.get("ref").name(MAX_REF)?)? })
}

fn repository_dispatch(forge: &str, payload: &Field<'_>, action: &str) -> Result<Dispatch, PayloadError> {
    let branch = payload.get("branch").name(MAX_REF)?;
    Ok(Dispatch { action: Some(action.to_owned()), ..dispatch(forge, payload, "repository_dispatch", branch)? })
}

fn job_stage(action: &str) -> Option<JobStage> {
    Some(match action {
        "waiting" => JobStage::Waiting,
        "queued" => JobStage::Queued,
        "in_progress" => JobStage::InProgress,
        "completed" => JobStage::Completed,
        _ => return None,
    })
}

fn workflow_job(payload: &Field<'_>, stage: JobStage) -> Result<WorkflowJob, PayloadError> {
    let job = payload.get("workflow_job");
    // Before a runner has it, GitHub writes null or nothing at all into the text.
    let runner = job.get("runner_name").present().filter(|name| name.str() != Ok(""));
    let organization = payload.get("organization").present();
    Ok(WorkflowJob {
        repository: repository(payload)?,
        organization: organization.map(|organization| login(&organization)).transpose()?,
        id: job.get("id").u64()?,
        run: job.get("run_id").u64()?,
        name: job.get("name").prose(MAX_NAME)?,
        head_sha: job.get("head_sha").sha()?,
        labels: job.get("labels").names(MAX_LABELS, MAX_NAME)?,
        stage,
        runner: runner.map(|name| name.name(MAX_NAME)).transpose()?,
        conclusion: job.get("conclusion").present().map(|conclusion| conclusion.name(MAX_NAME)).transpose()?,
    })
}

/// A short name is that of a branch.
fn dispatch(forge: &str, payload: &Field<'_>, event: &str, named: String) -> Result<Dispatch, PayloadError> {
    Ok(Dispatch {
        repository: repository_of(forge, payload)?,
        event: event.to_owned(),
        action: None,
        git_ref: if named.starts_with("refs/") { named } else { format!("refs/heads/{named}") },
        workflow: None,
        schedule: None,
        sender: login(&payload.get("sender"))?,
    })
}

#[cfg(test)]
#[path = "github_tests.rs"]
mod tests;
