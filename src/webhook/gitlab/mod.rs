//! Reads GitLab's deliveries: a few headers and a JSON body become an [`Event`], in the words that workflows use.
//!
//! A merge request is a pull request here, and its actions are those that `on: pull_request` knows: so one workflow file serves
//! both forges. [`payload`] gives `github.event` the members that it has on GitHub, too.
//!
//! What an event is about is told by `object_kind` in its body, which is signed, and not by a header. Kinds and actions that
//! are not known are no errors.

mod headers;
mod payload;
pub(super) mod signature;

pub use self::headers::{GitLabHeaders, is_of_jobs, kind_of};
pub(super) use self::payload::as_event;

use std::collections::BTreeSet;

use serde_json::Value;

use super::event::{
    AuthorAssociation, Event, EventName, IssueComment, IssueCommentAction, PullRequest, PullRequestAction, Push,
    PushTarget, Repository,
};
use super::github::{self, MAX_BODY, MAX_COMMENT, MAX_NAME, MAX_REF, MAX_TITLE};
use super::json::{self, Field, PayloadError};
use crate::forge::RepoAccess;

/// Longest account name, in bytes.
const MAX_USERNAME: usize = 255;

/// The default branch of a project that has none yet.
const USUAL_BRANCH: &str = "main";

/// Reads the body of a verified delivery of the GitLab of that name.
///
/// # Errors
/// As [`parse_github`](super::parse_github).
pub fn parse_gitlab(forge: &str, name: &EventName, body: &[u8]) -> Result<Event, PayloadError> {
    if body.len() > MAX_BODY {
        return Err(PayloadError::TooLarge { size: body.len(), limit: MAX_BODY });
    }
    let document = json::read(body)?;
    let payload = Field::root(&document);
    let kind = payload.get("object_kind").present().map(|kind| kind.name(MAX_NAME)).transpose()?;
    let about = payload.get("object_attributes");
    let action = about.get("action").present().map(|action| action.name(MAX_NAME)).transpose()?;
    let event = match kind.as_deref() {
        Some("merge_request") => pull_request(forge, &payload, action.as_deref())?.map(Event::PullRequest),
        Some("push" | "tag_push") => push(forge, &payload).map(|push| Some(Event::Push(push)))?,
        Some("note") => comment(forge, &payload, action.as_deref())?.map(Event::IssueComment),
        _ => None,
    };
    Ok(event.unwrap_or_else(|| Event::Other { name: name.clone(), action }))
}

fn repository(forge: &str, payload: &Field<'_>) -> Result<Repository, PayloadError> {
    let project = payload.get("project");
    let default_branch = project.get("default_branch").present();
    Ok(Repository {
        forge: forge.to_owned(),
        access: RepoAccess { repo: project.get("path_with_namespace").project_path()?, installation: None },
        id: project.get("id").u64()?,
        default_branch: default_branch.map_or(Ok(USUAL_BRANCH.to_owned()), |branch| branch.name(MAX_REF))?,
    })
}

/// The account's name, and its number.
fn user(payload: &Field<'_>) -> Result<(String, u64), PayloadError> {
    let user = payload.get("user");
    Ok((user.get("username").name(MAX_USERNAME)?, user.get("id").u64()?))
}

/// The name of the person with that number, if it is who sent the event; else one that nobody has.
fn named(author: &Field<'_>, sender: &(String, u64)) -> Result<String, PayloadError> {
    let id = author.u64()?;
    Ok(if id == sender.1 { sender.0.clone() } else { format!("#{id}") })
}

/// `None` for what starts nothing: approvals, and merge requests without a commit.
fn pull_request(forge: &str, payload: &Field<'_>, word: Option<&str>) -> Result<Option<PullRequest>, PayloadError> {
    let about = payload.get("object_attributes");
    let changes = payload.get("changes");
    let before = about.get("oldrev").present().map(|before| before.sha_or_null_id()).transpose()?.flatten();
    let change = changed(&changes)?;
    let action = match word {
        Some("open") => PullRequestAction::Opened,
        Some("reopen") => PullRequestAction::Reopened,
        Some("close" | "merge") => PullRequestAction::Closed,
        Some("update") if before.is_some() => PullRequestAction::Synchronize,
        Some("update") => change.action.clone(),
        _ => return Ok(None),
    };
    let Some(commit) = about.get("last_commit").present() else { return Ok(None) };
    let (source, target) = (about.get("source_project_id").present(), about.get("target_project_id").u64()?);
    let is_fork = source.map_or(Ok(true), |source| source.u64().map(|source| source != target))?;
    let source = about.get("source").present().map(|source| source.get("path_with_namespace").project_path());
    let sender = user(payload)?;
    let is_draft = about.get("draft").present().or_else(|| about.get("work_in_progress").present());
    Ok(Some(PullRequest {
        label: change.label.filter(|_| matches!(action, PullRequestAction::Labeled | PullRequestAction::Unlabeled)),
        action,
        repository: repository(forge, payload)?,
        number: about.get("iid").u64()?,
        title: about.get("title").prose(MAX_TITLE)?,
        head_sha: commit.get("id").sha()?,
        before,
        head_ref: about.get("source_branch").name(MAX_REF)?,
        head_repo: source.transpose()?,
        base_sha: None,
        base_ref: about.get("target_branch").name(MAX_REF)?,
        is_fork,
        draft: is_draft.map_or(Ok(false), |draft| draft.bool())?,
        merged: word == Some("merge"),
        author: named(&about.get("author_id"), &sender)?,
        author_association: AuthorAssociation::None,
        sender: sender.0,
        changed_at: time(&about.get("updated_at")),
    }))
}

