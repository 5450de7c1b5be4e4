//! What the parts of the service share: the store, the engine, the forges, and how they wake each other.
//!
//! The parts do not call each other. Each one brings the store closer to what it should say, and wakes those who look next;
//! a wake-up that is lost costs a few seconds, never a job.

use std::sync::Arc;

use secrecy::SecretString;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::actions::ActionStore;
use crate::config::{Config, GitLabSecrets, JobSecrets};
use crate::depot::Depot;
use crate::engine::Engine;
use crate::forge::Forges;
use crate::gitlab::GitLabs;
use crate::ids::LogToken;
use crate::job::sharing::Sharing;
use crate::job::timeline::Timeline;
use crate::lifecycle::Lifecycle;
use crate::log::LogStore;
use crate::metrics::Metrics;
use crate::net::egress::network::Network;
use crate::net::git_proxy::GitClient;
use crate::net::registry::Registries;
use crate::pool::Pools;
use crate::reporter::Sent;
use crate::runners::Board;
use crate::scheduler::Openings;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::upkeep::{Desk, Kept};
use crate::webhook::WebhookSecret;

/// Runs work that may take a noticeable time on the processor because a stranger wrote its input, without keeping other
/// tasks from their thread.
pub fn heavy<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// Shared by all parts.
#[derive(Debug)]
pub struct Core {
    pub config: Config,
    /// GitHub's, if it is served.
    pub webhook_secret: Option<SecretString>,
    /// Those of each GitLab that sends webhooks, by its name.
    pub gitlab_webhooks: Vec<(String, Arc<WebhookSecret>)>,
    /// Those of [`Config::gitlab`], in the same order, but for those of webhooks.
    pub gitlab_secrets: Vec<GitLabSecrets>,
    /// What [`Config::values_of`] takes.
    pub job_secrets: JobSecrets,
    pub store: Store,
    pub logs: LogStore,
    pub engine: Engine,
    /// VMs that wait for their jobs.
    pub pools: Pools,
    pub forges: Forges,
    pub git: GitClient,
    /// GitLabs whose jobs run here.
    pub gitlab: GitLabs,
    /// Package registries with their credentials.
    pub registries: Registries,
    /// What jobs leave for later ones.
    pub depot: Depot,
    /// Actions of other repositories.
    pub actions: Arc<ActionStore>,
    /// The way of guests to others.
    pub network: Arc<dyn Network>,
    pub timeline: Timeline,
    pub metrics: Metrics,
    pub wake: Arc<Wake>,
    /// Where VMs are asked for that no job needs.
    pub desk: Desk,
    /// How many more jobs could start, for those who ask forges for jobs.
    pub openings: Openings,
    /// Machines that serve GitHub's own jobs.
    pub runners: Board,
    /// What was prepared for jobs.
    pub kept: Kept,
    /// Matrices whose cells start from one machine.
    pub sharing: Sharing,
    /// Tells who waits for a report to be sent.
    pub sent: Sent,
    /// Is told of each step of a job's life.
    pub lifecycle: Lifecycle,
    /// Requests to end; no job starts once it drains.
    pub shutdown: Shutdown,
    /// Everything ends once this is cancelled. No job runs by then.
    pub stop: CancellationToken,
}

/// Reasons to look at the store.
#[derive(Debug, Default)]
pub struct Wake {
    /// A delivery was stored.
    pub deliveries: Notify,
    /// A job may be able to move.
    pub scheduler: Notify,
    /// A report changed.
    pub reports: Notify,
    /// A default branch moved.
    pub upkeep: Notify,
    /// A schedule may be new.
    pub schedules: Notify,
    /// A GitLab may have a job to give away. For everybody who waits.
    pub gitlab: Notify,
    /// GitHub's own jobs, or the machines for them, changed.
    pub runners: Notify,
}

impl Core {
    /// Where a person reads a job's log.
    pub fn log_url(&self, token: &LogToken) -> String {
        format!("{}/logs/{token}", self.config.server.public_url.as_str().trim_end_matches('/'))
    }
}
