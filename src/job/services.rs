//! What the host offers to one guest: connections to ports of its loopback interface end at proxies of the host.

use std::sync::Arc;

use tokio::task::{JoinHandle, JoinSet};

use super::action::{Actions, Private};
use super::checkout::GIT_PORT;
use super::driver::Lease;
use super::outfit::Outfit;
use super::toolkit;
use crate::config::Profile;
use crate::core::Core;
use crate::depot::artifacts::Maker;
use crate::depot::{Tenant, tenant};
use crate::forge::{RepoAccess, RepoName, github};
use crate::net::egress::log::EgressLog;
use crate::net::egress::policy::Scope;
use crate::net::egress::{Egress, environment};
use crate::net::git_proxy::{GitLimits, GitProxy, Source};
use crate::net::registry::{self, RegistryProxy};
use crate::net::results::{self, ResultsService};
use crate::protocol::message::{AgentRequest, Service, decode};
use crate::protocol::session::MAX_STREAMS;
use crate::store::Job;
use crate::vm::VmError;
use crate::vm::channel::Connections;
use crate::vm::guest::Guest;
use crate::workflow::contexts::GithubContext;

/// The services of one guest.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    /// What it may fetch, if anything.
    pub(crate) git: Option<GitProxy>,
    pub(crate) egress: Egress,
    /// What it may read with credentials of the host's.
    pub(crate) registries: RegistryProxy,
    /// Where its actions keep caches and artifacts.
    pub(crate) results: ResultsService,
}

impl Services {
    /// Has the guest listen on the ports of what is offered.
    pub(crate) async fn offer(&self, guest: &Guest) -> Result<(), VmError> {
        let git = async {
            match &self.git {
                Some(_) => guest.listen(GIT_PORT, Service::Git).await,
                None => Ok(()),
            }
        };
        let egress = async {
            if self.egress.is_offered() { guest.listen(environment::PORT, Service::Egress).await } else { Ok(()) }
        };
        let registries = async {
            if self.registries.is_offered() { guest.listen(registry::PORT, Service::Registry).await } else { Ok(()) }
        };
        let results = async {
            if self.results.is_offered() { guest.listen(results::PORT, Service::Results).await } else { Ok(()) }
        };
        tokio::try_join!(git, egress, registries, results).map(drop)
    }

    /// Configures the guest's tools for what is offered. The inner error says in words what they lack.
    pub(crate) async fn equip(&self, guest: &Guest, is_of_clone: bool) -> Result<Result<(), String>, VmError> {
        let outfit = Outfit { registries: &self.registries, ca_bundle: self.egress.ca_bundle(), is_of_clone };
        outfit.give(guest).await
    }

    /// The variables by which programs of the guest find what is offered.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let mut variables = self.egress.variables();
        if self.egress.is_offered() || self.registries.is_offered() {
            variables.extend(toolkit::variables(self.registries.offers()));
        }
        if self.egress.ca_bundle().is_some() {
            variables.extend(toolkit::trust_variables());
        }
        variables.extend(self.results.variables());
        variables
    }

    /// Serves the guest's connections until the task is aborted or the VM is gone.
    pub(crate) fn serve(&self, mut connections: Connections) -> JoinHandle<()> {
        let services = self.clone();
        tokio::spawn(async move {
            // Dropped with this task, and what they have open with them.
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    // The guest cannot have more streams open; those that have just ended may still be here.
                    connection = connections.recv(), if open.len() < MAX_STREAMS => match connection {
                        Some((stream, request)) => {
                            let Ok(AgentRequest::Connected { service }) = decode(&request) else { continue };
                            let services = services.clone();
                            open.spawn(async move { services.serve_one(service, stream.into_io()).await });
                        }
                        None => return,
                    },
                    Some(_) = open.join_next(), if !open.is_empty() => {}
                }
            }
        })
    }

    /// A machine that was frozen may listen for what is not offered any more: its connections are closed.
    async fn serve_one(&self, service: Service, stream: tokio::io::DuplexStream) {
        match (service, &self.git) {
            (Service::Git, Some(git)) => git.serve_connection(stream).await,
            (Service::Egress, _) if self.egress.is_offered() => self.egress.serve_connection(stream).await,
            (Service::Registry, _) if self.registries.is_offered() => self.registries.serve_connection(stream).await,
            (Service::Results, _) => self.results.serve_connection(stream).await,
            (Service::Git | Service::Egress | Service::Registry, _) => {}
        }
    }
}

