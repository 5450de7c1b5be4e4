//! What the steps of one attempt have around them, in whichever machine they run.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::action::Actions;
use super::attempt::Attempt;
use super::checkout::{Origin, Workspace};
use super::driver::Lease;
use super::services::git_proxy_of;
use super::steps::Places;
use crate::config::Profile;
use crate::core::Core;
use crate::image::catalog::ImageInfo;
use crate::net::egress::Egress;
use crate::net::results::ResultsService;
use crate::vm::machine::Machine;
use crate::workflow::contexts::GithubContext;

/// Where and for what the steps of an attempt run; the machine may be exchanged between two of them.
pub(super) struct Scene<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) lease: &'a Lease,
    pub(super) profile: &'a Profile,
    pub(super) image: &'a ImageInfo,
    /// What the machine that the attempt begins in has in its workspace.
    pub(super) workspace: Workspace,
    pub(super) places: &'a Places,
    pub(super) github: &'a GithubContext,
    /// One for all machines of the attempt, which share its limits and its log.
    pub(super) egress: Egress,
    /// Likewise: what was begun in one machine is finished in another.
    pub(super) results: ResultsService,
    pub(super) actions: &'a Actions,
    /// Whether the job may read its repository.
    pub(super) may_read: bool,
    pub(super) cancel: &'a CancellationToken,
}

impl Scene<'_> {
    /// An attempt in the machine that it begins in.
    pub(super) fn begin<'a>(&'a self, machine: &'a mut Machine) -> Attempt<'a> {
        self.attempt(machine, self.workspace, Duration::ZERO)
    }

    /// An attempt in a machine in which the first steps have run, when so much of its time is over.
    pub(super) fn go_on<'a>(&'a self, machine: &'a mut Machine, spent: Duration) -> Attempt<'a> {
        self.attempt(machine, Workspace::Empty, spent)
    }

    fn attempt<'a>(&'a self, machine: &'a mut Machine, workspace: Workspace, spent: Duration) -> Attempt<'a> {
        let (core, run) = (self.core, &self.lease.run);
        let (forge, access) = (run.forge.as_str(), &run.access);
        Attempt {
            machine,
            image: self.image,
            places: self.places,
            github: self.github,
            origin: Origin { repo: &access.repo, forge_url: core.config.addresses_of(forge).url.as_str() },
            workspace,
            git: git_proxy_of(core, forge, access, self.may_read, &self.egress),
            actions: self.actions,
            egress: self.egress.clone(),
            registries: core.registries.proxy(
                core.config.named(forge, &access.repo),
                &self.profile.name,
                run.origin.is_of_fork(),
            ),
            results: self.results.clone(),
            limit: self.profile.timeout,
            spent,
            grace: core.config.limits.grace,
            cancel: self.cancel,
        }
    }

    /// Notes what happened in the attempt.
    pub(super) fn record(&self, kind: &'static str, detail: &str) {
        self.core.timeline.record(&self.lease.job.id, self.lease.job.attempt, kind, detail);
    }
}
