//! Proof that a delivery comes from the forge: an HMAC over the raw bytes, compared in constant time.
//!
//! The ways to fail are told apart for the log and the metrics only. A client gets the same answer to all of them,
//! and the expected value is never shown to anybody.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// What stands before the hexadecimal digits in `X-Hub-Signature-256`.
const PREFIX: &[u8] = b"sha256=";

/// Length of a SHA-256 digest in bytes.
const DIGEST_LENGTH: usize = 32;

/// Why a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the delivery has no header that proves its origin\n  hint: set the secret in the webhook's settings")]
    Missing,
    #[error("the header that proves the delivery's origin is not of the documented form")]
    Malformed,
    #[error(
        "the delivery was signed too long ago, or is of the future\n  hint: set this host's clock, and the forge's"
    )]
    Stale,
    #[error(
        "the signature does not match the body\n  hint: the webhook's secret differs from the configured one, or something \
         in between changes bodies"
    )]
    Wrong,
}

impl SignatureError {
    /// A short, constant word for metric labels.
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Stale => "stale",
            Self::Wrong => "wrong",
        }
    }
}

/// Checks the form of GitHub's `X-Hub-Signature-256` header: without it no body is worth reading.
pub fn check_github_signature(header: Option<&[u8]>) -> Result<(), SignatureError> {
    claimed_digest(header).map(|_| ())
}

fn claimed_digest(header: Option<&[u8]>) -> Result<[u8; DIGEST_LENGTH], SignatureError> {
    let digits = header.ok_or(SignatureError::Missing)?.strip_prefix(PREFIX).ok_or(SignatureError::Malformed)?;
    let mut claimed = [0u8; DIGEST_LENGTH];
    hex::decode_to_slice(digits, &mut claimed).map_err(|_| SignatureError::Malformed)?;
    Ok(claimed)
}

/// Checks the value of GitHub's `X-Hub-Signature-256` header against the raw bytes of the body.
pub fn verify_github(secret: &SecretString, header: Option<&[u8]>, body: &[u8]) -> Result<(), SignatureError> {
    let claimed = claimed_digest(header)?;
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(body);
    mac.verify_slice(&claimed).map_err(|_| SignatureError::Wrong)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of GitHub's documentation.
    const DOCUMENTED: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn documented_secret() -> SecretString {
        SecretString::from("It's a Secret to Everybody")
    }

    fn sign(secret: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(body);
        format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
    }

    #[test]
    fn the_documented_example_is_accepted() {
        assert_eq!(verify_github(&documented_secret(), Some(DOCUMENTED.as_bytes()), b"Hello, World!"), Ok(()));
    }

    #[test]
    fn refusals_are_told_apart() {
        let digits = DOCUMENTED.strip_prefix("sha256=").unwrap();
        let cases: &[(Option<String>, SignatureError)] = &[
            (None, SignatureError::Missing),
            (Some(String::new()), SignatureError::Malformed),
            (Some(digits.to_owned()), SignatureError::Malformed),
            (Some(format!("sha1={digits}")), SignatureError::Malformed),
            (Some(format!("SHA256={digits}")), SignatureError::Malformed),
            (Some(format!(" sha256={digits}")), SignatureError::Malformed),
            (Some(format!("sha256={digits}\n")), SignatureError::Malformed),
            (Some(format!("sha256={}", &digits[1..])), SignatureError::Malformed),
            (Some(format!("sha256={digits}00")), SignatureError::Malformed),
            (Some(format!("sha256=g{}", &digits[1..])), SignatureError::Malformed),
            (Some(format!("sha256=0{}", &digits[1..])), SignatureError::Wrong),
        ];
        for (header, expected) in cases {
            let header = header.as_deref().map(str::as_bytes);
            assert_eq!(verify_github(&documented_secret(), header, b"Hello, World!"), Err(*expected), "{header:?}");
            let form = if *expected == SignatureError::Wrong { Ok(()) } else { Err(*expected) };
            assert_eq!(check_github_signature(header), form, "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_signed_is_accepted(secret in ".{1,80}", body: Vec<u8>) {
            let header = sign(&secret, &body);
            prop_assert_eq!(verify_github(&SecretString::from(secret), Some(header.as_bytes()), &body), Ok(()));
        }

        #[test]
        fn one_flipped_bit_of_the_body_is_refused(
            mut body in prop::collection::vec(any::<u8>(), 1..200), at: prop::sample::Index, bit in 0u8..8,
        ) {
            let header = sign("secret", &body);
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
            let verdict = verify_github(&SecretString::from("secret"), Some(header.as_bytes()), &body);
            prop_assert_eq!(verdict, Err(SignatureError::Wrong));
        }

        #[test]
        fn another_secret_is_refused(body: Vec<u8>, secret in "[a-z]{1,40}") {
            let header = sign(&secret, &body);
            let other = SecretString::from(format!("{secret}x"));
            prop_assert_eq!(verify_github(&other, Some(header.as_bytes()), &body), Err(SignatureError::Wrong));
        }

        #[test]
        fn no_header_panics_or_passes_by_chance(header: Vec<u8>, body: Vec<u8>) {
            prop_assert!(verify_github(&SecretString::from("secret"), Some(&header), &body).is_err());
        }
    }
}
