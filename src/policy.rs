//! Who may run what: from a verified event to a verdict. Pure.
//!
//! A fork's pull request is code of somebody who may write nothing here, so it is held, visibly. Everything else that names
//! a commit is a request to run the workflows that stand in that commit.

use crate::forge::{CommitSha, HeadNews, RepoAccess};
use crate::webhook::{Event, MergeGroupAction, PullRequest, PullRequestAction, Push, PushTarget};
use crate::workflow::trigger::Trigger;

/// What is to be done about an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing; why, for the operator.
    Ignore(String),
    /// Nothing runs, and the forge shows why.
    Hold(Box<Request>, String),
    /// The workflows of this commit that want the event run.
    Start(Box<Request>),
}

/// A commit and what is known about how it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub access: RepoAccess,
    pub repository_id: u64,
    /// Pinned here, and never resolved again.
    pub sha: CommitSha,
    pub trigger: Trigger,
    pub subject: Subject,
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

/// The verdict about an event.
pub fn judge(event: &Event) -> Verdict {
    match event {
        Event::Ping => Verdict::Ignore("a ping needs nothing but an answer".to_owned()),
        Event::PullRequest(pull_request) => judge_pull_request(pull_request),
        Event::Push(push) => judge_push(push),
        Event::MergeGroup(group) if group.action == MergeGroupAction::ChecksRequested => {
            let subject = Subject {
                git_ref: group.head_ref.clone(),
                ref_name: short_ref(&group.head_ref),
                ref_type: "branch".to_owned(),
                head_ref: group.head_ref.clone(),
                base_ref: group.base_ref.clone(),
                actor: group.sender.clone(),
            };
            Verdict::Start(Box::new(Request {
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
                subject,
            }))
        }
        Event::MergeGroup(_) => Verdict::Ignore("the merge group asks for no checks".to_owned()),
        Event::CheckRunRerequested(_) | Event::CheckSuiteRerequested(_) => {
            Verdict::Ignore("re-runs are not served yet; push again to run".to_owned())
        }
        Event::IssueComment(_) => Verdict::Ignore("comments are no commands yet".to_owned()),
        Event::Other { name, .. } => Verdict::Ignore(format!("events of the kind `{name}` start nothing")),
    }
}

fn judge_pull_request(pull_request: &PullRequest) -> Verdict {
    let number = pull_request.number;
    let request = Box::new(Request {
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
            git_ref: format!("refs/pull/{number}/head"),
            ref_name: format!("{number}/head"),
            ref_type: "branch".to_owned(),
            head_ref: pull_request.head_ref.clone(),
            base_ref: pull_request.base_ref.clone(),
            actor: pull_request.sender.clone(),
        },
    });
    if !pull_request.is_fork {
        return Verdict::Start(request);
    }
    match pull_request.action {
        PullRequestAction::Opened
        | PullRequestAction::Synchronize
        | PullRequestAction::Reopened
        | PullRequestAction::ReadyForReview => {
            let why = "Held: the pull request comes from a fork, and forks are not run".to_owned();
            Verdict::Hold(request, why)
        }
        _ => Verdict::Ignore("the pull request of a fork is held since it was opened".to_owned()),
    }
}

/// What an event tells of a pull request's head, if that is all it asks for: the sweep of the forge, which brings heads whose
/// events were lost, says the same. Other actions ask for something new, such as a run because of a label.
pub fn head_news(event: &Event) -> Option<HeadNews> {
    let Event::PullRequest(pull_request) = event else { return None };
    let brings_the_head = matches!(
        pull_request.action,
        PullRequestAction::Opened | PullRequestAction::Synchronize | PullRequestAction::Reopened
    );
    let as_of = pull_request.changed_at.filter(|_| brings_the_head)?;
    Some(HeadNews { number: pull_request.number, as_of })
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
    }))
}

fn short_ref(name: &str) -> String {
    ["refs/heads/", "refs/tags/"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name).to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::webhook::{EventName, parse_github};

    fn pull_request(action: &str, updated_at: &str) -> Event {
        let repo = json!({"id": 7, "full_name": "demo/hello", "default_branch": "main"});
        let payload = json!({
            "action": action, "number": 3, "repository": repo, "sender": {"login": "octocat"},
            "pull_request": {
                "number": 3, "title": "A change", "user": {"login": "octocat"}, "updated_at": updated_at,
                "head": {"sha": "a".repeat(40), "ref": "change", "repo": repo},
                "base": {"sha": "b".repeat(40), "ref": "main", "repo": repo},
            },
        });
        parse_github(&EventName::parse("pull_request").unwrap(), payload.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn only_what_tells_of_a_head_and_no_more_is_news_of_it() {
        let as_of = 1_700_000_000_000;
        for action in ["opened", "synchronize", "reopened"] {
            let news = head_news(&pull_request(action, "2023-11-14T22:13:20Z"));
            assert_eq!(news, Some(HeadNews { number: 3, as_of }), "{action}");
        }
        for action in ["labeled", "ready_for_review", "edited", "closed", "auto_merge_enabled"] {
            assert_eq!(head_news(&pull_request(action, "2023-11-14T22:13:20Z")), None, "{action}");
        }
        assert_eq!(head_news(&pull_request("opened", "yesterday")), None);
        assert_eq!(head_news(&Event::Ping), None);
    }
}
