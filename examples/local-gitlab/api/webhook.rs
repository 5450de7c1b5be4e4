//! Sending webhooks, with either kind of proof.

use std::time::{SystemTime, UNIX_EPOCH};

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

impl Api {
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

    /// The same under an id of an earlier delivery: GitLab repeats what failed.
    pub async fn deliver_as(&self, id: &str, event: &str, payload: &Value) -> reqwest::Result<u16> {
        let webhook = self.shared.state().webhook.clone().expect("a webhook was set");
        let body = payload.to_string();
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
        let request = match &webhook.proof {
            Proof::Token(token) => request.header("x-gitlab-token", token),
            Proof::Key(key) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
                let key = STANDARD.decode(key.trim_start_matches("whsec_")).expect("the key is base64");
                let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any key will do");
                mac.update(format!("{id}.{now}.{body}").as_bytes());
                let signature = STANDARD.encode(mac.finalize().into_bytes());
                request
                    .header("webhook-id", id)
                    .header("webhook-timestamp", now)
                    .header("webhook-signature", format!("v1,{signature}"))
            }
        };
        Ok(request.body(body).send().await?.status().as_u16())
    }
}
