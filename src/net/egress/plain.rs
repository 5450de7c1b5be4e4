//! Plain HTTP by a proxy's rules: requests with a whole address, each judged by itself.
//!
//! An HTTP library reads them, because where a body ends must be clear: what follows may be for somebody else. What is only
//! between the guest and this proxy is not passed on, in either direction.

use std::convert::Infallible;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    CONNECTION, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::{HeaderValue, Request, Response, StatusCode, Uri};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use super::Shared;
use super::connect::MAX_HEAD;
use super::host::Host;
use super::policy::Refusal;
use super::splice::splice;
use super::ticket::Ticket;

/// Time for the head of a request, and how long a connection may stay open between two.
const HEAD_LIMIT: Duration = Duration::from_secs(60);

/// The port of addresses that name none.
const HTTP: u16 = 80;

/// Bytes between the HTTP client and the connection.
const BUFFER: usize = 64 << 10;

/// Headers that are between two neighbours, besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Serves the requests of one connection; `first` is what was read of it.
pub(super) async fn serve<S>(shared: &Arc<Shared>, first: Vec<u8>, stream: S)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    let whole = tokio::io::join(Cursor::new(first).chain(reader), writer);
    let service = hyper::service::service_fn(|request| {
        let shared = Arc::clone(shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(whole), service)
        .await;
    if let Err(error) = served {
        // The guest may break its connections as it likes; what matters is in the log.
        tracing::debug!(%error, "a guest's HTTP connection ended early");
    }
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let (host, port) = match target(request.uri()) {
        Ok(target) => target,
        Err(Some(authority)) => {
            let why = Ticket::new(shared, authority).refused(&Refusal::NotAHost);
            return told(StatusCode::BAD_REQUEST, &why);
        }
        Err(None) => {
            return told(StatusCode::BAD_REQUEST, "this is a proxy: requests have a whole address, and `http` in it");
        }
    };
    let mut ticket = Ticket::new(shared, format!("{host}:{port}"));
    // On a port where only TLS is spoken, this is none.
    match shared.scope.judge_first_bytes(&host, port, request.method().as_str().as_bytes()) {
        Some(Err(refusal)) if shared.scope.policy.audit => drop(ticket.traffic.audited.set(refusal)),
        Some(Err(refusal)) => return told(StatusCode::FORBIDDEN, &ticket.refused(&refusal)),
        Some(Ok(())) | None => {}
    }
    match shared.reach(&host, port).await {
        Err(unreached) => {
            let status = StatusCode::from_u16(unreached.status().0).unwrap_or(StatusCode::BAD_GATEWAY);
            told(status, &ticket.unreached(&unreached))
        }
        Ok(reached) => {
            ticket.reached(&reached);
            let (near, far) = tokio::io::duplex(BUFFER);
            let shared = Arc::clone(shared);
            let driver = AbortOnDropHandle::new(tokio::spawn(async move {
                let traffic = Arc::clone(&ticket.traffic);
                ticket.ended(splice(&shared.meter, &traffic, None, far, Vec::new(), reached.stream).await);
                drop(reached.turn);
            }));
            match forward(near, outgoing(request, &host, port), driver).await {
                Ok(response) => response,
                Err(error) => {
                    tracing::debug!(%error, "a guest's HTTP request was not answered");
                    told(StatusCode::BAD_GATEWAY, "the connection broke before there was an answer")
                }
            }
        }
    }
}

/// Whom a request is for; with what stands there, if that names no host.
fn target(uri: &Uri) -> Result<(Host, u16), Option<String>> {
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(None) };
    // A name and a password in front of the host are of no use, and nobody's business.
    let text = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host);
    let bad = || Some(text.to_owned());
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    if has_port {
        return Host::parse_with_port(text).map_err(|_| bad());
    }
    Host::parse(text).map(|host| (host, HTTP)).map_err(|_| bad())
}

/// Makes the request on a connection that `driver` keeps alive, until the answer's body has ended or is dropped.
async fn forward(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, request: Request<Incoming>,
    driver: AbortOnDropHandle<()>,
) -> Result<Response<Body>, hyper::Error> {
    let (mut sender, client) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await?;
    let client = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = client.await {
            tracing::debug!(%error, "the connection of a guest's HTTP request broke");
        }
    }));
    let answer = sender.send_request(request).await?;
    let (mut head, body) = answer.into_parts();
    strip(&mut head.headers);
    let held = (sender, client, driver);
    let body = body.into_data_stream().map(move |chunk| {
        let _held = &held;
        chunk
    });
    Ok(Response::from_parts(head, Body::from_stream(body)))
}

/// The request as the host it is for expects it.
fn outgoing(request: Request<Incoming>, host: &Host, port: u16) -> Request<Incoming> {
    let (mut head, body) = request.into_parts();
    strip(&mut head.headers);
    head.headers.remove(EXPECT);
    let name = if port == HTTP { host.to_string() } else { format!("{host}:{port}") };
    head.headers.insert(HOST, HeaderValue::try_from(name).expect("hosts in their one spelling are ASCII"));
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let path = head.uri.path_and_query().cloned();
    head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    head.version = axum::http::Version::HTTP_11;
    Request::from_parts(head, body)
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn told(status: StatusCode, why: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("dayfly: {why}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