/// What a VM of that repository may fetch: with the host's credential what is the repository's, unless its job's `permissions` do
/// not let it read that, and from a forge that it reaches what anybody may.
pub(crate) fn git_proxy_of(core: &Core, forge: &str, access: &RepoAccess, may_read: bool, egress: &Egress) -> GitProxy {
    let submodules =
        core.config.repository(forge, &access.repo).map_or_else(Vec::new, |settings| settings.submodules.to_vec());
    let source = Source::Forge {
        client: core.git.clone(),
        forges: core.forges.clone(),
        name: forge.to_owned(),
        installation: access.installation,
    };
    let repositories = std::iter::once(access.repo.clone()).chain(submodules).filter(|_| may_read).collect();
    let address = Some(core.config.addresses_of(forge).url).filter(|address| egress.reaches(address));
    let public = address.map(|address| (core.git.clone(), address.clone()));
    GitProxy::with_public(source, repositories, public, GitLimits::default())
}

/// The actions that a VM of that repository may have. What the operator lists as private is not for forks, whose authors may be
/// anybody.
pub(crate) fn actions_of(core: &Core, forge: &str, access: &RepoAccess, is_of_fork: bool) -> Actions {
    let config = &core.config.actions;
    let submodules =
        core.config.repository(forge, &access.repo).map_or_else(Vec::new, |settings| settings.submodules.to_vec());
    let private = if is_of_fork { Vec::new() } else { config.private.clone() };
    let repositories = std::iter::once(access.repo.clone()).chain(submodules).chain(private).collect();
    Actions {
        store: Arc::clone(&core.actions),
        policy: config.policy.clone(),
        // Elsewhere the forge's credential means nothing.
        private: if config.url.is_none() && forge == github::NAME { core.forges.of(forge).ok() } else { None }
            .map(|forge| Private { forge: Arc::clone(forge), installation: access.installation, repositories }),
    }
}

/// What a VM of that profile may reach for that repository.
pub(crate) fn egress_of(core: &Core, profile: &Profile, forge: &str, repo: &RepoName) -> Egress {
    let settings = core.config.repository(forge, repo);
    let narrowing = settings.and_then(|settings| settings.egress);
    let scope = Scope::of_profile(&profile.name, &profile.egress, narrowing);
    Egress::new(scope, Arc::clone(&core.network), core.metrics.egress.clone())
}

/// Where the actions of that attempt keep caches and artifacts.
pub(super) fn results_of(core: &Core, lease: &Lease, github: &GithubContext) -> ResultsService {
    let (run, job) = (&lease.run, &lease.job);
    let pull_request = run.origin.pull_request.map(|pull| pull.number);
    ResultsService::new(Tenant {
        depot: core.depot.clone(),
        repo: tenant::place_of(&run.forge, &run.access.repo),
        run: run.root().clone(),
        job: job.id.clone(),
        maker: Maker { run: run.id.clone(), job: job.id.clone(), attempt: job.attempt },
        job_name: job.name.clone(),
        scopes: tenant::scopes_of(github, pull_request, run.origin.is_of_fork()),
        page: Some(core.log_url(&job.log_token)),
    })
}

/// Keeps what the job reached, if anything. Without it the job has ended all the same.
pub(super) async fn keep_egress(core: &Core, job: &Job, egress: &Egress) {
    let log = egress.log();
    if log == EgressLog::default() {
        return;
    }
    if let Err(error) = core.store.keep_egress(&job.id, job.attempt, &log).await {
        tracing::error!(job = %job.id, %error, "what a job reached could not be stored");
    }
}
