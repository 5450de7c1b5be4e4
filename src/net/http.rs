//! HTTP to a guest: what the host's services that speak it have in common.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

/// Time for the head of a request, and how long a connection may stay open between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a request's head. Those of git and of package managers have a few hundred.
pub(super) const MAX_HEAD: usize = 16 << 10;

/// Why a request was not answered as it should, for the guest and for the job's log.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
}

impl Failure {
    pub(super) fn gateway(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_GATEWAY, detail: detail.into() }
    }

    pub(super) fn answer(&self) -> Response<Body> {
        one_line(self.status, &self.detail)
    }
}

/// Serves one connection of a guest until either side ends it. Dropping the future ends everything that it started.
pub(super) async fn serve<S, F>(stream: S, answer: impl Fn(Request<Incoming>) -> F)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = Response<Body>>,
{
    let service = hyper::service::service_fn(|request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        // The guest may break its connections as it likes; what matters was recorded as a decision.
        tracing::debug!(%error, "a guest's connection ended early");
    }
}

/// An answer of Dayfly's own.
pub(super) fn one_line(status: StatusCode, text: &dyn fmt::Display) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("dayfly: {text}\n")));
    *response.status_mut() = status;
    // Git shows the text to its user only if it is declared as such.
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
