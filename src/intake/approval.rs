//! Approvals: from somebody's wish to run a fork's commit to its runs, or to an answer that says why not.
//!
//! What counts is what the forge says while the wish is processed: who may write, and which commit is the head. The commit
//! itself was named by the person, so a push in between can only make the approval void, never move it to other code.

use super::runs::{Planner, full_queue};
use super::{IntakeError, ended, finish_created, held};
use crate::clock;
use crate::config::Forks;
use crate::core::Core;
use crate::forge::{CommitSha, ForgeError, Permission, PullRequestNow, RepoAccess};
use crate::policy::{Asked, Command, pull_request_request};
use crate::store::{Approval, Approved, Delivery, HeldPullRequest};
use crate::webhook::{self, Event, EventName};

/// Whose approval it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Approver {
    /// Of this name at the forge; has to be asked what they may do.
    Person(String),
    /// Whoever may use the control socket may approve.
    Operator,
}

/// A wish to run one commit.
struct Candidate<'a> {
    forge: &'a str,
    access: &'a RepoAccess,
    number: u64,
    sha: &'a CommitSha,
    approver: Approver,
}

/// A comment with a command.
pub(super) async fn of_comment(core: &Core, delivery: &Delivery, asked: &Asked) -> Result<(), IntakeError> {
    let Asked { access, number, person, command } = asked;
    match command {
        Command::Run(sha) => {
            let approver = Approver::Person(person.clone());
            attend(core, delivery, &Candidate { forge: &delivery.key.forge, access, number: *number, sha, approver })
                .await
        }
        Command::RunUnclear(text) => {
            let answer = format!(
                "`@{person}` asked to run `{text}`, which is no full commit id. A shortened one can be made to fit other \
                 code: give all digits of the commit, as in the command that the held status shows."
            );
            refuse(core, delivery, &delivery.key.forge, access, *number, answer).await
        }
    }
}

/// A wish from the control socket.
pub(super) async fn of_operator(
    core: &Core, delivery: &Delivery, held: &HeldPullRequest, sha: &CommitSha,
) -> Result<(), IntakeError> {
    let HeldPullRequest { forge, access, number } = held;
    attend(core, delivery, &Candidate { forge, access, number: *number, sha, approver: Approver::Operator }).await
}

async fn attend(core: &Core, delivery: &Delivery, candidate: &Candidate<'_>) -> Result<(), IntakeError> {
    let Candidate { forge, access, number, sha, approver } = candidate;
    let Some(settings) = core.config.repository(forge, &access.repo) else {
        return ended(core, delivery, "the repository is not configured").await;
    };
    if settings.forks == Forks::Deny {
        return ended(core, delivery, "forks are denied here, and no approval changes that").await;
    }
    if core.store.approval(forge, &access.repo, *number, sha).await?.is_some() {
        return ended(core, delivery, "the commit is approved already").await;
    }
    if let Some(answer) = not_entitled(core, candidate).await? {
        return refuse(core, delivery, forge, access, *number, answer).await;
    }
    let now = match core.forges.of(forge)?.pull_request(access, *number).await {
        Ok(now) => now,
        Err(ForgeError::NotFound { .. }) => return ended(core, delivery, "there is no such pull request").await,
        Err(error) => return Err(error.into()),
    };
    if let Some(answer) = not_approvable(&now, sha, approver) {
        return refuse(core, delivery, forge, access, *number, answer).await;
    }
    let event = read_event(forge, &now)?;
    let Event::PullRequest(pull_request) = &event else {
        return Err(IntakeError::Payload("a pull request reads as another event".to_owned()));
    };
    let request = pull_request_request(pull_request);
    if request.sha != **sha {
        return Err(IntakeError::Payload("the forge tells of two heads of one pull request".to_owned()));
    }
    let payload = serde_json::from_slice(&now.event).map_err(|error| IntakeError::Payload(error.to_string()))?;
    let payload = webhook::as_event(&event, payload);
    // Runs that are refused would use the approval up.
    if let Some(why) = full_queue(core.store.count_unfinished_jobs().await?, core.config.limits.queue) {
        return refuse(core, delivery, forge, access, *number, no_place(sha, approver, &why)).await;
    }
    let arrived_at = delivery.arrived_at;
    let planner = Planner { core, request: &request, settings: &settings, payload: &payload, arrived_at, asked: None };
    let runs = planner.plan().await?.runs;
    let approval = Approval {
        forge: (*forge).to_owned(),
        repo: access.repo.clone(),
        number: *number,
        sha: (*sha).clone(),
        person: match approver {
            Approver::Person(name) => Some(name.clone()),
            Approver::Operator => None,
        },
        at: arrived_at,
    };
    match core.store.approve(&delivery.key, approval, runs, approved_title(approver), clock::now_ms()).await? {
        Approved::Now(created) => finish_created(core, delivery, &created).await,
        Approved::Before => ended(core, delivery, "the commit is approved already").await,
        Approved::Overtaken => {
            let answer =
                format!("{} asked to run `{sha}`, but the pull request was pushed to meanwhile.", who(approver));
            refuse(core, delivery, forge, access, *number, answer).await
        }
    }
}

