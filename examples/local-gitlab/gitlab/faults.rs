//! What goes wrong with real GitLabs, on demand or at random.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::state::{Shared, State as GitLabState, refusal};

/// Lets the next `times` requests go wrong that match.
#[derive(Debug, Clone)]
pub struct Fault {
    /// `None` for any.
    pub method: Option<Method>,
    /// Found anywhere in the path.
    pub path_contains: &'static str,
    pub kind: FaultKind,
    pub times: usize,
}

/// How a request goes wrong. Only with [`FaultKind::LoseAnswer`] and [`FaultKind::LoseTrace`] it has an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// An answer with this status and little else.
    Status(u16),
    /// No answer until the client gives up.
    Hang,
    /// The connection breaks.
    Close,
    /// The request is carried out, then the connection breaks.
    LoseAnswer,
    /// The last bytes of the job's trace are lost before the request is carried out.
    LoseTrace(usize),
    /// The answer takes so many milliseconds.
    Slow(u64),
}

/// A generator of faults: the same seed gives the same ones in the same order.
#[derive(Debug, Clone)]
pub struct Chance {
    word: u64,
    permille: u64,
}

impl Chance {
    pub fn new(seed: u64, permille: u64) -> Self {
        Self { word: seed | 1, permille }
    }

    /// Xorshift: nobody guesses against it.
    fn next(&mut self, below: u64) -> u64 {
        self.word ^= self.word << 13;
        self.word ^= self.word >> 7;
        self.word ^= self.word << 17;
        (self.word >> 11) % below
    }

    fn draw(&mut self, method: &Method) -> Option<FaultKind> {
        if self.next(1000) >= self.permille {
            return None;
        }
        Some(match self.next(9) {
            0 => FaultKind::Status(500),
            1 => FaultKind::Status(502),
            2 => FaultKind::Status(503),
            3 => FaultKind::Status(429),
            4 => FaultKind::Close,
            5 => FaultKind::Slow(20),
            // What was lost is noticed at the next patch, or at the end by its checksum.
            6 if method == Method::PATCH => FaultKind::LoseTrace(1 + self.next(500) as usize),
            7 if method == Method::PUT => FaultKind::LoseTrace(1 + self.next(500) as usize),
            // A job that was given out and never arrived comes back much later.
            _ if method == Method::POST => FaultKind::Close,
            _ => FaultKind::LoseAnswer,
        })
    }
}

fn draw(state: &mut GitLabState, request: &Request) -> Option<FaultKind> {
    let (method, path) = (request.method(), request.uri().path());
    state.requests.push((method.to_string(), path.to_owned()));
    let matching = state.faults.iter_mut().find(|fault| {
        fault.times > 0
            && fault.method.as_ref().is_none_or(|wanted| wanted == method)
            && path.contains(fault.path_contains)
    });
    match matching {
        Some(fault) => {
            fault.times -= 1;
            Some(fault.kind)
        }
        None => state.chance.as_mut().and_then(|chance| chance.draw(method)),
    }
}

pub async fn apply(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let fault = draw(&mut shared.state(), &request);
    let Some(kind) = fault else { return next.run(request).await };
    match kind {
        FaultKind::Status(status) => {
            refusal(StatusCode::from_u16(status).expect("tests name statuses that exist"), "Server Error", None)
        }
        FaultKind::Hang => std::future::pending().await,
        FaultKind::Close => broken_connection(),
        FaultKind::LoseAnswer => {
            next.run(request).await;
            broken_connection()
        }
        FaultKind::LoseTrace(bytes) => {
            lose_trace(&shared, request.uri().path(), bytes);
            next.run(request).await
        }
        FaultKind::Slow(millis) => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            next.run(request).await
        }
    }
}

fn lose_trace(shared: &Shared, path: &str, bytes: usize) {
    let id = path.split('/').filter_map(|part| part.parse::<u64>().ok()).next();
    shared.change(|state| {
        if let Some(job) = id.and_then(|id| state.job_mut(id))
            && job.state.is_with_runner()
        {
            job.trace.truncate(job.trace.len().saturating_sub(bytes));
        }
    });
}

/// An answer whose body fails at once: the server gives up the connection instead of finishing it.
fn broken_connection() -> Response {
    let failure = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "a fault was asked for");
    Body::from_stream(futures::stream::iter([Err::<Vec<u8>, _>(failure)])).into_response()
}
