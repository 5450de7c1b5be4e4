//! Contents of uploads and downloads, as Azure's blob clients send and ask for them.
//!
//! An upload is one PUT, or blocks (`comp=block`) and then the list of them (`comp=blocklist`). A download is a GET, of a range if
//! it says so; HEAD tells the length.

use std::io::{Seek as _, SeekFrom};
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE,
};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;
use url::form_urlencoded;

use super::reply::{Failure, IDLE, empty, read_small};
use super::uploads::Grant;
use super::{Shared, now_seconds};
use crate::core::heavy;
use crate::depot::{Content, DepotError, Upload};
use crate::net::transfer;

/// What the path of an object begins with: the account, as addresses of hosts without a name have it.
pub(super) const PREFIX: &str = "/blobs/";

/// What the path of an upload begins with, behind that.
pub(super) const UPLOAD: &str = "upload/";

/// The only piece of an upload that comes as a whole.
const WHOLE: &str = "whole";

/// Bytes of a block's name. Azure's own limit, in base64.
const MAX_BLOCK_NAME: usize = 128;

const READ_BUFFER: usize = 64 << 10;

/// The members of an address's query.
#[derive(Debug, Default)]
struct Query {
    expiry: String,
    signature: String,
    component: String,
    block: String,
}

impl Query {
    fn read(text: &str) -> Self {
        let mut query = Self::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "se" => query.expiry = value.into_owned(),
                "sig" => query.signature = value.into_owned(),
                "comp" => query.component = value.into_owned(),
                "blockid" => query.block = value.into_owned(),
                _ => {}
            }
        }
        query
    }
}

impl Shared {
    /// The signed address of an object at the service's address.
    pub(super) fn address(&self, base: &str, object: &str) -> String {
        format!("http://{base}{PREFIX}{object}?{}", self.signer.sign(object, now_seconds()))
    }

    pub(super) async fn blob(
        self: &Arc<Self>, object: &str, request: Request<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        let query = Query::read(request.uri().query().unwrap_or_default());
        if !self.signer.is_signed(object, &query.expiry, &query.signature, now_seconds()) {
            let message = "the address is not signed, or it ended";
            return Err(Failure::new(StatusCode::FORBIDDEN, "AuthenticationFailed", message));
        }
        let (kind, id) = object.split_once('/').unwrap_or((object, ""));
        let id: u64 = id.parse().map_err(|_| Failure::not_found("there is no such object"))?;
        match (kind, request.method()) {
            ("upload", &Method::PUT) => self.put(id, &query, request.into_body()).await,
            ("cache" | "artifact", &Method::GET | &Method::HEAD) => self.get(id, &request),
            _ => Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "UnsupportedHttpVerb", "that is not done with it")),
        }
    }

    async fn put(&self, number: u64, query: &Query, body: Incoming) -> Result<Response<Body>, Failure> {
        match query.component.as_str() {
            "block" if query.block.is_empty() || query.block.len() > MAX_BLOCK_NAME => {
                return Err(Failure::invalid("`blockid` is missing or too long"));
            }
            "block" => self.receive(number, &query.block, body).await?,
            "blocklist" => {
                let list = read_small_list(body).await?;
                self.commit(number, &list)?;
            }
            "" => {
                self.receive(number, WHOLE, body).await?;
                self.commit(number, &[WHOLE.to_owned()])?;
            }
            _ => return Err(Failure::invalid("that is not done with an upload here")),
        }
        let mut response = empty(StatusCode::CREATED);
        response.headers_mut().insert(ETAG, HeaderValue::from_static("\"0\""));
        Ok(response)
    }

    /// Writes one piece of an upload.
    pub(super) async fn receive(&self, number: u64, piece: &str, body: Incoming) -> Result<(), Failure> {
        let upload = self.uploads.get(number)?;
        let received = self.write(&upload, piece, body).await;
        if matches!(received, Err(Written::Depot(DepotError::TooLarge(_)))) {
            // It will never be whole. What is there is let go with its last user.
            drop(upload);
            self.uploads.abandon(number);
        }
        received.map_err(Failure::from)
    }

    async fn write(&self, upload: &Upload, piece: &str, body: Incoming) -> Result<(), Written> {
        let mut block = heavy(|| upload.block(piece))?;
        let mut chunks = Box::pin(transfer::bounded(body.into_data_stream(), IDLE, self.uploaded.spender()));
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(Written::Transfer)?;
            heavy(|| block.write(&chunk))?;
        }
        Ok(())
    }

    /// Puts an upload together.
    pub(super) fn commit(&self, number: u64, pieces: &[String]) -> Result<(), Failure> {
        let upload = self.uploads.close(number)?;
        match heavy(|| upload.commit(pieces)) {
            Ok(uploaded) => {
                self.uploads.complete(number, uploaded);
                Ok(())
            }
            Err(error) => {
                self.uploads.abandon(number);
                Err(error.into())
            }
        }
    }

    fn get(&self, id: u64, request: &Request<Incoming>) -> Result<Response<Body>, Failure> {
        let gone = || Failure::not_found("it was removed");
        let grant = self.uploads.granted(id).ok_or_else(gone)?;
        let (content, mime, name) = match &grant {
            Grant::Cache(found) => (heavy(|| found.open())?, "application/octet-stream", None),
            Grant::Artifact(artifact) => {
                let content = heavy(|| self.tenant.depot.open_artifact(artifact))?;
                (content, artifact.mime.as_str(), Some(artifact.file_name()))
            }
        };
        let content = content.ok_or_else(gone)?;
        let asked = request.headers().get("x-ms-range").or_else(|| request.headers().get(RANGE));
        let range = asked.and_then(|range| range.to_str().ok()).map(|range| range_of(range, content.size));
        let mut response = match (range, request.method() == Method::HEAD) {
            (Some(None), _) => return Ok(empty(StatusCode::RANGE_NOT_SATISFIABLE)),
            (Some(Some((first, last))), is_head) => part(content, first, last, is_head)?,
            (None, is_head) => whole(content, is_head),
        };
        let headers = response.headers_mut();
        let mime = HeaderValue::from_str(mime).unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_TYPE, mime);
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(ETAG, HeaderValue::from_str(&format!("\"{id}\"")).expect("digits are visible"));
        if let Some(disposition) = name.and_then(|name| disposition(&name)) {
            headers.insert(CONTENT_DISPOSITION, disposition);
        }
        Ok(response)
    }
}

