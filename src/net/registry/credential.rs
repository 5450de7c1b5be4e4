//! How the host shows itself to a registry. Pure.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::{RegistryCredential, RegistryKind};

/// The header by which a credential is shown. Nothing where it cannot stand in one, which its reader has checked.
pub(super) fn header(
    kind: &RegistryKind, credential: &RegistryCredential<SecretString>,
) -> Option<(HeaderName, HeaderValue)> {
    let basic = |user: &str, password: &SecretString| {
        let pair = SecretString::from(format!("{user}:{}", password.expose_secret()));
        format!("Basic {}", STANDARD.encode(pair.expose_secret()))
    };
    let (name, text) = match credential {
        RegistryCredential::Token(token) => {
            let text = match kind {
                RegistryKind::Pypi { .. } => basic("__token__", token),
                RegistryKind::Cargo { .. } => token.expose_secret().to_owned(),
                RegistryKind::Npm { .. } | RegistryKind::Maven | RegistryKind::Generic => {
                    format!("Bearer {}", token.expose_secret())
                }
            };
            (AUTHORIZATION, text)
        }
        RegistryCredential::Basic { user, password } => (AUTHORIZATION, basic(user, password)),
        RegistryCredential::Header { name, value } => (name.clone(), value.expose_secret().to_owned()),
    };
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}
