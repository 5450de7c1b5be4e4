//! Sending webhooks, with either kind of proof.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::Api;

/// Where webhooks go, and what they carry.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub url: String,
    pub proof: Proof,
}

/// What a delivery proves its origin by.
#[derive(Debug, Clone)]
pub enum Proof {
    /// This text in `X-Gitlab-Token`.
    Token(String),
    /// Signatures with this key, as `whsec_…`.
    Key(String),
}

/// One attempt to bring an event.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub id: u64,
    /// What all attempts of one delivery share.
    pub key: String,
    pub event: String,
    pub payload: Value,
    /// `None` when nobody answered.
    pub status: Option<u16>,
}

impl Api {
    /// Sends what is delivered from now on to another address.
    pub fn move_webhook(&self, url: &str) {
        self.shared.change(|state| state.webhook.as_mut().expect("a webhook was set").url = url.to_owned());
    }

    /// Lets the next `count` attempts get lost on their way.
    pub fn lose_deliveries(&self, count: usize) {
        self.shared.change(|state| state.lost = count);
    }

    /// Takes the right to webhooks from the token.
    pub fn hide_webhooks(&self) {
        self.shared.change(|state| state.hides_webhooks = true);
    }

    /// All attempts so far, oldest first.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.shared.state().attempts.clone()
    }

    /// Sends what is delivered from now on there.
    pub fn set_webhook(&self, webhook: Webhook) {
        self.shared.change(|state| state.webhook = Some(webhook));
    }

    /// Delivers an event, such as `Merge Request Hook`; gives the answer's status.
    pub async fn deliver(&self, event: &str, payload: &Value) -> reqwest::Result<u16> {
        let id = self.shared.change(|state| {
            state.deliveries += 1;
            format!("delivery-{}", state.deliveries)
        });
        self.deliver_as(&id, event, payload).await
    }

    /// The same under an id of an earlier delivery: GitLab repeats what failed. 0 for one that gets lost.
    pub async fn deliver_as(&self, id: &str, event: &str, payload: &Value) -> reqwest::Result<u16> {
        let is_lost = self.shared.change(|state| {
            let is_lost = state.lost > 0;
            state.lost = state.lost.saturating_sub(1);
            is_lost
        });
        let sent = if is_lost { Ok(0) } else { self.send(id, event, payload, 0).await };
        let status = sent.as_ref().ok().copied().filter(|status| *status > 0);
        self.shared.change(|state| {
            let id_of_attempt = 500 + state.attempts.len() as u64;
            let (key, event, payload) = (id.to_owned(), event.to_owned(), payload.clone());
            state.attempts.push(Attempt { id: id_of_attempt, key, event, payload, status });
        });
        sent
    }

    /// Sends it, as it would have been sent `seconds_ago`; nothing is kept of it.
    pub async fn send(&self, id: &str, event: &str, payload: &Value, seconds_ago: i64) -> reqwest::Result<u16> {
        let webhook = self.shared.state().webhook.clone().expect("a webhook was set");
        // Fails only if a provider is installed already, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let request = reqwest::Client::builder()
            .no_proxy()
            .build()?
            .post(&webhook.url)
            .header("content-type", "application/json")
            .header("x-gitlab-event", event)
            .header("x-gitlab-event-uuid", "2b7a4d1e")
            .header("idempotency-key", id);
        let body = payload.to_string();
        let request = match &webhook.proof {
            Proof::Token(token) => request.header("x-gitlab-token", token),
            Proof::Key(key) => request.headers(signed(key, id, &body, seconds_ago)),
        };
        Ok(request.body(body).send().await?.status().as_u16())
    }

    /// The headers that prove where a delivery comes from, sent now.
    pub fn sign(&self, id: &str, payload: &Value) -> HeaderMap {
        match self.shared.state().webhook.as_ref().map(|webhook| webhook.proof.clone()) {
            Some(Proof::Key(key)) => signed(&key, id, &payload.to_string(), 0),
            _ => HeaderMap::new(),
        }
    }
}

fn signed(key: &str, id: &str, body: &str, seconds_ago: i64) -> HeaderMap {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let at = now.saturating_add_signed(-seconds_ago);
    let key = STANDARD.decode(key.trim_start_matches("whsec_")).expect("the key is base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any key will do");
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let headers =
        [("webhook-id", id.to_owned()), ("webhook-timestamp", at.to_string()), ("webhook-signature", signature)];
    let value = |text: String| HeaderValue::from_str(&text).expect("it is of plain letters");
    HeaderMap::from_iter(headers.map(|(name, text)| (HeaderName::from_static(name), value(text))))
}
