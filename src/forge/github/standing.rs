//! As whom Dayfly speaks to GitHub, what it may do, and where an App is installed.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, Method};
use jiff::fmt::rfc2822;
use octocrab::auth::AppAuth;
use secrecy::SecretString;
use serde::Deserialize;

use super::auth::{Credentials, Scope, send_as_app};
use super::budget::Payer;
use super::client::{Call, Client, Identity, JSON};
use super::{GitHub, parse};
use crate::forge::{ForgeError, ForgeStanding, RepoAccess, RepoName};

/// Entries of one page, as many as GitHub gives.
const PER_PAGE: usize = 100;
/// Installations that are looked at.
const MAX_INSTALLATIONS: usize = 1_000;
/// Repositories that are told, of all installations together.
const MAX_REPOSITORIES: usize = 5_000;
/// Largest accepted page, in bytes. A repository has about 8 KB.
const MAX_PAGE: usize = 4 * 1024 * 1024;
/// Largest accepted answer about the App or the account, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

#[derive(Deserialize)]
struct Installation {
    id: u64,
    /// Its owner, or GitHub, has switched it off: nothing can be asked in its name.
    #[serde(default)]
    suspended_at: Option<String>,
}

#[derive(Deserialize)]
struct RepositoryList {
    repositories: Vec<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
    /// Nothing can be written to it, a status neither.
    #[serde(default)]
    archived: bool,
    #[serde(default)]
    disabled: bool,
}

#[derive(Deserialize)]
struct AppAnswer {
    name: String,
    #[serde(default)]
    permissions: BTreeMap<String, String>,
    #[serde(default)]
    events: Vec<String>,
}

#[derive(Deserialize)]
struct UserAnswer {
    login: String,
}

pub(super) async fn repositories(github: &GitHub) -> Result<Vec<RepoAccess>, ForgeError> {
    let Some(app) = github.credentials.app() else { return Ok(Vec::new()) };
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for installation in installations(app, &github.client).await? {
        match add_repositories(github, installation, &mut found).await {
            Ok(()) => {}
            Err(error) if concerns_all(&error) => return Err(error),
            Err(error) => failed.push((installation, error)),
        }
        if found.len() >= MAX_REPOSITORIES {
            found.truncate(MAX_REPOSITORIES);
            break;
        }
    }
    told(found, failed)
}

/// What was found, or why that is nothing at all: "no repositories" would hide the reason.
fn told(found: Vec<RepoAccess>, failed: Vec<(u64, ForgeError)>) -> Result<Vec<RepoAccess>, ForgeError> {
    for (installation, error) in failed {
        if found.is_empty() {
            return Err(error);
        }
        tracing::warn!(installation, %error, "an installation of the App is left out");
    }
    Ok(found)
}

/// Whether the next installation would fail the same way. Refusals and budgets are of one installation.
fn concerns_all(error: &ForgeError) -> bool {
    matches!(error, ForgeError::Transient { .. })
}

/// Adds what can be reached by one installation, until there are [`MAX_REPOSITORIES`].
async fn add_repositories(github: &GitHub, installation: u64, found: &mut Vec<RepoAccess>) -> Result<(), ForgeError> {
    for page in 1..=MAX_REPOSITORIES.div_ceil(PER_PAGE) {
        let what = format!("listing the repositories of installation {installation}");
        let call = list(&github.client, what, &["installation", "repositories"], page);
        let answer = github.ask_within(&Scope::Names { installation }, &call).await?;
        let RepositoryList { repositories } = parse(&call.what, &answer.body)?;
        let is_last = repositories.len() < PER_PAGE;
        let usable = repositories.into_iter().filter(|repository| !repository.archived && !repository.disabled);
        let names = usable.filter_map(|repository| RepoName::parse(&repository.full_name).ok());
        found.extend(names.map(|repo| RepoAccess { repo, installation: Some(installation) }));
        if is_last || found.len() >= MAX_REPOSITORIES {
            break;
        }
    }
    Ok(())
}

