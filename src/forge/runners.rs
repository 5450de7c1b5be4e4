//! What GitHub says of its own jobs and of the runners that take them.
//!
//! Which runner takes a job is GitHub's decision alone: any that has the job's labels. So nothing here ties a job to a runner
//! before GitHub has done so.

use std::fmt;

use futures::future::BoxFuture;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{CommitSha, ForgeError, RepoAccess, RepoName};

/// Where runners are registered, and so whose jobs they may get.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerPlace {
    Repository(RepoName),
    Organization(String),
    Enterprise(String),
}

impl fmt::Display for RunnerPlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(repo) => repo.fmt(out),
            Self::Organization(name) => write!(out, "organization {name}"),
            Self::Enterprise(slug) => write!(out, "enterprise {slug}"),
        }
    }
}

/// A place with the repository in whose name it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerAccess {
    pub place: RunnerPlace,
    pub access: RepoAccess,
}

/// A runner that is to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRunner {
    /// Nobody else in the place may have it.
    pub name: String,
    /// The number of its group.
    pub group: u64,
    /// 1 to 100.
    pub labels: Vec<String>,
    pub work_folder: String,
}

/// A runner that is registered for one job.
#[derive(Debug)]
pub struct MintedRunner {
    pub id: u64,
    /// With this, and once, a program becomes that runner.
    pub config: SecretString,
}

/// A registered runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRunner {
    pub id: u64,
    pub name: String,
    pub is_online: bool,
    pub is_busy: bool,
}

/// How far a job of GitHub's is. Never back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStage {
    /// Before somebody's approval, or another job's end.
    Waiting,
    /// A runner that has its labels gets it.
    Queued,
    InProgress,
    Completed,
}

/// A job of GitHub's as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowJobNow {
    pub id: u64,
    pub run: u64,
    pub name: String,
    pub sha: CommitSha,
    pub labels: Vec<String>,
    pub stage: JobStage,
    /// Once it is completed.
    pub conclusion: Option<String>,
    /// Once one has it.
    pub runner: Option<String>,
    /// That owns the repository, as far as the answer tells.
    pub organization: Option<String>,
}

/// A forge whose jobs other machines can take.
pub trait RunnerApi: fmt::Debug + Send + Sync {
    /// Registers a runner for one job. A name that is taken is [`ForgeError::Permanent`].
    fn mint_runner<'a>(
        &'a self, at: &'a RunnerAccess, new: &'a NewRunner,
    ) -> BoxFuture<'a, Result<MintedRunner, ForgeError>>;

    /// Removes a runner: it gets no job any more. One that is at a job is not removed, which is [`ForgeError::Permanent`].
    fn remove_runner<'a>(&'a self, at: &'a RunnerAccess, id: u64) -> BoxFuture<'a, Result<(), ForgeError>>;

    /// The runners of a place; at most some thousand.
    fn runners<'a>(&'a self, at: &'a RunnerAccess) -> BoxFuture<'a, Result<Vec<ListedRunner>, ForgeError>>;

    /// The newest version of the forge's runner for this kind of machine, as three numbers; `None` if it names none.
    fn newest_runner<'a>(&'a self, at: &'a RunnerAccess) -> BoxFuture<'a, Result<Option<[u32; 3]>, ForgeError>>;

    /// Whether a workflow run is of a fork's code.
    fn is_of_fork<'a>(&'a self, access: &'a RepoAccess, run: u64) -> BoxFuture<'a, Result<bool, ForgeError>>;

    /// One job.
    fn workflow_job<'a>(
        &'a self, access: &'a RepoAccess, job: u64,
    ) -> BoxFuture<'a, Result<WorkflowJobNow, ForgeError>>;

    /// The jobs of a repository that have not ended; of a bounded number of runs.
    fn unfinished_jobs<'a>(&'a self, access: &'a RepoAccess) -> BoxFuture<'a, Result<Vec<WorkflowJobNow>, ForgeError>>;
}
