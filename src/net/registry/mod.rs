//! Package registries, read for guests: plain HTTP from the guest, TLS and the host's credential to the registry.
//!
//! As for git, the guest speaks plain HTTP to a loopback port, over streams that the caller hands in. A registry is at
//! `/NAME/` there. Invariants:
//!
//! - A registry sees only reads of what is below its address, at addresses that the host composed.
//! - The credential never enters the guest: neither it nor anything by which the registry asks for one is passed back, what
//!   the guest sends to show itself is dropped, and redirects are followed by the host, without the credential where they
//!   leave the registry.
//! - Both directions are bounded in bytes and time, and every decision is recorded for the job's log.

pub mod admission;
pub mod cargo;
mod credential;
pub mod rewrite;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, RETRY_AFTER,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use futures::{StreamExt as _, TryStreamExt as _};
use hyper::body::Incoming;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use url::Url;

use self::admission::{Ask, Refusal};
use super::decisions::{Decisions, Record, Verdict};
use super::http::{self, Failure, one_line};
use super::transfer::{self, Budget};
use super::upstream::{Question, Upstream};
use crate::config::{self, RegistryCredential, RegistryKind};
use crate::forge::RepoName;

/// The guest's loopback port of the registries.
pub const PORT: u16 = 3129;

/// How registries see who asks.
const AGENT: &str = concat!("dayfly/", env!("CARGO_PKG_VERSION"));

/// Requests of one VM that are under way at registries; more wait.
const MAX_PARALLEL: usize = 32;

/// Largest document in which addresses are rewritten, in bytes. The largest of npm's have some tens of megabytes.
const MAX_DOCUMENT: u64 = 64 << 20;

/// What documents of one VM take at a time until it has read them, in units of memory; others wait for that.
const DOCUMENT_UNITS: u32 = (256 << 20) / UNIT;
const UNIT: u32 = 64 << 10;

/// Headers of a request that registries get.
const PASSED_ON: [HeaderName; 5] = [ACCEPT, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE];

/// Headers of an answer that guests get.
const PASSED_BACK: [HeaderName; 8] =
    [ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, RETRY_AFTER];

/// Limits of one VM's reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryLimits {
    /// Requests that are passed on.
    pub requests: u64,
    /// Bytes of all answers together.
    pub response_bytes: u64,
    /// Time without a byte.
    pub idle: Duration,
    /// Time from a request to the head of its answer, redirects included.
    pub answer: Duration,
}

impl Default for RegistryLimits {
    fn default() -> Self {
        Self {
            requests: 200_000,
            response_bytes: 64 << 30,
            idle: Duration::from_secs(120),
            answer: Duration::from_secs(120),
        }
    }
}

/// A registry and how the host shows itself to it.
#[derive(Debug)]
struct Registry {
    settings: config::Registry,
    credential: Option<(HeaderName, HeaderValue)>,
    upstream: Upstream,
    /// Cargo: where the registry said that packages are.
    downloads: Mutex<Option<String>>,
}

/// The registries of a configuration. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Registries(Arc<[Arc<Registry>]>);

impl Registries {
    /// Registries with their credentials, in the same order.
    ///
    /// # Errors
    /// Where the host has no usable trust roots.
    pub fn new(
        settings: &[config::Registry], credentials: &[Option<RegistryCredential<SecretString>>],
    ) -> Result<Self, reqwest::Error> {
        if settings.is_empty() {
            return Ok(Self::default());
        }
        let upstream = Upstream::new("the registry", AGENT, |builder| builder)?;
        let registries = settings.iter().zip(credentials).map(|(settings, credential)| {
            let credential = credential.as_ref().and_then(|credential| credential::header(&settings.kind, credential));
            let (settings, upstream) = (settings.clone(), upstream.clone());
            Arc::new(Registry { settings, credential, upstream, downloads: Mutex::default() })
        });
        Ok(Self(registries.collect()))
    }

