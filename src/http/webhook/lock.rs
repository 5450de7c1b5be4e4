//! What opens a door: the secret of one forge's webhooks, and how that forge names its deliveries.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderValue};
use secrecy::SecretString;

use crate::metrics::labels::EventKind;
use crate::webhook::{
    DeliveryId, EventName, GitHubHeaders, GitLabHeaders, HeaderError, Proof, SignatureError, WebhookSecret,
    check_github_signature, kind_of, verify_github,
};

/// The header that says what kind of event it is.
const GITHUB_EVENT: &str = "x-github-event";
const GITLAB_EVENT: &str = "x-gitlab-event";
/// Names a delivery of GitLab, and is covered by no signature; `webhook-id` is the same and is.
const UNSIGNED_ID: &str = "idempotency-key";

/// Verifies deliveries and reads their headers.
#[derive(Debug)]
pub enum Lock {
    /// Signatures of GitHub.
    GitHub(SecretString),
    /// Tokens or signatures of GitLab.
    GitLab(Arc<WebhookSecret>),
}

impl Lock {
    /// Checks what can be checked without the body.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), SignatureError> {
        match self {
            Self::GitHub(_) => check_github_signature(header(headers, "x-hub-signature-256")),
            Self::GitLab(secret) => secret.check(&proof(headers), now()),
        }
    }

    pub(super) fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), SignatureError> {
        match self {
            Self::GitHub(secret) => verify_github(secret, header(headers, "x-hub-signature-256"), body),
            Self::GitLab(secret) => secret.verify(&proof(headers), body, now()),
        }
    }

    /// What the event and the delivery are called.
    pub(super) fn names(&self, headers: &HeaderMap, body: &[u8]) -> Result<(EventName, DeliveryId), HeaderError> {
        match self {
            Self::GitHub(_) => {
                let id = header(headers, "x-github-delivery");
                GitHubHeaders::parse(header(headers, GITHUB_EVENT), id).map(|known| (known.event, known.delivery))
            }
            Self::GitLab(secret) => {
                let is_hidden = |name: &str| secret.signs_ids() && name == UNSIGNED_ID;
                let named = GitLabHeaders::parse(|name| header(headers, name).filter(|_| !is_hidden(name)), body);
                named.map(|known| (known.event, known.delivery))
            }
        }
    }

    /// What a delivery counts as, in the words of GitHub.
    pub(super) fn kind(&self, headers: &HeaderMap) -> EventKind {
        match self {
            Self::GitHub(_) => EventKind::of(header(headers, GITHUB_EVENT)),
            Self::GitLab(_) => match kind_of(header(headers, GITLAB_EVENT)).as_str() {
                "merge_request" => EventKind::PullRequest,
                "push" | "tag_push" => EventKind::Push,
                "note" => EventKind::IssueComment,
                _ => EventKind::Other,
            },
        }
    }

    /// Whether a forge takes a refusal of what it signed for a reason to send nothing any more.
    pub(super) fn is_for_good(&self) -> bool {
        matches!(self, Self::GitLab(_))
    }
}

fn proof(headers: &HeaderMap) -> Proof<'_> {
    Proof {
        token: header(headers, "x-gitlab-token"),
        id: header(headers, "webhook-id"),
        timestamp: header(headers, "webhook-timestamp"),
        signature: header(headers, "webhook-signature"),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    headers.get(name).map(HeaderValue::as_bytes)
}
