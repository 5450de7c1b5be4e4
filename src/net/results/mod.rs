//! Caches and artifacts for programs in a guest: the services that the packages `@actions/cache` and `@actions/artifact`
//! talk to, so that actions that use them run unchanged.
//!
//! Spoken are version 2 of the cache service and version 4 of artifacts (Twirp, in JSON), the older cache service that clients
//! use where the forge is a server of one's own, and as much of Azure's blobs as their uploads and downloads need. Invariants:
//!
//! - One service serves one attempt of one job: what it is asked for is looked up among that run's artifacts and within that
//!   repository's caches, whatever ids a request names. It ends with the attempt, and what was not finished goes with it.
//! - Uploads stream to disk, and are bounded: each one, those that are open, and what the attempt uploads altogether.
//! - A request needs the attempt's token, or an address that is signed for one object and ends.

mod blob;
mod older;
mod reply;
#[cfg(test)]
mod tests;
mod token;
mod twirp;
mod uploads;

pub(crate) use blob::disposition;

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use self::reply::Failure;
use self::token::Signer;
use self::uploads::Uploads;
use super::decisions::{Decisions, Record, Verdict};
use super::http;
use super::transfer::Budget;
use crate::clock;
use crate::depot::Tenant;

/// The guest's loopback port of the service.
pub const PORT: u16 = 3130;

/// Requests of one VM that are answered at the same time; more wait.
const MAX_PARALLEL: usize = 32;

/// Bytes of the name by which a guest calls the service.
const MAX_HOST: usize = 255;

/// The service of one attempt. A clone is the same.
#[derive(Debug, Clone)]
pub struct ResultsService(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    tenant: Tenant,
    signer: Signer,
    uploads: Uploads,
    /// What all uploads of the attempt together may have.
    uploaded: Budget,
    slots: Semaphore,
    decisions: Record,
}

impl ResultsService {
    /// One that serves nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// The service of that attempt; none where everything is switched off.
    pub fn new(tenant: Tenant) -> Self {
        let limits = *tenant.depot.limits();
        if !limits.artifacts && !limits.cache {
            return Self::none();
        }
        Self(Some(Arc::new(Shared {
            signer: Signer::new(tenant.run.as_str(), tenant.job.as_str(), now_seconds()),
            tenant,
            uploads: Uploads::default(),
            uploaded: Budget::new(limits.artifact_budget.saturating_add(limits.cache_budget)),
            slots: Semaphore::new(MAX_PARALLEL),
            decisions: Record::new("results"),
        })))
    }

    /// Whether there is anything to serve.
    pub fn is_offered(&self) -> bool {
        self.0.is_some()
    }

    /// Whose attempt it serves.
    pub fn tenant(&self) -> Option<&Tenant> {
        self.0.as_ref().map(|shared| &shared.tenant)
    }

    /// The token, which no log may show.
    pub fn token(&self) -> Option<&SecretString> {
        self.0.as_ref().map(|shared| shared.signer.token())
    }

    /// The variables by which clients find the service.
    pub fn variables(&self) -> Vec<(String, String)> {
        let Some(shared) = &self.0 else { return Vec::new() };
        let address = format!("http://127.0.0.1:{PORT}/");
        let mut variables = vec![
            ("ACTIONS_RUNTIME_TOKEN", shared.signer.token().expose_secret().to_owned()),
            ("ACTIONS_RUNTIME_URL", address.clone()),
            ("ACTIONS_RESULTS_URL", address.clone()),
        ];
        if shared.tenant.depot.limits().cache {
            variables.push(("ACTIONS_CACHE_URL", address));
            variables.push(("ACTIONS_CACHE_SERVICE_V2", "true".to_owned()));
        }
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Serves one connection until either side ends it. Dropping the future ends everything that it started.
    pub async fn serve_connection<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, stream: S) {
        if let Some(shared) = &self.0 {
            http::serve(stream, |request| shared.answer(request)).await;
        }
    }

    /// What was refused and failed since the last call, for the job's log.
    pub fn take_decisions(&self) -> Decisions {
        self.0.as_ref().map(|shared| shared.decisions.take(shared.uploaded.spent())).unwrap_or_default()
    }
}

impl Shared {
    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        // Never closed; an error here would only mean that nothing is left to wait for.
        let Ok(_slot) = self.slots.acquire().await else { return Response::new(Body::empty()) };
        let target = format!("{} {}", request.method(), request.uri().path());
        match self.route(request).await {
            Ok(response) => response,
            Err(failure) => {
                if failure.is_worth_telling() {
                    self.decisions.add(&target, Verdict::Failed(failure.to_string()));
                }
                failure.answer()
            }
        }
    }

    async fn route(self: &Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        let path = request.uri().path().to_owned();
        if let Some(object) = path.strip_prefix(blob::PREFIX) {
            return self.blob(object, request).await;
        }
        let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if !self.signer.admits(authorization) {
            return Err(Failure::new(StatusCode::UNAUTHORIZED, "unauthenticated", "the token is not this job's"));
        }
        if let Some(method) = path.strip_prefix("/twirp/") {
            return self.twirp(method, request).await;
        }
        if let Some(rest) = path.strip_prefix(older::PREFIX) {
            return self.older(rest, request).await;
        }
        Err(Failure::new(StatusCode::NOT_FOUND, "bad_route", "there is no such service here"))
    }
}

/// The address at which this request came, for those that it is told: a container of the guest has another one than the
/// guest. The guest may say what it likes, as nobody else is told.
fn base_of(request: &Request<Incoming>) -> String {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
    let host = host.filter(|host| !host.is_empty() && host.len() <= MAX_HOST && host.bytes().all(is_plain));
    host.map_or_else(|| format!("127.0.0.1:{PORT}"), str::to_owned)
}

fn now_seconds() -> i64 {
    clock::now_ms() / 1000
}
