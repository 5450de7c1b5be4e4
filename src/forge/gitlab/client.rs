//! One HTTP call to GitLab: time-limited, size-limited, never retried, its failure classified.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use futures::StreamExt;
use reqwest::{Certificate, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::{Host, Url};

use crate::config::read_certificates;
use crate::forge::{Budget, ForgeError, RepoName};
use crate::net::upstream::causes;

/// How this program names itself.
const AGENT: &str = concat!("dayfly/", env!("CARGO_PKG_VERSION"));

/// Time for one call: connecting and the complete answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries the token, of a person, a project or a group.
const TOKEN: HeaderName = HeaderName::from_static("private-token");

/// Largest answer that explains a failure, in bytes.
const MAX_FAILURE: usize = 64 * 1024;

/// Characters of such an explanation that an error repeats.
const MAX_MESSAGE: usize = 300;

/// Bounds of a wait that GitLab asks for, and the wait when it names none.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
const UNNAMED_WAIT: Duration = Duration::from_secs(60);

/// What to do about a refusal.
const SCOPE_HINT: &str = "the token needs the scope `api`, and its owner the role Developer or more in the project";

/// Settings with which no call could ever succeed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("`{url}` is not an https address\n  hint: http, which shows tokens to the network, is for loopback only")]
    Address { url: String },
    #[error("the token has characters that no HTTP header can carry")]
    Token,
    #[error("the certificates in `{path}` {detail}")]
    Certificates { path: String, detail: String },
    #[error("TLS cannot be set up: {detail}\n  hint: install the host's CA certificates (package `ca-certificates`)")]
    Tls { detail: String },
}

/// What to ask.
#[derive(Debug)]
pub(super) struct Call {
    /// For errors: what is being done, such as ``reading `x` ``.
    pub(super) what: String,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) body: Option<Value>,
    /// Largest accepted answer, in bytes.
    pub(super) limit: usize,
}

impl Call {
    /// A question.
    pub(super) fn get(what: impl Into<String>, url: Url, limit: usize) -> Self {
        Self { what: what.into(), method: Method::GET, url, body: None, limit }
    }
}

/// An answer of success.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// The connections to one GitLab.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    api: Url,
    budget: Mutex<Option<Budget>>,
}

impl Client {
    pub(super) fn new(url: &Url, ca_bundle: Option<&Path>, token: &SecretString) -> Result<Self, SettingsError> {
        require_confidential(url)?;
        let mut value = HeaderValue::from_str(token.expose_secret()).map_err(|_| SettingsError::Token)?;
        value.set_sensitive(true);
        // Fails only if a provider is installed already, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut builder = reqwest::Client::builder()
            .user_agent(AGENT)
            .default_headers(HeaderMap::from_iter([(TOKEN, value)]))
            .redirect(redirect::Policy::none())
            .timeout(CALL_TIMEOUT);
        if url.scheme() == "http" {
            // Whatever is on the way would read the token.
            builder = builder.no_proxy();
        }
        for certificate in ca_bundle.map(certificates).transpose()?.into_iter().flatten() {
            builder = builder.add_root_certificate(certificate);
        }
        let http = builder.build().map_err(|error| SettingsError::Tls { detail: causes(&error) })?;
        let api = url.join("api/v4/").map_err(|_| SettingsError::Address { url: url.to_string() })?;
        Ok(Self { http, api, budget: Mutex::default() })
    }

    /// The API's address of a path. Segments are escaped, so that none of them can leave its place; callers refuse `.` and
    /// `..`, which no escaping makes harmless.
    pub(super) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.api.clone();
        url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(segments);
        url
    }

    /// The address of something of a project.
    pub(super) fn of_project<'a>(&self, project: &'a RepoName, segments: impl IntoIterator<Item = &'a str>) -> Url {
        self.url(["projects", project.as_str()].into_iter().chain(segments))
    }

    /// What the last answer said is left, unless its window has ended at `now`.
    pub(super) fn budget(&self, now: i64) -> Option<Budget> {
        let budget = *self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.filter(|budget| budget.resets_at > now)
    }

    /// Sends `call`, and reads its answer as JSON.
    pub(super) async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, ForgeError> {
        parse(&call.what, &self.send(call).await?.body)
    }

    /// Sends `call`.
    pub(super) async fn send(&self, call: &Call) -> Result<Answer, ForgeError> {
        let transient = |error: reqwest::Error| {
            let detail = if error.is_timeout() { "no complete answer in time".to_owned() } else { causes(&error) };
            ForgeError::Transient { what: call.what.clone(), detail }
        };
        let mut request = self.http.request(call.method.clone(), call.url.clone());
        if let Some(body) = &call.body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| transient(error.without_url()))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        if let Some(budget) = read_budget(&headers) {
            *self.budget.lock().unwrap_or_else(PoisonError::into_inner) = Some(budget);
        }
        let limit = if status.is_success() { call.limit } else { MAX_FAILURE };
        let (mut body, mut chunks) = (Vec::new(), answer.bytes_stream());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| transient(error.without_url()))?;
            if body.len() + chunk.len() > limit {
                let detail = format!("the answer is larger than {limit} bytes");
                // A refusal says enough without its explanation.
                return Err(if status.is_success() {
                    ForgeError::Permanent { what: call.what.clone(), detail }
                } else {
                    classify(&call.what, status, &headers, b"")
                });
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            Ok(Answer { headers, body })
        } else {
            Err(classify(&call.what, status, &headers, &body))
        }
    }
}

/// Credentials go to this address, so nobody in between may read along.
fn require_confidential(url: &Url) -> Result<(), SettingsError> {
    let is_loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    };
    if url.scheme() == "https" || (url.scheme() == "http" && is_loopback) {
        Ok(())
    } else {
        Err(SettingsError::Address { url: url.to_string() })
    }
}

