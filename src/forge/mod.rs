//! What Dayfly needs from a forge, in words that no forge owns.
//!
//! The submodules (`github`, `gitlab`) are the only places that know a forge's JSON and addresses. Everything that
//! comes from them is untrusted and bounded; everything that goes to them is a [`Report`]: the level to show, not an event,
//! so that sending it twice is harmless.

mod answers;
mod backoff;
mod forges;
pub mod github;
pub mod gitlab;
mod hooks;
mod measured;
mod runners;

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use self::answers::{
    APP_BUDGET, BranchHead, Budget, DEFAULT_BRANCH, FailedDelivery, ForgeStanding, HeadNews, Permission,
    PullRequestNow, PushNow, TOKEN_BUDGET,
};
pub use self::backoff::backoff;
pub use self::forges::Forges;
pub use self::hooks::{Hook, HookApi, HookOwner, HookRef};
pub use self::measured::Measured;
pub use self::runners::{
    JobStage, ListedRunner, MintedRunner, NewRunner, RunnerAccess, RunnerApi, RunnerPlace, WorkflowJobNow,
};
use crate::ids::ReportId;
use crate::workflow::commands::Annotation;

/// Longest part of a repository's name, in bytes.
const MAX_NAME_PART: usize = 255;

/// Parts of a project's path: GitLab has up to 20 groups in each other.
const MAX_NAME_PARTS: usize = 21;

/// `owner/name` of a repository, or the path of a GitLab project, checked so that it can stand in an address and a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoName(String);

impl RepoName {
    /// Accepts `owner/name` in the letters that GitHub and GitLab allow; refuses `.`, `..` and empty parts.
    pub fn parse(text: &str) -> Result<Self, String> {
        match Self::parse_path(text) {
            Ok(name) if text.matches('/').count() == 1 => Ok(name),
            _ => Err(format!("`{text}` is not a repository's `owner/name`")),
        }
    }

    /// The same for GitLab, where groups may stand in groups: `group/subgroup/project`.
    pub fn parse_path(text: &str) -> Result<Self, String> {
        let part_is_valid = |part: &str| {
            !part.is_empty()
                && part.len() <= MAX_NAME_PART
                && part != "."
                && part != ".."
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        let parts = text.split('/').count();
        if (2..=MAX_NAME_PARTS).contains(&parts) && text.split('/').all(part_is_valid) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{text}` is not a project's `group/name`"))
        }
    }

    /// What stands before the last slash: an account, or a path of groups.
    pub fn owner(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(owner, _)| owner)
    }

    /// What stands behind it.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(_, name)| name)
    }

    /// `owner/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RepoName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse_path(&text)
    }
}

impl From<RepoName> for String {
    fn from(name: RepoName) -> String {
        name.0
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A full commit id, 40 or 64 lower-case hexadecimal digits: the only thing that is ever checked out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitSha(String);

impl CommitSha {
    /// Accepts a full id only: abbreviations, branches and the null id are refused.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_full = matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_full && text.bytes().any(|b| b != b'0') {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{text}` is not a full commit id"))
        }
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl TryFrom<String> for CommitSha {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<CommitSha> for String {
    fn from(sha: CommitSha) -> String {
        sha.0
    }
}

impl fmt::Display for CommitSha {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Where a repository's API calls go and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RepoAccess {
    pub repo: RepoName,
    /// The GitHub App's installation that sent the event; absent with plain-token authentication.
    pub installation: Option<u64>,
}

/// How a job, or a run that never got one, stands. One word for every forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportState {
    /// Accepted and waiting.
    Queued,
    /// In its VM.
    Running,
    /// Not run until a person approves it.
    Held,
    /// Ended; never changes again.
    Finished(Conclusion),
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    Success,
    /// A step failed: the repository's own doing.
    Failure,
    /// Something other than the job's steps went wrong: bad workflow, lost VM, missing image.
    Error,
    TimedOut,
    Cancelled,
    Skipped,
}

impl Conclusion {
    /// The word for it in lists, logs and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// What the forge shall show for one job at one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub id: ReportId,
    pub access: RepoAccess,
    pub sha: CommitSha,
    /// The name of the status and of the check run: `dayfly/WORKFLOW/JOB`.
    pub context: String,
    pub state: ReportState,
    /// One line for people. Cut to the forge's limit by the forge's module.
    pub title: String,
    /// Markdown. Cut to the forge's limit by the forge's module.
    pub summary: String,
    /// The log so far, or its tail; plain text, cut (head dropped first) by the forge's module.
    pub log: String,
    /// What is shown beside the code once the job has ended; the forge's module sends each one once.
    #[serde(default)]
    pub annotations: Vec<Annotation>,
    /// How much of the code its tests cover, in hundredths of a percent.
    #[serde(default)]
    pub coverage: Option<u32>,
    /// Not stored: it is told of its run.
    #[serde(skip)]
    pub place: ReportPlace,
    /// The log page.
    pub details_url: Option<String>,
    /// Milliseconds since the epoch.
    pub started_at: Option<i64>,
    /// Milliseconds since the epoch.
    pub finished_at: Option<i64>,
}

/// Where a report belongs besides its commit, for forges that ask for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportPlace {
    /// The branch or tag, without `refs/heads/` and the like; a full ref for what is on neither.
    pub git_ref: Option<String>,
    /// The number of the pull request.
    pub pull_request: Option<u64>,
}

/// What the forge called the things that it made for a report. Stored, so that a later report changes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExternalIds {
    pub check_run: Option<u64>,
    /// The check run was completed. It is never reopened: a state that is not an end gets a new one.
    pub check_run_completed: bool,
    /// How many of the report's annotations the check run has: each call adds to them.
    pub annotations: usize,
    /// The pipeline that the commit status is in.
    pub pipeline: Option<u64>,
    /// The note on the merge request, and what it says.
    pub note: Option<u64>,
    pub last_note: Option<String>,
    /// The commit status that the forge accepted last, in its own words. The same one is not sent again.
    pub last_status: Option<String>,
}

/// Whether an earlier attempt to publish may have reached the forge without Dayfly learning its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// This is the first attempt of this report.
    None,
    /// Look for what it may have created before creating anything.
    Uncertain,
}

