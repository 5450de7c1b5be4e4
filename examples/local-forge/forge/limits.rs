//! The hourly budgets of calls, which every answer of GitHub tells of.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Forge;
use super::server::ApiError;
use super::state::Shared;

/// Calls per hour.
const LIMIT: u64 = 5000;
const HOUR: u64 = 60 * 60;

impl Forge {
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
    let mut answer = match left {
        0 => ApiError::new(StatusCode::FORBIDDEN, "API rate limit exceeded.").into_response(),
        _ => next.run(request).await,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let left = left.saturating_sub(1);
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
