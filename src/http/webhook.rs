//! `POST /webhooks/github`: verify, store, answer. What the event means is found out later, from the store.
//!
//! A delivery that does not verify leaves no trace but a count. One that does is durable before it is answered.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use crate::clock;
use crate::core::Core;
use crate::store::{Accepted, DeliveryKey, DeliveryState, NewDelivery};
use crate::webhook::{GitHubHeaders, parse_github, verify_github};

/// The name of the forge in the store.
const FORGE: &str = "github";

/// The route.
pub fn routes(core: Arc<Core>) -> Router {
    Router::new().route("/webhooks/github", post(receive)).with_state(core)
}

async fn receive(State(core): State<Arc<Core>>, headers: HeaderMap, body: Body) -> Response {
    let limit = usize::try_from(core.config.server.body_limit).unwrap_or(usize::MAX);
    // An announced length is enough to refuse a body without reading it.
    let announced = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than this service takes");
    }
    let body = match axum::body::to_bytes(body, limit).await {
        Ok(body) => body,
        Err(error) if is_too_large(&error) => {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than this service takes");
        }
        Err(_) => return refusal(StatusCode::BAD_REQUEST, "the body did not arrive whole"),
    };
    let header = |name: &str| headers.get(name).map(axum::http::HeaderValue::as_bytes);
    if let Err(error) = verify_github(&core.webhook_secret, header("x-hub-signature-256"), &body) {
        tracing::warn!(reason = error.label(), "a delivery was refused: its signature does not verify");
        return refusal(StatusCode::UNAUTHORIZED, "the signature does not verify");
    }
    match GitHubHeaders::parse(header("x-github-event"), header("x-github-delivery")) {
        Ok(known) => store(&core, &known, body).await,
        Err(error) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn store(core: &Core, headers: &GitHubHeaders, body: Bytes) -> Response {
    let key = DeliveryKey { forge: FORGE.to_owned(), id: headers.delivery.as_str().to_owned() };
    let problem = parse_github(&headers.event, &body).err();
    let delivery = NewDelivery {
        key: key.clone(),
        event: headers.event.as_str().to_owned(),
        received_at: clock::now_ms(),
        payload: body.into(),
    };
    let accepted = match core.store.accept_delivery(delivery).await {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::error!(delivery = %key, %error, "a delivery could not be stored");
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "the delivery could not be stored; deliver it again");
        }
    };
    if let Some(problem) = problem {
        if accepted != Accepted::Duplicate
            && let Err(error) =
                core.store.finish_delivery(&key, DeliveryState::Invalid, &problem.to_string(), clock::now_ms()).await
        {
            tracing::error!(delivery = %key, %error, "a delivery's state could not be stored");
        }
        tracing::warn!(delivery = %key, %problem, "a signed delivery does not read");
        return refusal(StatusCode::BAD_REQUEST, "the payload cannot be read");
    }
    match accepted {
        Accepted::New | Accepted::Again => {
            core.wake.deliveries.notify_one();
            (StatusCode::ACCEPTED, "accepted\n").into_response()
        }
        Accepted::Duplicate => (StatusCode::OK, "already processed\n").into_response(),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn refusal(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}
