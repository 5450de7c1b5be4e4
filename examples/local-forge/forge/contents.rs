//! Directories and files at a commit.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::credentials::Caller;
use super::git::{Bare, TreeEntry};
use super::server::ApiError;
use super::state::Shared;

/// Larger files come without content, except raw.
const MAX_INLINE_FILE: usize = 1024 * 1024;
/// Longest listing.
const MAX_ENTRIES: usize = 1000;

#[derive(Debug, Deserialize)]
pub struct At {
    #[serde(rename = "ref")]
    reference: Option<String>,
}

/// `GET /repos/OWNER/NAME/contents?ref=…`
pub async fn show_root(
    shared: State<Arc<Shared>>, Path((owner, name)): Path<(String, String)>, at: Query<At>, headers: HeaderMap,
) -> Result<Response, ApiError> {
    show(shared, Path((owner, name, String::new())), at, headers).await
}

/// `GET /repos/OWNER/NAME/contents/PATH?ref=…`
pub async fn show(
    State(shared): State<Arc<Shared>>, Path((owner, name, path)): Path<(String, String, String)>, Query(at): Query<At>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "contents", "read")?;
    let bare = shared.bare(&repository).map_err(|_| ApiError::not_found())?;
    let reference = at.reference.as_deref().unwrap_or("HEAD");
    let sha = bare.resolve(reference).await.map_err(|error| ApiError::internal(&error))?;
    let sha =
        sha.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, &format!("No commit found for the ref {reference}")))?;
    let is_raw = headers.get("accept").is_some_and(|accept| accept.as_bytes() == b"application/vnd.github.raw+json");
    answer(&bare, &sha, path.trim_end_matches('/'), is_raw).await.map_err(|error| ApiError::internal(&error))
}

/// `GET /repos/OWNER/NAME/commits/SHA`, of which only the id is shown, whatever was asked for.
pub async fn show_commit(
    State(shared): State<Arc<Shared>>, Path((owner, name, sha)): Path<(String, String, String)>, headers: HeaderMap,
) -> Result<Response, ApiError> {
    let repository = format!("{owner}/{name}");
    Caller::of_request(&shared, &headers)?.require(&repository, "contents", "read")?;
    let bare = shared.bare(&repository).map_err(|_| ApiError::not_found())?;
    let known = bare.resolve(&sha).await.map_err(|error| ApiError::internal(&error))?;
    let missing = || ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, &format!("No commit found for SHA: {sha}"));
    Ok(([("content-type", "application/vnd.github.sha")], known.ok_or_else(missing)?).into_response())
}

async fn answer(bare: &Bare, sha: &str, path: &str, is_raw: bool) -> std::io::Result<Response> {
    if let Some(entries) = bare.list(sha, path).await? {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let entries: Vec<Value> = entries.iter().take(MAX_ENTRIES).map(|entry| entry_json(entry, &prefix)).collect();
        return Ok(Json(entries).into_response());
    }
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let siblings = bare.list(sha, directory).await?.unwrap_or_default();
    let Some(entry) = siblings.into_iter().find(|entry| entry.name == name) else {
        return Ok(ApiError::not_found().into_response());
    };
    let prefix = path.strip_suffix(name).unwrap_or_default();
    let mut answer = entry_json(&entry, prefix);
    if answer["type"] != "file" {
        return Ok(Json(answer).into_response());
    }
    let bytes = bare.read(sha, path).await?.unwrap_or_default();
    if is_raw {
        return Ok(([("content-type", "application/vnd.github.raw+json")], bytes).into_response());
    }
    if bytes.len() > MAX_INLINE_FILE {
        answer["encoding"] = "none".into();
        answer["content"] = "".into();
    } else {
        answer["encoding"] = "base64".into();
        answer["content"] = in_lines(&STANDARD.encode(bytes)).into();
    }
    Ok(Json(answer).into_response())
}

fn entry_json(entry: &TreeEntry, prefix: &str) -> Value {
    let kind = match entry.mode.as_str() {
        "040000" => "dir",
        "120000" => "symlink",
        "160000" => "submodule",
        _ => "file",
    };
    let path = format!("{prefix}{}", entry.name);
    json!({"type": kind, "name": entry.name, "path": path, "sha": entry.sha, "size": entry.size.unwrap_or(0)})
}

/// Base64 as GitHub breaks it.
fn in_lines(digits: &str) -> String {
    let lines = digits.as_bytes().chunks(60).map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
    lines.collect()
}
