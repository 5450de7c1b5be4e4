//! A forge that counts and times its calls.

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{
    BranchHead, Budget, CommitSha, DirectoryEntry, Earlier, ExternalIds, FailedDelivery, Forge, ForgeError,
    ForgeStanding, GitUpstream, Hook, HookApi, HookOwner, HookRef, ListedRunner, MintedRunner, NewRunner, Permission,
    PullRequestNow, PushNow, RepoAccess, Report, RunnerAccess, RunnerApi, WorkflowJobNow,
};
use crate::metrics::ForgeMetrics;
use crate::metrics::labels::{ForgeCall, ForgeResult};

/// Passes every call on to another forge.
#[derive(Debug)]
pub struct Measured {
    forge: Arc<dyn Forge>,
    metrics: ForgeMetrics,
}

impl Measured {
    /// Tells `metrics` of each call to `forge`.
    pub fn new(forge: Arc<dyn Forge>, metrics: ForgeMetrics) -> Self {
        Self { forge, metrics }
    }

    fn timed<'a, T: Send + 'a>(
        &'a self, call: ForgeCall, asked: BoxFuture<'a, Result<T, ForgeError>>,
    ) -> BoxFuture<'a, Result<T, ForgeError>> {
        async move {
            let began = Instant::now();
            let answer = asked.await;
            self.metrics.called(call, ForgeResult::from(&answer), began.elapsed());
            answer
        }
        .boxed()
    }
}

impl Forge for Measured {
    fn has_commit<'a>(&'a self, access: &'a RepoAccess, sha: &'a CommitSha) -> BoxFuture<'a, Result<bool, ForgeError>> {
        self.timed(ForgeCall::HasCommit, self.forge.has_commit(access, sha))
    }

    fn resolve<'a>(
        &'a self, access: &'a RepoAccess, reference: &'a str,
    ) -> BoxFuture<'a, Result<CommitSha, ForgeError>> {
        self.timed(ForgeCall::Resolve, self.forge.resolve(access, reference))
    }

    fn repository<'a>(&'a self, access: &'a RepoAccess) -> BoxFuture<'a, Result<serde_json::Value, ForgeError>> {
        self.timed(ForgeCall::Repository, self.forge.repository(access))
    }

    fn list_directory<'a>(
        &'a self, access: &'a RepoAccess, directory: &'a str, sha: &'a CommitSha,
    ) -> BoxFuture<'a, Result<Vec<DirectoryEntry>, ForgeError>> {
        self.timed(ForgeCall::ListDirectory, self.forge.list_directory(access, directory, sha))
    }

    fn read_file<'a>(
        &'a self, access: &'a RepoAccess, path: &'a str, sha: &'a CommitSha, limit: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, ForgeError>> {
        self.timed(ForgeCall::ReadFile, self.forge.read_file(access, path, sha, limit))
    }

    fn publish<'a>(
        &'a self, report: &'a Report, known: &'a ExternalIds, earlier: Earlier,
    ) -> BoxFuture<'a, Result<ExternalIds, ForgeError>> {
        self.timed(ForgeCall::Publish, self.forge.publish(report, known, earlier))
    }

    fn git_upstream<'a>(&'a self, access: &'a RepoAccess) -> BoxFuture<'a, Result<GitUpstream, ForgeError>> {
        self.timed(ForgeCall::GitCredential, self.forge.git_upstream(access))
    }

    fn permission<'a>(
        &'a self, access: &'a RepoAccess, user: &'a str,
    ) -> BoxFuture<'a, Result<Permission, ForgeError>> {
        self.timed(ForgeCall::Permission, self.forge.permission(access, user))
    }

    fn pull_request<'a>(
        &'a self, access: &'a RepoAccess, number: u64,
    ) -> BoxFuture<'a, Result<PullRequestNow, ForgeError>> {
        self.timed(ForgeCall::PullRequest, self.forge.pull_request(access, number))
    }

    fn open_pull_requests<'a>(
        &'a self, access: &'a RepoAccess,
    ) -> BoxFuture<'a, Result<Vec<PullRequestNow>, ForgeError>> {
        self.timed(ForgeCall::OpenPullRequests, self.forge.open_pull_requests(access))
    }

    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepoAccess>, ForgeError>> {
        self.timed(ForgeCall::Repositories, self.forge.repositories())
    }

    fn failed_deliveries(&self, since: i64) -> BoxFuture<'_, Result<Vec<FailedDelivery>, ForgeError>> {
        self.timed(ForgeCall::FailedDeliveries, self.forge.failed_deliveries(since))
    }

    fn redeliver(&self, id: u64) -> BoxFuture<'_, Result<(), ForgeError>> {
        self.timed(ForgeCall::Redeliver, self.forge.redeliver(id))
    }

    fn standing(&self) -> BoxFuture<'_, Result<ForgeStanding, ForgeError>> {
        self.timed(ForgeCall::Standing, self.forge.standing())
    }

    fn budgets(&self) -> Vec<(String, Budget)> {
        self.forge.budgets()
    }

    fn default_head<'a>(&'a self, access: &'a RepoAccess) -> BoxFuture<'a, Result<Option<BranchHead>, ForgeError>> {
        self.timed(ForgeCall::DefaultBranch, self.forge.default_head(access))
    }

    fn push_of<'a>(
        &'a self, access: &'a RepoAccess, head: &'a BranchHead,
    ) -> BoxFuture<'a, Result<PushNow, ForgeError>> {
        self.timed(ForgeCall::DefaultBranch, self.forge.push_of(access, head))
    }

    fn hook_api(&self) -> Option<&dyn HookApi> {
        self.forge.hook_api().map(|_| self as &dyn HookApi)
    }

    fn runner_api(&self) -> Option<&dyn RunnerApi> {
        self.forge.runner_api().map(|_| self as &dyn RunnerApi)
    }
}

