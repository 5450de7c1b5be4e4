//! What goes wrong with real forges, on demand.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::state::Shared;

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

/// How a request goes wrong. Except with [`FaultKind::LoseAnswer`] it has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// An answer with this status and little else.
    Status(u16),
    /// The hourly limit is used up for so many seconds.
    RateLimit { reset_in: u64 },
    /// Too many requests at once; come back after so many seconds.
    SecondaryRateLimit { retry_after: u64 },
    /// No answer until the client gives up.
    Hang,
    /// The connection breaks.
    Close,
    /// The request is carried out, then the connection breaks.
    LoseAnswer,
}

pub async fn apply(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let fault = {
        let mut state = shared.state();
        let matching = state.faults.iter_mut().find(|fault| {
            fault.times > 0
                && fault.method.as_ref().is_none_or(|method| method == request.method())
                && request.uri().path().contains(fault.path_contains)
        });
        matching.map(|fault| {
            fault.times -= 1;
            fault.kind
        })
    };
    let Some(kind) = fault else { return next.run(request).await };
    match kind {
        FaultKind::Status(status) => {
            let status = StatusCode::from_u16(status).expect("tests name statuses that exist");
            (status, axum::Json(json!({"message": "Server Error"}))).into_response()
        }
        FaultKind::RateLimit { reset_in } => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let headers =
                [("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", (now + reset_in).to_string())];
            let message = json!({"message": "API rate limit exceeded for installation."});
            (StatusCode::FORBIDDEN, headers, axum::Json(message)).into_response()
        }
        FaultKind::SecondaryRateLimit { retry_after } => {
            let message = json!({"message": "You have exceeded a secondary rate limit."});
            (StatusCode::FORBIDDEN, [("retry-after", retry_after.to_string())], axum::Json(message)).into_response()
        }
        FaultKind::Hang => std::future::pending().await,
        FaultKind::Close => broken_connection(),
        FaultKind::LoseAnswer => {
            next.run(request).await;
            broken_connection()
        }
    }
}

/// An answer whose body fails at once: the server gives up the connection instead of finishing it.
fn broken_connection() -> Response {
    let failure = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "a fault was asked for");
    Body::from_stream(futures::stream::iter([Err::<Vec<u8>, _>(failure)])).into_response()
}
