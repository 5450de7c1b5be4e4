//! What the parts of this service that speak with GitLabs share: the GitLabs themselves, and the sessions of jobs that came
//! from them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::client::Client;
use crate::config;
use crate::core::{Core, Wake};
use crate::ids::JobId;
use crate::log::LogStore;
use crate::metrics::GitLabMetrics;
use crate::scheduler::Openings;
use crate::store::Store;

/// How long a job's VM waits for the session of its job. Sessions are there before jobs can start; only a GitLab that was
/// taken out of the configuration has none.
const SESSION_LIMIT: Duration = Duration::from_secs(30);

/// The GitLabs of a configuration, and who speaks with them for which job. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct GitLabs {
    clients: Arc<HashMap<String, Arc<Client>>>,
    sessions: Sessions,
}

impl GitLabs {
    /// Those of a configuration; asks none of them anything.
    ///
    /// # Errors
    /// Certificates that cannot be read; a host without trust roots.
    pub fn new(settings: &[config::GitLab]) -> anyhow::Result<Self> {
        let client = |gitlab: &config::GitLab| {
            let client = Client::new(&gitlab.url, gitlab.ca_bundle.as_deref())
                .with_context(|| format!("the client for the GitLab `{}`", gitlab.name))?;
            Ok((gitlab.name.clone(), client))
        };
        Ok(Self::of(settings.iter().map(client).collect::<anyhow::Result<Vec<_>>>()?))
    }

    /// Those with these clients, by their names.
    pub fn of(clients: impl IntoIterator<Item = (String, Client)>) -> Self {
        let clients = clients.into_iter().map(|(name, client)| (name, Arc::new(client)));
        Self { clients: Arc::new(clients.collect()), sessions: Sessions::default() }
    }

    /// The client for the GitLab of that name.
    pub fn client(&self, name: &str) -> Option<Arc<Client>> {
        self.clients.get(name).cloned()
    }

    /// Tells GitLab that a job runs, now that there is a machine for it. Whether it is still ours to run: a job that GitLab
    /// has ended, or given to another runner, must not run here.
    pub async fn begin(&self, job: &JobId) -> bool {
        match tokio::time::timeout(SESSION_LIMIT, self.sessions.wait_for(job)).await {
            Ok(session) => {
                session.nudge.notify_one();
                let mut standing = session.standing.subscribe();
                let known = standing.wait_for(|standing| *standing != Standing::Asking).await;
                known.is_ok_and(|standing| *standing == Standing::Ours)
            }
            Err(_) => {
                tracing::error!(%job, "nobody speaks with GitLab for this job; is its `[[gitlab]]` still configured?");
                false
            }
        }
    }

    /// Waits until GitLab has given a job up: nothing of it is wanted any more, whatever was wanted before.
    pub async fn given_up(&self, job: &JobId) {
        let session = self.sessions.wait_for(job).await;
        let mut standing = session.standing.subscribe();
        if standing.wait_for(|standing| *standing == Standing::Gone).await.is_err() {
            std::future::pending().await
        }
    }

    /// Something of a job changed that GitLab shall know soon.
    pub fn nudge(&self, job: &JobId) {
        if let Some(session) = self.sessions.lock().get(job) {
            session.nudge.notify_one();
        }
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }
}

/// Whether GitLab has said that a job is ours to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Asking,
    Ours,
    Gone,
}

/// What others see of a session.
#[derive(Debug)]
pub(super) struct Handle {
    /// The runner that took the job.
    runner: String,
    pub(super) nudge: Notify,
    pub(super) standing: watch::Sender<Standing>,
}

/// The sessions that there are.
#[derive(Debug, Clone)]
pub(super) struct Sessions {
    by_job: Arc<Mutex<HashMap<JobId, Arc<Handle>>>>,
    changed: watch::Sender<()>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { by_job: Arc::default(), changed: watch::Sender::new(()) }
    }
}

/// A session's place among the others, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    sessions: Sessions,
    job: JobId,
    pub(super) handle: Arc<Handle>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.job);
        self.handle.standing.send_if_modified(|standing| {
            let was_asking = *standing == Standing::Asking;
            if was_asking {
                *standing = Standing::Gone;
            }
            was_asking
        });
        self.sessions.changed.send_replace(());
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Handle>>> {
        // A map's single calls leave it whole.
        self.by_job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for the session of a job; `None` if it has one.
    pub(super) fn enter(&self, job: &JobId, runner: &str) -> Option<Place> {
        let handle = Arc::new(Handle {
            runner: runner.to_owned(),
            nudge: Notify::new(),
            standing: watch::Sender::new(Standing::Asking),
        });
        let before = {
            let mut by_job = self.lock();
            if by_job.contains_key(job) {
                return None;
            }
            by_job.insert(job.clone(), Arc::clone(&handle))
        };
        debug_assert!(before.is_none(), "it was looked for");
        self.changed.send_replace(());
        Some(Place { sessions: self.clone(), job: job.clone(), handle })
    }

    /// How many jobs of a runner have not ended for GitLab.
    pub(super) fn of_runner(&self, runner: &str) -> usize {
        self.lock().values().filter(|handle| handle.runner == runner).count()
    }

    /// Told whenever a session begins or ends.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    async fn wait_for(&self, job: &JobId) -> Arc<Handle> {
        let mut changes = self.changes();
        loop {
            if let Some(handle) = self.lock().get(job) {
                return Arc::clone(handle);
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// All that runners and sessions act upon.
#[derive(Debug)]
pub struct Bureau {
    pub store: Store,
    pub logs: LogStore,
    pub openings: Openings,
    pub gitlabs: GitLabs,
    pub wake: Arc<Wake>,
    pub metrics: GitLabMetrics,
    /// What links to logs begin with; ends with a slash.
    pub public_url: Url,
    /// By which a GitLab tells this host from others with the same runner.
    pub system_id: String,
    /// No more jobs are asked for. It comes before `stop`.
    pub drain: CancellationToken,
    /// Sessions of jobs that have not ended end.
    pub stop: CancellationToken,
}

impl Bureau {
    /// That of a service.
    pub(super) fn of(core: &Core, system_id: String) -> Self {
        Self {
            store: core.store.clone(),
            logs: core.logs.clone(),
            openings: core.openings.clone(),
            gitlabs: core.gitlab.clone(),
            wake: Arc::clone(&core.wake),
            metrics: core.metrics.gitlab.clone(),
            public_url: core.config.server.public_url.clone(),
            system_id,
            drain: core.shutdown.drain.clone(),
            stop: core.stop.clone(),
        }
    }
}