/// Why the approver may not approve, if so.
async fn not_entitled(core: &Core, candidate: &Candidate<'_>) -> Result<Option<String>, IntakeError> {
    let Approver::Person(person) = &candidate.approver else { return Ok(None) };
    let permission = core.forges.of(candidate.forge)?.permission(candidate.access, person).await?;
    Ok((permission < Permission::Write).then(|| {
        format!("`@{person}` asked to run `{}`, but has no write access to `{}`.", candidate.sha, candidate.access.repo)
    }))
}

/// Why the commit cannot be approved as the pull request is now, if so.
fn not_approvable(now: &PullRequestNow, sha: &CommitSha, approver: &Approver) -> Option<String> {
    let who = who(approver);
    if !now.is_open {
        Some(format!("{who} asked to run `{sha}`, but the pull request is closed."))
    } else if now.head_sha != *sha {
        Some(format!(
            "{who} asked to run `{sha}`, which is not the head of the pull request. That is `{}` now.",
            now.head_sha
        ))
    } else if !now.is_fork {
        Some(format!("{who} asked to run `{sha}`, which is not from a fork and needs no approval."))
    } else {
        None
    }
}

/// What is said where the commit could run, were there room.
fn no_place(sha: &CommitSha, approver: &Approver, why: &str) -> String {
    let reason = why.lines().next().unwrap_or_default();
    format!("{} asked to run `{sha}`, but {reason}. Ask again later.", who(approver))
}

fn who(approver: &Approver) -> String {
    match approver {
        Approver::Person(name) => format!("`@{name}`"),
        Approver::Operator => "The operator".to_owned(),
    }
}

fn approved_title(approver: &Approver) -> String {
    match approver {
        Approver::Person(name) => format!("Approved by @{name}"),
        Approver::Operator => "Approved by the operator".to_owned(),
    }
}

/// The event that tells of a pull request as it is now.
fn read_event(forge: &str, now: &PullRequestNow) -> Result<Event, IntakeError> {
    let name = EventName::parse("pull_request").map_err(IntakeError::Payload)?;
    webhook::parse(forge, &name, &now.event).map_err(|error| IntakeError::Payload(error.to_string()))
}

/// Tells the reason where the pull request is held, for whoever asked, and to the operator.
async fn refuse(
    core: &Core, delivery: &Delivery, forge: &str, access: &RepoAccess, number: u64, answer: String,
) -> Result<(), IntakeError> {
    let shown = answer.clone();
    let change = move |report: &mut crate::forge::Report| report.summary = held::with_answer(&report.summary, &shown);
    core.store.change_held(forge, &access.repo, number, clock::now_ms(), change).await?;
    core.wake.reports.notify_one();
    ended(core, delivery, &answer).await
}

/// Whether a stored approval of a commit counts at this moment: the forge says that the commit still is the head.
pub(super) async fn counts(
    core: &Core, forge: &str, access: &RepoAccess, number: u64, sha: &CommitSha,
) -> Result<bool, IntakeError> {
    if core.store.approval(forge, &access.repo, number, sha).await?.is_none() {
        return Ok(false);
    }
    match core.forges.of(forge)?.pull_request(access, number).await {
        Ok(now) => Ok(now.is_open && now.head_sha == *sha),
        Err(ForgeError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_asks_for_another_approval() {
        let (sha, why) = (CommitSha::parse(&"a".repeat(40)).unwrap(), full_queue(5, 5).unwrap());
        insta::assert_snapshot!(no_place(&sha, &Approver::Operator, &why), @"The operator asked to run `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa`, but the queue is full: 5 jobs have not finished, and this service takes 5. Ask again later.");
    }

    #[test]
    fn only_the_open_head_of_a_fork_can_be_approved() {
        let sha = |letter: &str| CommitSha::parse(&letter.repeat(40)).unwrap();
        let told = |is_open, head: &str, is_fork| {
            let (head_sha, changed_at, event) = (sha(head), None, Vec::new());
            let now = PullRequestNow {
                repo: crate::forge::RepoName::parse("demo/hello").unwrap(),
                number: 1,
                is_open,
                head_sha,
                is_fork,
                changed_at,
                event,
            };
            not_approvable(&now, &sha("a"), &Approver::Person("octocat".to_owned())).unwrap_or_default()
        };
        assert_eq!(told(true, "a", true), "");
        insta::assert_snapshot!([told(false, "a", true), told(true, "b", true), told(true, "a", false)].join("\n"), @r"
        `@octocat` asked to run `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa`, but the pull request is closed.
        `@octocat` asked to run `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa`, which is not the head of the pull request. That is `bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb` now.
        `@octocat` asked to run `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa`, which is not from a fork and needs no approval.
        ");
    }
}
