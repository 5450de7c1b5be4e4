//! The head of a project's default branch, made into the event of the push that brought it there.
//!
//! GitLab's own list of what happened says who pushed, when, and what was there before. Where it does not say so, the commit's
//! time and its parent stand for that, and nobody's account for who pushed: an author's name is anybody's to choose.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::GitLab;
use super::client::{Call, unexpected};
use super::contents::{Project, project};
use crate::forge::{BranchHead, CommitSha, ForgeError, PushNow, RepoAccess, RepoName};
use crate::webhook::{Event, EventName, parse_gitlab};

/// Largest accepted answer about a branch, in bytes. A commit's message may be long.
const MAX_ANSWER: usize = 1024 * 1024;
/// Pushes that are looked through for the one that brought the head.
const MAX_PUSHES: usize = 100;
/// Largest accepted list of them, in bytes.
const MAX_PAGE: usize = 4 * 1024 * 1024;
/// GitLab's own account for what nobody's account is there for any more.
const NOBODY: &str = "ghost";
/// What was a branch before it was there.
const NULL_ID: &str = "0000000000000000000000000000000000000000";

#[derive(Deserialize)]
struct Branch {
    commit: Named,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct Commit {
    #[serde(default)]
    parent_ids: Vec<String>,
    committed_date: Option<String>,
    #[serde(default)]
    message: Value,
    #[serde(default)]
    web_url: Value,
}

/// Something that happened in a project.
#[derive(Deserialize)]
struct Happened {
    created_at: Option<String>,
    #[serde(default)]
    author_id: Value,
    author_username: Option<String>,
    push_data: Option<Pushed>,
}

#[derive(Deserialize)]
struct Pushed {
    commit_from: Option<String>,
    commit_to: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    ref_type: Option<String>,
}

/// Where the default branch is; `None` for a project without commits.
pub(super) async fn head(gitlab: &GitLab, access: &RepoAccess) -> Result<Option<BranchHead>, ForgeError> {
    let Project { default_branch, path_with_namespace, .. } = project(gitlab, access).await?;
    let what = format!("looking at the default branch of {}", access.repo);
    let repo = RepoName::parse_path(&path_with_namespace).map_err(|error| unexpected(&what, &error))?;
    let Some(branch) = default_branch.filter(|name| !matches!(name.as_str(), "" | "." | "..")) else {
        return Ok(None);
    };
    let url = gitlab.client.of_project(&access.repo, ["repository", "branches", &branch]);
    let found = match gitlab.client.ask::<Branch>(&Call::get(what.clone(), url, MAX_ANSWER)).await {
        Err(ForgeError::NotFound { .. }) => return Ok(None),
        found => found?,
    };
    let sha = CommitSha::parse(&found.commit.id).map_err(|error| unexpected(&what, &error))?;
    Ok(Some(BranchHead { repo, branch, sha }))
}

/// The push that brought the head.
pub(super) async fn push(gitlab: &GitLab, access: &RepoAccess, head: &BranchHead) -> Result<PushNow, ForgeError> {
    let project = project(gitlab, access).await?;
    let what = format!("looking at commit {} of {}", head.sha.short(), access.repo);
    let url = gitlab.client.of_project(&access.repo, ["repository", "commits", head.sha.as_str()]);
    let commit: Commit = gitlab.client.ask(&Call::get(what.clone(), url, MAX_ANSWER)).await?;
    let happened = pushes(gitlab, access).await?;
    let pushed = happened.iter().find(|one| one.brought(head));
    let time = |text: &Option<String>| text.as_ref()?.parse::<Timestamp>().ok().map(Timestamp::as_millisecond);
    let changed_at = pushed.and_then(|one| time(&one.created_at)).or_else(|| time(&commit.committed_date));
    let event = push_event(&project, head, &commit, pushed).to_string().into_bytes();
    let name = EventName::parse("push").expect("the name is a constant");
    match parse_gitlab(&gitlab.name, &name, &event) {
        Ok(Event::Push(_)) => Ok(PushNow { changed_at, event }),
        Ok(_) => Err(unexpected(&what, "it makes no push")),
        Err(error) => Err(unexpected(&what, &error.to_string())),
    }
}

/// The last pushes, newest first. A token that may not read them has none.
async fn pushes(gitlab: &GitLab, access: &RepoAccess) -> Result<Vec<Happened>, ForgeError> {
    let mut url = gitlab.client.of_project(&access.repo, ["events"]);
    url.query_pairs_mut().append_pair("action", "pushed").append_pair("per_page", &MAX_PUSHES.to_string());
    let call = Call::get(format!("listing the last pushes to {}", access.repo), url, MAX_PAGE);
    match gitlab.client.ask(&call).await {
        Err(error) if error.is_retryable() => Err(error),
        pushes => Ok(pushes.unwrap_or_default()),
    }
}

impl Happened {
    fn brought(&self, head: &BranchHead) -> bool {
        self.push_data.as_ref().is_some_and(|pushed| {
            pushed.commit_to.as_deref() == Some(head.sha.as_str())
                && pushed.reference.as_deref() == Some(head.branch.as_str())
                && pushed.ref_type.as_deref() == Some("branch")
        })
    }
}

/// What GitLab would have sent, without the list of commits: which files they changed is not known.
fn push_event(project: &Project, head: &BranchHead, commit: &Commit, pushed: Option<&Happened>) -> Value {
    let from = pushed.and_then(|one| one.push_data.as_ref()).map(|pushed| pushed.commit_from.as_deref());
    let before = from.unwrap_or_else(|| commit.parent_ids.first().map(String::as_str)).unwrap_or(NULL_ID);
    let who = pushed.and_then(|one| one.author_username.as_deref()).unwrap_or(NOBODY);
    json!({
        "object_kind": "push",
        "event_name": "push",
        "ref": format!("refs/heads/{}", head.branch),
        "before": before,
        "after": head.sha,
        "checkout_sha": head.sha,
        "user_id": pushed.map(|one| &one.author_id),
        "user_username": who,
        "project_id": project.id,
        "project": project.as_event(),
        "commits": [{"id": head.sha, "message": commit.message, "url": commit.web_url}],
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::webhook::PushTarget;

    fn read(pushed: Value) -> (crate::webhook::Push, Option<Value>) {
        let project: Project = serde_json::from_value(
            json!({"id": 15, "name": "App", "path_with_namespace": "acme/tools/app", "default_branch": "trunk"}),
        )
        .unwrap();
        let repo = RepoName::parse_path("acme/tools/app").unwrap();
        let head = BranchHead { repo, branch: "trunk".into(), sha: CommitSha::parse(&"a1".repeat(20)).unwrap() };
        let commit: Commit =
            serde_json::from_value(json!({"id": head.sha, "parent_ids": ["b2".repeat(20)], "message": "Grüße"}))
                .unwrap();
        let happened: Vec<Happened> = serde_json::from_value(pushed).unwrap();
        let event = push_event(&project, &head, &commit, happened.iter().find(|one| one.brought(&head)));
        let name = EventName::parse("push").unwrap();
        match parse_gitlab("lab", &name, event.to_string().as_bytes()).unwrap() {
            Event::Push(push) => (push, event.get("user_id").cloned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_head_is_read_as_the_event_of_its_push_would_be() {
        let pushed = |to: &str, reference: &str, from: Value| {
            json!({"author_id": 3, "author_username": "ann.r", "created_at": "2023-11-14T22:13:20.123Z", "push_data":
                {"commit_from": from, "commit_to": to.repeat(20), "ref": reference, "ref_type": "branch"}})
        };
        let (push, user) = read(json!([
            pushed("a1", "topic", json!("d4".repeat(20))),
            {"created_at": "2023-11-14T22:13:20.123Z"},
            pushed("a1", "trunk", json!("c3".repeat(20))),
            pushed("a1", "trunk", json!("e5".repeat(20))),
        ]));
        assert_eq!((push.sender.as_str(), user), ("ann.r", Some(json!(3))));
        assert_eq!(push.before.unwrap().as_str(), "c3".repeat(20));
        assert_eq!((push.target, push.created, push.deleted), (PushTarget::Branch("trunk".into()), false, false));
        assert_eq!((push.after.unwrap().as_str(), push.changed_paths), ("a1".repeat(20).as_str(), None));
        let (created, _) = read(json!([pushed("a1", "trunk", Value::Null)]));
        assert!(created.created && created.before.is_none());
        let (unknown, _) = read(json!([]));
        assert_eq!((unknown.sender.as_str(), unknown.before.unwrap().as_str()), ("ghost", "b2".repeat(20).as_str()));
    }
}
