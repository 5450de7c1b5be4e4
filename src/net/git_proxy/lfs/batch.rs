//! The words of Git LFS's batch requests, read and written. Pure.
//!
//! Nothing of the guest's request reaches the forge but ids and sizes, and nothing of the forge's answer reaches the guest but
//! ids, sizes and what is wrong with them: addresses and headers of downloads stay on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use axum::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, RANGE, TE, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::document::reader::quoted;

/// The type of all documents here.
pub(super) const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// Objects of one request. The usual client asks for 100 at a time.
pub(super) const MAX_OBJECTS: usize = 1_000;

/// Bytes of the address of a download. Those that stores of objects sign have one or two thousand.
const MAX_ADDRESS: usize = 8 << 10;

/// Headers of a download, and the bytes of all of them.
const MAX_HEADERS: usize = 20;
const MAX_HEADER_BYTES: usize = 8 << 10;

/// What the host decides itself: a download with one of these could read another answer than its own.
const OWN_HEADERS: [HeaderName; 9] =
    [ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, RANGE, TE, TRANSFER_ENCODING, UPGRADE];

/// The only hash and the only way of transfer that are spoken here.
const HASH: &str = "sha256";
const TRANSFER: &str = "basic";

/// The SHA-256 of an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid([u8; 32]);

impl Oid {
    /// 64 hexadecimal digits in small letters, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let is_small = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        (is_small && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(Self(bytes))
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// An object as it is asked for, its size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) oid: Oid,
    pub(super) size: u64,
}

/// Why a guest's request is not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BadRequest {
    Unreadable,
    /// Something other than a download.
    Operation(String),
    Transfer,
    Hash(String),
    Oid(String),
    TooMany(usize),
}

impl fmt::Display for BadRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => out.write_str("the request is no batch request of Git LFS"),
            Self::Operation(operation) => {
                write!(out, "jobs can only download from Git LFS: the operation {} is refused", quoted(operation))
            }
            Self::Transfer => write!(out, "only the transfer `{TRANSFER}` of Git LFS is served here"),
            Self::Hash(name) => write!(out, "objects of Git LFS are named by `{HASH}` here, not by {}", quoted(name)),
            Self::Oid(oid) => write!(out, "{} is no id of an object of Git LFS", quoted(oid)),
            Self::TooMany(count) => write!(out, "{count} objects at once are more than {MAX_OBJECTS}"),
        }
    }
}

#[derive(Deserialize)]
struct Asked {
    operation: String,
    transfers: Option<Vec<String>>,
    hash_algo: Option<String>,
    objects: Vec<AskedObject>,
}

#[derive(Deserialize)]
struct AskedObject {
    oid: String,
    size: u64,
}

/// Reads a guest's request. An object that is named twice is there once.
pub(super) fn asked(document: &[u8]) -> Result<Vec<Object>, BadRequest> {
    let asked: Asked = serde_json::from_slice(document).map_err(|_| BadRequest::Unreadable)?;
    if asked.operation != "download" {
        return Err(BadRequest::Operation(asked.operation));
    }
    // Without a list it is the basic one.
    if asked.transfers.is_some_and(|known| !known.is_empty() && !known.iter().any(|name| name == TRANSFER)) {
        return Err(BadRequest::Transfer);
    }
    if let Some(other) = asked.hash_algo.filter(|name| name != HASH) {
        return Err(BadRequest::Hash(other));
    }
    if asked.objects.len() > MAX_OBJECTS {
        return Err(BadRequest::TooMany(asked.objects.len()));
    }
    let mut seen = BTreeSet::new();
    let mut objects = Vec::with_capacity(asked.objects.len());
    for AskedObject { oid, size } in asked.objects {
        let oid = Oid::parse(&oid).ok_or(BadRequest::Oid(oid))?;
        if seen.insert(oid) {
            objects.push(Object { oid, size });
        }
    }
    Ok(objects)
}

/// The host's own request for these objects.
pub(super) fn composed(objects: &[Object]) -> Vec<u8> {
    let objects: Vec<Value> =
        objects.iter().map(|Object { oid, size }| json!({ "oid": oid.to_string(), "size": size })).collect();
    let request = json!({ "operation": "download", "transfers": [TRANSFER], "hash_algo": HASH, "objects": objects });
    request.to_string().into_bytes()
}

/// Where an object is downloaded from, and with which headers. Both are secrets: addresses of stores are signed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Download {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// Bytes of the object.
    pub(super) size: u64,
}

impl Download {
    /// About as many bytes as it takes to remember it.
    pub(super) fn weight(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        size_of::<Self>() + self.url.as_str().len() + headers.sum::<usize>()
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Download({:?}, {} bytes)", self.url.host_str().unwrap_or_default(), self.size)
    }
}

/// Why an object cannot be downloaded, in the protocol's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectError {
    /// As an HTTP status.
    pub(super) code: u16,
    pub(super) message: String,
}

