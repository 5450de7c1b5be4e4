//! GitHub, and GitHub Enterprise Server, as a [`Forge`].
//!
//! Every call has a time limit and a size limit, goes to one address, follows no redirect but that to a renamed repository's
//! number, and is not repeated: the callers own the schedule ([`fn@crate::forge::backoff`]). With an App, tokens are limited to one repository; with a plain token,
//! check runs are not possible and commit statuses are all that is shown.

mod auth;
mod budget;
mod classify;
mod client;
mod contents;
mod deliveries;
mod moved;
mod people;
mod presentation;
mod publish;
mod pulls;
mod remembered;
mod runners;
mod standing;

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use url::{Host, Url};

use self::auth::{Credentials, Purpose, Scope};
use self::client::{Answer, Call, Client};
use super::{
    Budget, CommitSha, DirectoryEntry, Earlier, ExternalIds, FailedDelivery, Forge, ForgeError, ForgeStanding,
    GitUpstream, ListedRunner, MintedRunner, NewRunner, Permission, PullRequestNow, RepoAccess, Report, RunnerAccess,
    RunnerApi, WorkflowJobNow,
};
use crate::clock;

/// This forge's word for itself.
pub const NAME: &str = "github";

/// Time for one call: connecting and the complete answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Which GitHub, and as whom.
#[derive(Debug, Clone)]
pub struct GitHubSettings {
    /// Where the REST API is: `https://api.github.com`, or `https://HOST/api/v3` of an Enterprise Server.
    pub api_url: Url,
    /// Where people and git go: `https://github.com`.
    pub url: Url,
    pub auth: Auth,
}

/// As whom to speak.
#[derive(Debug, Clone)]
pub enum Auth {
    /// A person's or machine user's token: commit statuses only.
    Token(SecretString),
    /// A GitHub App: check runs and commit statuses, with tokens for one repository each.
    App {
        id: u64,
        /// The App's RSA key, PEM.
        private_key: SecretString,
    },
}

/// Settings with which no call could ever succeed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("`{url}` is not an https address\n  hint: http, which shows tokens to the network, is for loopback only")]
    Address { url: String },
    #[error(
        "the GitHub App's private key is not usable: {detail}\n  hint: it is the `.pem` file that the App's settings page \
         offers under \"Private keys\""
    )]
    PrivateKey { detail: String },
    #[error("TLS cannot be set up: {detail}\n  hint: install the host's CA certificates (package `ca-certificates`)")]
    Tls { detail: String },
}

/// The client of one GitHub with one identity.
#[derive(Debug)]
pub struct GitHub {
    client: Client,
    credentials: Credentials,
    url: Url,
}

impl GitHub {
    /// Checks the settings; asks GitHub nothing yet.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(settings: GitHubSettings) -> Result<Self, SettingsError> {
        require_confidential(&settings.api_url)?;
        require_confidential(&settings.url)?;
        Ok(Self {
            client: Client::new(settings.api_url, CALL_TIMEOUT)?,
            credentials: Credentials::new(&settings.auth)?,
            url: settings.url,
        })
    }

    /// The same client with another limit than 10 s for one call.
    #[must_use]
    pub fn with_call_timeout(mut self, timeout: Duration) -> Self {
        self.client.timeout = timeout;
        self
    }

    /// One call with a token for the repository.
    async fn ask(&self, access: &RepoAccess, call: &Call) -> Result<Vec<u8>, ForgeError> {
        Ok(self.ask_within(&Scope::One(access.clone(), Purpose::Api), call).await?.body)
    }

    /// One call with a token for `scope`.
    ///
    /// When GitHub refuses a token from memory, it may have been revoked, or the App may have got more permissions since: a
    /// new one gets one chance.
    async fn ask_within(&self, scope: &Scope, call: &Call) -> Result<Answer, ForgeError> {
        let token = self.credentials.token(&self.client, scope).await?;
        match self.client.send(call, &token.identity).await {
            Err(ForgeError::Refused { .. }) if token.is_cached => {
                self.credentials.forget(scope);
                let fresh = self.credentials.token(&self.client, scope).await?;
                self.client.send(call, &fresh.identity).await
            }
            answer => answer,
        }
    }

    async fn upstream(&self, access: &RepoAccess) -> Result<GitUpstream, ForgeError> {
        let token = self.credentials.token(&self.client, &Scope::One(access.clone(), Purpose::Git)).await?;
        let pair = SecretString::from(format!("x-access-token:{}", token.identity.token.expose_secret()));
        let authorization = SecretString::from(format!("Basic {}", STANDARD.encode(pair.expose_secret())));
        let mut url = self.url.clone();
        let mut segments = url.path_segments_mut().expect("an http address has a path");
        let repo = token.renamed.as_ref().unwrap_or(&access.repo);
        segments.pop_if_empty().extend([repo.owner(), repo.name()]);
        drop(segments);
        Ok(GitUpstream { url, authorization: Some(authorization) })
    }
}

