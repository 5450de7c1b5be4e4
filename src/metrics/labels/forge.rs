//! Labels of what is asked of forges, and of what was lost and found.

use crate::forge::{ForgeError, github};
use crate::metrics::family::Label;

label_enum!(
    /// What is asked of the forge.
    ForgeCall, "call" {
        HasCommit = "has_commit",
        Resolve = "resolve",
        Repository = "repository",
        ListDirectory = "list_directory",
        ReadFile = "read_file",
        Publish = "publish",
        GitCredential = "git_credential",
        Permission = "permission",
        PullRequest = "pull_request",
        OpenPullRequests = "open_pull_requests",
        DefaultBranch = "default_branch",
        Repositories = "repositories",
        FailedDeliveries = "failed_deliveries",
        Redeliver = "redeliver",
        Standing = "standing",
        Runners = "runners",
        WorkflowJobs = "workflow_jobs",
    }
);

label_enum!(
    /// How a look for lost webhooks ended.
    SweepEnd, "result" {
        Complete = "complete",
        /// Something could not be asked or stored.
        Incomplete = "incomplete",
        /// Something was not asked: the rest of the rate limit is the jobs'.
        Spared = "spared",
    }
);

label_enum!(
    /// Which kind of forge.
    ForgeKind, "forge" {
        GitHub = "github",
        GitLab = "gitlab",
    }
);

impl ForgeKind {
    /// That of the forge of this name.
    pub fn of(name: &str) -> Self {
        if name == github::NAME { Self::GitHub } else { Self::GitLab }
    }
}

label_enum!(
    /// What an answer of the forge put right about its own jobs and their runners.
    Reconciled, "what" {
        /// A job waits of which no event told.
        LostEvent = "lost_event",
        /// A job waits no more, which no event told.
        DroppedDemand = "dropped_demand",
        /// A runner without a machine was removed.
        RemovedRunner = "removed_runner",
    }
);

label_enum!(
    /// How the forge answered.
    ForgeResult, "result" {
        Ok = "ok",
        Transient = "transient",
        RateLimited = "rate_limited",
        NotFound = "not_found",
        Refused = "refused",
        Permanent = "permanent",
    }
);

impl<T> From<&Result<T, ForgeError>> for ForgeResult {
    fn from(answer: &Result<T, ForgeError>) -> Self {
        match answer {
            Ok(_) => Self::Ok,
            Err(ForgeError::Transient { .. }) => Self::Transient,
            Err(ForgeError::RateLimited { .. }) => Self::RateLimited,
            Err(ForgeError::NotFound { .. }) => Self::NotFound,
            Err(ForgeError::Refused { .. }) => Self::Refused,
            Err(ForgeError::Permanent { .. }) => Self::Permanent,
        }
    }
}
