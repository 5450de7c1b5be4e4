//! Proof that a delivery comes from the GitLab that is configured: a secret that it carries, or a signature of its bytes.
//!
//! Which of the two a webhook has to have is the operator's decision, by the form of the secret. A delivery that has the other
//! proof is refused: else whoever reads one delivery with a token could go on without signing.
//!
//! Signatures are those of the Standard Webhooks: HMAC-SHA256 over the id, the time and the body, of which a header may have
//! several, while a key is being exchanged. An old one is refused, so that nobody can store a delivery and send it later.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::Sha256;

use super::super::signature::SignatureError;

/// What the key of signatures begins with.
const KEY_PREFIX: &str = "whsec_";

/// What stands before a signature that this understands.
const VERSION: &[u8] = b"v1,";

/// Bytes of a key; shorter ones can be tried out, and GitLab makes them of 32.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Signatures of one header that are tried.
const MAX_SIGNATURES: usize = 16;

/// How far the time of a delivery may be from this host's, in seconds.
const TOLERANCE: u64 = 5 * 60;

/// What a webhook's deliveries are verified by.
#[derive(Debug)]
pub enum WebhookSecret {
    /// They carry it in `X-Gitlab-Token`.
    Token(SecretString),
    /// They are signed with it.
    Key(SecretSlice<u8>),
}

/// What a delivery says for itself: the values of its headers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Proof<'h> {
    /// `X-Gitlab-Token`.
    pub token: Option<&'h [u8]>,
    /// `webhook-id`.
    pub id: Option<&'h [u8]>,
    /// `webhook-timestamp`, in seconds since the epoch.
    pub timestamp: Option<&'h [u8]>,
    /// `webhook-signature`.
    pub signature: Option<&'h [u8]>,
}

impl WebhookSecret {
    /// Takes a secret as the operator wrote it down.
    ///
    /// # Errors
    /// In words that follow the secret's place: it begins as a key and is none.
    pub fn parse(text: SecretString) -> Result<Self, String> {
        let Some(digits) = text.expose_secret().strip_prefix(KEY_PREFIX) else { return Ok(Self::Token(text)) };
        let key = STANDARD.decode(digits).ok().filter(|key| KEY_BYTES.contains(&key.len()));
        let key = key.ok_or("begins with `whsec_`, and is no key of 24 to 64 bytes in base64")?;
        Ok(Self::Key(key.into()))
    }

    /// Whether a delivery's id is proved with it, and no other header may name it: a copy under another name would else be news.
    pub fn signs_ids(&self) -> bool {
        matches!(self, Self::Key(_))
    }

    /// Checks what can be checked before the body is there, at `now` in seconds since the epoch.
    ///
    /// # Errors
    /// The delivery has not the proof that this secret asks for.
    pub fn check(&self, proof: &Proof<'_>, now: u64) -> Result<(), SignatureError> {
        match self {
            Self::Token(secret) => {
                let claimed = proof.token.ok_or(SignatureError::Missing)?;
                if is_same(claimed, secret.expose_secret().as_bytes()) { Ok(()) } else { Err(SignatureError::Wrong) }
            }
            Self::Key(_) => signed(proof, now).map(drop),
        }
    }

    /// Checks the whole delivery.
    ///
    /// # Errors
    /// As [`WebhookSecret::check`]; or no signature is of this body.
    pub fn verify(&self, proof: &Proof<'_>, body: &[u8], now: u64) -> Result<(), SignatureError> {
        let Self::Key(key) = self else { return self.check(proof, now) };
        let Signed { id, timestamp, signatures } = signed(proof, now)?;
        let mut mac = mac(key.expose_secret());
        for part in [id, b".", timestamp, b".", body] {
            mac.update(part);
        }
        let is_ours = |claimed: &Vec<u8>| mac.clone().verify_slice(claimed).is_ok();
        if signatures.iter().any(is_ours) { Ok(()) } else { Err(SignatureError::Wrong) }
    }
}