/// Credentials go to these addresses, so nobody in between may read along.
fn require_confidential(url: &Url) -> Result<(), SettingsError> {
    let is_loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback => Ok(()),
        _ => Err(SettingsError::Address { url: url.to_string() }),
    }
}

/// An answer that GitHub's documentation does not promise.
fn unexpected(what: &str, detail: &dyn fmt::Display) -> ForgeError {
    let detail = format!("the answer is not what GitHub documents: {detail}");
    ForgeError::Permanent { what: what.to_owned(), detail }
}

/// Reads an answer; not one with a secret in it, which the error could repeat.
fn parse<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, ForgeError> {
    serde_json::from_slice(body).map_err(|error| unexpected(what, &error))
}

impl Forge for GitHub {
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
        self.upstream(access).boxed()
    }

    fn permission<'a>(
        &'a self, access: &'a RepoAccess, user: &'a str,
    ) -> BoxFuture<'a, Result<Permission, ForgeError>> {
        people::permission(self, access, user).boxed()
    }

    fn pull_request<'a>(
        &'a self, access: &'a RepoAccess, number: u64,
    ) -> BoxFuture<'a, Result<PullRequestNow, ForgeError>> {
        pulls::one(self, access, number).boxed()
    }

    fn open_pull_requests<'a>(
        &'a self, access: &'a RepoAccess,
    ) -> BoxFuture<'a, Result<Vec<PullRequestNow>, ForgeError>> {
        pulls::open(self, access).boxed()
    }

    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepoAccess>, ForgeError>> {
        standing::repositories(self).boxed()
    }

    fn failed_deliveries(&self, since: i64) -> BoxFuture<'_, Result<Vec<FailedDelivery>, ForgeError>> {
        deliveries::failed(self, since).boxed()
    }

    fn redeliver(&self, id: u64) -> BoxFuture<'_, Result<(), ForgeError>> {
        deliveries::redeliver(self, id).boxed()
    }

    fn standing(&self) -> BoxFuture<'_, Result<ForgeStanding, ForgeError>> {
        standing::standing(self).boxed()
    }

    fn budgets(&self) -> Vec<(String, Budget)> {
        self.client.budgets.current(clock::now_ms())
    }

    fn runner_api(&self) -> Option<&dyn RunnerApi> {
        Some(self)
    }
}

impl RunnerApi for GitHub {
    fn mint_runner<'a>(
        &'a self, at: &'a RunnerAccess, new: &'a NewRunner,
    ) -> BoxFuture<'a, Result<MintedRunner, ForgeError>> {
        runners::mint(self, at, new).boxed()
    }

    fn remove_runner<'a>(&'a self, at: &'a RunnerAccess, id: u64) -> BoxFuture<'a, Result<(), ForgeError>> {
        runners::remove(self, at, id).boxed()
    }

    fn runners<'a>(&'a self, at: &'a RunnerAccess) -> BoxFuture<'a, Result<Vec<ListedRunner>, ForgeError>> {
        runners::list(self, at).boxed()
    }

    fn newest_runner<'a>(&'a self, at: &'a RunnerAccess) -> BoxFuture<'a, Result<Option<[u32; 3]>, ForgeError>> {
        runners::newest(self, at).boxed()
    }

    fn is_of_fork<'a>(&'a self, access: &'a RepoAccess, run: u64) -> BoxFuture<'a, Result<bool, ForgeError>> {
        runners::is_of_fork(self, access, run).boxed()
    }

    fn workflow_job<'a>(
        &'a self, access: &'a RepoAccess, job: u64,
    ) -> BoxFuture<'a, Result<WorkflowJobNow, ForgeError>> {
        runners::job(self, access, job).boxed()
    }

    fn unfinished_jobs<'a>(&'a self, access: &'a RepoAccess) -> BoxFuture<'a, Result<Vec<WorkflowJobNow>, ForgeError>> {
        runners::unfinished(self, access).boxed()
    }
}
