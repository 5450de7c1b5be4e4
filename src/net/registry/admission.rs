//! Which requests of a guest are reads from a registry that it may use, and at which address each is made. Pure; everything
//! that is not recognised is refused.

use std::fmt;

use axum::http::{Method, Uri};
use url::Url;

use super::cargo::{self, Download};
use crate::config::{Registry, RegistryKind, Scoped};
use crate::document::reader::quoted;

/// A request that is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// What is at this address, which is below the registry's own.
    At(Url),
    /// The description of a sparse index, by which Cargo finds packages.
    CargoConfig,
    CargoCrate(Download),
    /// The guest is sent there, by its own means: the registry has nothing to do with it.
    Elsewhere(Url),
}

/// Why a request is not made. The text is for the guest's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Not addressed to any registry at all.
    NoRegistry,
    /// There is none of that name, or this job may not use it.
    Unknown(String),
    Method,
    Path,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRegistry => out.write_str("only package registries are served here, below their names"),
            Self::Unknown(name) => write!(out, "there is no registry {} for this job", quoted(name)),
            Self::Method => out.write_str("registries are read here, and nothing is published to them"),
            Self::Path => out.write_str("not a path below the registry's address"),
        }
    }
}

/// The name of the registry that is addressed, and the path below that.
pub fn split(target: &Uri) -> Result<(&str, &str), Refusal> {
    // `GET http://elsewhere/…` and CONNECT: this is no general proxy.
    if target.scheme().is_some() || target.authority().is_some() {
        return Err(Refusal::NoRegistry);
    }
    let path = target.path().strip_prefix('/').ok_or(Refusal::NoRegistry)?;
    path.split_once('/').filter(|(name, _)| !name.is_empty()).ok_or(Refusal::NoRegistry)
}

/// Decides about one request to `registry`.
pub fn admit(registry: &Registry, method: &Method, path: &str, query: Option<&str>) -> Result<Ask, Refusal> {
    let segments = segments(path)?;
    if let RegistryKind::Npm { scoped: Some(Scoped { scopes, others }) } = &registry.kind
        && !segments.iter().any(|segment| scopes.contains(segment))
    {
        return below(others, localized(others, path), query).ok_or(Refusal::Path).map(Ask::Elsewhere);
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Refusal::Method);
    }
    if matches!(registry.kind, RegistryKind::Cargo { .. }) {
        match segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["config.json"] => return Ok(Ask::CargoConfig),
            [cargo::DOWNLOADS, name, version, checksum] => {
                return Download::new(name, version, checksum).map(Ask::CargoCrate).ok_or(Refusal::Path);
            }
            _ => {}
        }
    }
    let path = match &registry.kind {
        RegistryKind::Npm { .. } => localized(&registry.url, path),
        _ => path,
    };
    below(&registry.url, path, query).map(Ask::At).ok_or(Refusal::Path)
}

/// Where npm replaces only the host of an address, the base's own path is still in front of a package's: it is taken off. A package
/// may have the name with which that path ends, and then nothing but a file of it follows.
fn localized<'p>(base: &Url, path: &'p str) -> &'p str {
    let own = &base.path()[1..];
    path.strip_prefix(own).filter(|inner| !own.is_empty() && !inner.starts_with("-/")).unwrap_or(path)
}

/// The decoded segments, none of which leads elsewhere however often it is decoded.
fn segments(path: &str) -> Result<Vec<String>, Refusal> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~@+!$&'()*,;=:%".contains(&b);
    if !path.bytes().all(is_plain) {
        return Err(Refusal::Path);
    }
    let decoded = decode(path).ok_or(Refusal::Path)?;
    let is_odd = |c: char| c.is_control() || matches!(c, '%' | '\\' | '?' | '#');
    if decoded.chars().any(is_odd) {
        return Err(Refusal::Path);
    }
    // A slash at the end, as in `simple/NAME/`, is one segment less.
    let segments: Vec<String> = decoded.strip_suffix('/').unwrap_or(&decoded).split('/').map(str::to_owned).collect();
    let is_whole = decoded.is_empty() || segments.iter().all(|segment| !matches!(segment.as_str(), "" | "." | ".."));
    if is_whole { Ok(segments) } else { Err(Refusal::Path) }
}

/// `%XX` replaced, once; nothing if that is not text.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        if first == b'%' {
            let (code, others) = others.split_at_checked(2)?;
            bytes.push(hex::decode(code).ok()?[0]);
            rest = others;
        } else {
            bytes.push(first);
            rest = others;
        }
    }
    String::from_utf8(bytes).ok()
}