/// What is signed, and the signatures.
struct Signed<'h> {
    id: &'h [u8],
    timestamp: &'h [u8],
    signatures: Vec<Vec<u8>>,
}

fn signed<'h>(proof: &Proof<'h>, now: u64) -> Result<Signed<'h>, SignatureError> {
    let (Some(id), Some(timestamp), Some(signature)) = (proof.id, proof.timestamp, proof.signature) else {
        return Err(SignatureError::Missing);
    };
    let at = std::str::from_utf8(timestamp).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let at: u64 = at.and_then(|digits| digits.parse().ok()).ok_or(SignatureError::Malformed)?;
    if at.abs_diff(now) > TOLERANCE {
        return Err(SignatureError::Stale);
    }
    // Versions to come stand beside those of today.
    let known = signature.split(|b| *b == b' ').filter_map(|one| STANDARD.decode(one.strip_prefix(VERSION)?).ok());
    let signatures: Vec<Vec<u8>> = known.take(MAX_SIGNATURES).collect();
    if id.is_empty() || signatures.is_empty() {
        return Err(SignatureError::Malformed);
    }
    Ok(Signed { id, timestamp, signatures })
}

/// Whether two texts are the same, in a time that tells nothing of where they differ.
fn is_same(claimed: &[u8], secret: &[u8]) -> bool {
    let (mut ours, mut theirs) = (mac(secret), mac(secret));
    ours.update(secret);
    theirs.update(claimed);
    theirs.verify_slice(&ours.finalize().into_bytes()).is_ok()
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    /// The example of the Standard Webhooks' documentation.
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &[u8] = b"msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: &[u8] = b"1614265330";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &[u8] = b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn secret(text: &str) -> WebhookSecret {
        WebhookSecret::parse(SecretString::from(text)).unwrap()
    }

    fn example<'h>(signature: &'h [u8]) -> Proof<'h> {
        Proof { id: Some(ID), timestamp: Some(AT), signature: Some(signature), token: None }
    }

    fn sign(key: &[u8], id: &str, at: u64, body: &[u8]) -> String {
        let mut mac = mac(key);
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    #[test]
    fn the_documented_example_is_accepted_among_others() {
        let (secret, at) = (secret(KEY), 1_614_265_330);
        assert_eq!(secret.verify(&example(SIGNATURE), BODY, at), Ok(()));
        let several = [b"v2,abc v1,AAAA ".to_vec(), SIGNATURE.to_vec(), b" v1a,x".to_vec()].concat();
        assert_eq!(secret.verify(&example(&several), BODY, at + TOLERANCE), Ok(()));
        assert_eq!(secret.verify(&example(SIGNATURE), b"{}", at), Err(SignatureError::Wrong));
        assert_eq!(secret.verify(&example(SIGNATURE), BODY, at + TOLERANCE + 1), Err(SignatureError::Stale));
        assert_eq!(secret.verify(&example(SIGNATURE), BODY, at - TOLERANCE - 1), Err(SignatureError::Stale));
        let later = Proof { timestamp: Some(b"1614265331"), ..example(SIGNATURE) };
        assert_eq!(secret.verify(&later, BODY, at), Err(SignatureError::Wrong));
        let another = Proof { id: Some(b"msg_other"), ..example(SIGNATURE) };
        assert_eq!(secret.verify(&another, BODY, at), Err(SignatureError::Wrong));
    }

    #[test]
    fn refusals_are_told_apart() {
        let (key, token) = (secret(KEY), secret("a token that is long enough"));
        let with = |token| Proof { token: Some(token), ..Proof::default() };
        let at = |timestamp| Proof { timestamp: Some(timestamp), ..example(SIGNATURE) };
        let cases: &[(&WebhookSecret, Proof<'_>, SignatureError)] = &[
            (&token, Proof::default(), SignatureError::Missing),
            (&token, example(SIGNATURE), SignatureError::Missing),
            (&token, with(b""), SignatureError::Wrong),
            (&token, with(b"a token that is long enoug"), SignatureError::Wrong),
            (&token, with(b"a token that is long enough\n"), SignatureError::Wrong),
            (&key, Proof::default(), SignatureError::Missing),
            // The key itself in the other header is no proof.
            (&key, with(KEY.as_bytes()), SignatureError::Missing),
            (&key, Proof { id: None, ..example(SIGNATURE) }, SignatureError::Missing),
            (
                &key,
                Proof { id: Some(b""), timestamp: Some(b"1700000000"), ..example(SIGNATURE) },
                SignatureError::Malformed,
            ),
            (&key, at(b"+1700000000"), SignatureError::Malformed),
            (&key, at(b""), SignatureError::Malformed),
            (&key, at(b"99999999999999999999999"), SignatureError::Malformed),
            (&key, at(b"0"), SignatureError::Stale),
            (&key, Proof { timestamp: Some(b"1700000000"), ..example(b"v2,AAAA") }, SignatureError::Malformed),
            (&key, Proof { timestamp: Some(b"1700000000"), ..example(b"v1,not base64") }, SignatureError::Malformed),
            (&key, at(b"1700000000"), SignatureError::Wrong),
        ];
        for (secret, proof, expected) in cases {
            assert_eq!(secret.verify(proof, BODY, NOW), Err(*expected), "{proof:?}");
            let early = if *expected == SignatureError::Wrong && matches!(secret, WebhookSecret::Key(_)) {
                Ok(())
            } else {
                Err(*expected)
            };
            assert_eq!(secret.check(proof, NOW), early, "{proof:?}");
        }
        assert_eq!(token.verify(&with(b"a token that is long enough"), b"whatever", 0), Ok(()));
    }

    #[test]
    fn a_key_that_is_none_is_told_without_its_text() {
        for bad in ["whsec_", "whsec_!!!!", "whsec_c2hvcnQ=", &format!("whsec_{}", STANDARD.encode([7; 65]))] {
            let why = WebhookSecret::parse(SecretString::from(bad)).unwrap_err();
            assert_eq!(why, "begins with `whsec_`, and is no key of 24 to 64 bytes in base64");
        }
        assert!(!format!("{:?}", secret(KEY)).contains("MfKQ"));
    }

    proptest! {
        #[test]
        fn what_was_signed_is_accepted_and_nothing_else(
            key in prop::collection::vec(any::<u8>(), 24..=64), id in "[!-~]{1,40}", body: Vec<u8>, bit in 0usize..8,
        ) {
            let secret = secret(&format!("whsec_{}", STANDARD.encode(&key)));
            let (signature, at) = (sign(&key, &id, NOW, &body), NOW.to_string());
            let proof = Proof {
                token: None,
                id: Some(id.as_bytes()),
                timestamp: Some(at.as_bytes()),
                signature: Some(signature.as_bytes()),
            };
            prop_assert_eq!(secret.verify(&proof, &body, NOW + 7), Ok(()));
            let mut changed = body.clone();
            changed.push(0);
            changed[0] ^= 1 << bit;
            prop_assert_eq!(secret.verify(&proof, &changed, NOW), Err(SignatureError::Wrong));
            let of_another = sign(&[1; 32], &id, NOW, &body);
            let forged = Proof { signature: Some(of_another.as_bytes()), ..proof };
            prop_assert!(key == [1; 32] || secret.verify(&forged, &body, NOW).is_err());
        }

        #[test]
        fn no_header_panics_or_passes_by_chance(headers: [Option<Vec<u8>>; 4], body: Vec<u8>, now: u64) {
            let [token, id, timestamp, signature] = &headers;
            let proof = Proof {
                token: token.as_deref(),
                id: id.as_deref(),
                timestamp: timestamp.as_deref(),
                signature: signature.as_deref(),
            };
            prop_assert!(secret(KEY).verify(&proof, &body, now).is_err());
            prop_assert!(secret("a token that is long enough").verify(&proof, &body, now).is_err());
        }
    }
}
