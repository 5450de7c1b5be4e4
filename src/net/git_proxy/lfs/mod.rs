//! Downloads of Git LFS: the host asks the forge, keeps where each object is, and fetches it when the guest does.
//!
//! Invariants, beside those of the git proxy:
//!
//! - The forge gets requests that the host composed, for ids and sizes, and only to download.
//! - Where objects are, and the headers for it, stay on the host. The guest gets addresses at this proxy and what it asked for:
//!   exactly as many bytes as the commit says.
//! - The forge's credential goes to the forge's own origin, and there only where the forge gave no other. The headers that it
//!   gave go to the origin that it gave them for. Redirects are followed here, to public addresses and to the forge's own host.

pub(super) mod batch;
mod here;
pub(super) mod kept;
mod range;

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, RANGE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;

use super::admission::{Admitted, LfsRequest};
use super::{Place, Shared, Trouble, Way, check_status};
use crate::forge::RepoName;
use crate::net::http::Failure;
use crate::net::transfer::{self, Budget};
use crate::net::upstream::Question;

use batch::{BadRequest, Download, MEDIA_TYPE, Object, ObjectError, Oid};
use range::{Part, Range};

/// Bytes of a guest's batch request; the largest number of objects takes a tenth.
const MAX_REQUEST: u64 = 1 << 20;

/// Bytes of the forge's answer to one, for the largest number of objects.
const MAX_ANSWER: u64 = 16 << 20;

/// Objects of a request with what came of each, in the order of the request.
type Results<T> = Vec<(Object, Result<T, ObjectError>)>;

impl Shared {
    pub(super) async fn lfs(
        &self, place: Place<'_>, admitted: &Admitted, asked: LfsRequest, request: Request<Incoming>,
        held: impl Send + 'static,
    ) -> Result<Response<Body>, Trouble> {
        let oid = match asked {
            LfsRequest::Batch => return self.answer_batch(place, admitted, request).await,
            LfsRequest::Object(oid) => oid,
        };
        let range = request.headers().get(RANGE).and_then(|range| Range::parse(range.to_str().ok()?));
        match place {
            Place::Here(directory) => self.object_here(directory, admitted, oid, range, held).await,
            Place::There(way) => self.object_there(&way, admitted, oid, range, held).await,
        }
        .map_err(Trouble::from)
    }

    async fn answer_batch(
        &self, place: Place<'_>, admitted: &Admitted, request: Request<Incoming>,
    ) -> Result<Response<Body>, Trouble> {
        let base = guest_address(request.headers(), &admitted.repo)?;
        let spender = Budget::new(MAX_REQUEST).spender();
        let body = transfer::bounded(request.into_body().into_data_stream(), self.limits.idle, spender);
        let document = transfer::whole(body).await.map_err(|error| Failure {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            detail: format!("the batch request of Git LFS was not read: {error}"),
        })?;
        let objects = batch::asked(&document).map_err(|bad| refusal(&bad))?;
        let answer = match place {
            Place::Here(directory) => batch::for_guest(&here::find(directory, objects).await?, &base),
            Place::There(way) => batch::for_guest(&self.find_there(&way, admitted, &objects).await?, &base),
        };
        Ok(json_answer(StatusCode::OK, answer))
    }

    /// Asks the forge where these objects are, and remembers that.
    async fn find_there(
        &self, way: &Way<'_>, admitted: &Admitted, objects: &[Object],
    ) -> Result<Results<Arc<Download>>, Failure> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let repo = &admitted.repo;
        let mut url = way.upstream.url.clone();
        url.set_path(&format!("{}.git/info/lfs/objects/batch", url.path().trim_end_matches('/')));
        url.set_query(None);
        let mut outgoing = way.client.to(&url).post(url).body(batch::composed(objects));
        outgoing = outgoing.header(ACCEPT, MEDIA_TYPE).header(CONTENT_TYPE, MEDIA_TYPE);
        if let Some(authorization) = way.authorization()? {
            outgoing = outgoing.header(AUTHORIZATION, authorization);
        }
        let answer = self.sent(outgoing).await?;
        check_batch_status(admitted, answer.status())?;
        let (mut all, mut one) = (self.responses.spender(), Budget::new(MAX_ANSWER).spender());
        let body = transfer::bounded(answer.bytes_stream(), self.limits.idle, move |bytes| one(bytes) && all(bytes));
        let document = transfer::whole(body).await.map_err(|error| Failure::gateway(error.to_string()))?;
        let results = batch::answered(&document, objects, &way.upstream.url).ok_or_else(|| {
            Failure::gateway(format!("the forge's answer about Git LFS objects of `{repo}` does not read"))
        })?;
        let keep = |(object, result): (Object, Result<Download, ObjectError>)| {
            (object, result.map(|download| self.kept.put(repo, object.oid, download)))
        };
        Ok(results.into_iter().map(keep).collect())
    }

    async fn object_there(
        &self, way: &Way<'_>, admitted: &Admitted, oid: Oid, range: Option<Range>, held: impl Send + 'static,
    ) -> Result<Response<Body>, Failure> {
        let repo = &admitted.repo;
        let mut download = self.kept.get(repo, oid).ok_or_else(|| Failure {
            status: StatusCode::NOT_FOUND,
            detail: format!("where `{oid}` is must be asked by a batch request first"),
        })?;
        let part = part_of(range, download.size)?;
        let mut answer = self.ask_store(way, &download, part).await?;
        if may_have_expired(answer.status()) {
            self.count_request()?;
            let object = Object { oid, size: download.size };
            let found = self.find_there(way, admitted, &[object]).await?;
            download = found.into_iter().next().map_or_else(
                || Err(Failure::gateway("the forge's answer is empty")),
                |(_, result)| result.map_err(object_failure),
            )?;
            answer = self.ask_store(way, &download, part).await?;
        }
        let (part, length) = check_object(repo, &answer, download.size, part)?;
        let body = transfer::bounded(answer.bytes_stream(), self.limits.idle, self.responses.spender());
        let body = self.recorded(admitted, transfer::exact(body, length), held);
        Ok(object_answer(body, part, download.size))
    }

    async fn ask_store(
        &self, way: &Way<'_>, download: &Download, part: Option<Part>,
    ) -> Result<reqwest::Response, Failure> {
        let range = part.and_then(|part| HeaderValue::from_str(&part.asked()).ok());
        let headers = batch::with_credential(download, &way.upstream.url, way.authorization()?);
        let question = Question {
            method: Method::GET,
            url: download.url.clone(),
            headers: range.map(|range| (RANGE, range)).into_iter().collect(),
            own: &way.upstream.url,
            credential: (download.url.origin(), headers),
        };
        let asked = tokio::time::timeout(self.limits.answer, way.client.0.ask(question)).await;
        asked.map_err(|_| Failure::gateway("the object did not begin to come in time"))?.map(|(answer, _)| answer)
    }
}