/// What an update without a push was about: the first of the things that workflows can ask for.
struct Change {
    action: PullRequestAction,
    label: Option<String>,
}

fn changed(changes: &Field<'_>) -> Result<Change, PayloadError> {
    let of_draft = |name: &str| changes.get(name).present();
    let draft = of_draft("draft").or_else(|| of_draft("work_in_progress"));
    if let Some(draft) = draft.map(|draft| draft.get("current")).and_then(Field::present) {
        let action =
            if draft.bool()? { PullRequestAction::ConvertedToDraft } else { PullRequestAction::ReadyForReview };
        return Ok(Change { action, label: None });
    }
    let labels = changes.get("labels");
    let (before, after) = (titles(&labels.get("previous")), titles(&labels.get("current")));
    let added = after.difference(&before).next();
    let (action, label) = match (added, before.difference(&after).next()) {
        (Some(added), _) => (PullRequestAction::Labeled, Some(added.clone())),
        (None, Some(removed)) => (PullRequestAction::Unlabeled, Some(removed.clone())),
        (None, None) => (PullRequestAction::Edited, None),
    };
    Ok(Change { action, label })
}

/// The titles of labels; one that is odd is left out, as nobody could ask for it.
fn titles(labels: &Field<'_>) -> BTreeSet<String> {
    let is_usable = |title: &&str| !title.is_empty() && title.len() <= MAX_NAME;
    let labels = labels.array().unwrap_or_default().iter();
    labels.filter_map(|label| label.get("title")?.as_str().filter(is_usable).map(str::to_owned)).collect()
}

/// GitLab writes times as ISO 8601, and older versions as `2013-12-03 17:23:34 UTC`. What does not read counts as not told.
fn time(field: &Field<'_>) -> Option<i64> {
    let text = field.str().ok()?;
    let usual = text.strip_suffix(" UTC").map(|text| format!("{}Z", text.replacen(' ', "T", 1)));
    let read = usual.as_deref().unwrap_or(text).parse::<jiff::Timestamp>();
    read.ok().map(jiff::Timestamp::as_millisecond)
}

fn push(forge: &str, payload: &Field<'_>) -> Result<Push, PayloadError> {
    let ref_name = payload.get("ref").name(MAX_REF)?;
    let target = PushTarget::of(&ref_name);
    let before = payload.get("before").sha_or_null_id()?;
    let moved_to = payload.get("after").sha_or_null_id()?;
    // Of an annotated tag `after` is the tag itself; what is checked out is its commit.
    let commit = payload.get("checkout_sha").present().map(|sha| sha.sha_or_null_id()).transpose()?.flatten();
    let after = moved_to.is_some().then_some(commit).flatten();
    let is_plain = matches!(target, PushTarget::Branch(_)) && before.is_some() && after.is_some();
    let commits = payload.get("commits").present();
    let total = payload.get("total_commits_count").present().map(|count| count.u64()).transpose()?;
    let changed_paths = match commits {
        Some(commits) if is_plain => listed_paths(commits.array()?, total),
        _ => None,
    };
    Ok(Push {
        repository: repository(forge, payload)?,
        target,
        created: before.is_none(),
        deleted: after.is_none(),
        sender: payload.get("user_username").name(MAX_USERNAME)?,
        changed_paths,
        ref_name,
        before,
        after,
    })
}

/// The paths that the commits touched, if the payload lists all of them: it has the last twenty, and of a branch that was set
/// back none.
fn listed_paths(commits: &[Value], total: Option<u64>) -> Option<Vec<String>> {
    let is_complete = !commits.is_empty() && total.is_some_and(|total| total == commits.len() as u64);
    if is_complete { github::changed_paths(commits) } else { None }
}

/// `None` for what GitLab writes itself, and for notes on other things than merge requests.
fn comment(forge: &str, payload: &Field<'_>, action: Option<&str>) -> Result<Option<IssueComment>, PayloadError> {
    let (note, request) = (payload.get("object_attributes"), payload.get("merge_request"));
    let is_of_gitlab = note.get("system").present().map_or(Ok(false), |system| system.bool())?;
    let is_on_merge_request = note.get("noteable_type").str().is_ok_and(|kind| kind == "MergeRequest");
    let Some(request) = request.present().filter(|_| is_on_merge_request && !is_of_gitlab) else { return Ok(None) };
    let sender = user(payload)?;
    Ok(Some(IssueComment {
        action: match action {
            Some("create") => IssueCommentAction::Created,
            Some("update") => IssueCommentAction::Edited,
            Some(_) => IssueCommentAction::Other,
            // Older versions do not say it, and tell of changes, too.
            None if is_untouched(&note) => IssueCommentAction::Created,
            None => IssueCommentAction::Edited,
        },
        repository: repository(forge, payload)?,
        is_pull_request: true,
        number: request.get("iid").u64()?,
        comment_id: note.get("id").u64()?,
        body: note.get("note").prose(MAX_COMMENT)?,
        author: named(&note.get("author_id"), &sender)?,
        author_association: AuthorAssociation::None,
        sender: sender.0,
    }))
}

fn is_untouched(note: &Field<'_>) -> bool {
    let at = |name| note.get(name).str().ok();
    at("created_at").is_some() && at("created_at") == at("updated_at")
}

#[cfg(test)]
mod tests;
