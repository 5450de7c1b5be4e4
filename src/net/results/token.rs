//! What a guest shows to the service: the token of its attempt, and addresses that are signed for one object. Pure.
//!
//! Neither is what keeps guests apart: each one has a connection of its own to a service that knows only its attempt. They are
//! what clients expect, and they keep a program that was told one address from using another.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use sha2::Sha256;

/// How long an address can be used, in seconds. Clients ask for it right before they use it.
pub(super) const ADDRESS_SECONDS: i64 = 60 * 60;

/// How long the token says that it is good for, in seconds: longer than any job.
const TOKEN_SECONDS: i64 = 7 * 24 * 60 * 60;

/// Signs for one attempt.
#[derive(Debug)]
pub(super) struct Signer {
    key: [u8; 32],
    token: SecretString,
}

impl Signer {
    /// With a fresh key; `run` and `job` are what the token tells of.
    pub(super) fn new(run: &str, job: &str, now_seconds: i64) -> Self {
        let mut key = [0; 32];
        // Without a source of randomness nothing here may go on.
        getrandom::fill(&mut key).expect("the operating system has a random source");
        let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({"typ": "JWT", "alg": "HS256"}));
        let claims = part(json!({
            // Clients find in it what they name in their requests.
            "scp": format!("Actions.Results:{run}:{job}"),
            "iss": "dayfly",
            "nbf": now_seconds - 60,
            "iat": now_seconds,
            "exp": now_seconds + TOKEN_SECONDS,
        }));
        let signed = format!("{head}.{claims}");
        let signature = BASE64_URL_SAFE_NO_PAD.encode(mac(&key, &[&signed]).finalize().into_bytes());
        Self { key, token: SecretString::from(format!("{signed}.{signature}")) }
    }

    /// The token of the attempt.
    pub(super) fn token(&self) -> &SecretString {
        &self.token
    }

    /// Whether the header has the attempt's token.
    pub(super) fn admits(&self, authorization: Option<&str>) -> bool {
        let given = authorization.and_then(|value| value.split_once(' '));
        let Some((_, given)) = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else { return false };
        // Compared as digests, so that the time tells nothing.
        let expected = mac(&self.key, &["token", self.token.expose_secret()]);
        mac(&self.key, &["token", given.trim()]).verify_slice(&expected.finalize().into_bytes()).is_ok()
    }

    /// The query of an address that may be used for `what` from now on.
    pub(super) fn sign(&self, what: &str, now_seconds: i64) -> String {
        let expiry = now_seconds + ADDRESS_SECONDS;
        let signature = hex::encode(mac(&self.key, &["address", what, &expiry.to_string()]).finalize().into_bytes());
        format!("se={expiry}&sig={signature}")
    }

    /// Whether a query with these members may be used for `what`.
    pub(super) fn is_signed(&self, what: &str, expiry: &str, signature: &str, now_seconds: i64) -> bool {
        let is_due = expiry.parse::<i64>().is_ok_and(|expiry| now_seconds <= expiry);
        let Ok(signature) = hex::decode(signature) else { return false };
        is_due && mac(&self.key, &["address", what, expiry]).verify_slice(&signature).is_ok()
    }
}

/// Over parts that cannot run into each other.
fn mac(key: &[u8; 32], parts: &[&str]) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(key).expect("a key of any length will do");
    for part in parts {
        if parts.len() > 1 {
            mac.update(&(part.len() as u64).to_le_bytes());
        }
        mac.update(part.as_bytes());
    }
    mac
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_token_tells_of_its_attempt_and_no_other_is_admitted() {
        let (signer, other) = (Signer::new("run-1", "job-1", 1000), Signer::new("run-1", "job-1", 1000));
        let token = signer.token().expose_secret();
        let claims = token.split('.').nth(1).unwrap();
        let claims: serde_json::Value =
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(claims["scp"], "Actions.Results:run-1:job-1");
        assert!(signer.admits(Some(&format!("Bearer {token}"))) && signer.admits(Some(&format!("bearer {token}"))));
        assert!(!other.admits(Some(&format!("Bearer {token}"))));
        for wrong in [None, Some(""), Some(token), Some("Bearer "), Some("Basic x")] {
            assert!(!signer.admits(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn an_address_is_for_one_thing_and_ends() {
        let signer = Signer::new("run-1", "job-1", 0);
        let query = signer.sign("upload/7", 1000);
        let (expiry, signature) = query.strip_prefix("se=").unwrap().split_once("&sig=").unwrap();
        assert!(signer.is_signed("upload/7", expiry, signature, 1000 + ADDRESS_SECONDS));
        assert!(!signer.is_signed("upload/7", expiry, signature, 1001 + ADDRESS_SECONDS));
        assert!(!signer.is_signed("upload/8", expiry, signature, 1000));
        assert!(!signer.is_signed("upload/7", "99999999999", signature, 1000));
        assert!(!signer.is_signed("upload/7", expiry, "zz", 1000));
        assert!(!signer.is_signed("upload/7", expiry, "", 1000));
    }
}
