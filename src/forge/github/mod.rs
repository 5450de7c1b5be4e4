//! GitHub, and GitHub Enterprise Server, as a [`Forge`].
//!
//! Every call has a time limit and a size limit, goes to one address, follows no redirect and is not repeated: the callers
//! own the schedule ([`fn@crate::forge::backoff`]). With an App, tokens are limited to one repository; with a plain token,
//! check runs are not possible and commit statuses are all that is shown.

mod auth;
mod classify;
mod client;
mod contents;
mod presentation;
mod publish;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use self::auth::{Credentials, Purpose};
use self::client::{Call, Client};
use super::{CommitSha, DirectoryEntry, Earlier, ExternalIds, Forge, ForgeError, GitUpstream, RepoAccess, Report};

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
    ///
    /// When GitHub refuses a token from memory, it may have been revoked, or the App may have got more permissions since: a
    /// new one gets one chance.
    async fn ask(&self, access: &RepoAccess, call: &Call) -> Result<Vec<u8>, ForgeError> {
        let token = self.credentials.token(&self.client, access, Purpose::Api).await?;
        match self.client.send(call, &bearer(&token.secret)).await {
            Err(ForgeError::Refused { .. }) if token.is_cached => {
                self.credentials.forget(access, Purpose::Api);
                let fresh = self.credentials.token(&self.client, access, Purpose::Api).await?;
                self.client.send(call, &bearer(&fresh.secret)).await
            }
            answer => answer,
        }
    }

    async fn upstream(&self, access: &RepoAccess) -> Result<GitUpstream, ForgeError> {
        let token = self.credentials.token(&self.client, access, Purpose::Git).await?;
        let pair = SecretString::from(format!("x-access-token:{}", token.secret.expose_secret()));
        let authorization = SecretString::from(format!("Basic {}", STANDARD.encode(pair.expose_secret())));
        let mut url = self.url.clone();
        let mut segments = url.path_segments_mut().expect("an http address has a path");
        segments.pop_if_empty().extend([access.repo.owner(), access.repo.name()]);
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

fn bearer(token: &SecretString) -> SecretString {
    SecretString::from(format!("Bearer {}", token.expose_secret()))
}

impl Forge for GitHub {
    fn has_commit<'a>(&'a self, access: &'a RepoAccess, sha: &'a CommitSha) -> BoxFuture<'a, Result<bool, ForgeError>> {
        contents::has_commit(self, access, sha).boxed()
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
}