    /// What a machine of that profile may read that runs for `repo`, or for the fork of one; as [`config::Registry::serves`].
    pub fn proxy(&self, repo: Option<&RepoName>, profile: &str, is_fork: bool) -> RegistryProxy {
        let allowed = self.0.iter().filter(|registry| registry.settings.serves(repo, profile, is_fork));
        RegistryProxy::new(allowed.cloned().collect(), RegistryLimits::default())
    }
}

/// Where a guest finds the registry of that name.
pub fn address(name: &str) -> String {
    format!("http://127.0.0.1:{PORT}/{name}/")
}

/// Serves the registries to one VM.
#[derive(Debug, Clone)]
pub struct RegistryProxy(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    registries: Vec<Arc<Registry>>,
    limits: RegistryLimits,
    requests: AtomicU64,
    /// What all answers together may have.
    responses: Budget,
    slots: Arc<Semaphore>,
    /// One for each unit of memory that documents may take.
    documents: Arc<Semaphore>,
    decisions: Arc<Record>,
}

impl RegistryProxy {
    /// One that serves nothing.
    pub fn none() -> Self {
        Self::new(Vec::new(), RegistryLimits::default())
    }

    fn new(registries: Vec<Arc<Registry>>, limits: RegistryLimits) -> Self {
        Self(Arc::new(Shared {
            registries,
            limits,
            requests: AtomicU64::new(0),
            responses: Budget::new(limits.response_bytes),
            slots: Arc::new(Semaphore::new(MAX_PARALLEL)),
            documents: Arc::new(Semaphore::new(DOCUMENT_UNITS as usize)),
            decisions: Arc::new(Record::new("registry")),
        }))
    }

    /// Whether there is anything to serve.
    pub fn is_offered(&self) -> bool {
        !self.0.registries.is_empty()
    }

    /// The registries that are served.
    pub fn offers(&self) -> impl Iterator<Item = &config::Registry> + Clone {
        self.0.registries.iter().map(|registry| &registry.settings)
    }

