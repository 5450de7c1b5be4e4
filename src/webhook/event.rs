//! What a webhook can tell Dayfly, in checked types. No forge's JSON here; see `github` for the reader.

use serde::{Deserialize, Serialize};

use crate::forge::{CommitSha, JobStage, RepoAccess, RepoName, github};
use crate::ids::ReportId;

/// Longest accepted value of a header that names a delivery or an event, in bytes. GitHub sends a UUID of 36.
const MAX_HEADER_WORD: usize = 64;

macro_rules! word_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $letter:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Accepts 1 to 64 of the allowed characters.
            pub fn parse(text: &str) -> Result<Self, String> {
                let letter: fn(u8) -> bool = $letter;
                if !text.is_empty() && text.len() <= MAX_HEADER_WORD && text.bytes().all(letter) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(format!(concat!("`{}` is not ", $what), text.chars().take(MAX_HEADER_WORD).collect::<String>().escape_debug()))
                }
            }

            /// The word.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> String {
                word.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

word_type!(
    /// The forge's id of one delivery; a redelivery keeps it. Safe in a log line, a path and an address.
    DeliveryId, "a delivery's id (letters, digits and `-`)", |b| b.is_ascii_alphanumeric() || b == b'-'
);
word_type!(
    /// The forge's name of an event, such as `pull_request`. Safe in a log line and as a metric's label.
    EventName, "an event's name (lower-case letters, digits and `_`)",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'
);

/// An event, reduced to what Dayfly acts upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The forge tries the webhook.
    Ping,
    PullRequest(PullRequest),
    Push(Push),
    CheckRunRerequested(CheckRunRerequested),
    CheckSuiteRerequested(CheckSuiteRerequested),
    MergeGroup(MergeGroup),
    IssueComment(IssueComment),
    Dispatch(Dispatch),
    WorkflowJob(WorkflowJob),
    /// Anything else: accepted, and nothing follows from it.
    Other {
        name: EventName,
        action: Option<String>,
    },
}

impl Event {
    /// The repository in which it happened; those without one start nothing.
    pub fn repository(&self) -> Option<&Repository> {
        let repository = match self {
            Self::Ping | Self::Other { .. } => return None,
            Self::PullRequest(event) => &event.repository,
            Self::Push(event) => &event.repository,
            Self::CheckRunRerequested(event) => &event.repository,
            Self::CheckSuiteRerequested(event) => &event.repository,
            Self::MergeGroup(event) => &event.repository,
            Self::IssueComment(event) => &event.repository,
            Self::Dispatch(event) => &event.repository,
            Self::WorkflowJob(event) => &event.repository,
        };
        Some(repository)
    }
}

/// The repository in which the event happened. For a pull request this is the base, never the fork.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// The forge's name, as runs have it.
    #[serde(default = "usual_forge")]
    pub forge: String,
    pub access: RepoAccess,
    /// The forge's number of the repository; survives renames.
    pub id: u64,
    pub default_branch: String,
}

/// Of what was stored when there was one forge only.
fn usual_forge() -> String {
    github::NAME.to_owned()
}

/// How close the forge says a person is to the repository. Words that Dayfly does not know count as
/// [`AuthorAssociation::None`]: the least trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorAssociation {
    Owner,
    Member,
    Collaborator,
    Contributor,
    FirstTimeContributor,
    FirstTimer,
    Mannequin,
    None,
}

/// What happened to a pull request. [`PullRequestAction::as_str`] gives GitHub's word, for `types:` filters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum PullRequestAction {
    Opened,
    Synchronize,
    Reopened,
    ReadyForReview,
    ConvertedToDraft,
    Labeled,
    Unlabeled,
    Edited,
    Closed,
    Other(String),
}

impl PullRequestAction {
    /// The action as GitHub writes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Opened => "opened",
            Self::Synchronize => "synchronize",
            Self::Reopened => "reopened",
            Self::ReadyForReview => "ready_for_review",
            Self::ConvertedToDraft => "converted_to_draft",
            Self::Labeled => "labeled",
            Self::Unlabeled => "unlabeled",
            Self::Edited => "edited",
            Self::Closed => "closed",
            Self::Other(word) => word,
        }
    }
}

impl From<String> for PullRequestAction {
    fn from(word: String) -> Self {
        let known = [
            Self::Opened,
            Self::Synchronize,
            Self::Reopened,
            Self::ReadyForReview,
            Self::ConvertedToDraft,
            Self::Labeled,
            Self::Unlabeled,
            Self::Edited,
            Self::Closed,
        ];
        known.into_iter().find(|action| action.as_str() == word).unwrap_or(Self::Other(word))
    }
}

impl From<PullRequestAction> for String {
    fn from(action: PullRequestAction) -> String {
        action.as_str().to_owned()
    }
}

/// Something happened to a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    pub action: PullRequestAction,
    pub repository: Repository,
    pub number: u64,
    /// At most 256 characters; longer ones are cut.
    pub title: String,
    /// The commit to run.
    pub head_sha: CommitSha,
    /// The head commit that a push replaced, with [`PullRequestAction::Synchronize`].
    pub before: Option<CommitSha>,
    pub head_ref: String,
    /// Where the head branch lives; absent when that repository was deleted.
    pub head_repo: Option<RepoName>,
    /// Absent where the forge does not tell.
    pub base_sha: Option<CommitSha>,
    pub base_ref: String,
    /// The head branch is not in the base's repository (or its repository is gone): code of a stranger.
    pub is_fork: bool,
    pub draft: bool,
    pub merged: bool,
    /// Who opened it; `ghost` when the account is gone.
    pub author: String,
    pub author_association: AuthorAssociation,
    /// Who did what the event is about: for `labeled`, the person with the right to label.
    pub sender: String,
    /// The label that was added or removed, with those two actions.
    pub label: Option<String>,
    /// When anything about the pull request changed last, as of this event and by the forge's clock: milliseconds since the
    /// epoch, exact to a second. Absent if the forge does not tell.
    pub changed_at: Option<i64>,
}

