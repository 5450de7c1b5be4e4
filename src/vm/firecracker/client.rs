//! Speaks to one Firecracker over its socket. One connection for as long as it lives: the socket is not looked up again once
//! a guest has run. Every answer has a time limit and a size limit.

use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

use super::api::{Call, Method};
use crate::vm::VmError;

/// How long a request may take that moves no memory. They take a millisecond; a host under load is slow, not broken.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);

/// How long writing all of a guest's memory may take.
pub(super) const SAVE_LIMIT: Duration = Duration::from_secs(120);

/// Largest answer that is read, in bytes. Those of the requests that are used are empty, or one sentence.
const MAX_ANSWER: usize = 64 * 1024;

/// The connection.
#[derive(Debug)]
pub(super) struct Api(SendRequest<Full<Bytes>>);

/// A refusal in Firecracker's words.
#[derive(Deserialize)]
struct Fault {
    fault_message: String,
}

impl Api {
    pub(super) async fn over(socket: UnixStream) -> Result<Self, VmError> {
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| gone("", &error))?;
        // What goes wrong with it, the calls on it tell.
        tokio::spawn(async { connection.await.ok() });
        Ok(Self(sender))
    }

    /// Makes a request.
    ///
    /// # Errors
    /// When it is refused, in Firecracker's words; when it takes longer than `limit`; when Firecracker ends meanwhile.
    pub(super) async fn call(&mut self, call: &Call, limit: Duration) -> Result<(), VmError> {
        let answered = tokio::time::timeout(limit, self.exchange(call)).await;
        answered.unwrap_or(Err(VmError::TimedOut { what: "a request to Firecracker", limit }))
    }

    async fn exchange(&mut self, call: &Call) -> Result<(), VmError> {
        let name = call.name();
        let method = match call.method {
            Method::Put => hyper::Method::PUT,
            Method::Patch => hyper::Method::PATCH,
        };
        let request = Request::builder()
            .method(method)
            .uri(call.path.as_str())
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(call.body.to_string())))
            .map_err(|error| VmError::Monitor { detail: format!("`{name}`: {error}") })?;
        self.0.ready().await.map_err(|error| gone(&name, &error))?;
        let answer = self.0.send_request(request).await.map_err(|error| gone(&name, &error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| VmError::Monitor { detail: format!("the answer to `{name}`: {error}") })?;
        if status.is_success() {
            return Ok(());
        }
        let fault = serde_json::from_slice::<Fault>(&body.to_bytes()).map(|fault| fault.fault_message);
        Err(refused(&name, &fault.unwrap_or_else(|_| format!("status {status} without a reason"))))
    }
}

fn gone(name: &str, error: &hyper::Error) -> VmError {
    VmError::Monitor { detail: format!("it ended during `{name}` ({error})") }
}

fn refused(name: &str, why: &str) -> VmError {
    if why.contains("No space left on device") {
        return VmError::host(format!("`{name}`: {why}"))(std::io::ErrorKind::StorageFull.into());
    }
    VmError::Monitor { detail: format!("`{name}`: {why}") }
}
