//! What a delivery passes before anything looks into it. Everything here can be asked for by anybody, so that it is bounded.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{HeaderMap, StatusCode};
use futures::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Answer;
use super::lock::Lock;
use crate::metrics::labels::Received;
use crate::webhook::SignatureError;

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

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) lock: Lock,
    /// Largest body, in bytes.
    limit: usize,
    places: Semaphore,
    place_timeout: Duration,
    body_timeout: Duration,
}

impl Gate {
    /// The usual bounds, for bodies of at most `limit` bytes.
    pub(super) fn new(lock: Lock, limit: usize) -> Self {
        let places = Semaphore::new(PARALLEL);
        Self { lock, limit, places, place_timeout: PLACE_TIMEOUT, body_timeout: BODY_TIMEOUT }
    }

    /// Reads the body, if its headers are worth it, and verifies it.
    pub(super) async fn verified_body(
        &self, headers: &HeaderMap, body: Body,
    ) -> Result<(Bytes, SemaphorePermit<'_>), Answer> {
        self.lock.check(headers).map_err(unverified)?;
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
        self.lock.verify(headers, &body).map_err(unverified)?;
        Ok((body, place))
    }
}

fn unverified(error: SignatureError) -> Answer {
    tracing::warn!(reason = error.label(), "a delivery was refused: its signature does not verify");
    Answer::new(Received::RefusedSignature, StatusCode::UNAUTHORIZED, "the signature does not verify")
}

fn too_large() -> Answer {
    Answer::new(Received::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than this service takes")
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
    use axum::http::HeaderValue;
    use futures::stream;
    use secrecy::SecretString;

    use super::*;

    /// The example of GitHub's documentation.
    const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn gate(places: usize) -> Gate {
        let secret = SecretString::from("It's a Secret to Everybody");
        let places = Semaphore::new(places);
        let (place_timeout, body_timeout) = (Duration::from_millis(20), Duration::from_millis(500));
        Gate { lock: Lock::GitHub(secret), limit: 64, places, place_timeout, body_timeout }
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
