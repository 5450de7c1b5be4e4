//! Cargo's sparse registries: the description that says where packages are, as the guest gets it, and that place. Pure.

use serde_json::{Value, json};
use url::Url;

/// Where, below a registry's name, the guest asks for packages.
pub const DOWNLOADS: &str = "+crate";

/// What a registry's `dl` may have in it, to be replaced for each package.
const MARKERS: [&str; 5] = ["{crate}", "{version}", "{prefix}", "{lowerprefix}", "{sha256-checksum}"];

/// Longest name of a package, as crates.io has it.
const MAX_NAME: usize = 64;

/// Longest version of a package.
const MAX_VERSION: usize = 128;

/// A package that a guest asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    name: String,
    version: String,
    /// 64 hexadecimal digits.
    checksum: String,
}

impl Download {
    /// `None` where something of it is not what it is called.
    pub fn new(name: &str, version: &str, checksum: &str) -> Option<Self> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let is_version = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
        let is_whole = (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(is_name)
            && (1..=MAX_VERSION).contains(&version.len())
            && version.bytes().all(is_version)
            && checksum.len() == 64
            && checksum.bytes().all(|b| b.is_ascii_hexdigit());
        let [name, version, checksum] = [name, version, checksum].map(str::to_owned);
        is_whole.then_some(Self { name, version, checksum })
    }

    /// Where the package is, by the registry's `dl`.
    pub fn url(&self, dl: &str) -> Option<Url> {
        let Self { name, version, checksum } = self;
        if !MARKERS.iter().any(|marker| dl.contains(marker)) {
            return Url::parse(&format!("{dl}/{name}/{version}/download")).ok();
        }
        let values = [name, version, &prefix(name), &prefix(&name.to_ascii_lowercase()), checksum];
        let url = MARKERS.iter().zip(values).fold(dl.to_owned(), |url, (marker, value)| url.replace(marker, value));
        Url::parse(&url).ok()
    }
}

/// The directories of a package in an index.
fn prefix(name: &str) -> String {
    match name.len() {
        1 | 2 => name.len().to_string(),
        3 => format!("3/{}", &name[..1]),
        _ => format!("{}/{}", &name[..2], &name[2..4]),
    }
}

/// `dl` of a registry's `config.json`.
pub fn downloads(description: &[u8]) -> Option<String> {
    let description: Value = serde_json::from_slice(description).ok()?;
    description["dl"].as_str().map(str::to_owned)
}

/// `config.json` as the guest gets it: it asks for packages where it asks for everything else, without a credential.
pub fn description(address: &str) -> Vec<u8> {
    json!({ "dl": format!("{address}{DOWNLOADS}/{{crate}}/{{version}}/{{sha256-checksum}}") }).to_string().into_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_where_the_registry_says() {
        let sum = "ab".repeat(32);
        let url = |name: &str, dl: &str| Download::new(name, "1.2.3", &sum).unwrap().url(dl).map(String::from);
        for (name, dl, expected) in [
            ("Serde", "https://c.example/api/v1/crates", "https://c.example/api/v1/crates/Serde/1.2.3/download"),
            ("Serde", "https://c.example/{prefix}/{crate}-{version}", "https://c.example/Se/rd/Serde-1.2.3"),
            ("Se", "https://c.example/{lowerprefix}/{sha256-checksum}", &format!("https://c.example/2/{sum}")),
            ("abc", "https://c.example/{prefix}", "https://c.example/3/a"),
        ] {
            assert_eq!(url(name, dl).as_deref(), Some(expected));
        }
        assert_eq!(url("a", "nowhere/{crate}"), None);
        for (name, version, sum) in
            [("..", "1", &*sum), ("a/b", "1", &sum), ("a", "1/2", &sum), ("a", "1", "ab"), ("é", "1", &sum)]
        {
            assert_eq!(Download::new(name, version, sum), None, "{name} {version}");
        }
    }

    #[test]
    fn the_guest_is_told_to_ask_here() {
        let given = br#"{ "dl": "https://cdn.example/x", "api": "https://c.example", "auth-required": true }"#;
        assert_eq!(downloads(given).as_deref(), Some("https://cdn.example/x"));
        let told = String::from_utf8(description("http://127.0.0.1:3129/one/")).unwrap();
        assert_eq!(told, r#"{"dl":"http://127.0.0.1:3129/one/+crate/{crate}/{version}/{sha256-checksum}"}"#);
        assert_eq!(downloads(b"<html>"), None);
    }
}
