//! Webhooks as a forge lists them, each with the deliveries of it that failed.
//!
//! Who may read them may change them, so not every credential can: a refusal is usual.

use std::fmt;

use futures::future::BoxFuture;

use super::{FailedDelivery, ForgeError, RepoName};

/// Whose events a webhook tells of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HookOwner {
    Project(RepoName),
    /// By its path, with all projects below it.
    Group(String),
}

impl fmt::Display for HookOwner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Project(name) => name.fmt(out),
            Self::Group(path) => write!(out, "the group {path}"),
        }
    }
}

/// Names a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HookRef {
    pub owner: HookOwner,
    /// The forge's number of it.
    pub id: u64,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub id: u64,
    /// Where it sends to; the forge may have masked parts of it.
    pub url: String,
    /// The forge sends nothing there, after failures.
    pub is_switched_off: bool,
    /// The kinds of events that it is not told of, of those that workflows can start from, in the forge's words for people.
    pub lacks: Vec<&'static str>,
}

/// A forge that keeps the deliveries of each webhook.
pub trait HookApi: fmt::Debug + Send + Sync {
    /// The webhooks of a project or group; at most a hundred.
    fn hooks<'a>(&'a self, owner: &'a HookOwner) -> BoxFuture<'a, Result<Vec<Hook>, ForgeError>>;

    /// The deliveries of a webhook since `since` (milliseconds since the epoch) that had no answer of success, one for each
    /// delivery, newest first; at most some hundred. Of some the forge may not say when it tried.
    fn failed_of<'a>(&'a self, hook: &'a HookRef, since: i64)
    -> BoxFuture<'a, Result<Vec<FailedDelivery>, ForgeError>>;

    /// Asks for another attempt at a delivery, by [`FailedDelivery::id`].
    fn resend<'a>(&'a self, hook: &'a HookRef, id: u64) -> BoxFuture<'a, Result<(), ForgeError>>;
}