/// A file's place in a repository, its kind, and its content's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    pub name: String,
    pub is_file: bool,
    /// Git's id of the content: two files with the same one are the same.
    pub id: String,
}

/// Where git fetches come from and what to add to them. Never sent into a VM.
#[derive(Debug, Clone)]
pub struct GitUpstream {
    /// The repository's address without `.git` and credentials.
    pub url: url::Url,
    /// The value of the `Authorization` header.
    pub authorization: Option<secrecy::SecretString>,
}

/// Why a call to a forge failed, as far as callers act on it.
#[derive(Debug, thiserror::Error)]
pub enum ForgeError {
    /// Worth another try: no connection, time-out, 5xx.
    #[error("{what}: the forge did not answer properly ({detail})")]
    Transient { what: String, detail: String },
    /// Worth another try after `wait`.
    #[error("{what}: the forge's rate limit is used up; it asks to wait {} s", wait.as_secs())]
    RateLimited { what: String, wait: Duration },
    /// The thing is not there (404, 410).
    #[error("{what}: not found at the forge")]
    NotFound { what: String },
    /// The credential may not do this (401, and 403 without a rate limit).
    #[error("{what}: the forge refused it: {detail}")]
    Refused { what: String, detail: String },
    /// Asking again the same way will not help (422 and other 4xx, an answer that is not what was asked for).
    #[error("{what}: {detail}")]
    Permanent { what: String, detail: String },
}

impl ForgeError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Transient { .. } | Self::RateLimited { .. })
    }
}