impl PullRequest {
    /// The ref at which the forge keeps the head, whoever owns its branch.
    pub fn git_ref(&self) -> String {
        let kind = if self.repository.forge == github::NAME { "pull" } else { "merge-requests" };
        format!("refs/{kind}/{}/head", self.number)
    }
}

/// What a push moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushTarget {
    Branch(String),
    Tag(String),
    /// Neither, such as `refs/notes/…`.
    Other,
}

impl PushTarget {
    /// What a ref of that full name is.
    pub fn of(ref_name: &str) -> Self {
        match (ref_name.strip_prefix("refs/heads/"), ref_name.strip_prefix("refs/tags/")) {
            (Some(branch), _) => Self::Branch(branch.to_owned()),
            (None, Some(tag)) => Self::Tag(tag.to_owned()),
            (None, None) => Self::Other,
        }
    }
}

/// A branch or tag was moved, created or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    pub repository: Repository,
    /// The full name, such as `refs/heads/main`.
    pub ref_name: String,
    pub target: PushTarget,
    /// Absent when the push created the ref.
    pub before: Option<CommitSha>,
    /// The commit to run; absent when the push deleted the ref.
    pub after: Option<CommitSha>,
    pub created: bool,
    pub deleted: bool,
    pub sender: String,
    /// Every path that a pushed commit touched, sorted, each once. `None` when the payload cannot tell: the ref is new, the
    /// push was forced, or there were too many commits or files. Filters then count as matched.
    pub changed_paths: Option<Vec<String>>,
}

/// A person asked to run one check again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRunRerequested {
    pub repository: Repository,
    pub check_run_id: u64,
    /// The report that made the check run; absent when it is not one of Dayfly's.
    pub external_id: Option<ReportId>,
    pub name: String,
    pub head_sha: CommitSha,
    pub sender: String,
}

/// A person asked to run all checks of a commit again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSuiteRerequested {
    pub repository: Repository,
    pub check_suite_id: u64,
    pub head_sha: CommitSha,
    /// Absent for commits that are on no branch of the repository, such as a fork's.
    pub head_branch: Option<String>,
    pub sender: String,
}

/// What happened to a merge group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeGroupAction {
    ChecksRequested,
    Destroyed,
    Other,
}

/// The merge queue built a commit, or dropped it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeGroup {
    pub action: MergeGroupAction,
    pub repository: Repository,
    pub head_sha: CommitSha,
    pub head_ref: String,
    pub base_sha: CommitSha,
    pub base_ref: String,
    pub sender: String,
}

/// What happened to a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueCommentAction {
    Created,
    Edited,
    Deleted,
    Other,
}

/// A comment on an issue or a pull request. It names no commit: whoever acts on it must ask the forge for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueComment {
    pub action: IssueCommentAction,
    pub repository: Repository,
    pub is_pull_request: bool,
    /// The number of the issue or pull request.
    pub number: u64,
    pub comment_id: u64,
    /// At most 64 KiB; longer ones are cut.
    pub body: String,
    /// Who wrote the comment; `ghost` when the account is gone.
    pub author: String,
    pub author_association: AuthorAssociation,
    /// Who did what the event is about; an edit need not be the author's.
    pub sender: String,
}

/// A job of the forge's own workflows got on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowJob {
    pub repository: Repository,
    /// That the repository is in; absent where a person owns it.
    pub organization: Option<String>,
    /// The forge's number of the job, of this attempt of its run.
    pub id: u64,
    pub run: u64,
    pub name: String,
    pub head_sha: CommitSha,
    pub labels: Vec<String>,
    pub stage: JobStage,
    /// Who has it, once one does.
    pub runner: Option<String>,
    /// Once it is completed.
    pub conclusion: Option<String>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn header_words_are_bounded_and_harmless() {
        assert!(DeliveryId::parse("72d3162e-cc78-11e3-81ab-4c9367dc0958").is_ok());
        assert!(EventName::parse("pull_request").is_ok());
        for bad in ["", "../etc", "a b", "a\nb", "é", &"a".repeat(65)] {
            assert!(DeliveryId::parse(bad).is_err(), "{bad}");
            assert!(EventName::parse(bad).is_err(), "{bad}");
        }
        insta::assert_snapshot!(EventName::parse("a\nb").unwrap_err(), @r"`a\nb` is not an event's name (lower-case letters, digits and `_`)");
    }

    #[test]
    fn actions_survive_text() {
        for word in ["opened", "synchronize", "closed", "auto_merge_enabled"] {
            assert_eq!(PullRequestAction::from(word.to_owned()).as_str(), word);
        }
        assert_eq!(PullRequestAction::from("opened".to_owned()), PullRequestAction::Opened);
    }
}

/// A person, a program or a clock starts workflows; the event names no commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatch {
    pub repository: Repository,
    /// The event's name in the dialect: `workflow_dispatch`, `repository_dispatch` or `schedule`.
    pub event: String,
    /// What a program calls it, with `repository_dispatch`.
    pub action: Option<String>,
    /// The full name, such as `refs/heads/main`.
    pub git_ref: String,
    /// The path of the one workflow that is meant; absent: all that want the event.
    pub workflow: Option<String>,
    /// The schedule as the workflow writes it, with `schedule`.
    pub schedule: Option<String>,
    pub sender: String,
}
