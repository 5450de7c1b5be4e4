//! `POST /webhooks/github`: verify, store, answer. What the event means is found out later, from the store.
//!
//! A delivery that does not verify leaves no trace but a count. One that does is durable before it is answered.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt;

use crate::clock;
use crate::core::Core;
use crate::store::{Accepted, DeliveryKey, DeliveryState, NewDelivery};
use crate::webhook::{GitHubHeaders, parse_github, verify_github};

/// The name of the forge in the store.
const FORGE: &str = "github";

/// How long a client may go on sending a body that is refused.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// The route.
pub fn routes(core: Arc<Core>) -> Router {
    Router::new().route("/webhooks/github", post(receive)).with_state(core)
}

async fn receive(State(core): State<Arc<Core>>, headers: HeaderMap, body: Body) -> Response {
    let limit = usize::try_from(core.config.server.body_limit).unwrap_or(usize::MAX);
    let body = match read(body, limit).await {
        Ok(body) => body,
        Err(Unread::TooLarge) => {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than this service takes");
        }
        Err(Unread::Cut) => return refusal(StatusCode::BAD_REQUEST, "the body did not arrive whole"),
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

/// Why there is no body.
enum Unread {
    TooLarge,
    Cut,
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Unread> {
    let announced = body.size_hint().lower();
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    // An announced length is enough to refuse a body without keeping any of it.
    let mut is_too_large = announced > limit as u64;
    while !is_too_large && let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk.map_err(|_| Unread::Cut)?);
        is_too_large = bytes.len() > limit;
    }
    if is_too_large {
        drain(chunks, limit.saturating_mul(2)).await;
        return Err(Unread::TooLarge);
    }
    Ok(bytes.into())
}

/// Lets a client finish within bounds: one that is still sending when the connection closes may never see the answer.
async fn drain(mut chunks: BodyDataStream, most: usize) {
    let drained = async {
        let mut left = most;
        while let Some(Ok(chunk)) = chunks.next().await
            && chunk.len() < left
        {
            left -= chunk.len();
        }
    };
    // The refusal stands in either case.
    drop(tokio::time::timeout(DRAIN_LIMIT, drained).await);
}

fn refusal(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}