/// The address of `path` below `base`.
fn below(base: &Url, path: &str, query: Option<&str>) -> Option<Url> {
    let own = base.path();
    let mut url = base.clone();
    url.set_path(&format!("{own}{path}"));
    url.set_query(query);
    // The last word: whatever an address means to those who read it, it is below the base.
    (url.path().starts_with(own) && url.origin() == base.origin()).then_some(url)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::net::registry::samples;

    fn decide(registry: &Registry, method: &Method, target: &str) -> String {
        let target: Uri = target.parse().unwrap();
        let decided = split(&target).and_then(|(name, path)| {
            assert_eq!(name, registry.name);
            admit(registry, method, path, target.query())
        });
        match decided {
            Ok(Ask::At(url)) => url.to_string(),
            Ok(Ask::Elsewhere(url)) => format!("elsewhere: {url}"),
            Ok(other) => format!("{other:?}"),
            Err(refusal) => format!("{refusal:?}"),
        }
    }

    #[test]
    fn what_is_below_a_registry_is_read_there_and_nothing_else() {
        let registry = samples::registry("one", RegistryKind::Npm { scoped: None }, "https://npm.example/repo/npm/");
        for (target, expected) in [
            ("/one/left-pad", "https://npm.example/repo/npm/left-pad"),
            ("/one/@acme%2fbox", "https://npm.example/repo/npm/@acme%2fbox"),
            ("/one/@acme/box/-/box-1.0.0.tgz", "https://npm.example/repo/npm/@acme/box/-/box-1.0.0.tgz"),
            ("/one/repo/npm/@acme/box/-/box-1.0.0.tgz", "https://npm.example/repo/npm/@acme/box/-/box-1.0.0.tgz"),
            ("/one/repo/npm/-/npm-1.0.0.tgz", "https://npm.example/repo/npm/repo/npm/-/npm-1.0.0.tgz"),
            ("/one/-/v1/search?text=a&size=1", "https://npm.example/repo/npm/-/v1/search?text=a&size=1"),
            ("/one/", "https://npm.example/repo/npm/"),
            ("/one/../other", "Path"),
            ("/one/..%2f..%2fother", "Path"),
            ("/one/%2e%2e/other", "Path"),
            ("/one/%252e%252e/other", "Path"),
            ("/one/a/./b", "Path"),
            ("/one//other/", "Path"),
            ("/one/a//b", "Path"),
            ("/one/a%00b", "Path"),
            ("/one/a%5c..%5cb", "Path"),
            ("/one/a%3fb", "Path"),
            ("/one/a%2", "Path"),
            ("/one/a%ff", "Path"),
            ("/one", "NoRegistry"),
            ("//one/a", "NoRegistry"),
            ("http://npm.example/repo/npm/a", "NoRegistry"),
        ] {
            assert_eq!(decide(&registry, &Method::GET, target), expected, "{target}");
        }
        assert_eq!(decide(&registry, &Method::PUT, "/one/left-pad"), "Method");
        assert_eq!(decide(&registry, &Method::POST, "/one/-/npm/v1/security/advisories/bulk"), "Method");
    }

    #[test]
    fn what_is_not_of_its_scopes_is_elsewhere() {
        let kind = samples::npm_with(&["@acme"]);
        let registry = samples::registry("one", kind, "https://npm.example/");
        for (target, expected) in [
            ("/one/@acme%2fbox", "https://npm.example/@acme%2fbox"),
            ("/one/download/@acme/box/1.0.0/x", "https://npm.example/download/@acme/box/1.0.0/x"),
            ("/one/left-pad", "elsewhere: https://others.example/left-pad"),
            ("/one/@other%2fbox?x=1", "elsewhere: https://others.example/@other%2fbox?x=1"),
        ] {
            assert_eq!(decide(&registry, &Method::GET, target), expected, "{target}");
        }
    }

    #[test]
    fn cargo_asks_for_a_description_crates_and_an_index() {
        let registry = samples::registry("one", RegistryKind::Cargo { extra: false }, "https://c.example/index/");
        let sum = "0".repeat(64);
        for (target, expected) in [
            ("/one/config.json", "CargoConfig".to_owned()),
            ("/one/se/rd/serde", "https://c.example/index/se/rd/serde".to_owned()),
            (
                &format!("/one/+crate/serde/1.0.0+b/{sum}"),
                format!("CargoCrate(Download {{ name: \"serde\", version: \"1.0.0+b\", checksum: \"{sum}\" }})"),
            ),
            (&format!("/one/+crate/se%20rde/1.0.0/{sum}"), "Path".to_owned()),
            ("/one/+crate/serde/1.0.0/none", "Path".to_owned()),
        ] {
            assert_eq!(decide(&registry, &Method::GET, target), expected, "{target}");
        }
    }

    proptest! {
        /// Whatever a guest writes, nothing but what is below the address is asked for, and no decoding of it leads out.
        #[test]
        fn nothing_leads_out_of_a_registry(path in "(([a-z@.%/+-]|%2[eEfF5]|\\.\\.|%252e){0,12}/?){0,4}", npm: bool) {
            let kind = if npm { RegistryKind::Npm { scoped: None } } else { RegistryKind::Generic };
            let registry = samples::registry("one", kind, "https://npm.example/repo/npm/");
            if let Ok(Ask::At(url)) = admit(&registry, &Method::GET, &path, None) {
                let mut text = url.to_string();
                for _ in 0..3 {
                    prop_assert!(text.starts_with("https://npm.example/repo/npm/"));
                    prop_assert!(!text.split(['/', '\\']).any(|part| part == ".."), "{}", text);
                    text = decode(&text).unwrap_or(text);
                }
            }
        }
    }
}
