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
use crate::forge::{ForgeError, RepoAccess};

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
}

impl Purpose {
    fn permissions(self) -> Value {
        match self {
            Self::Api => json!({"checks": "write", "contents": "read", "statuses": "write"}),
            Self::Review => json!({"metadata": "read", "pull_requests": "read"}),
            Self::Git => json!({"contents": "read"}),
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
}

impl Scope {
    fn request(&self) -> Value {
        match self {
            Self::One(access, purpose) => {
                json!({"repositories": [access.repo.name()], "permissions": purpose.permissions()})
            }
            Self::Names { .. } => json!({"permissions": {"metadata": "read"}}),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(access, _) => access.repo.fmt(out),
            Self::Names { installation } => write!(out, "installation {installation}"),
        }
    }
}

/// A usable token, and whether it may have become unusable since it was made.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) identity: Identity,
    pub(super) is_cached: bool,
}

pub(super) struct Minted {
    secret: SecretString,
    installation: u64,
    expires: Timestamp,
}

impl Minted {
    fn identity(&self) -> Identity {
        Identity { token: self.secret.clone(), payer: Payer::Installation(self.installation) }
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
                return Ok(Token { identity, is_cached: false });
            }
            Self::App { app, minted } => (app, minted),
        };
        let still_needed_at = Timestamp::now() + SPARE_LIFETIME;
        if let Some(earlier) = lock(minted).get(scope).filter(|token| token.expires > still_needed_at) {
            return Ok(Token { identity: earlier.identity(), is_cached: true });
        }
        let fresh = mint(app, client, scope).await?;
        let identity = fresh.identity();
        let mut minted = lock(minted);
        minted.retain(|_, token| token.expires > still_needed_at);
        minted.insert(scope.clone(), fresh);
        Ok(Token { identity, is_cached: false })
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

async fn mint(app: &AppAuth, client: &Client, scope: &Scope) -> Result<Minted, ForgeError> {
    let installation = match scope {
        Scope::Names { installation } => *installation,
        Scope::One(RepoAccess { installation: Some(installation), .. }, _) => *installation,
        Scope::One(access, _) => find_installation(app, client, access).await?,
    };
    let call = Call {
        what: format!("getting a token for {scope}"),
        method: Method::POST,
        url: client.url(["app", "installations", &installation.to_string(), "access_tokens"]),
        accept: JSON,
        body: Some(scope.request()),
        limit: MAX_ANSWER,
    };
    let TokenAnswer { token, expires_at } = ask_as_app(app, client, &call).await.map_err(|error| match error {
        // GitHub refuses permissions and repositories that the App does not have as invalid, not as forbidden.
        ForgeError::Permanent { what, detail } => {
            ForgeError::Permanent { what, detail: format!("{detail}\n  hint: {PERMISSIONS_HINT}") }
        }
        other => other,
    })?;
    let expires = expires_at.parse().map_err(|_| ForgeError::Permanent {
        what: call.what,
        detail: "the token's `expires_at` is not a time".to_owned(),
    })?;
    Ok(Minted { secret: SecretString::from(token), installation, expires })
}

/// Calls that no webhook started do not know the installation.
async fn find_installation(app: &AppAuth, client: &Client, access: &RepoAccess) -> Result<u64, ForgeError> {
    let call = Call {
        what: format!("finding the App's installation for {}", access.repo),
        method: Method::GET,
        url: client.url(["repos", access.repo.owner(), access.repo.name(), "installation"]),
        accept: JSON,
        body: None,
        limit: MAX_ANSWER,
    };
    ask_as_app(app, client, &call).await.map(|InstallationAnswer { id }| id)
}

async fn ask_as_app<T: for<'de> Deserialize<'de>>(
    app: &AppAuth, client: &Client, call: &Call,
) -> Result<T, ForgeError> {
    let answer = send_as_app(app, client, call).await?;
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
