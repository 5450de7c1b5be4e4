//! Who may do what: the App by its signed tokens, its installation by minted ones, a person by a plain one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use octocrab::jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::server::ApiError;
use super::state::{Grant, Shared};

const APP_PUBLIC_KEY: &[u8] = include_bytes!("app-public-key.pem");

/// How far into the future an App's token may reach.
const LONGEST_JWT: u64 = 10 * 60;

/// How long a minted token is good for.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// What the App was granted when it was installed; tokens can have less.
const INSTALLED_PERMISSIONS: [(&str, &str); 8] = [
    ("actions", "read"),
    ("administration", "write"),
    ("checks", "write"),
    ("contents", "read"),
    ("metadata", "read"),
    ("organization_self_hosted_runners", "write"),
    ("pull_requests", "read"),
    ("statuses", "write"),
];

/// As GitHub's answers show it.
pub fn installed_permissions(shared: &Shared) -> BTreeMap<&'static str, &'static str> {
    INSTALLED_PERMISSIONS.into_iter().filter(|(name, _)| !shared.options.lacks.contains(name)).collect()
}

/// A token that nobody guesses.
pub fn random_token(prefix: &str) -> String {
    let mut bytes = [0u8; 20];
    getrandom::fill(&mut bytes).expect("the operating system has a random source");
    format!("{prefix}{}", hex::encode(bytes))
}

/// Who sent a request.
#[derive(Debug)]
pub enum Caller {
    Person,
    Installation(Grant),
}

impl Caller {
    /// By the `Authorization` header of an API request.
    pub fn of_request(shared: &Shared, headers: &HeaderMap) -> Result<Self, ApiError> {
        Self::of_token(shared, bearer(headers)?)
    }

    pub fn of_token(shared: &Shared, token: &str) -> Result<Self, ApiError> {
        if token == shared.plain_token {
            return Ok(Self::Person);
        }
        match shared.state().tokens.get(token) {
            Some(grant) if grant.expires_at > SystemTime::now() => Ok(Self::Installation(grant.clone())),
            _ => Err(ApiError::new(StatusCode::UNAUTHORIZED, "Bad credentials")),
        }
    }

    /// Whether `repository` is within the token's reach, and `permission` at `level` (`read` or `write`).
    pub fn require(&self, repository: &str, permission: &str, level: &str) -> Result<(), ApiError> {
        let Self::Installation(grant) = self else { return Ok(()) };
        let name = repository.split_once('/').map_or(repository, |(_, name)| name);
        if grant.repositories.as_ref().is_some_and(|names| names.iter().all(|granted| granted != name)) {
            return Err(ApiError::not_found());
        }
        match grant.permissions.get(permission).map(String::as_str) {
            Some("write") => Ok(()),
            Some(granted) if granted == level => Ok(()),
            _ => Err(ApiError::new(StatusCode::FORBIDDEN, "Resource not accessible by integration")),
        }
    }

    /// Whether it may do that in the whole organization.
    pub fn require_in_organization(&self, permission: &str) -> Result<(), ApiError> {
        match self {
            Self::Person => Ok(()),
            Self::Installation(grant) if grant.permissions.get(permission).is_some_and(|level| level == "write") => {
                Ok(())
            }
            Self::Installation(_) => {
                Err(ApiError::new(StatusCode::FORBIDDEN, "Resource not accessible by integration"))
            }
        }
    }

    /// Check runs belong to Apps.
    pub fn require_app(&self) -> Result<(), ApiError> {
        match self {
            Self::Installation(_) => Ok(()),
            Self::Person => Err(ApiError::new(StatusCode::FORBIDDEN, "You must authenticate via a GitHub App.")),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let value = headers.get("authorization").and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.strip_prefix("Bearer ").or(value.strip_prefix("token ")))
        .ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "Requires authentication"))
}

#[derive(Deserialize)]
struct Claims {
    /// A number or a text: both are in use.
    iss: Value,
    iat: u64,
    exp: u64,
}