/// The certificates of a bundle in PEM form.
///
/// # Errors
/// It cannot be read, or has none.
pub fn certificates(path: &Path) -> Result<Vec<Certificate>, SettingsError> {
    let unusable = |detail: String| SettingsError::Certificates { path: path.display().to_string(), detail };
    let text = read_certificates(path).map_err(unusable)?;
    Certificate::from_pem_bundle(text.as_bytes())
        .map_err(|error| unusable(format!("are of no use: {}", causes(&error))))
}

/// Classifies an answer that is not a success.
fn classify(what: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ForgeError {
    let what = what.to_owned();
    let message = message(body);
    let detail = if message.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {message}") };
    match status.as_u16() {
        429 => ForgeError::RateLimited { what, wait: wait(headers) },
        401 | 403 => ForgeError::Refused { what, detail: format!("{detail}\n  hint: {SCOPE_HINT}") },
        404 | 410 => ForgeError::NotFound { what },
        // 409: somebody else holds a lock for a moment.
        408 | 409 | 500..=599 => ForgeError::Transient { what, detail },
        300..=399 => ForgeError::Permanent {
            what,
            detail: format!(
                "{detail}\n  hint: the project was renamed or moved; its new path comes with its next webhook"
            ),
        },
        _ => ForgeError::Permanent { what, detail },
    }
}

fn wait(headers: &HeaderMap) -> Duration {
    number(headers, "retry-after").map_or(UNNAMED_WAIT, Duration::from_secs).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}

fn read_budget(headers: &HeaderMap) -> Option<Budget> {
    let seconds = i64::try_from(number(headers, "ratelimit-reset")?).ok()?;
    Some(Budget {
        limit: number(headers, "ratelimit-limit")?,
        remaining: number(headers, "ratelimit-remaining")?,
        resets_at: seconds.checked_mul(1000)?,
    })
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// GitLab's explanation in one bounded line. It is a text, or what is wrong with each field.
fn message(body: &[u8]) -> String {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return String::new() };
    let told = [&answer["message"], &answer["error"]].into_iter().find(|told| !told.is_null());
    let text = told.map(|told| told.as_str().map_or_else(|| told.to_string(), str::to_owned)).unwrap_or_default();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect()
}

/// Reads an answer.
pub(super) fn parse<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, ForgeError> {
    serde_json::from_slice(body).map_err(|error| unexpected(what, &error.to_string()))
}

/// An answer that GitLab's documentation does not promise.
pub(super) fn unexpected(what: &str, detail: &str) -> ForgeError {
    let detail = format!("the answer is not what GitLab documents: {detail}");
    ForgeError::Permanent { what: what.to_owned(), detail }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn answers_are_told_apart_by_what_to_do_about_them() {
        let kind = |status| match classify("x", StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), b"") {
            ForgeError::Transient { .. } => "transient",
            ForgeError::RateLimited { .. } => "rate limited",
            ForgeError::NotFound { .. } => "not found",
            ForgeError::Refused { .. } => "refused",
            ForgeError::Permanent { .. } => "permanent",
        };
        let told = [301, 400, 401, 403, 404, 409, 422, 429, 500, 503].map(kind);
        assert_eq!(
            told,
            [
                "permanent",
                "permanent",
                "refused",
                "refused",
                "not found",
                "transient",
                "permanent",
                "rate limited",
                "transient",
                "transient"
            ]
        );
    }

    #[test]
    fn waits_and_budgets_come_from_the_headers_and_are_bounded() {
        let waits = [("7", 7), ("0", 1), ("999999", 3600), ("soon", 60)];
        for (value, seconds) in waits {
            assert_eq!(wait(&headers(&[("retry-after", value)])).as_secs(), seconds);
        }
        let full = headers(&[("ratelimit-limit", "2000"), ("ratelimit-remaining", "9"), ("ratelimit-reset", "1700")]);
        assert_eq!(read_budget(&full), Some(Budget { limit: 2000, remaining: 9, resets_at: 1_700_000 }));
        assert_eq!(read_budget(&headers(&[("ratelimit-limit", "2000"), ("ratelimit-reset", "1700")])), None);
    }

    #[test]
    fn explanations_are_one_bounded_line() {
        assert_eq!(message(br#"{"message": "404 Commit\nNot Found"}"#), "404 Commit Not Found");
        assert_eq!(message(br#"{"message": {"name": ["is too long"]}}"#), r#"{"name":["is too long"]}"#);
        assert_eq!(message(br#"{"error": "state is missing"}"#), "state is missing");
        assert_eq!(message(b"<html>"), "");
        assert_eq!(message(format!("{{\"message\": \"{}\"}}", "x".repeat(999)).as_bytes()).len(), MAX_MESSAGE);
    }

    #[test]
    fn a_token_goes_nowhere_in_the_clear_and_no_project_leaves_its_place() {
        let new = |url: &str| Client::new(&url.parse().unwrap(), None, &SecretString::from("glpat-x"));
        assert!(matches!(new("http://gitlab.example.org/"), Err(SettingsError::Address { .. })));
        let below = new("http://127.0.0.1:1/git/").unwrap();
        let project = RepoName::parse_path("acme/tools/app").unwrap();
        let url = below.of_project(&project, ["repository", "branches", "a/../b"]);
        assert_eq!(url.path(), "/git/api/v4/projects/acme%2Ftools%2Fapp/repository/branches/a%2F..%2Fb");
        let bad = Client::new(&"https://gitlab.example.org/".parse().unwrap(), None, &SecretString::from("a\nb"));
        assert!(matches!(bad, Err(SettingsError::Token)));
    }
}