    /// Serves one connection until either side ends it. Dropping the future ends everything that it started.
    pub async fn serve_connection<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, stream: S) {
        http::serve(stream, |request| self.0.answer(request)).await;
    }

    /// What was allowed and refused since the last call, for the job's log.
    pub fn take_decisions(&self) -> Decisions {
        self.0.decisions.take(self.0.responses.spent())
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let target = format!("{} {}", request.method(), request.uri());
        let (registry, ask) = match self.admit(&request) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let status = match refusal {
                    Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
                    Refusal::Unknown(_) => StatusCode::NOT_FOUND,
                    Refusal::NoRegistry | Refusal::Path => StatusCode::FORBIDDEN,
                };
                self.decisions.add(&target, Verdict::Refused(refusal.to_string()));
                return one_line(status, &refusal);
            }
        };
        if let Ask::Elsewhere(url) = &ask {
            return elsewhere(url);
        }
        match self.fetch(registry, ask, request, &target).await {
            Ok(response) => {
                self.decisions.add(&target, Verdict::Allowed);
                response
            }
            Err(failure) => {
                let response = failure.answer();
                self.decisions.add(&target, Verdict::Failed(failure.detail));
                response
            }
        }
    }

    fn admit(&self, request: &Request<Incoming>) -> Result<(&Arc<Registry>, Ask), Refusal> {
        let (name, path) = admission::split(request.uri())?;
        let registry = self.registries.iter().find(|registry| registry.settings.name == name);
        let registry = registry.ok_or_else(|| Refusal::Unknown(name.to_owned()))?;
        let ask = admission::admit(&registry.settings, request.method(), path, request.uri().query())?;
        Ok((registry, ask))
    }

    async fn fetch(
        &self, registry: &Arc<Registry>, ask: Ask, request: Request<Incoming>, target: &str,
    ) -> Result<Response<Body>, Failure> {
        if self.requests.fetch_add(1, Ordering::Relaxed) >= self.limits.requests {
            let detail = format!("the job has made {} requests, which is as many as it may", self.limits.requests);
            return Err(Failure { status: StatusCode::TOO_MANY_REQUESTS, detail });
        }
        // Never closed; an error here would only mean that nothing is left to wait for.
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| Failure::gateway("the proxy is gone"))?;
        let url = match ask {
            Ask::At(url) => url,
            Ask::CargoConfig => {
                self.find_downloads(registry).await?;
                return Ok(document("application/json", cargo::description(&address(&registry.settings.name))));
            }
            Ask::CargoCrate(download) => {
                let known = registry.downloads.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let dl = match known {
                    Some(dl) => dl,
                    None => self.find_downloads(registry).await?,
                };
                let nowhere = || Failure::gateway("the registry does not say where its packages are");
                download.url(&dl).ok_or_else(nowhere)?
            }
            Ask::Elsewhere(url) => return Ok(elsewhere(&url)),
        };
        let headers = PASSED_ON.iter().filter_map(|name| Some((name.clone(), request.headers().get(name)?.clone())));
        let (answer, url) = self.ask(registry, request.method().clone(), url, headers.collect()).await?;
        check_status(registry, answer.status())?;
        let is_document = answer.status() == StatusCode::OK && request.method() == Method::GET;
        if let Some(rewritten) = rewriter(registry, answer.headers(), &url).filter(|_| is_document) {
            return self.pass_rewritten(answer, rewritten, slot).await;
        }
        Ok(self.pass_back(answer, target, slot))
    }

    async fn ask(
        &self, registry: &Registry, method: Method, url: Url, headers: HeaderMap,
    ) -> Result<(reqwest::Response, Url), Failure> {
        let own = &registry.settings.url;
        let credential = (own.origin(), registry.credential.iter().cloned().collect());
        let question = Question { method, url, headers, own, credential };
        tokio::time::timeout(self.limits.answer, registry.upstream.ask(question))
            .await
            .map_err(|_| Failure::gateway("the registry did not answer in time"))?
    }

    /// Asks where the packages of a sparse index are, and remembers that for every VM.
    async fn find_downloads(&self, registry: &Registry) -> Result<String, Failure> {
        let mut url = registry.settings.url.clone();
        url.set_path(&format!("{}config.json", url.path()));
        let (answer, _) = self.ask(registry, Method::GET, url, HeaderMap::new()).await?;
        check_status(registry, answer.status())?;
        let downloads = cargo::downloads(&self.whole(answer).await?);
        let downloads = downloads.ok_or_else(|| Failure::gateway("the registry's `config.json` does not read"))?;
        *registry.downloads.lock().unwrap_or_else(PoisonError::into_inner) = Some(downloads.clone());
        Ok(downloads)
    }

    /// A whole document in memory.
    async fn whole(&self, answer: reqwest::Response) -> Result<Vec<u8>, Failure> {
        let (mut all, mut one) = (self.responses.spender(), Budget::new(MAX_DOCUMENT).spender());
        let spend = move |bytes| one(bytes) && all(bytes);
        let bounded = transfer::bounded(answer.bytes_stream(), self.limits.idle, spend);
        transfer::whole(bounded).await.map_err(|error| Failure::gateway(error.to_string()))
    }

    async fn pass_rewritten(
        &self, answer: reqwest::Response, rewrite: impl FnOnce(&[u8]) -> Vec<u8>, slot: impl Send + 'static,
    ) -> Result<Response<Body>, Failure> {
        let most = answer.content_length().unwrap_or(MAX_DOCUMENT).min(MAX_DOCUMENT);
        let units = (most / u64::from(UNIT) + 1) as u32;
        let memory = Arc::clone(&self.documents).acquire_many_owned(units).await;
        let memory = memory.map_err(|_| Failure::gateway("the proxy is gone"))?;
        let mut headers = passed_back(answer.headers());
        for of_the_original in [CONTENT_LENGTH, ACCEPT_RANGES] {
            headers.remove(of_the_original);
        }
        let document = self.whole(answer).await?;
        let mut rest = Bytes::from(rewrite(&document));
        // In pieces, so that what the guest has not read yet still holds its place.
        let pieces = std::iter::from_fn(move || {
            let _held = (&slot, &memory);
            let piece = rest.split_to(rest.len().min(UNIT as usize));
            (!piece.is_empty()).then_some(Ok::<_, std::convert::Infallible>(piece))
        });
        let mut response = Response::new(Body::from_stream(futures::stream::iter(pieces)));
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// The registry's answer with only those headers that a guest needs, counted and timed. `held` ends with it.
    fn pass_back(&self, answer: reqwest::Response, target: &str, held: impl Send + 'static) -> Response<Body> {
        let (status, headers) = (answer.status(), passed_back(answer.headers()));
        let body = transfer::bounded(answer.bytes_stream(), self.limits.idle, self.responses.spender());
        let (decisions, target) = (Arc::clone(&self.decisions), target.to_owned());
        let recorded = body.inspect_err(move |error| decisions.add(&target, Verdict::Failed(error.to_string())));
        let mut response = Response::new(Body::from_stream(recorded.map(move |chunk| {
            let _held = &held;
            chunk
        })));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

fn passed_back(headers: &HeaderMap) -> HeaderMap {
    PASSED_BACK.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect()
}

/// How addresses in a document are turned into those of the guest, where it is one that has any.
fn rewriter(registry: &Registry, headers: &HeaderMap, page: &Url) -> Option<impl FnOnce(&[u8]) -> Vec<u8> + use<>> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let key = match &registry.settings.kind {
        RegistryKind::Npm { .. } if kind.contains("json") => Some("tarball"),
        RegistryKind::Pypi { .. } if kind.contains("json") => Some("url"),
        RegistryKind::Pypi { .. } if kind.contains("html") => None,
        _ => return None,
    };
    let (page, base, guest) = (page.clone(), registry.settings.url.clone(), address(&registry.settings.name));
    Some(move |document: &[u8]| match key {
        Some(key) => rewrite::json(document, key, &page, &base, &guest),
        None => rewrite::html(document, &page, &base, &guest),
    })
}

/// Passes what a guest can use and explains everything else. What the registry wrote is dropped then: it may ask the guest to
/// authenticate.
fn check_status(registry: &Registry, status: StatusCode) -> Result<(), Failure> {
    let name = &registry.settings.name;
    let (status, detail) = match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED => return Ok(()),
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => {
            (status, format!("the registry `{name}` does not have it, or hides it from Dayfly's credential"))
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            (StatusCode::FORBIDDEN, format!("the registry `{name}` refuses Dayfly's credential"))
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::RANGE_NOT_SATISFIABLE => {
            (status, format!("the registry `{name}` answered with status {}", status.as_u16()))
        }
        other => (StatusCode::BAD_GATEWAY, format!("the registry `{name}` answered with status {}", other.as_u16())),
    };
    Err(Failure { status, detail })
}

fn document(kind: &'static str, content: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(content)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Sends the guest there by its own means.
fn elsewhere(url: &Url) -> Response<Body> {
    let mut response = one_line(StatusCode::TEMPORARY_REDIRECT, url);
    if let Ok(location) = HeaderValue::from_str(url.as_str()) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod samples {
    use super::*;
    use crate::config::Scoped;

    /// npm's, with these scopes.
    pub(crate) fn npm_with(scopes: &[&str]) -> RegistryKind {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        RegistryKind::Npm { scoped: Some(Scoped { scopes, others: Url::parse("https://others.example/").unwrap() }) }
    }

    /// A registry without a credential, for everybody.
    pub(crate) fn registry(name: &str, kind: RegistryKind, url: &str) -> config::Registry {
        let (url, forks) = (Url::parse(url).unwrap(), true);
        config::Registry { name: name.into(), kind, url, credential: None, profiles: None, repositories: None, forks }
    }
}
