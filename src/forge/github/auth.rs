//! As whom Dayfly speaks to GitHub.
//!
//! With an App, each repository gets tokens of its own, with no more permissions than their purpose needs: a token that
//! leaks from the git proxy can read one repository. An App that was granted less than all purposes need is still good for
//! the others. Tokens are kept in memory until shortly before they end.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::Method;
use jiff::{SignedDuration, Timestamp};
use octocrab::auth::{AppAuth, EncodingKey};
use octocrab::models::AppId;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::budget::Payer;
use super::classify::PERMISSIONS_HINT;
use super::client::{Answer, Call, Client, Identity, JSON};
use super::{Auth, SettingsError};
use crate::forge::{ForgeError, RepoAccess, RepoName};

/// A token is not used during its last minutes, so that what starts with it can end with it: a long clone, say.
const SPARE_LIFETIME: SignedDuration = SignedDuration::from_mins(5);
/// Largest accepted answer with a token or an installation, in bytes. Both list permissions and little else.
const MAX_ANSWER: usize = 256 * 1024;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// Reading workflows, writing checks and statuses.
    Api,
    /// Looking at pull requests, and at what people may do.
    Review,
    /// Fetching with git, on behalf of a guest.
    Git,
    /// Looking at GitHub's own workflow jobs.
    Actions,
    /// Registering and removing runners of a repository.
    Runners,
}

impl Purpose {
    fn permissions(self) -> Value {
        match self {
            Self::Api => json!({"checks": "write", "contents": "read", "statuses": "write"}),
            Self::Review => json!({"metadata": "read", "pull_requests": "read"}),
            Self::Git => json!({"contents": "read"}),
            Self::Actions => json!({"actions": "read"}),
            Self::Runners => json!({"administration": "write"}),
        }
    }
}

/// What a token reaches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    One(RepoAccess, Purpose),
    /// The names of all repositories of an installation, and nothing in them.
    Names {
        installation: u64,
    },
    /// The runners of the organization that this repository is in.
    OrganizationRunners(RepoAccess),
}

impl Scope {
    fn request(&self, number: Option<u64>) -> Value {
        match (self, number) {
            (Self::One(_, purpose), Some(number)) => {
                json!({"repository_ids": [number], "permissions": purpose.permissions()})
            }
            (Self::One(access, purpose), None) => {
                json!({"repositories": [access.repo.name()], "permissions": purpose.permissions()})
            }
            (Self::Names { .. }, _) => json!({"permissions": {"metadata": "read"}}),
            (Self::OrganizationRunners(_), _) => {
                json!({"permissions": {"organization_self_hosted_runners": "write"}})
            }
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(access, _) => access.repo.fmt(out),
            Self::Names { installation } => write!(out, "installation {installation}"),
            Self::OrganizationRunners(access) => write!(out, "the runners of {}", access.repo.owner()),
        }
    }
}

/// A usable token, and whether it may have become unusable since it was made.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) identity: Identity,
    pub(super) is_cached: bool,
    /// What the repository is called by now, if not what it was asked for by.
    pub(super) renamed: Option<RepoName>,
}

pub(super) struct Minted {
    secret: SecretString,
    installation: u64,
    expires: Timestamp,
    renamed: Option<RepoName>,
}

impl Minted {
    fn identity(&self) -> Identity {
        Identity { token: self.secret.clone(), payer: Payer::Installation(self.installation) }
    }

    fn token(&self, is_cached: bool) -> Token {
        Token { identity: self.identity(), is_cached, renamed: self.renamed.clone() }
    }
}

/// The configured identity and the tokens that were made from it.
pub(super) enum Credentials {
    Token(SecretString),
    App { app: AppAuth, minted: Mutex<HashMap<Scope, Minted>> },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => out.write_str("Token"),
            Self::App { app, .. } => write!(out, "App({})", app.app_id),
        }
    }
}

impl Credentials {
    pub(super) fn new(auth: &Auth) -> Result<Self, SettingsError> {
        match auth {
            Auth::Token(token) => Ok(Self::Token(token.clone())),
            Auth::App { id, private_key } => {
                let invalid = |error: &dyn fmt::Display| SettingsError::PrivateKey { detail: error.to_string() };
                let key = EncodingKey::from_rsa_pem(private_key.expose_secret().as_bytes())
                    .map_err(|error| invalid(&error))?;
                let app = AppAuth { app_id: AppId(*id), key };
                // The key's numbers are looked at only when it signs: try it now, not at the first job.
                app.generate_bearer_token().map_err(|_| invalid(&"the key cannot sign"))?;
                Ok(Self::App { app, minted: Mutex::default() })
            }
        }
    }

    /// The App, unless Dayfly speaks by a plain token.
    pub(super) fn app(&self) -> Option<&AppAuth> {
        match self {
            Self::Token(_) => None,
            Self::App { app, .. } => Some(app),
        }
    }

    pub(super) fn app_id(&self) -> Option<u64> {
        self.app().map(|app| app.app_id.0)
    }

    /// A token for `scope`: the configured one, one made earlier, or a new one.
    pub(super) async fn token(&self, client: &Client, scope: &Scope) -> Result<Token, ForgeError> {
        let (app, minted) = match self {
            Self::Token(token) => {
                let identity = Identity { token: token.clone(), payer: Payer::Token };
                return Ok(Token { identity, is_cached: false, renamed: None });
            }
            Self::App { app, minted } => (app, minted),
        };
        let still_needed_at = Timestamp::now() + SPARE_LIFETIME;
        if let Some(earlier) = lock(minted).get(scope).filter(|token| token.expires > still_needed_at) {
            return Ok(earlier.token(true));
        }
        let fresh = mint(app, client, scope).await?;
        let token = fresh.token(false);
        let mut minted = lock(minted);
        minted.retain(|_, token| token.expires > still_needed_at);
        minted.insert(scope.clone(), fresh);
        Ok(token)
    }

