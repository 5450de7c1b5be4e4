//! What a forge says when it is asked about people, pull requests, deliveries and Dayfly itself.
//!
//! Webhooks tell what happened and may be late, lost or out of order; these answers tell how things are now.

use std::collections::BTreeMap;

use super::{CommitSha, HookRef, RepoAccess, RepoName};

/// What a person may do in a repository, as the forge says at this moment. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Nothing, or the forge knows nobody of that name.
    None,
    Read,
    Write,
    Admin,
}

/// A pull request as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequestNow {
    /// As the forge spells it, which is as events have it: who asked may have used other cases.
    pub repo: RepoName,
    pub number: u64,
    /// Neither closed nor merged.
    pub is_open: bool,
    pub head_sha: CommitSha,
    /// Its code is a stranger's, by the same rule as for webhooks.
    pub is_fork: bool,
    /// When anything about it changed last, by the forge's clock: milliseconds since the epoch, exact to a second.
    pub changed_at: Option<i64>,
    /// The body of a `pull_request` event (action `synchronize`) that tells of it: `webhook::parse_github` reads it.
    pub event: Vec<u8>,
}

/// What an event says of the head of a pull request, or of the default branch: that its commit is the head, as of this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadNews {
    /// The pull request's, or [`DEFAULT_BRANCH`].
    pub number: u64,
    /// The last change of the pull request that the event knows of, by the forge's clock: milliseconds since the epoch. Of a
    /// push the forge tells no time: the smallest one.
    pub as_of: i64,
}

/// The number under which the default branch's head is remembered among those of pull requests: no pull request has it.
pub const DEFAULT_BRANCH: u64 = 0;

/// Where the default branch is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchHead {
    /// As the forge spells it.
    pub repo: RepoName,
    pub branch: String,
    pub sha: CommitSha,
}

/// The push that brought a branch's head there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushNow {
    /// By the forge's clock, in milliseconds since the epoch; the commit's own time where the push's is not known.
    pub changed_at: Option<i64>,
    /// The body of the event that tells of it.
    pub event: Vec<u8>,
}

/// A delivery that the forge could not bring: no attempt of it had a 2xx answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedDelivery {
    /// The forge's id of the newest attempt, for redelivery.
    pub id: u64,
    /// By what all attempts of the delivery are known here, a redelivery's, too.
    pub guid: String,
    /// The event's name, such as `pull_request`.
    pub event: String,
    /// Milliseconds since the epoch; of the newest attempt. A forge may not say it.
    pub delivered_at: Option<i64>,
    /// The webhook that it belongs to, for a forge with [`super::HookApi`].
    pub hook: Option<HookRef>,
}

/// As whom Dayfly speaks to the forge and what it may do there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeStanding {
    /// For people: ``App `name` `` or ``token of `user` ``.
    pub identity: String,
    /// From permission to `read` or `write` for an App; from scope to `granted` for a token that has scopes.
    pub permissions: BTreeMap<String, String>,
    /// The events that the App is told of; empty with a token, whose webhooks are set up in each repository.
    pub events: Vec<String>,
    /// Some of those that can be reached; as [`super::Forge::repositories`].
    pub repositories: Vec<RepoAccess>,
    /// The forge's clock, in milliseconds since the epoch and exact to a second, when its answer was written.
    pub server_time: Option<i64>,
}

/// Under which name [`super::Forge::budgets`] tells of the budget of calls that an App makes for itself.
pub const APP_BUDGET: &str = "App";

/// The same, of the budget that everything asked with a token is taken from.
pub const TOKEN_BUDGET: &str = "token";

impl RepoAccess {
    /// Under which name [`super::Forge::budgets`] tells of the budget that calls about this repository are taken from.
    pub fn budget_name(&self) -> String {
        self.installation.map_or_else(|| TOKEN_BUDGET.to_owned(), |id| format!("installation {id}"))
    }
}

/// What is left of the forge's budget of calls, as its last answer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Calls in one window.
    pub limit: u64,
    pub remaining: u64,
    /// When `remaining` is `limit` again, in milliseconds since the epoch.
    pub resets_at: i64,
}
