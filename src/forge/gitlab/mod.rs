//! GitLab as a [`Forge`]: of its own host or gitlab.com, with one token.
//!
//! What GitHub calls a repository is a project here, and a pull request is a merge request. There are no check runs: a job is a
//! commit status, and GitLab puts those of one commit and ref into a pipeline of their own. What is held is also told in a note
//! on the merge request, which is where people look.
//!
//! Every call has a time limit and a size limit, goes to one address, follows no redirect, and is not repeated: the callers own
//! the schedule ([`fn@crate::forge::backoff`]).

mod branch;
mod client;
mod contents;
mod hooks;
mod note;
mod people;
mod presentation;
mod publish;
mod requests;
mod standing;

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use self::client::Client;
pub use self::client::{SettingsError, certificates};
use self::publish::Pipelines;
use super::{
    BranchHead, Budget, CommitSha, DirectoryEntry, Earlier, ExternalIds, FailedDelivery, Forge, ForgeError,
    ForgeStanding, GitUpstream, Hook, HookApi, HookOwner, HookRef, Permission, PullRequestNow, PushNow, RepoAccess,
    Report, TOKEN_BUDGET,
};
use crate::clock;

/// As whom git is let in with a token.
const GIT_USER: &str = "oauth2";

/// Which GitLab, and as whom.
#[derive(Debug)]
pub struct GitLabSettings {
    /// The instance's name in the configuration.
    pub name: String,
    /// Where people and git go; the API is below it. Ends with a slash.
    pub url: Url,
    /// Certificates to trust beside the usual ones.
    pub ca_bundle: Option<PathBuf>,
    pub token: SecretString,
}

/// The client of one GitLab with one token.
#[derive(Debug)]
pub struct GitLab {
    name: String,
    client: Client,
    url: Url,
    token: SecretString,
    pipelines: Pipelines,
}

impl GitLab {
    /// Checks the settings; asks GitLab nothing yet. Blocks on the file system.
    ///
    /// # Errors
    /// A token that no header can carry, certificates that are none, an address that would show the token.
    pub fn new(settings: GitLabSettings) -> Result<Self, SettingsError> {
        let GitLabSettings { name, url, ca_bundle, token } = settings;
        let client = Client::new(&url, ca_bundle.as_deref(), &token)?;
        Ok(Self { name, client, url, token, pipelines: Pipelines::default() })
    }

    fn upstream(&self, access: &RepoAccess) -> GitUpstream {
        let pair = SecretString::from(format!("{GIT_USER}:{}", self.token.expose_secret()));
        let authorization = SecretString::from(format!("Basic {}", STANDARD.encode(pair.expose_secret())));
        let mut url = self.url.clone();
        let mut segments = url.path_segments_mut().expect("an http address has a path");
        segments.pop_if_empty().extend(access.repo.as_str().split('/'));
        drop(segments);
        GitUpstream { url, authorization: Some(authorization) }
    }
}

impl Forge for GitLab {
    fn has_commit<'a>(&'a self, access: &'a RepoAccess, sha: &'a CommitSha) -> BoxFuture<'a, Result<bool, ForgeError>> {
        contents::has_commit(self, access, sha).boxed()
    }

    fn resolve<'a>(
        &'a self, access: &'a RepoAccess, reference: &'a str,
    ) -> BoxFuture<'a, Result<CommitSha, ForgeError>> {
        contents::resolve(self, access, reference).boxed()
    }

    fn repository<'a>(&'a self, access: &'a RepoAccess) -> BoxFuture<'a, Result<serde_json::Value, ForgeError>> {
        contents::repository(self, access).boxed()
    }

    fn list_directory<'a>(
        &'a self, access: &'a RepoAccess, directory: &'a str, sha: &'a CommitSha,
    ) -> BoxFuture<'a, Result<Vec<DirectoryEntry>, ForgeError>> {
        contents::list_directory(self, access, directory, sha).boxed()
    }

    fn read_file<'a>(
        &'a self, access: &'a RepoAccess, path: &'a str, sha: &'a CommitSha, limit: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, ForgeError>> {
        contents::read_file(self, access, path, sha, limit).boxed()
    }

    fn publish<'a>(
        &'a self, report: &'a Report, known: &'a ExternalIds, earlier: Earlier,
    ) -> BoxFuture<'a, Result<ExternalIds, ForgeError>> {
        publish::publish(self, report, known, earlier).boxed()
    }

    fn git_upstream<'a>(&'a self, access: &'a RepoAccess) -> BoxFuture<'a, Result<GitUpstream, ForgeError>> {
        std::future::ready(Ok(self.upstream(access))).boxed()
    }

    fn permission<'a>(
        &'a self, access: &'a RepoAccess, user: &'a str,
    ) -> BoxFuture<'a, Result<Permission, ForgeError>> {
        people::permission(self, access, user).boxed()
    }

    fn pull_request<'a>(
        &'a self, access: &'a RepoAccess, number: u64,
    ) -> BoxFuture<'a, Result<PullRequestNow, ForgeError>> {
        requests::one(self, access, number).boxed()
    }

    fn open_pull_requests<'a>(
        &'a self, access: &'a RepoAccess,
    ) -> BoxFuture<'a, Result<Vec<PullRequestNow>, ForgeError>> {
        requests::open(self, access).boxed()
    }

    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepoAccess>, ForgeError>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    /// They are told by webhook: see [`HookApi`].
    fn failed_deliveries(&self, _since: i64) -> BoxFuture<'_, Result<Vec<FailedDelivery>, ForgeError>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn redeliver(&self, id: u64) -> BoxFuture<'_, Result<(), ForgeError>> {
        std::future::ready(Err(ForgeError::NotFound { what: format!("the delivery {id}") })).boxed()
    }

    fn standing(&self) -> BoxFuture<'_, Result<ForgeStanding, ForgeError>> {
        standing::standing(self).boxed()
    }

    fn budgets(&self) -> Vec<(String, Budget)> {
        self.client.budget(clock::now_ms()).map(|budget| (TOKEN_BUDGET.to_owned(), budget)).into_iter().collect()
    }

    fn default_head<'a>(&'a self, access: &'a RepoAccess) -> BoxFuture<'a, Result<Option<BranchHead>, ForgeError>> {
        branch::head(self, access).boxed()
    }

    fn push_of<'a>(
        &'a self, access: &'a RepoAccess, head: &'a BranchHead,
    ) -> BoxFuture<'a, Result<PushNow, ForgeError>> {
        branch::push(self, access, head).boxed()
    }

    fn hook_api(&self) -> Option<&dyn HookApi> {
        Some(self)
    }
}

impl HookApi for GitLab {
    fn hooks<'a>(&'a self, owner: &'a HookOwner) -> BoxFuture<'a, Result<Vec<Hook>, ForgeError>> {
        hooks::list(self, owner).boxed()
    }

    fn failed_of<'a>(
        &'a self, hook: &'a HookRef, since: i64,
    ) -> BoxFuture<'a, Result<Vec<FailedDelivery>, ForgeError>> {
        hooks::failed(self, hook, since).boxed()
    }

    fn resend<'a>(&'a self, hook: &'a HookRef, id: u64) -> BoxFuture<'a, Result<(), ForgeError>> {
        hooks::resend(self, hook, id).boxed()
    }
}
