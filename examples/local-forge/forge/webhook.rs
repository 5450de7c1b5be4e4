//! Sends webhooks as GitHub does: signed, with all its headers, once. Every attempt is remembered.

use std::io;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::Forge;

/// GitHub gives up after this.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where deliveries go, and the secret that signs them.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub url: String,
    pub secret: String,
}

/// What the receiver said; status 0 when the attempt got lost on its way.
#[derive(Debug, Clone)]
pub struct DeliveryAnswer {
    /// To deliver the same thing again with [`Forge::redeliver`].
    pub delivery: String,
    pub status: u16,
    pub body: String,
}

impl Forge {
    /// Where deliveries go from now on.
    pub fn set_webhook(&self, webhook: Webhook) {
        self.shared.state().webhook = Some(webhook);
    }

    /// Delivers an event under a new id.
    pub async fn deliver(&self, event: &str, payload: &Value) -> io::Result<DeliveryAnswer> {
        let mut id = [0u8; 16];
        getrandom::fill(&mut id).expect("the operating system has a random source");
        let id = hex::encode(id);
        let uuid = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
        self.attempt(event, payload, &uuid, false).await
    }

    /// Delivers an event under an id that was used before, as the button "Redeliver" does.
    pub async fn redeliver(&self, event: &str, payload: &Value, delivery: &str) -> io::Result<DeliveryAnswer> {
        self.attempt(event, payload, delivery, true).await
    }

    async fn attempt(
        &self, event: &str, payload: &Value, delivery: &str, is_redelivery: bool,
    ) -> io::Result<DeliveryAnswer> {
        let is_lost = {
            let mut state = self.shared.state();
            let is_lost = state.lost_deliveries > 0;
            state.lost_deliveries = state.lost_deliveries.saturating_sub(1);
            is_lost
        };
        let answer = match is_lost {
            true => {
                let body = "failed to connect to host".to_owned();
                Ok(DeliveryAnswer { delivery: delivery.to_owned(), status: 0, body })
            }
            false => self.send(event, payload, delivery).await,
        };
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        self.record_attempt(event, payload, delivery, is_redelivery, status);
        answer
    }

    async fn send(&self, event: &str, payload: &Value, delivery: &str) -> io::Result<DeliveryAnswer> {
        let webhook = self.shared.state().webhook.clone();
        let webhook = webhook.ok_or_else(|| io::Error::other("no webhook is set"))?;
        let body = payload.to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(webhook.secret.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(body.as_bytes());
        let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));

        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Whoever was faster installed one just as good.
            rustls::crypto::ring::default_provider().install_default().ok();
        }
        let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).build().map_err(io::Error::other)?;
        let request = client
            .post(&webhook.url)
            .header("accept", "*/*")
            .header("content-type", "application/json")
            .header("user-agent", "GitHub-Hookshot/0000000")
            .header("x-github-delivery", delivery)
            .header("x-github-event", event)
            .header("x-github-hook-id", "1")
            .header("x-github-hook-installation-target-id", self.app_id().to_string())
            .header("x-github-hook-installation-target-type", "integration")
            .header("x-hub-signature-256", signature)
            .body(body);
        let answer = request.send().await.map_err(io::Error::other)?;
        let status = answer.status().as_u16();
        let body = answer.text().await.map_err(io::Error::other)?;
        Ok(DeliveryAnswer { delivery: delivery.to_owned(), status, body })
    }
}
