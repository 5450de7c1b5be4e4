//! `POST /webhooks/github`: verify, store, answer. What the event means is found out later, from the store.
//!
//! Anybody can send here. Without a signature's header no body is read, and bodies are bounded in size, number and time.
//!
//! A delivery that does not verify leaves no trace but a count. One that does is durable before it is answered.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt;
use secrecy::SecretString;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock;
use crate::core::{Core, Wake};
use crate::forge::github;
use crate::lifecycle::{Lifecycle, Step};
use crate::metrics::DeliveryMetrics;
use crate::metrics::labels::{EventKind, Received};
use crate::store::{Accepted, DeliveryKey, NewDelivery, Store, StoreError};
use crate::webhook::{
    GitHubHeaders, PayloadError, SignatureError, check_github_signature, parse_github, verify_github,
};

/// The header that says what kind of event it is.
const EVENT: &str = "x-github-event";

/// Bodies in memory at a time.
const PARALLEL: usize = 16;

/// How long a delivery waits for its place among them. The forge itself waits about 10 s for an answer.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes for which room is made because a client says that they will come.
const TRUSTED_LENGTH: usize = 256 * 1024;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may go on sending a body that is refused.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Where deliveries come in.
#[derive(Debug)]
pub struct Door {
    gate: Gate,
    store: Store,
    wake: Arc<Wake>,
    metrics: DeliveryMetrics,
    lifecycle: Lifecycle,
}

impl Door {
    /// A door for deliveries signed with `secret`, of at most `body_limit` bytes.
    pub fn new(secret: SecretString, body_limit: u64, store: Store, wake: Arc<Wake>, metrics: DeliveryMetrics) -> Self {
        let gate = Gate {
            secret,
            limit: usize::try_from(body_limit).unwrap_or(usize::MAX),
            places: Semaphore::new(PARALLEL),
            place_timeout: PLACE_TIMEOUT,
            body_timeout: BODY_TIMEOUT,
        };
        Self { gate, store, wake, metrics, lifecycle: Lifecycle::default() }
    }

    /// The door of a service; none, if it does not serve GitHub.
    pub fn of(core: &Core) -> Option<Self> {
        let (secret, limit) = (core.webhook_secret.clone()?, core.config.server.body_limit);
        let door =
            Self::new(secret, limit, core.store.clone(), Arc::clone(&core.wake), core.metrics.deliveries.clone());
        Some(Self { lifecycle: core.lifecycle.clone(), ..door })
    }

    async fn take(&self, headers: &HeaderMap, body: Body) -> Answer {
        // The place is kept until the body is stored: it bounds the memory.
        let (body, _place) = match self.gate.verified_body(headers, body).await {
            Ok(admitted) => admitted,
            Err(refused) => return refused,
        };
        match GitHubHeaders::parse(header(headers, EVENT), header(headers, "x-github-delivery")) {
            Ok(known) => store(self, &known, body).await,
            Err(error) => Answer {
                result: Received::RefusedHeaders,
                status: StatusCode::BAD_REQUEST,
                text: error.to_string().into(),
            },
        }
    }
}

/// The route.
pub fn routes(door: Door) -> Router {
    Router::new().route("/webhooks/github", post(receive)).with_state(Arc::new(door))
}

async fn receive(State(door): State<Arc<Door>>, headers: HeaderMap, body: Body) -> Response {
    let began = Instant::now();
    let answer = door.take(&headers, body).await;
    door.metrics.answered(EventKind::of(header(&headers, EVENT)), answer.result, began.elapsed());
    (answer.status, format!("{}\n", answer.text)).into_response()
}

/// What a client gets, and what it counts as.
#[derive(Debug)]
struct Answer {
    result: Received,
    status: StatusCode,
    text: Cow<'static, str>,
}

impl Answer {
    fn new(result: Received, status: StatusCode, text: &'static str) -> Self {
        Self { result, status, text: text.into() }
    }
}

/// What a delivery passes before anything looks into it. Everything here can be asked for by anybody, so that it is bounded.
#[derive(Debug)]
struct Gate {
    secret: SecretString,
    /// Largest body, in bytes.
    limit: usize,
    places: Semaphore,
    place_timeout: Duration,
    body_timeout: Duration,
}