impl Measured {
    /// The other forge's webhooks; asked only through [`Forge::hook_api`], which has looked that it has some.
    fn with_hooks(&self) -> &dyn HookApi {
        self.forge.hook_api().expect("a forge with webhooks keeps them")
    }
}

impl HookApi for Measured {
    fn hooks<'a>(&'a self, owner: &'a HookOwner) -> BoxFuture<'a, Result<Vec<Hook>, ForgeError>> {
        self.timed(ForgeCall::FailedDeliveries, self.with_hooks().hooks(owner))
    }

    fn failed_of<'a>(
        &'a self, hook: &'a HookRef, since: i64,
    ) -> BoxFuture<'a, Result<Vec<FailedDelivery>, ForgeError>> {
        self.timed(ForgeCall::FailedDeliveries, self.with_hooks().failed_of(hook, since))
    }

    fn resend<'a>(&'a self, hook: &'a HookRef, id: u64) -> BoxFuture<'a, Result<(), ForgeError>> {
        self.timed(ForgeCall::Redeliver, self.with_hooks().resend(hook, id))
    }
}

impl Measured {
    /// The other forge's runners; asked only through [`Forge::runner_api`], which has looked that it has some.
    fn inner(&self) -> &dyn RunnerApi {
        self.forge.runner_api().expect("a forge with runners keeps them")
    }
}

impl RunnerApi for Measured {
    fn mint_runner<'a>(
        &'a self, at: &'a RunnerAccess, new: &'a NewRunner,
    ) -> BoxFuture<'a, Result<MintedRunner, ForgeError>> {
        self.timed(ForgeCall::Runners, self.inner().mint_runner(at, new))
    }

    fn remove_runner<'a>(&'a self, at: &'a RunnerAccess, id: u64) -> BoxFuture<'a, Result<(), ForgeError>> {
        self.timed(ForgeCall::Runners, self.inner().remove_runner(at, id))
    }

    fn runners<'a>(&'a self, at: &'a RunnerAccess) -> BoxFuture<'a, Result<Vec<ListedRunner>, ForgeError>> {
        self.timed(ForgeCall::Runners, self.inner().runners(at))
    }

    fn newest_runner<'a>(&'a self, at: &'a RunnerAccess) -> BoxFuture<'a, Result<Option<[u32; 3]>, ForgeError>> {
        self.timed(ForgeCall::Runners, self.inner().newest_runner(at))
    }

    fn is_of_fork<'a>(&'a self, access: &'a RepoAccess, run: u64) -> BoxFuture<'a, Result<bool, ForgeError>> {
        self.timed(ForgeCall::WorkflowJobs, self.inner().is_of_fork(access, run))
    }

    fn workflow_job<'a>(
        &'a self, access: &'a RepoAccess, job: u64,
    ) -> BoxFuture<'a, Result<WorkflowJobNow, ForgeError>> {
        self.timed(ForgeCall::WorkflowJobs, self.inner().workflow_job(access, job))
    }

    fn unfinished_jobs<'a>(&'a self, access: &'a RepoAccess) -> BoxFuture<'a, Result<Vec<WorkflowJobNow>, ForgeError>> {
        self.timed(ForgeCall::WorkflowJobs, self.inner().unfinished_jobs(access))
    }
}
