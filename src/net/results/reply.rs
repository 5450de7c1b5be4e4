//! Answers of the service, and why there is none.

use std::fmt;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::depot::DepotError;
use crate::net::transfer::{self, Budget};

/// Bytes of a request that is not an upload.
pub(super) const MAX_REQUEST: u64 = 256 << 10;

/// Time without a byte.
pub(super) const IDLE: std::time::Duration = std::time::Duration::from_secs(120);

/// A request that is not answered as it was meant.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    /// Twirp's word for it.
    code: &'static str,
    message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_argument", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// Something that was to be had and is no more than there is to have. No status that clients try again.
    pub(super) fn exhausted(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "failed_precondition", message)
    }

    /// Whether a person who reads the job's log should know; that something exists already is everyday's business.
    pub(super) fn is_worth_telling(&self) -> bool {
        !matches!(self.status, StatusCode::CONFLICT | StatusCode::NOT_FOUND)
    }

    pub(super) fn answer(&self) -> Response<Body> {
        // Azure's clients read the code from its header; the others from the body.
        let mut response = json(self.status, &json!({"code": self.code, "msg": self.message}));
        response.headers_mut().insert("x-ms-error-code", HeaderValue::from_static(self.code));
        response
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl From<DepotError> for Failure {
    fn from(error: DepotError) -> Self {
        match error {
            DepotError::Refused(why) => Self::invalid(why),
            DepotError::Exists(_) => Self::new(StatusCode::CONFLICT, "already_exists", error.to_string()),
            DepotError::TooLarge(why) => Self::exhausted(why),
            DepotError::Io { .. } => {
                tracing::error!(%error, "the depot failed");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "internal", "the host could not store or read it")
            }
        }
    }
}

/// A document as answer.
pub(super) fn json(status: StatusCode, document: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_vec(document).expect("answers have no keys but texts");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer without content.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A small document of a request.
pub(super) async fn read_json<T: DeserializeOwned>(body: Incoming) -> Result<T, Failure> {
    serde_json::from_slice(&read_small(body).await?).map_err(|_| Failure::invalid("the request does not read"))
}

/// The whole body of a small request.
pub(super) async fn read_small(body: Incoming) -> Result<Vec<u8>, Failure> {
    let mut chunks = Box::pin(transfer::bounded(body.into_data_stream(), IDLE, Budget::new(MAX_REQUEST).spender()));
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| Failure::invalid(error.to_string()))?);
    }
    Ok(bytes)
}