impl ObjectError {
    pub(super) fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn other_size(here: &str, size: u64, asked: u64) -> Self {
        Self::new(422, format!("the object has {size} bytes {here}, and {asked} in the commit"))
    }
}

#[derive(Deserialize)]
struct Answered {
    transfer: Option<String>,
    hash_algo: Option<String>,
    objects: Vec<AnsweredObject>,
}

#[derive(Deserialize)]
struct AnsweredObject {
    oid: String,
    size: Option<u64>,
    actions: Option<Actions>,
    error: Option<AnsweredError>,
}

#[derive(Deserialize)]
struct Actions {
    download: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    header: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct AnsweredError {
    code: i64,
    #[serde(default)]
    message: String,
}

/// Reads the forge's answer: one result for each of the objects that were asked for, in their order. What was not asked for is
/// dropped. `forge` is an address at the forge: without encryption its downloads lead only where it has none itself.
/// Nothing where it is no answer.
pub(super) fn answered(
    document: &[u8], asked: &[Object], forge: &Url,
) -> Option<Vec<(Object, Result<Download, ObjectError>)>> {
    let answered: Answered = serde_json::from_slice(document).ok()?;
    if answered.transfer.is_some_and(|name| name != TRANSFER) || answered.hash_algo.is_some_and(|name| name != HASH) {
        return None;
    }
    let mut found: BTreeMap<Oid, AnsweredObject> =
        answered.objects.into_iter().filter_map(|object| Some((Oid::parse(&object.oid)?, object))).collect();
    let results = asked.iter().map(|&object| {
        let result = match found.remove(&object.oid) {
            Some(answer) => download(object, answer, forge),
            None => Err(ObjectError::new(404, "the forge says nothing of this object")),
        };
        (object, result)
    });
    Some(results.collect())
}

fn download(object: Object, answer: AnsweredObject, forge: &Url) -> Result<Download, ObjectError> {
    if let Some(AnsweredError { code, message }) = answer.error {
        // A 401 would make a client ask for credentials.
        let code = u16::try_from(code).ok().filter(|code| (400..600).contains(code) && *code != 401).unwrap_or(403);
        return Err(ObjectError::new(code, format!("the forge says {}", quoted(&message))));
    }
    if let Some(size) = answer.size.filter(|size| *size != object.size) {
        return Err(ObjectError::other_size("at the forge", size, object.size));
    }
    let missing = || ObjectError::new(404, "the forge does not have this object");
    let Action { href, header } = answer.actions.and_then(|actions| actions.download).ok_or_else(missing)?;
    let unusable = |what| ObjectError::new(502, format!("the forge answered with {what} that cannot be used"));
    let url = address(&href, forge).ok_or_else(|| unusable("an address"))?;
    let headers = headers(&header.unwrap_or_default()).ok_or_else(|| unusable("a header"))?;
    Ok(Download { url, headers, size: object.size })
}

fn address(href: &str, forge: &Url) -> Option<Url> {
    let url = Url::parse(href).ok().filter(|_| href.len() <= MAX_ADDRESS)?;
    let is_allowed = url.scheme() == "https" || (url.scheme() == "http" && forge.scheme() == "http");
    // Names in an address would become a header.
    (is_allowed && url.has_host() && url.username().is_empty() && url.password().is_none()).then_some(url)
}

fn headers(header: &BTreeMap<String, String>) -> Option<HeaderMap> {
    let bytes: usize = header.iter().map(|(name, value)| name.len() + value.len()).sum();
    if header.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        return None;
    }
    let read = header.iter().map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| !OWN_HEADERS.contains(name))?;
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    });
    read.collect()
}

/// What the forge's own downloads are shown where the answer has nothing of that kind.
pub(super) fn with_credential(download: &Download, forge: &Url, credential: Option<HeaderValue>) -> HeaderMap {
    let mut headers = download.headers.clone();
    if let Some(credential) = credential
        && download.url.origin() == forge.origin()
        && !headers.contains_key(AUTHORIZATION)
    {
        headers.insert(AUTHORIZATION, credential);
    }
    headers
}

/// The answer for the guest. `base` is the address of objects at the proxy, without a slash at its end.
pub(super) fn for_guest<T>(results: &[(Object, Result<T, ObjectError>)], base: &str) -> Vec<u8> {
    let objects: Vec<Value> = results.iter().map(|(object, result)| one_for_guest(*object, result, base)).collect();
    json!({ "transfer": TRANSFER, "hash_algo": HASH, "objects": objects }).to_string().into_bytes()
}

fn one_for_guest<T>(Object { oid, size }: Object, result: &Result<T, ObjectError>, base: &str) -> Value {
    let oid = oid.to_string();
    match result {
        Ok(_) => {
            let download = json!({ "href": format!("{base}/{oid}") });
            // Else the client would look for credentials.
            json!({ "oid": oid, "size": size, "authenticated": true, "actions": { "download": download } })
        }
        Err(ObjectError { code, message }) => {
            json!({ "oid": oid, "size": size, "error": { "code": code, "message": message } })
        }
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
