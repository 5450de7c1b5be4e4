//! Git fetches of a VM: plain HTTP from the guest, HTTPS with the host's credential to the forge.
//!
//! Git cannot fetch through a CONNECT proxy that adds a header (TLS would hide it), so the guest speaks plain HTTP to this
//! proxy over streams that the caller hands in, one per TCP connection of git. Invariants:
//!
//! - The forge sees only smart-HTTP `upload-pack` requests and downloads of Git LFS (`lfs`) for the job's repository and its
//!   allowed submodules, at addresses that the host composed; nothing of the guest's path reaches it. Where the guest may reach the
//!   forge by itself anyway, it may fetch other repositories, too: those are asked for without a credential.
//! - The credential never enters the guest: neither it nor anything by which the forge asks for one is passed back, and
//!   redirects of fetches are not followed.
//! - A repository of this host is served by git's own program, from a directory that holds nothing else.
//! - Both directions are bounded in bytes and time, and every decision is recorded for the job's log.

pub mod admission;
mod client;
mod lfs;
mod local;
mod reach;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName,
};
use axum::http::{HeaderValue, Request, Response, StatusCode};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use crate::forge::{Forges, GitUpstream, RepoAccess, RepoName};
use crate::net::decisions::{Decisions, Record, Verdict};
use crate::net::http::{self, Failure, one_line};
use crate::net::transfer::{self, Budget, TransferError, cause};

use admission::{Admitted, Fetch, LfsRequest, Service};
pub use client::GitClient;
use lfs::kept::Kept;
pub use reach::Reached;

/// Requests of one VM that are under way at the forge; more wait. Git fetches submodules with a few at a time.
const MAX_PARALLEL: usize = 8;

const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");

/// The one value of `Git-Protocol` that passes: older versions cannot fetch a bare commit id.
const PROTOCOL_V2: &str = "version=2";

/// Limits of one VM's fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GitLimits {
    /// Requests of one VM that are passed on to the forge. What a job asks for in a loop counts against the operator there.
    pub requests: u64,
    /// Objects of Git LFS that a VM downloads, or parts of them.
    pub downloads: u64,
    /// Bytes of one request's body.
    pub request_bytes: u64,
    /// Bytes of all answers together.
    pub response_bytes: u64,
    /// Time without a byte, in either direction.
    pub idle: Duration,
    /// Time from a request to the head of its answer; the forge counts objects meanwhile.
    pub answer: Duration,
}

impl Default for GitLimits {
    fn default() -> Self {
        Self {
            requests: 10_000,
            downloads: 200_000,
            request_bytes: 64 << 20,
            response_bytes: 16 << 30,
            idle: Duration::from_secs(120),
            answer: Duration::from_secs(300),
        }
    }
}

/// Where fetches are answered from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A forge that is asked for each repository's address and credential.
    Forge { client: GitClient, forges: Forges, name: String, installation: Option<u64> },
    /// One address, whatever the guest calls the repository.
    Address { client: GitClient, upstream: GitUpstream },
    /// An instance whose projects are below that address, with a credential of one job: what it may read, the instance decides.
    Instance { client: GitClient, url: Url, authorization: SecretString },
    /// A repository of this host.
    Directory(Directory),
}

/// A user's repository on this host, as far as a guest may have it.
#[derive(Debug, Clone)]
pub struct Directory {
    /// A bare repository that holds nothing else.
    pub mirror: PathBuf,
    /// The user's own `.git`. Of it only objects of Git LFS are read, by their ids.
    pub users: PathBuf,
}

/// Serves the git connections of one VM.
#[derive(Debug, Clone)]
pub struct GitProxy(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Source,
    /// The job's repository first.
    repositories: Vec<RepoName>,
    /// The forge's address, where public repositories of it may be fetched.
    public: Option<(GitClient, Url)>,
    limits: GitLimits,
    requests: AtomicU64,
    downloads: AtomicU64,
    /// Where objects of Git LFS are.
    kept: Kept,
    /// What all answers together may have.
    responses: Budget,
    slots: Arc<Semaphore>,
    decisions: Arc<Record>,
}

impl GitProxy {
    /// A proxy for these repositories, the job's own first; the rest are its submodules.
    pub fn new(source: Source, repositories: Vec<RepoName>, limits: GitLimits) -> Self {
        Self::with_public(source, repositories, None, limits)
    }