impl Gate {
    /// Reads the body, if its headers are worth it, and verifies it.
    async fn verified_body(&self, headers: &HeaderMap, body: Body) -> Result<(Bytes, SemaphorePermit<'_>), Answer> {
        let signature = header(headers, "x-hub-signature-256");
        check_github_signature(signature).map_err(unverified)?;
        // An announced length is enough to refuse a body without keeping any of it.
        let announced = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > self.limit as u64) {
            drain(body.into_data_stream(), self.limit.saturating_mul(2)).await;
            return Err(too_large());
        }
        let place = match tokio::time::timeout(self.place_timeout, self.places.acquire()).await {
            Ok(Ok(place)) => place,
            _ => {
                tracing::warn!("a delivery was turned away: too many arrive at once");
                let text = "too many deliveries at once; deliver it again";
                return Err(Answer::new(Received::TooMany, StatusCode::SERVICE_UNAVAILABLE, text));
            }
        };
        let incomplete = |status, text| Answer::new(Received::Incomplete, status, text);
        let body = match tokio::time::timeout(self.body_timeout, read(body, announced, self.limit)).await {
            Ok(Ok(body)) => body,
            Ok(Err(Unread::TooLarge)) => return Err(too_large()),
            Ok(Err(Unread::Cut)) => return Err(incomplete(StatusCode::BAD_REQUEST, "the body did not arrive whole")),
            Err(_) => return Err(incomplete(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
        };
        verify_github(&self.secret, signature, &body).map_err(unverified)?;
        Ok((body, place))
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    headers.get(name).map(HeaderValue::as_bytes)
}

fn unverified(error: SignatureError) -> Answer {
    tracing::warn!(reason = error.label(), "a delivery was refused: its signature does not verify");
    Answer::new(Received::RefusedSignature, StatusCode::UNAUTHORIZED, "the signature does not verify")
}

fn too_large() -> Answer {
    Answer::new(Received::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than this service takes")
}

async fn store(door: &Door, headers: &GitHubHeaders, body: Bytes) -> Answer {
    let key = DeliveryKey { forge: github::NAME.to_owned(), id: headers.delivery.as_str().to_owned() };
    let problem = parse_github(&headers.event, &body).err();
    let delivery = NewDelivery {
        key: key.clone(),
        event: headers.event.as_str().to_owned(),
        received_at: clock::now_ms(),
        payload: body.into(),
    };
    door.lifecycle.reached(Step::DeliveryVerified).await;
    let accepted = match keep(door, delivery, problem.as_ref().map(PayloadError::to_string)).await {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::error!(delivery = %key, %error, "a delivery could not be stored");
            let text = "the delivery could not be stored; deliver it again";
            return Answer::new(Received::NotStored, StatusCode::SERVICE_UNAVAILABLE, text);
        }
    };
    door.lifecycle.reached(Step::DeliveryStored).await;
    if let Some(problem) = problem {
        tracing::warn!(delivery = %key, %problem, "a signed delivery does not read");
        return Answer::new(Received::Unreadable, StatusCode::BAD_REQUEST, "the payload cannot be read");
    }
    match accepted {
        Accepted::New | Accepted::Again => Answer::new(Received::Accepted, StatusCode::ACCEPTED, "accepted"),
        Accepted::Duplicate => Answer::new(Received::Duplicate, StatusCode::OK, "already processed"),
    }
}

/// Makes a delivery durable. Only what came before is looked for in the database.
async fn keep(door: &Door, delivery: NewDelivery, problem: Option<String>) -> Result<Accepted, StoreError> {
    if problem.is_some() || !door.store.received_lately(&delivery.key) {
        return door.store.receive_delivery(delivery, problem).await.map(|()| Accepted::New);
    }
    let accepted = door.store.accept_delivery(delivery).await?;
    if accepted != Accepted::Duplicate {
        door.wake.deliveries.notify_one();
    }
    Ok(accepted)
}

/// Why there is no body.
enum Unread {
    TooLarge,
    Cut,
}

async fn read(body: Body, announced: Option<u64>, limit: usize) -> Result<Bytes, Unread> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::with_capacity(announced.map_or(0, |length| (length as usize).min(TRUSTED_LENGTH)));
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk.map_err(|_| Unread::Cut)?);
        if bytes.len() > limit {
            drop(bytes);
            drain(chunks, limit).await;
            return Err(Unread::TooLarge);
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::stream;

    use super::*;

    /// The example of GitHub's documentation.
    const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn gate(places: usize) -> Gate {
        let secret = SecretString::from("It's a Secret to Everybody");
        let places = Semaphore::new(places);
        let (place_timeout, body_timeout) = (Duration::from_millis(20), Duration::from_millis(500));
        Gate { secret, limit: 64, places, place_timeout, body_timeout }
    }

    fn headers(signature: &'static str) -> HeaderMap {
        HeaderMap::from_iter([("x-hub-signature-256".parse().unwrap(), HeaderValue::from_static(signature))])
    }

    /// A body that must not be waited for.
    fn endless() -> Body {
        Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>())
    }

    async fn status(gate: &Gate, headers: &HeaderMap, body: Body) -> StatusCode {
        gate.verified_body(headers, body).await.map_or_else(|refused| refused.status, |_| StatusCode::OK)
    }

    #[tokio::test]
    async fn a_body_without_a_signature_is_not_read_whatever_its_length() {
        let gate = gate(0);
        let mut none = HeaderMap::new();
        none.insert("content-length", HeaderValue::from_static("65"));
        assert_eq!(status(&gate, &none, endless()).await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(&gate, &headers("sha256=abc"), endless()).await, StatusCode::UNAUTHORIZED);
        let mut large = headers(SIGNATURE);
        large.insert("content-length", HeaderValue::from_static("65"));
        assert_eq!(status(&gate, &large, endless()).await, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn bodies_are_bounded_in_time_number_and_size() {
        let gate = gate(1);
        let headers = headers(SIGNATURE);
        let (slow, crowded) = tokio::join!(status(&gate, &headers, endless()), status(&gate, &headers, endless()));
        assert_eq!((slow, crowded), (StatusCode::REQUEST_TIMEOUT, StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(status(&gate, &headers, Body::from(vec![0; 65])).await, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(status(&gate, &headers, Body::from("Hello, Moon!")).await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(&gate, &headers, Body::from("Hello, World!")).await, StatusCode::OK);
    }
}
