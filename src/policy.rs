//! Who may run what: from a verified event to a verdict. Pure.
//!
//! A fork's pull request is code of somebody who may write nothing here, so it is held, visibly, until somebody who may
//! approves the commit. Everything else that names a commit is a request to run the workflows that stand in that commit.

mod command;

pub use self::command::{Command, command_in};
use crate::config::Forks;
use crate::forge::{CommitSha, DEFAULT_BRANCH, HeadNews, RepoAccess};
use crate::ids::ReportId;
use crate::webhook::{
    Dispatch, Event, IssueComment, IssueCommentAction, MergeGroup, MergeGroupAction, PullRequest, PullRequestAction,
    Push, PushTarget,
};
use crate::workflow::trigger::Trigger;

/// What is known besides the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What becomes of forks in the event's repository.
    pub forks: Forks,
    /// Whether the head commit of the event's pull request has an approval, and is still the head.
    pub is_approved: bool,
    /// Whether who caused the event has write access now; only known where [`needs_sender`] says so.
    pub sender_may_write: bool,
}

/// Who opens pull requests on GitHub with what others have published, and gets no secrets there.
const DEPENDABOT: &str = "dependabot[bot]";

/// Whether the jobs of an event may have secrets: not if a fork brought it, even if somebody approved its commit, nor if it is a
/// pull request or a push of a robot that takes over the work of strangers.
pub fn may_have_secrets(is_of_fork: bool, event: &str, actor: &str) -> bool {
    let is_of_dependabot = matches!(event, "pull_request" | "push") && actor.eq_ignore_ascii_case(DEPENDABOT);
    !(is_of_fork || is_of_dependabot)
}

/// What is to be done about an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing; why, for the operator.
    Ignore(String),
    /// Nothing runs until somebody approves the commit, and the forge shows that.
    Hold(Box<Request>),
    /// Nothing runs, whoever asks, and the forge shows that.
    Deny(Box<Request>),
    /// The workflows of this commit that want the event run.
    Start(Box<Request>),
    /// The workflows that want the event run at the commit of its ref.
    Dispatch(Box<Dispatch>),
    /// Somebody asks for an approval.
    Approve(Box<Asked>),
    /// Somebody asks for a re-run.
    Rerun(Box<Rerun>),
}

/// A commit and what is known about how it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The forge's name, as runs have it.
    pub forge: String,
    pub access: RepoAccess,
    pub repository_id: u64,
    /// Pinned here, and never resolved again.
    pub sha: CommitSha,
    pub trigger: Trigger,
    pub subject: Subject,
    pub pull_request: Option<OfPullRequest>,
}

/// The pull request of a [`Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfPullRequest {
    pub number: u64,
    pub is_fork: bool,
}

/// What the `github` context says about the ref.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    pub git_ref: String,
    pub ref_name: String,
    pub ref_type: String,
    pub head_ref: String,
    pub base_ref: String,
    pub actor: String,
}

/// A comment on a pull request with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub access: RepoAccess,
    /// The pull request's.
    pub number: u64,
    /// Who wrote it. What they may do has to be asked of the forge.
    pub person: String,
    pub command: Command,
}

/// What shall run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rerun {
    pub access: RepoAccess,
    pub sha: CommitSha,
    /// Who asked; the forge has made sure that they may.
    pub person: String,
    pub what: RerunOf,
}

/// One check, or all of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RerunOf {
    Check(ReportId),
    Commit,
}

/// The verdict about an event.
pub fn judge(event: &Event, standing: &Standing) -> Verdict {
    match event {
        Event::Ping => Verdict::Ignore("a ping needs nothing but an answer".to_owned()),
        Event::PullRequest(pull_request) => judge_pull_request(pull_request, standing),
        Event::Push(push) => judge_push(push),
        Event::MergeGroup(group) => judge_merge_group(group),
        Event::CheckRunRerequested(asked) => match &asked.external_id {
            Some(report) => {
                rerun(&asked.repository.access, &asked.head_sha, &asked.sender, RerunOf::Check(report.clone()))
            }
            None => Verdict::Ignore("the check run is not one of Dayfly's".to_owned()),
        },
        Event::CheckSuiteRerequested(asked) => {
            rerun(&asked.repository.access, &asked.head_sha, &asked.sender, RerunOf::Commit)
        }
        Event::IssueComment(comment) => judge_comment(comment, standing),
        Event::Dispatch(asked) => Verdict::Dispatch(Box::new(asked.clone())),
        Event::WorkflowJob(_) => Verdict::Ignore("jobs of GitHub's own workflows start none here".to_owned()),
        Event::Other { name, .. } => Verdict::Ignore(format!("events of the kind `{name}` start nothing")),
    }
}

