//! What the steps of one attempt have around them, in whichever machine they run.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::attempt::Attempt;
use super::checkout::Origin;
use super::driver::Lease;
use super::steps::Places;
use crate::config::Profile;
use crate::core::Core;
use crate::image::catalog::ImageInfo;
use crate::net::git_proxy::{GitLimits, GitProxy, Source};
use crate::vm::machine::Machine;
use crate::workflow::contexts::GithubContext;

/// Where and for what the steps of an attempt run; the machine may be exchanged between two of them.
pub(super) struct Scene<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) lease: &'a Lease,
    pub(super) profile: &'a Profile,
    pub(super) image: &'a ImageInfo,
    pub(super) places: &'a Places,
    pub(super) github: &'a GithubContext,
    pub(super) cancel: &'a CancellationToken,
}

impl Scene<'_> {
    /// An attempt in this machine, when so much of its time is over.
    pub(super) fn attempt<'a>(&'a self, machine: &'a mut Machine, spent: Duration) -> Attempt<'a> {
        let (core, access) = (self.core, &self.lease.run.access);
        let submodules =
            core.config.repository(&access.repo).map_or_else(Vec::new, |settings| settings.submodules.to_vec());
        let source = Source::Forge {
            client: core.git.clone(),
            forge: Arc::clone(&core.forge),
            installation: access.installation,
        };
        let repositories = std::iter::once(access.repo.clone()).chain(submodules).collect();
        Attempt {
            machine,
            image: self.image,
            places: self.places,
            github: self.github,
            origin: Origin { repo: &access.repo, forge_url: core.config.github.url.as_str() },
            git: GitProxy::new(source, repositories, GitLimits::default()),
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