/// Accepts only what the App itself signed, for at most ten minutes.
pub fn require_app_jwt(shared: &Shared, headers: &HeaderMap) -> Result<(), ApiError> {
    let refused = |why: &str| ApiError::new(StatusCode::UNAUTHORIZED, why);
    let key = DecodingKey::from_rsa_pem(APP_PUBLIC_KEY).expect("the file beside this one is a public key");
    let mut validation = Validation::new(Algorithm::RS256);
    validation.leeway = 0;
    let claims = decode::<Claims>(bearer(headers)?, &key, &validation)
        .map_err(|_| refused("A JSON web token could not be decoded"))?
        .claims;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let issuer = claims.iss.as_u64().or_else(|| claims.iss.as_str()?.parse().ok());
    if issuer != Some(shared.options.app_id) {
        return Err(refused("'Issuer' claim ('iss') must be the App's id"));
    }
    if claims.iat > now {
        return Err(refused("'Issued at' claim ('iat') must be in the past"));
    }
    if claims.exp > now + LONGEST_JWT {
        return Err(refused("'Expiration time' claim ('exp') is too far in the future"));
    }
    Ok(())
}

/// `GET /repos/OWNER/NAME/installation`
pub async fn find_installation(
    State(shared): State<Arc<Shared>>, Path((owner, name)): Path<(String, String)>, headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    require_app_jwt(&shared, &headers)?;
    if shared.state().repository(&format!("{owner}/{name}")).is_none() {
        return Err(ApiError::not_found());
    }
    Ok(Json(json!({"id": shared.options.installation, "app_id": shared.options.app_id, "account": {"login": owner}})))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenRequest {
    repositories: Option<Vec<String>>,
    repository_ids: Option<Vec<u64>>,
    permissions: Option<BTreeMap<String, String>>,
}

/// `POST /app/installations/ID/access_tokens`
pub async fn mint(
    State(shared): State<Arc<Shared>>, Path(installation): Path<u64>, headers: HeaderMap,
    Json(mut asked): Json<TokenRequest>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    require_app_jwt(&shared, &headers)?;
    if installation != shared.options.installation {
        return Err(ApiError::not_found());
    }
    let given = installed_permissions(&shared);
    let mut state = shared.state();
    if let Some(ids) = asked.repository_ids.take() {
        let named = |id: &u64| state.repositories.iter().find(|found| found.id == *id);
        let short = |id| {
            named(id).map_or_else(String::new, |found| found.to_json()["name"].as_str().unwrap_or_default().to_owned())
        };
        asked.repositories = Some(ids.iter().map(short).collect());
    }
    let exists = |name: &String| state.repositories.iter().any(|found| found.name.ends_with(&format!("/{name}")));
    if !asked.repositories.iter().flatten().all(exists) {
        return Err(ApiError::invalid("There is at least one repository that does not exist or is not accessible"));
    }
    let granted: BTreeMap<String, String> =
        given.into_iter().map(|(name, level)| (name.into(), level.into())).collect();
    let mut permissions = asked.permissions.unwrap_or_else(|| granted.clone());
    let is_within = |(name, level): (&String, &String)| {
        granted.get(name).is_some_and(|granted| granted == level || granted == "write")
    };
    if !permissions.iter().all(is_within) {
        return Err(ApiError::invalid("The permissions requested are not granted to this installation."));
    }
    // Every token has it, asked for or not.
    permissions.insert("metadata".to_owned(), "read".to_owned());
    let expires_at = SystemTime::now() + TOKEN_LIFETIME;
    let token = random_token("ghs_");
    let answer = json!({
        "token": token,
        "expires_at": Timestamp::try_from(expires_at).map(|at| at.to_string()).unwrap_or_default(),
        "permissions": permissions,
        "repository_selection": if asked.repositories.is_some() { "selected" } else { "all" },
    });
    state.tokens.insert(token, Grant { repositories: asked.repositories, permissions, expires_at });
    Ok((StatusCode::CREATED, Json(answer)))
}