/// What a start asks for that named no commit: this is that of its ref.
pub fn dispatch_request(asked: &Dispatch, sha: CommitSha) -> Request {
    let is_tag = asked.git_ref.starts_with("refs/tags/");
    Request {
        forge: asked.repository.forge.clone(),
        access: asked.repository.access.clone(),
        repository_id: asked.repository.id,
        sha,
        trigger: Trigger {
            event: asked.event.clone(),
            action: asked.action.clone(),
            branch: None,
            tag: None,
            changed_paths: None,
        },
        subject: Subject {
            git_ref: asked.git_ref.clone(),
            ref_name: short_ref(&asked.git_ref),
            ref_type: if is_tag { "tag" } else { "branch" }.to_owned(),
            actor: asked.sender.clone(),
            ..Subject::default()
        },
        pull_request: None,
    }
}

fn rerun(access: &RepoAccess, sha: &CommitSha, person: &str, what: RerunOf) -> Verdict {
    Verdict::Rerun(Box::new(Rerun { access: access.clone(), sha: sha.clone(), person: person.to_owned(), what }))
}

fn judge_merge_group(group: &MergeGroup) -> Verdict {
    if group.action != MergeGroupAction::ChecksRequested {
        return Verdict::Ignore("the merge group asks for no checks".to_owned());
    }
    Verdict::Start(Box::new(Request {
        forge: group.repository.forge.clone(),
        access: group.repository.access.clone(),
        repository_id: group.repository.id,
        sha: group.head_sha.clone(),
        trigger: Trigger {
            event: "merge_group".to_owned(),
            action: Some("checks_requested".to_owned()),
            branch: Some(short_ref(&group.base_ref)),
            tag: None,
            changed_paths: None,
        },
        subject: Subject {
            git_ref: group.head_ref.clone(),
            ref_name: short_ref(&group.head_ref),
            ref_type: "branch".to_owned(),
            head_ref: group.head_ref.clone(),
            base_ref: group.base_ref.clone(),
            actor: group.sender.clone(),
        },
        pull_request: None,
    }))
}

fn judge_comment(comment: &IssueComment, standing: &Standing) -> Verdict {
    let ignore = |why: &str| Verdict::Ignore(why.to_owned());
    if comment.action != IssueCommentAction::Created {
        // Whoever edits a comment need not be its author, and who may edit is not who may approve.
        return ignore("only a new comment is a command");
    }
    let Some(command) = command_in(&comment.body) else {
        return ignore("the comment has no command");
    };
    if !comment.is_pull_request {
        return ignore("the comment is not on a pull request");
    }
    if comment.author != comment.sender {
        return ignore("the comment was not written by who sent it");
    }
    match standing.forks {
        Forks::Deny => ignore("forks are denied here, and no approval changes that"),
        Forks::Run => ignore(
            "forks run without an approval here; reopen the pull request to run a commit that was held before that",
        ),
        Forks::Approve => Verdict::Approve(Box::new(Asked {
            access: comment.repository.access.clone(),
            number: comment.number,
            person: comment.author.clone(),
            command,
        })),
    }
}

/// Whether the verdict depends on who caused the event, if the commit is approved: something happened to a commit that was
/// approved and run already. An approval is one of code; title and text of the pull request are the author's to change, and
/// a new event would show them to that code.
pub fn needs_sender(pull_request: &PullRequest) -> bool {
    !matches!(pull_request.action, PullRequestAction::Opened | PullRequestAction::Synchronize)
}

fn judge_pull_request(pull_request: &PullRequest, standing: &Standing) -> Verdict {
    use PullRequestAction::{Opened, ReadyForReview, Reopened, Synchronize};
    let request = Box::new(pull_request_request(pull_request));
    if !pull_request.is_fork || standing.forks == Forks::Run {
        return Verdict::Start(request);
    }
    let is_new = matches!(pull_request.action, Opened | Synchronize | Reopened | ReadyForReview);
    match standing.forks {
        Forks::Approve if standing.is_approved => judge_approved(pull_request, standing, request),
        Forks::Approve if is_new => Verdict::Hold(request),
        Forks::Deny if is_new => Verdict::Deny(request),
        Forks::Deny => Verdict::Ignore("forks are denied here".to_owned()),
        _ => Verdict::Ignore("the pull request of a fork is held since it was opened".to_owned()),
    }
}