    /// The same with whatever anybody may fetch from the forge at that address.
    pub fn with_public(
        source: Source, repositories: Vec<RepoName>, public: Option<(GitClient, Url)>, limits: GitLimits,
    ) -> Self {
        Self(Arc::new(Shared {
            source,
            repositories,
            public,
            limits,
            requests: AtomicU64::new(0),
            downloads: AtomicU64::new(0),
            kept: Kept::default(),
            responses: Budget::new(limits.response_bytes),
            slots: Arc::new(Semaphore::new(MAX_PARALLEL)),
            decisions: Arc::new(Record::new("git")),
        }))
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

/// Where one request is answered.
enum Place<'a> {
    Here(&'a Directory),
    There(Way<'a>),
}

/// The way to a repository at a forge.
struct Way<'a> {
    client: &'a GitClient,
    upstream: GitUpstream,
}

impl Way<'_> {
    /// The header by which the host shows itself, if it does.
    fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        let Some(authorization) = &self.upstream.authorization else { return Ok(None) };
        let mut value = HeaderValue::from_str(authorization.expose_secret())
            .map_err(|_| Failure::gateway("the credential cannot stand in a header"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Why an admitted request has no answer of the forge's.
enum Trouble {
    /// What it says inside may not be asked.
    Refused(Failure),
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let told = match lfs::is_asked(request.uri().path()) {
            true => lfs::problem,
            false => |status, text: &str| one_line(status, &text),
        };
        let admitted = match self.source {
            Source::Instance { .. } => admission::admit_any(request.method(), request.uri()),
            _ => admission::admit(request.method(), request.uri(), &self.repositories, self.public.is_some()),
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let target = format!("{} {}", request.method(), request.uri());
                self.decisions.add(&target, Verdict::Refused(refusal.to_string()));
                return told(StatusCode::FORBIDDEN, &refusal.to_string());
            }
        };
        let (response, verdict) = match self.forward(&admitted, request).await {
            Ok(response) => (response, Verdict::Allowed),
            Err(Trouble::Refused(refusal)) => (told(refusal.status, &refusal.detail), Verdict::Refused(refusal.detail)),
            Err(Trouble::Failed(failure)) => (told(failure.status, &failure.detail), Verdict::Failed(failure.detail)),
        };
        self.decisions.add(&admitted.to_string(), verdict);
        response
    }

    async fn forward(&self, admitted: &Admitted, request: Request<Incoming>) -> Result<Response<Body>, Trouble> {
        match admitted.service {
            Service::Lfs(LfsRequest::Object(_)) => self.count_download()?,
            Service::Git(_) | Service::Lfs(LfsRequest::Batch) => self.count_request()?,
        }
        // Never closed; an error here would only mean that nothing is left to wait for.
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| Failure::gateway("the proxy is gone"))?;
        let place = self.place(admitted).await?;
        let fetch = match admitted.service {
            Service::Lfs(asked) => return self.lfs(place, admitted, asked, request, slot).await,
            Service::Git(fetch) => fetch,
        };
        let way = match place {
            Place::Here(directory) => {
                return Ok(self.answer_from(&directory.mirror, admitted, fetch, request, slot).await?);
            }
            Place::There(way) => way,
        };
        let answer = self.sent(self.upstream_request(&way, fetch, request)?).await?;
        check_status(admitted, answer.status())?;
        Ok(self.pass_back(admitted, answer, slot))
    }

    fn count_request(&self) -> Result<(), Failure> {
        count(&self.requests, self.limits.requests, "requests")
    }

    fn count_download(&self) -> Result<(), Failure> {
        count(&self.downloads, self.limits.downloads, "downloads of Git LFS")
    }

    async fn place(&self, admitted: &Admitted) -> Result<Place<'_>, Failure> {
        let repo = &admitted.repo;
        if let Some((client, forge)) = self.public.as_ref().filter(|_| admitted.is_public) {
            let url = forge.join(repo.as_str()).map_err(|_| Failure::gateway("the forge's address is none"))?;
            return Ok(Place::There(Way { client, upstream: GitUpstream { url, authorization: None } }));
        }
        let (client, upstream) = match &self.source {
            Source::Directory(directory) => return Ok(Place::Here(directory)),
            Source::Address { client, upstream } => (client, upstream.clone()),
            Source::Instance { client, url, authorization } => {
                (client, upstream_below(url, repo, authorization.clone()))
            }
            Source::Forge { client, forges, name, installation } => {
                let access = RepoAccess { repo: repo.clone(), installation: *installation };
                // Asked per request: tokens last for an hour, jobs may last longer.
                let upstream = async { forges.of(name)?.git_upstream(&access).await }.await;
                (client, upstream.map_err(|error| Failure::gateway(error.to_string()))?)
            }
        };
        Ok(Place::There(Way { client, upstream }))
    }

    /// The head of the forge's answer.
    async fn sent(&self, outgoing: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        tokio::time::timeout(self.limits.answer, outgoing.send())
            .await
            .map_err(|_| Failure::gateway("the forge did not answer in time"))?
            .map_err(|error| self.send_failure(&error))
    }