/// Where the guest finds objects of a repository: at the address by which it came here.
fn guest_address(headers: &HeaderMap, repo: &RepoName) -> Result<String, Failure> {
    let host = headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let host = host.filter(|host| !host.as_str().contains('@')).ok_or_else(|| Failure {
        status: StatusCode::BAD_REQUEST,
        detail: "the request does not say whom it asks".to_owned(),
    })?;
    Ok(format!("http://{host}/{repo}.git/info/lfs/objects"))
}

fn refusal(bad: &BadRequest) -> Trouble {
    let status = match bad {
        BadRequest::Operation(_) => StatusCode::FORBIDDEN,
        BadRequest::TooMany(_) => StatusCode::PAYLOAD_TOO_LARGE,
        BadRequest::Hash(_) => StatusCode::CONFLICT,
        BadRequest::Unreadable | BadRequest::Transfer | BadRequest::Oid(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Trouble::Refused(Failure { status, detail: bad.to_string() })
}

/// What forges say of batch requests only; the rest is as for fetches.
fn check_batch_status(admitted: &Admitted, status: StatusCode) -> Result<(), Failure> {
    let repo = &admitted.repo;
    match status.as_u16() {
        429 => Err(Failure { status, detail: format!("the forge asks to wait with Git LFS objects of `{repo}`") }),
        507 | 509 => Err(Failure {
            status: StatusCode::INSUFFICIENT_STORAGE,
            detail: format!("the forge's quota of Git LFS is used up for `{repo}`"),
        }),
        _ => check_status(admitted, status),
    }
}

/// Stores of objects say so in many ways.
fn may_have_expired(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 401 | 403 | 404 | 410)
}

fn object_failure(ObjectError { code, message }: ObjectError) -> Failure {
    Failure { status: StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY), detail: message }
}

/// The part of an object that a range is about, if there is one.
fn part_of(range: Option<Range>, size: u64) -> Result<Option<Part>, Failure> {
    let nothing = || Failure {
        status: StatusCode::RANGE_NOT_SATISFIABLE,
        detail: format!("the object has no such bytes, but {size}"),
    };
    range.map(|range| range.of(size).ok_or_else(nothing)).transpose()
}

/// The part that is coming, and how many bytes that are. What the store wrote besides is dropped: it may ask the guest to
/// authenticate.
fn check_object(
    repo: &RepoName, answer: &reqwest::Response, size: u64, part: Option<Part>,
) -> Result<(Option<Part>, u64), Failure> {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
    let coming = match (answer.status(), part) {
        // The store may ignore the range.
        (StatusCode::OK, _) => (None, size),
        (StatusCode::PARTIAL_CONTENT, Some(part)) if part.is(range, size) => (Some(part), part.length),
        (StatusCode::PARTIAL_CONTENT, _) => {
            return Err(Failure::gateway("the store of objects sends another part than was asked for"));
        }
        (other, _) => {
            let status = if other == StatusCode::NOT_FOUND { other } else { StatusCode::BAD_GATEWAY };
            let detail = format!("the store of Git LFS objects of `{repo}` answered with status {}", other.as_u16());
            return Err(Failure { status, detail });
        }
    };
    match answer.content_length().filter(|length| *length != coming.1) {
        Some(length) => {
            Err(Failure::gateway(format!("the store sends {length} bytes of an object instead of {}", coming.1)))
        }
        None => Ok(coming),
    }
}

fn object_answer(body: Body, part: Option<Part>, size: u64) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, part.map_or(size, |part| part.length).into());
    if let Some(part) = part {
        headers.extend(HeaderValue::from_str(&part.answered(size)).ok().map(|range| (CONTENT_RANGE, range)));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// Whether a request comes from a client of Git LFS, which shows only errors that are written as it expects.
pub(super) fn is_asked(path: &str) -> bool {
    path.contains("/info/lfs/")
}

/// An answer of Dayfly's own for such a client.
pub(super) fn problem(status: StatusCode, text: &str) -> Response<Body> {
    json_answer(status, json!({ "message": format!("dayfly: {text}") }).to_string().into_bytes())
}

fn json_answer(status: StatusCode, document: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(document));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}