    /// Drops an earlier token: GitHub refused it, or its permissions have changed since.
    pub(super) fn forget(&self, scope: &Scope) {
        if let Self::App { minted, .. } = self {
            lock(minted).remove(scope);
        }
    }
}

/// A panic elsewhere cannot leave the map half changed, so poisoning is no reason to stop.
fn lock(minted: &Mutex<HashMap<Scope, Minted>>) -> MutexGuard<'_, HashMap<Scope, Minted>> {
    minted.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: String,
    expires_at: String,
}

#[derive(Deserialize)]
struct InstallationAnswer {
    id: u64,
}

#[derive(Deserialize)]
struct RepositoryAnswer {
    full_name: String,
}

/// Where the App finds a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    installation: u64,
    /// The repository's, where its name is another by now.
    number: Option<u64>,
}

/// Makes a token. What a webhook said of the repository may be long ago: where that leads nowhere any more, GitHub is asked
/// anew, once.
async fn mint(app: &AppAuth, client: &Client, scope: &Scope) -> Result<Minted, ForgeError> {
    let (access, told) = match scope {
        Scope::Names { installation } => {
            return mint_at(app, client, scope, Place { installation: *installation, number: None }).await;
        }
        Scope::One(access, _) | Scope::OrganizationRunners(access) => (access, access.installation),
    };
    let place = match told {
        Some(installation) => Place { installation, number: None },
        None => find(app, client, access).await?,
    };
    match mint_at(app, client, scope, place).await {
        Err(error @ (ForgeError::NotFound { .. } | ForgeError::Permanent { .. })) if told.is_some() => {
            let now = find(app, client, access).await.ok().filter(|now| *now != place).ok_or(error)?;
            tracing::warn!(
                repo = %access.repo, told = place.installation, installation = now.installation, repository = now.number,
                "the App was installed anew, or the repository renamed, since the event"
            );
            mint_at(app, client, scope, now).await
        }
        minted => minted,
    }
}

async fn mint_at(app: &AppAuth, client: &Client, scope: &Scope, place: Place) -> Result<Minted, ForgeError> {
    let Place { installation, number } = place;
    let call = Call {
        what: format!("getting a token for {scope}"),
        method: Method::POST,
        url: client.url(["app", "installations", &installation.to_string(), "access_tokens"]),
        accept: JSON,
        body: Some(scope.request(number)),
        limit: MAX_ANSWER,
    };
    let TokenAnswer { token, expires_at } = ask_as_app(app, client, &call).await.map_err(|error| match error {
        // GitHub refuses permissions and repositories that the App does not have as invalid, not as forbidden.
        ForgeError::Permanent { what, detail } => {
            ForgeError::Permanent { what, detail: format!("{detail}\n  hint: {PERMISSIONS_HINT}") }
        }
        other => other,
    })?;
    let expires = expires_at.parse().map_err(|_| unexpected(&call, "the token's `expires_at` is not a time"))?;
    let mut minted = Minted { secret: SecretString::from(token), installation, expires, renamed: None };
    if let (Some(number), Scope::One(..)) = (number, scope) {
        minted.renamed = Some(name_of(client, number, &minted.identity()).await?);
    }
    Ok(minted)
}

/// What a repository is called now.
async fn name_of(client: &Client, number: u64, identity: &Identity) -> Result<RepoName, ForgeError> {
    let call = Call {
        what: format!("asking for the name of repository {number}"),
        method: Method::GET,
        url: client.url(["repositories", &number.to_string()]),
        accept: JSON,
        body: None,
        limit: MAX_ANSWER,
    };
    let RepositoryAnswer { full_name } = read(&call, &client.send(&call, identity).await?)?;
    RepoName::parse(&full_name).map_err(|error| unexpected(&call, &error))
}

/// Where the App finds the repository now: calls that no webhook started do not know that.
async fn find(app: &AppAuth, client: &Client, access: &RepoAccess) -> Result<Place, ForgeError> {
    let call = Call {
        what: format!("finding the App's installation for {}", access.repo),
        method: Method::GET,
        url: client.url(["repos", access.repo.owner(), access.repo.name(), "installation"]),
        accept: JSON,
        body: None,
        limit: MAX_ANSWER,
    };
    let answer = send_as_app(app, client, &call).await?;
    let InstallationAnswer { id } = read(&call, &answer)?;
    Ok(Place { installation: id, number: answer.renamed })
}

async fn ask_as_app<T: for<'de> Deserialize<'de>>(
    app: &AppAuth, client: &Client, call: &Call,
) -> Result<T, ForgeError> {
    read(call, &send_as_app(app, client, call).await?)
}

fn read<T: for<'de> Deserialize<'de>>(call: &Call, answer: &Answer) -> Result<T, ForgeError> {
    // The error of the JSON reader could repeat the token.
    serde_json::from_slice(&answer.body).map_err(|_| unexpected(call, "the answer is not what GitHub documents"))
}

/// One call in the name of the App itself, which only some addresses accept.
pub(super) async fn send_as_app(app: &AppAuth, client: &Client, call: &Call) -> Result<Answer, ForgeError> {
    let jwt = app.generate_bearer_token().map_err(|_| unexpected(call, "the App's private key cannot sign"))?;
    client.send(call, &Identity { token: SecretString::from(jwt), payer: Payer::App }).await
}

fn unexpected(call: &Call, detail: &str) -> ForgeError {
    ForgeError::Permanent { what: call.what.clone(), detail: detail.to_owned() }
}
