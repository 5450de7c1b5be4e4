//! One GitLab over HTTP, as its runners speak to it. Every call is bounded in time and size. What is worth another try is
//! told apart from what is not; only transfers of artifacts are repeated here, all else by whoever asked.
//!
//! Tokens are in headers, and in bodies where the protocol has them there; never in addresses, errors or logs.

mod artifacts;
mod calls;

use std::path::Path;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use futures::StreamExt as _;
use reqwest::{Certificate, Response};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::clock;
use crate::config::read_certificates;
use crate::net::upstream::{Upstream, causes};

pub use artifacts::{ArtifactParams, Fetched};
pub use calls::{Asked, Output, Reply, RunnerInfo, Update};

/// How this program names itself.
const AGENT: &str = concat!("dayfly/", env!("CARGO_PKG_VERSION"));

/// Whose token a header carries.
const JOB_TOKEN: HeaderName = HeaderName::from_static("job-token");

/// Largest answer that explains a refusal, in bytes.
const MAX_REFUSAL: usize = 64 << 10;

/// Characters of such an explanation that are shown.
const SHOWN: usize = 300;

/// A GitLab that cannot be spoken to at all, as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("the certificates in `{path}` are of no use: {detail}")]
    Certificates { path: String, detail: String },
    #[error("no TLS: {0}")]
    Tls(#[from] reqwest::Error),
}

/// A call that did not do what it was for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// GitLab was not reached, did not answer in time, or said that it cannot now.
    #[error("{what}: {detail}")]
    Transient {
        what: String,
        detail: String,
        /// How long GitLab wants to be left alone, if it said so.
        retry_after: Option<Duration>,
    },
    /// 401 or 403: the token is not good for this, or no longer.
    #[error("{what}: GitLab refuses it ({status}){detail}")]
    Forbidden { what: String, status: u16, detail: String },
    /// More bytes than GitLab takes, or than are taken from it.
    #[error("{what}: {detail}")]
    TooLarge { what: String, detail: String },
    /// Any other answer, and what this host itself could not do.
    #[error("{what}: {detail}")]
    Failed { what: String, detail: String },
}

impl ClientError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }

    /// How long GitLab wants to be left alone, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Transient { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    fn transient(what: &str, detail: impl Into<String>) -> Self {
        Self::Transient { what: what.to_owned(), detail: detail.into(), retry_after: None }
    }

    fn failed(what: &str, detail: impl Into<String>) -> Self {
        Self::Failed { what: what.to_owned(), detail: detail.into() }
    }
}

/// One GitLab. A clone shares its connections.
#[derive(Debug, Clone)]
pub struct Client {
    upstream: Upstream,
    url: Url,
    api: Url,
}

impl Client {
    /// The GitLab at `url`, which may have a path, trusted by the host's roots and those of `ca_bundle`.
    ///
    /// # Errors
    /// A bundle without usable certificates; a host without trust roots.
    pub fn new(url: &Url, ca_bundle: Option<&Path>) -> Result<Self, SettingsError> {
        let certificates = match ca_bundle {
            Some(path) => certificates_of(path)?,
            None => Vec::new(),
        };
        let trusting = |builder: reqwest::ClientBuilder| {
            certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate)
        };
        let upstream = Upstream::new("GitLab", AGENT, trusting)?;
        let api = below(url, ["api", "v4"]);
        Ok(Self { upstream, url: url.clone(), api })
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    fn endpoint<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        below(&self.api, segments)
    }
}

fn certificates_of(path: &Path) -> Result<Vec<Certificate>, SettingsError> {
    let unusable = |detail: String| SettingsError::Certificates { path: path.display().to_string(), detail };
    let text = read_certificates(path).map_err(unusable)?;
    Certificate::from_pem_bundle(text.as_bytes()).map_err(|error| unusable(causes(&error)))
}

fn below<'a>(url: &Url, segments: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = url.clone();
    url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(segments);
    url
}

/// A header of its own with a token.
fn token_header(name: HeaderName, token: &SecretString) -> Result<HeaderMap, ClientError> {
    let mut value = HeaderValue::from_str(token.expose_secret())
        .map_err(|_| ClientError::failed("the token", "has characters that no HTTP header can carry"))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(name, value)]))
}

/// The failure to send something, or to read its answer.
fn broken(what: &str, error: reqwest::Error) -> ClientError {
    let detail = if error.is_timeout() { "no answer in time".to_owned() } else { causes(&error.without_url()) };
    ClientError::transient(what, detail)
}

/// The whole body of an answer.
async fn body(what: &str, answer: Response, limit: usize) -> Result<Vec<u8>, ClientError> {
    let (mut body, mut chunks) = (Vec::new(), answer.bytes_stream());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| broken(what, error))?;
        if body.len() + chunk.len() > limit {
            let detail = format!("the answer has more than {limit} bytes");
            return Err(ClientError::TooLarge { what: what.to_owned(), detail });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What an answer means that is none of those that a call expects.
async fn refusal(what: &str, answer: Response, secret: &SecretString) -> ClientError {
    let status = answer.status();
    let retry_after = calls::retry_after(status, answer.headers(), clock::now_ms());
    let said = body(what, answer, MAX_REFUSAL).await.unwrap_or_default();
    let said = explanation(&said, secret);
    let detail = if said.is_empty() { String::new() } else { format!(": {said}") };
    let what = what.to_owned();
    match status.as_u16() {
        401 | 403 => ClientError::Forbidden { what, status: status.as_u16(), detail },
        413 => ClientError::TooLarge { what, detail: format!("GitLab says that it is too large (413){detail}") },
        _ if may_pass(status) => {
            ClientError::Transient { what, detail: format!("GitLab answers {status}{detail}"), retry_after }
        }
        _ => ClientError::Failed { what, detail: format!("GitLab answers {status}{detail}") },
    }
}

/// Whether an answer is about now rather than about what was asked.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// What GitLab says in the body of a refusal, on one line; nothing where it is a page, or echoes the token.
fn explanation(body: &[u8], secret: &SecretString) -> String {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let said = [&document["message"], &document["error"]].into_iter().find_map(|value| value.as_str());
    let said = said.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let secret = secret.expose_secret();
    if !secret.is_empty() && said.contains(secret) {
        return String::new();
    }
    said.chars().filter(|letter| !letter.is_control()).take(SHOWN).collect()
}