/// Why a piece was not written.
#[derive(Debug)]
enum Written {
    Depot(DepotError),
    Transfer(transfer::TransferError),
}

impl From<DepotError> for Written {
    fn from(error: DepotError) -> Self {
        Self::Depot(error)
    }
}

impl From<Written> for Failure {
    fn from(error: Written) -> Self {
        match error {
            Written::Depot(error) => error.into(),
            Written::Transfer(transfer::TransferError::TooLarge) => {
                Failure::exhausted("the job has uploaded as much as it may")
            }
            Written::Transfer(error) => Failure::invalid(error.to_string()),
        }
    }
}

fn whole(content: Content, is_head: bool) -> Response<Body> {
    let size = content.size;
    let mut response = empty(StatusCode::OK);
    if !is_head {
        let file = tokio::fs::File::from_std(content.file).take(size);
        *response.body_mut() = Body::from_stream(ReaderStream::with_capacity(file, READ_BUFFER));
    }
    response.headers_mut().insert(CONTENT_LENGTH, size.into());
    response
}

fn part(mut content: Content, first: u64, last: u64, is_head: bool) -> Result<Response<Body>, Failure> {
    let (size, length) = (content.size, last - first + 1);
    let moved = heavy(|| content.file.seek(SeekFrom::Start(first)));
    moved.map_err(|source| DepotError::Io { what: "an object cannot be read", source })?;
    let mut response = whole(Content { file: content.file, size: length }, is_head);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let range = HeaderValue::from_str(&format!("bytes {first}-{last}/{size}")).expect("digits are visible");
    response.headers_mut().insert(CONTENT_RANGE, range);
    Ok(response)
}

/// First and last byte of a range of something that has `size` bytes; `None` if there is none.
fn range_of(text: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let end = size.checked_sub(1)?;
    let range = match (first, last) {
        ("", suffix) => (size.saturating_sub(suffix.parse::<u64>().ok().filter(|suffix| *suffix > 0)?), end),
        (first, "") => (first.parse().ok()?, end),
        (first, last) => (first.parse().ok()?, last.parse::<u64>().ok()?.min(end)),
    };
    (range.0 <= range.1).then_some(range)
}

/// The header by which clients name the file that they make.
pub(crate) fn disposition(name: &str) -> Option<HeaderValue> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let encoded: String = name.bytes().map(escape).collect();
    HeaderValue::from_str(&format!("attachment; filename*=UTF-8''{encoded}")).ok()
}

/// The names in a list of blocks. Azure's own form of it is XML with nothing but these in it.
async fn read_small_list(body: Incoming) -> Result<Vec<String>, Failure> {
    let text = read_list(body).await?;
    block_names(&text).ok_or_else(|| Failure::invalid("the list of blocks does not read"))
}

async fn read_list(body: Incoming) -> Result<String, Failure> {
    let bytes = read_small(body).await?;
    String::from_utf8(bytes).map_err(|_| Failure::invalid("the list of blocks does not read"))
}

/// What stands in `<Latest>`, `<Uncommitted>` and `<Committed>`.
fn block_names(text: &str) -> Option<Vec<String>> {
    let (_, mut rest) = text.split_once("<BlockList>").or_else(|| text.split_once("<BlockList/>"))?;
    let mut names = Vec::new();
    while let Some((_, element)) = rest.split_once('<') {
        let (tag, behind) = element.split_once('>')?;
        if matches!(tag, "Latest" | "Uncommitted" | "Committed") {
            let (name, behind) = behind.split_once('<')?;
            names.push(name.trim().to_owned());
            rest = behind;
        } else {
            rest = behind;
        }
    }
    Some(names)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_within_the_size() {
        let of = |text| range_of(text, 10);
        assert_eq!([of("bytes=0-3"), of("bytes=4-"), of("bytes=-4")], [Some((0, 3)), Some((4, 9)), Some((6, 9))]);
        assert_eq!([of("bytes=0-99"), of("bytes=-99")], [Some((0, 9)), Some((0, 9))]);
        for none in ["bytes=10-", "bytes=5-4", "bytes=-0", "bytes=", "bytes=a-b", "0-3", "bytes=0-3,5-6", "bytes=-"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(range_of("bytes=0-0", 0), None);
    }

    #[test]
    fn lists_of_blocks_keep_their_order() {
        let list = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?><BlockList><Latest>Yg==</Latest>\
                    <Uncommitted>YQ==</Uncommitted></BlockList>";
        assert_eq!(block_names(list).unwrap(), ["Yg==", "YQ=="]);
        assert_eq!(block_names("<BlockList></BlockList>").unwrap(), [""; 0]);
        assert_eq!(block_names("<BlockList/>").unwrap(), [""; 0]);
        assert!(block_names("<html>").is_none() && block_names("<BlockList><Latest").is_none());
    }

    #[test]
    fn a_name_in_a_header_is_only_a_name() {
        assert_eq!(disposition("a b\"\r\nü.zip").unwrap(), "attachment; filename*=UTF-8''a%20b%22%0D%0A%C3%BC.zip");
    }
}