/// A forge as Dayfly uses it. Calls have their own time-outs and do not retry: the callers own the schedule.
pub trait Forge: fmt::Debug + Send + Sync {
    /// Whether the commit can be read now. A forge says of a commit that it has not replicated yet, and of a repository that
    /// may not be read, that they do not exist.
    fn has_commit<'a>(&'a self, access: &'a RepoAccess, sha: &'a CommitSha) -> BoxFuture<'a, Result<bool, ForgeError>>;

    /// The commit at which a branch (`heads/NAME`) or a tag (`tags/NAME`) is now; [`ForgeError::NotFound`] or
    /// [`ForgeError::Permanent`] where there is none.
    fn resolve<'a>(
        &'a self, access: &'a RepoAccess, reference: &'a str,
    ) -> BoxFuture<'a, Result<CommitSha, ForgeError>>;

    /// The repository as the payloads of its events tell of it.
    fn repository<'a>(&'a self, access: &'a RepoAccess) -> BoxFuture<'a, Result<serde_json::Value, ForgeError>>;

    /// The entries of a directory at a commit; an absent directory is [`ForgeError::NotFound`].
    fn list_directory<'a>(
        &'a self, access: &'a RepoAccess, directory: &'a str, sha: &'a CommitSha,
    ) -> BoxFuture<'a, Result<Vec<DirectoryEntry>, ForgeError>>;

    /// A file's bytes at a commit, at most `limit` of them (more is [`ForgeError::Permanent`]).
    fn read_file<'a>(
        &'a self, access: &'a RepoAccess, path: &'a str, sha: &'a CommitSha, limit: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, ForgeError>>;

    /// Makes the forge show `report`. `known` is what earlier calls returned.
    fn publish<'a>(
        &'a self, report: &'a Report, known: &'a ExternalIds, earlier: Earlier,
    ) -> BoxFuture<'a, Result<ExternalIds, ForgeError>>;

    /// Where a VM's git fetches of this repository go.
    fn git_upstream<'a>(&'a self, access: &'a RepoAccess) -> BoxFuture<'a, Result<GitUpstream, ForgeError>>;

    /// What `user` may do in the repository at this moment. Anything that is no account's name has [`Permission::None`].
    fn permission<'a>(&'a self, access: &'a RepoAccess, user: &'a str)
    -> BoxFuture<'a, Result<Permission, ForgeError>>;

    /// A pull request as it is at this moment.
    fn pull_request<'a>(
        &'a self, access: &'a RepoAccess, number: u64,
    ) -> BoxFuture<'a, Result<PullRequestNow, ForgeError>>;

    /// The open pull requests, those that were changed last first; at most some hundred.
    fn open_pull_requests<'a>(
        &'a self, access: &'a RepoAccess,
    ) -> BoxFuture<'a, Result<Vec<PullRequestNow>, ForgeError>>;

    /// The repositories in which an App is installed; at most some thousand. Always empty with a token: it may reach
    /// repositories that never asked for Dayfly.
    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepoAccess>, ForgeError>>;

    /// The deliveries since `since` (milliseconds since the epoch) that never had an answer of success, newest first; at
    /// most some thousand. A forge that keeps no list of them has none.
    fn failed_deliveries(&self, since: i64) -> BoxFuture<'_, Result<Vec<FailedDelivery>, ForgeError>>;

    /// Asks for another attempt at a delivery, by [`FailedDelivery::id`].
    fn redeliver(&self, id: u64) -> BoxFuture<'_, Result<(), ForgeError>>;

    /// As whom Dayfly speaks, and what it may do.
    fn standing(&self) -> BoxFuture<'_, Result<ForgeStanding, ForgeError>>;

    /// What the last answers said is left of each budget, by a name for people (`App`, `installation 815`, `token`); of a
    /// bounded number of them. Asks nothing. Empty for a forge that does not count.
    fn budgets(&self) -> Vec<(String, Budget)>;

    /// Where the default branch is. `None` where there is none, and of a forge whose lost pushes are recovered by redelivery
    /// alone.
    fn default_head<'a>(&'a self, _access: &'a RepoAccess) -> BoxFuture<'a, Result<Option<BranchHead>, ForgeError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The push that brought the head of [`Forge::default_head`].
    fn push_of<'a>(
        &'a self, _access: &'a RepoAccess, head: &'a BranchHead,
    ) -> BoxFuture<'a, Result<PushNow, ForgeError>> {
        let what = format!("looking for the push of {}", head.sha.short());
        Box::pin(std::future::ready(Err(ForgeError::NotFound { what })))
    }

    /// Its webhooks and what they could not bring, where it tells of them by webhook.
    fn hook_api(&self) -> Option<&dyn HookApi> {
        None
    }

    /// Its own jobs and their runners, where it has such.
    fn runner_api(&self) -> Option<&dyn RunnerApi> {
        None
    }
}
