//! Artifacts come as forms, and go as they came.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};

use super::state::{Shared, job_token, refusal};

const LOCATION: HeaderName = HeaderName::from_static("location");

/// One that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    pub file_name: String,
    /// `artifact_type`.
    pub kind: String,
    /// `artifact_format`.
    pub format: String,
    pub expire_in: Option<String>,
    pub content: Vec<u8>,
}

pub async fn upload(
    State(shared): State<Arc<Shared>>, Path(id): Path<u64>, Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap, body: Bytes,
) -> Response {
    if let Err(refused) = shared.state().authenticated(id, job_token(&headers)) {
        return refused;
    }
    if shared.options.redirects_uploads && !query.contains_key("redirected") {
        let pairs: Vec<String> = query.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let location = format!("/api/v4/jobs/{id}/artifacts?{}&redirected=1", pairs.join("&").replace(' ', "%20"));
        return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response();
    }
    let Some((file_name, content)) = file_of(&headers, &body) else {
        shared.change(|state| state.violate(format!("job {id}: an upload that is no form with a `file`")));
        return refusal(StatusCode::BAD_REQUEST, "400 Bad request", None);
    };
    if content.len() > shared.options.max_artifact {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "413 Request Entity Too Large", None);
    }
    let value = |key: &str| query.get(key).cloned();
    let artifact = Artifact {
        file_name,
        kind: value("artifact_type").unwrap_or_else(|| "archive".to_owned()),
        format: value("artifact_format").unwrap_or_else(|| "zip".to_owned()),
        expire_in: value("expire_in"),
        content,
    };
    shared.change(|state| match state.job_mut(id) {
        // GitLab keeps one of each kind.
        Some(job) if job.artifacts.iter().any(|one| one.kind == artifact.kind && one.content != artifact.content) => {
            state.violate(format!("job {id}: a second artifact of a kind"));
            refusal(StatusCode::BAD_REQUEST, "another artifact of the same type already exists", None)
        }
        Some(job) => {
            job.artifacts.retain(|one| one.kind != artifact.kind);
            job.artifacts.push(artifact);
            StatusCode::CREATED.into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

/// Name and content of the part `file` of a form.
fn file_of(headers: &HeaderMap, body: &[u8]) -> Option<(String, Vec<u8>)> {
    let kind = headers.get("content-type")?.to_str().ok()?;
    let boundary = format!("--{}", kind.strip_prefix("multipart/form-data; boundary=")?.trim_matches('"'));
    let find = |from: &[u8], what: &[u8]| from.windows(what.len()).position(|window| window == what);
    let start = find(body, boundary.as_bytes())? + boundary.len();
    let head_length = find(&body[start..], b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&body[start..start + head_length]).into_owned();
    let content = &body[start + head_length + 4..];
    let end = find(content, format!("\r\n{boundary}--").as_bytes())?;
    let name = head.split_once("filename=\"").and_then(|(_, rest)| rest.split('"').next())?;
    head.contains("name=\"file\"").then(|| (name.to_owned(), content[..end].to_vec()))
}

/// The archive of a job, for a job that depends on it, which has its token.
pub async fn download(State(shared): State<Arc<Shared>>, Path(id): Path<u64>, headers: HeaderMap) -> Response {
    let state = shared.state();
    let Some(job) = state.job(id) else { return refusal(StatusCode::NOT_FOUND, "404 Not found", None) };
    if job_token(&headers) != Some(job.token.as_str()) {
        return refusal(StatusCode::FORBIDDEN, "403 Forbidden", None);
    }
    match job.artifacts.iter().find(|artifact| artifact.kind == "archive") {
        None => refusal(StatusCode::NOT_FOUND, "404 Not found", None),
        Some(_) if shared.options.redirects_downloads => {
            (StatusCode::FOUND, [(LOCATION, format!("/_storage/{id}"))]).into_response()
        }
        Some(archive) => archive.content.clone().into_response(),
    }
}

/// A store of files beside GitLab, which gets no tokens. It is at the same address, so tokens do come here.
pub async fn stored(State(shared): State<Arc<Shared>>, Path(id): Path<u64>) -> Response {
    let state = shared.state();
    let archive = state.job(id).and_then(|job| job.artifacts.iter().find(|artifact| artifact.kind == "archive"));
    archive.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |archive| archive.content.clone().into_response())
}