fn judge_approved(pull_request: &PullRequest, standing: &Standing, request: Box<Request>) -> Verdict {
    if !needs_sender(pull_request) {
        // Each of these happens once per commit, and a push voids its approval: this event came after the approval of its own
        // commit, which ran what it asks for.
        return Verdict::Ignore("the commit was approved, and run, before this event arrived".to_owned());
    }
    if standing.sender_may_write {
        return Verdict::Start(request);
    }
    Verdict::Ignore(format!(
        "the commit is approved and was run; `@{}` has no write access, and so cannot have it run again",
        pull_request.sender
    ))
}

/// What a pull request's event asks for, whether or not it may run.
pub fn pull_request_request(pull_request: &PullRequest) -> Request {
    let number = pull_request.number;
    Request {
        forge: pull_request.repository.forge.clone(),
        access: pull_request.repository.access.clone(),
        repository_id: pull_request.repository.id,
        sha: pull_request.head_sha.clone(),
        trigger: Trigger {
            event: "pull_request".to_owned(),
            action: Some(pull_request.action.as_str().to_owned()),
            branch: Some(pull_request.base_ref.clone()),
            tag: None,
            changed_paths: None,
        },
        subject: Subject {
            git_ref: pull_request.git_ref(),
            ref_name: format!("{number}/head"),
            ref_type: "branch".to_owned(),
            head_ref: pull_request.head_ref.clone(),
            base_ref: pull_request.base_ref.clone(),
            actor: pull_request.sender.clone(),
        },
        pull_request: Some(OfPullRequest { number, is_fork: pull_request.is_fork }),
    }
}

/// What an event tells of a pull request's head, or of the default branch's, if that is all it asks for: the sweep of the forge,
/// which brings heads whose events were lost, says the same. Other actions ask for something new, such as a run because of a label.
pub fn head_news(event: &Event) -> Option<HeadNews> {
    if default_branch_news(event).is_some() {
        return Some(HeadNews { number: DEFAULT_BRANCH, as_of: i64::MIN });
    }
    let Event::PullRequest(pull_request) = event else { return None };
    let brings_the_head = matches!(
        pull_request.action,
        PullRequestAction::Opened | PullRequestAction::Synchronize | PullRequestAction::Reopened
    );
    let as_of = pull_request.changed_at.filter(|_| brings_the_head)?;
    Some(HeadNews { number: pull_request.number, as_of })
}

/// The commit at which an event says that the default branch is: only a push to it does. It takes write access, which nobody has
/// who sends pull requests from a fork.
pub fn default_branch_news(event: &Event) -> Option<(&RepoAccess, &CommitSha)> {
    let Event::Push(push) = event else { return None };
    let is_default = push.target == PushTarget::Branch(push.repository.default_branch.clone());
    let sha = push.after.as_ref().filter(|_| is_default && !push.deleted)?;
    Some((&push.repository.access, sha))
}

fn judge_push(push: &Push) -> Verdict {
    let Some(sha) = push.after.clone().filter(|_| !push.deleted) else {
        return Verdict::Ignore("the push deleted its ref".to_owned());
    };
    let (branch, tag, ref_type) = match &push.target {
        PushTarget::Branch(name) => (Some(name.clone()), None, "branch"),
        PushTarget::Tag(name) => (None, Some(name.clone()), "tag"),
        PushTarget::Other => return Verdict::Ignore("the push is to neither a branch nor a tag".to_owned()),
    };
    Verdict::Start(Box::new(Request {
        forge: push.repository.forge.clone(),
        access: push.repository.access.clone(),
        repository_id: push.repository.id,
        sha,
        subject: Subject {
            git_ref: push.ref_name.clone(),
            ref_name: branch.clone().or_else(|| tag.clone()).unwrap_or_default(),
            ref_type: ref_type.to_owned(),
            actor: push.sender.clone(),
            ..Subject::default()
        },
        trigger: Trigger {
            event: "push".to_owned(),
            action: None,
            branch,
            tag,
            changed_paths: push.changed_paths.clone(),
        },
        pull_request: None,
    }))
}

fn short_ref(name: &str) -> String {
    ["refs/heads/", "refs/tags/"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests;
