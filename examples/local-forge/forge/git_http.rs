//! Git's smart HTTP, by git's own CGI program: fetching only, and only with a credential.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::credentials::Caller;
use super::git;
use super::server::ApiError;
use super::state::Shared;

/// `GET /OWNER/NAME/info/refs?service=git-upload-pack`: what there is to fetch.
pub async fn info_refs(
    State(shared): State<Arc<Shared>>, Path((owner, name)): Path<(String, String)>, RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if query.as_deref() != Some("service=git-upload-pack") {
        return (StatusCode::FORBIDDEN, "this forge is for fetching\n").into_response();
    }
    serve(&shared, &owner, &name, &headers, Request { method: "GET", path: "info/refs", body: Bytes::new() }).await
}

/// `POST /OWNER/NAME/git-upload-pack`: one round of a fetch.
pub async fn upload_pack(
    State(shared): State<Arc<Shared>>, Path((owner, name)): Path<(String, String)>, headers: HeaderMap, body: Bytes,
) -> Response {
    serve(&shared, &owner, &name, &headers, Request { method: "POST", path: "git-upload-pack", body }).await
}

struct Request {
    method: &'static str,
    path: &'static str,
    body: Bytes,
}

async fn serve(shared: &Shared, owner: &str, name: &str, headers: &HeaderMap, request: Request) -> Response {
    let repository = format!("{owner}/{}", name.strip_suffix(".git").unwrap_or(name));
    if !may_fetch(shared, &repository, headers) {
        let challenge = [("www-authenticate", "Basic realm=\"GitHub\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "a credential for this repository is needed\n").into_response();
    }
    if shared.bare(&repository).is_err() {
        return StatusCode::NOT_FOUND.into_response();
    }
    match backend(shared, &repository, headers, request).await {
        Ok(response) => response,
        Err(error) => ApiError::internal(&error).into_response(),
    }
}

/// GitHub takes a token as the password of the user `x-access-token`.
fn may_fetch(shared: &Shared, repository: &str, headers: &HeaderMap) -> bool {
    let token = || {
        let value = headers.get("authorization")?.to_str().ok()?.strip_prefix("Basic ")?;
        let pair = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
        pair.strip_prefix("x-access-token:").map(str::to_owned)
    };
    token().is_some_and(|token| {
        Caller::of_token(shared, &token).is_ok_and(|caller| caller.require(repository, "contents", "read").is_ok())
    })
}

async fn backend(
    shared: &Shared, repository: &str, headers: &HeaderMap, request: Request,
) -> std::io::Result<Response> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut command = git::git();
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", shared.directory.path())
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("/{repository}.git/{}", request.path))
        .env("REQUEST_METHOD", request.method)
        .env("QUERY_STRING", if request.method == "GET" { "service=git-upload-pack" } else { "" })
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"));
    let output = git::run(command, request.body.to_vec()).await?;
    parse_cgi(&output).ok_or_else(|| std::io::Error::other("git http-backend answered no headers"))
}

/// Headers, an empty line, the body; the status is a header of its own.
fn parse_cgi(output: &[u8]) -> Option<Response> {
    let end = output.windows(4).position(|window| window == b"\r\n\r\n")?;
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).ok()?.split("\r\n") {
        let (name, value) = line.split_once(": ")?;
        response = match name {
            "Status" => response.status(value.split(' ').next()?),
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(output[end + 4..].to_vec())).ok()
}