async fn installations(app: &AppAuth, client: &Client) -> Result<Vec<u64>, ForgeError> {
    let mut found = Vec::new();
    for page in 1..=MAX_INSTALLATIONS.div_ceil(PER_PAGE) {
        let call = list(client, "listing the App's installations".to_owned(), &["app", "installations"], page);
        let answer = send_as_app(app, client, &call).await?;
        let installations: Vec<Installation> = parse(&call.what, &answer.body)?;
        let is_last = installations.len() < PER_PAGE;
        found.extend(installations.into_iter().filter(|one| one.suspended_at.is_none()).map(|one| one.id));
        if is_last {
            break;
        }
    }
    Ok(found)
}

pub(super) async fn standing(github: &GitHub) -> Result<ForgeStanding, ForgeError> {
    match &github.credentials {
        Credentials::Token(token) => standing_of_token(&github.client, token).await,
        Credentials::App { app, .. } => {
            let call = get(&github.client, "asking as which App Dayfly speaks", &["app"]);
            let answer = send_as_app(app, &github.client, &call).await?;
            let AppAnswer { name, permissions, events } = parse(&call.what, &answer.body)?;
            Ok(ForgeStanding {
                identity: format!("App `{}`", name.escape_debug()),
                permissions,
                events,
                repositories: repositories(github).await?,
                server_time: date(&answer.headers),
            })
        }
    }
}

async fn standing_of_token(client: &Client, token: &SecretString) -> Result<ForgeStanding, ForgeError> {
    let call = get(client, "asking whose token Dayfly has", &["user"]);
    let answer = client.send(&call, &Identity { token: token.clone(), payer: Payer::Token }).await?;
    let UserAnswer { login } = parse(&call.what, &answer.body)?;
    Ok(ForgeStanding {
        identity: format!("token of `{}`", login.escape_debug()),
        permissions: scopes(&answer.headers),
        events: Vec::new(),
        repositories: Vec::new(),
        server_time: date(&answer.headers),
    })
}

/// What a classic token may do. The newer kind tells nothing about itself.
fn scopes(headers: &HeaderMap) -> BTreeMap<String, String> {
    let scopes = headers.get("x-oauth-scopes").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let scopes = scopes.split(',').map(str::trim).filter(|scope| !scope.is_empty());
    scopes.map(|scope| (scope.to_owned(), "granted".to_owned())).collect()
}

/// The time at which the answer was written, in milliseconds since the epoch.
fn date(headers: &HeaderMap) -> Option<i64> {
    let date = headers.get("date")?.to_str().ok()?;
    Some(rfc2822::parse(date).ok()?.timestamp().as_millisecond())
}

fn list(client: &Client, what: String, path: &[&str], page: usize) -> Call {
    let mut url = client.url(path.iter().copied());
    url.query_pairs_mut().append_pair("per_page", &PER_PAGE.to_string()).append_pair("page", &page.to_string());
    Call { what, method: Method::GET, url, accept: JSON, body: None, limit: MAX_PAGE }
}

fn get(client: &Client, what: &str, path: &[&str]) -> Call {
    let url = client.url(path.iter().copied());
    Call { what: what.to_owned(), method: Method::GET, url, accept: JSON, body: None, limit: MAX_ANSWER }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refused() -> ForgeError {
        ForgeError::Refused { what: "listing".to_owned(), detail: "no".to_owned() }
    }

    #[test]
    fn one_installation_that_refuses_hides_no_other() {
        let one = vec![RepoAccess { repo: RepoName::parse("demo/hello").unwrap(), installation: Some(7) }];
        assert_eq!(told(one.clone(), vec![(8, refused())]).unwrap(), one);
        assert!(told(Vec::new(), vec![(8, refused())]).is_err());
        assert_eq!(told(Vec::new(), Vec::new()).unwrap(), []);
        assert!(!concerns_all(&refused()));
        assert!(concerns_all(&ForgeError::Transient { what: "listing".to_owned(), detail: "gone".to_owned() }));
    }
}
