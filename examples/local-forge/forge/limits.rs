//! The hourly budgets of calls, which every answer of GitHub tells of.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Forge;
use super::server::{ApiError, MAX_BODY};
use super::state::Shared;

/// Calls per hour.
const LIMIT: u64 = 5000;
const HOUR: u64 = 60 * 60;

impl Forge {
    /// How many answers were known to whoever asked.
    pub fn unchanged_answers(&self) -> u64 {
        self.shared.state().unchanged
    }

    /// How many calls everybody has left in this hour.
    pub fn set_calls_left(&self, left: u64) {
        let mut state = self.shared.state();
        for payer in ["app", "installation", "person"] {
            state.calls_left.insert(payer, left);
        }
    }
}

/// Takes a call from the budget of whoever sends it, and refuses it when nothing is left.
pub async fn apply(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let Some(payer) = payer(&shared, request.headers()) else { return next.run(request).await };
    let left = {
        let mut state = shared.state();
        let left = state.calls_left.entry(payer).or_insert(LIMIT);
        let before = *left;
        *left = before.saturating_sub(1);
        before
    };
    let known = request
        .headers()
        .get(IF_NONE_MATCH)
        .filter(|_| request.method() == Method::GET && !shared.options.is_recorded)
        .cloned();
    let mut answer = match left {
        0 => ApiError::new(StatusCode::FORBIDDEN, "API rate limit exceeded.").into_response(),
        _ => named(next.run(request).await, known.as_ref()).await,
    };
    let mut left = left.saturating_sub(1);
    if answer.status() == StatusCode::NOT_MODIFIED {
        // Such an answer costs nothing.
        left += 1;
        let mut state = shared.state();
        state.unchanged += 1;
        *state.calls_left.entry(payer).or_insert(LIMIT) += 1;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let told =
        [("limit", LIMIT), ("remaining", left), ("used", LIMIT - left.min(LIMIT)), ("reset", now / HOUR * HOUR + HOUR)];
    for (name, number) in told {
        let name =
            format!("x-ratelimit-{name}").parse::<axum::http::HeaderName>().expect("the name is made of letters");
        answer.headers_mut().insert(name, HeaderValue::from(number));
    }
    answer.headers_mut().insert("x-ratelimit-resource", HeaderValue::from_static("core"));
    answer
}

/// The answer with a name for what it says, or without that if the client knows it already.
async fn named(answer: Response, known: Option<&HeaderValue>) -> Response {
    if answer.status() != StatusCode::OK {
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    let etag = HeaderValue::from_str(&format!("W/\"{:x}\"", hasher.finish())).expect("it is of plain letters");
    if known == Some(&etag) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response();
    }
    head.headers.insert(ETAG, etag);
    Response::from_parts(head, Body::from(body))
}

/// Whose budget it is. Who is not known has none here.
fn payer(shared: &Shared, headers: &HeaderMap) -> Option<&'static str> {
    let token = headers.get("authorization")?.to_str().ok()?.split_once(' ')?.1;
    if token == shared.plain_token {
        Some("person")
    } else if shared.state().tokens.contains_key(token) {
        Some("installation")
    } else {
        token.contains('.').then_some("app")
    }
}