    fn upstream_request(
        &self, way: &Way<'_>, fetch: Fetch, request: Request<Incoming>,
    ) -> Result<reqwest::RequestBuilder, Failure> {
        let url = fetch.upstream_url(&way.upstream.url);
        let (head, body) = request.into_parts();
        let mut outgoing = match fetch {
            Fetch::Advertise => way.client.to(&url).get(url),
            Fetch::UploadPack => {
                let length = body.size_hint().exact();
                if length.is_some_and(|length| length > self.limits.request_bytes) {
                    return Err(self.too_large());
                }
                let body = transfer::bounded(
                    body.into_data_stream(),
                    self.limits.idle,
                    Budget::new(self.limits.request_bytes).spender(),
                );
                let outgoing = way.client.to(&url).post(url).body(reqwest::Body::wrap_stream(body));
                // A stream has no length of its own; with it the forge need not accept chunks.
                length.into_iter().fold(outgoing, |outgoing, length| outgoing.header(CONTENT_LENGTH, length))
            }
        };
        for name in [ACCEPT, CONTENT_TYPE, CONTENT_ENCODING] {
            if let Some(value) = head.headers.get(&name) {
                outgoing = outgoing.header(name, value);
            }
        }
        if head.headers.get(GIT_PROTOCOL).is_some_and(|value| value == PROTOCOL_V2) {
            outgoing = outgoing.header(GIT_PROTOCOL, PROTOCOL_V2);
        }
        if let Some(authorization) = way.authorization()? {
            outgoing = outgoing.header(AUTHORIZATION, authorization);
        }
        Ok(outgoing)
    }

    fn too_large(&self) -> Failure {
        let detail = format!("the request has more than {} bytes", self.limits.request_bytes);
        Failure { status: StatusCode::PAYLOAD_TOO_LARGE, detail }
    }

    fn send_failure(&self, error: &reqwest::Error) -> Failure {
        match cause(error) {
            Some(TransferError::TooLarge) => self.too_large(),
            Some(stopped) => Failure { status: StatusCode::REQUEST_TIMEOUT, detail: stopped.to_string() },
            None if error.is_connect() => Failure::gateway("no connection to the forge"),
            None => Failure::gateway("the connection to the forge broke"),
        }
    }

    /// The forge's answer with only those headers that git needs, counted and timed.
    fn pass_back(&self, admitted: &Admitted, answer: reqwest::Response, slot: OwnedSemaphorePermit) -> Response<Body> {
        let headers = answer.headers().clone();
        let mut response = Response::new(self.counted(admitted, answer.bytes_stream(), slot));
        for name in [CONTENT_TYPE, CACHE_CONTROL] {
            if let Some(value) = headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }

    /// An answer's body within the limits, holding `held` until it ends or is dropped.
    fn counted<E: Send + 'static>(
        &self, admitted: &Admitted, bytes: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
        held: impl Send + 'static,
    ) -> Body {
        self.recorded(admitted, transfer::bounded(bytes, self.limits.idle, self.responses.spender()), held)
    }

    /// A body that is recorded if it breaks, holding `held` until it ends or is dropped.
    fn recorded(
        &self, admitted: &Admitted, body: impl Stream<Item = Result<Bytes, TransferError>> + Send + 'static,
        held: impl Send + 'static,
    ) -> Body {
        let (decisions, target) = (Arc::clone(&self.decisions), admitted.to_string());
        let recorded = body.inspect_err(move |error| decisions.add(&target, Verdict::Failed(error.to_string())));
        Body::from_stream(recorded.map(move |chunk| {
            let _held = &held;
            chunk
        }))
    }
}

/// A project of an instance, for whoever has that credential.
fn upstream_below(instance: &Url, repo: &RepoName, authorization: SecretString) -> GitUpstream {
    let mut url = instance.clone();
    url.set_path(&format!("{}/{repo}", instance.path().trim_end_matches('/')));
    GitUpstream { url, authorization: Some(authorization) }
}

/// Counts one more of `what`, unless the job has had as many as it may.
fn count(counter: &AtomicU64, limit: u64, what: &str) -> Result<(), Failure> {
    if counter.fetch_add(1, Ordering::Relaxed) < limit {
        return Ok(());
    }
    let detail = format!("the job has made {limit} {what}, which is as many as it may");
    Err(Failure { status: StatusCode::TOO_MANY_REQUESTS, detail })
}

/// Passes 200 and explains everything else. What the forge wrote is dropped: it may ask the guest to authenticate.
fn check_status(admitted: &Admitted, status: StatusCode) -> Result<(), Failure> {
    let repo = &admitted.repo;
    let (status, detail) = match status {
        StatusCode::OK => return Ok(()),
        StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if admitted.is_public => {
            (StatusCode::NOT_FOUND, format!("`{repo}` is not public; the operator may list it in `submodules`"))
        }
        StatusCode::NOT_FOUND => {
            (status, format!("the forge does not know `{repo}`, or hides it from Dayfly's credential"))
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            (StatusCode::FORBIDDEN, format!("the forge refuses Dayfly's credential for `{repo}`"))
        }
        redirect if redirect.is_redirection() => {
            (StatusCode::BAD_GATEWAY, format!("the forge redirects `{repo}`; was the repository renamed?"))
        }
        other => (StatusCode::BAD_GATEWAY, format!("the forge answered with status {}", other.as_u16())),
    };
    Err(Failure { status, detail })
}

#[cfg(test)]
mod tests;
