//! What a GitLab delivery's headers say: what kind it is, and which delivery.

use sha2::{Digest, Sha256};

use super::super::event::{DeliveryId, EventName};
use super::super::github::HeaderError;

/// The headers by which a delivery is named, the best first.
const NAMING: [&str; 2] = ["idempotency-key", "webhook-id"];

/// Names the event in whose course a delivery was sent, of which there may be several.
const EVENT_UUID: &str = "x-gitlab-event-uuid";

/// The kind of a delivery whose header is missing or odd.
const UNKNOWN: &str = "unknown";

/// The headers of a delivery that Dayfly uses besides its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitLabHeaders {
    /// `merge_request` of `Merge Request Hook`.
    pub event: EventName,
    pub delivery: DeliveryId,
}

impl GitLabHeaders {
    /// Reads the headers of a delivery with that body. The id is the one that stays when the delivery is repeated; without such
    /// a header it is made of the event's and the body.
    ///
    /// # Errors
    /// Never, as things are: GitLab gives up on webhooks that are refused, and what is odd starts nothing.
    pub fn parse<'h>(header: impl Fn(&str) -> Option<&'h [u8]>, body: &[u8]) -> Result<Self, HeaderError> {
        let event = EventName::parse(&kind_of(header("x-gitlab-event")));
        let malformed = |problem| HeaderError::Malformed { header: "X-Gitlab-Event", problem };
        let given = NAMING.iter().find_map(|name| header(name).filter(|value| !value.is_empty()));
        let delivery = match given.map(|value| DeliveryId::parse(&String::from_utf8_lossy(value))) {
            Some(Ok(id)) => id,
            // Safe to show and to store, whatever it is.
            Some(Err(_)) => digest(&[given.unwrap_or_default()]).map_err(malformed)?,
            None => digest(&[header(EVENT_UUID).unwrap_or_default(), body]).map_err(malformed)?,
        };
        Ok(Self { event: event.map_err(malformed)?, delivery })
    }
}

fn digest(parts: &[&[u8]]) -> Result<DeliveryId, String> {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    DeliveryId::parse(&hex::encode(&digest.finalize()[..16]))
}

/// The kind behind the value of `X-Gitlab-Event`: `merge_request` of `Merge Request Hook`.
pub fn kind_of(header: Option<&[u8]>) -> String {
    let text = header.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
    let words = text.strip_suffix(" Hook").unwrap_or(text).to_ascii_lowercase().replace([' ', '-'], "_");
    if EventName::parse(&words).is_ok() { words } else { UNKNOWN.to_owned() }
}

/// Whether deliveries of that kind tell that GitLab may have jobs to give away, and nothing else.
pub fn is_of_jobs(event: &EventName) -> bool {
    matches!(event.as_str(), "pipeline" | "job")
}
