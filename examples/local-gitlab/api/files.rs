//! Projects, commits, files, and git's smart HTTP for fetching.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::git;
use super::state::{Project, Refusal, Shared, TOKEN};

type Answer<T> = Result<T, Refusal>;

pub fn project_json(shared: &Shared, project: &Project) -> Value {
    let url = format!("{}/{}", shared.url(), project.path);
    let name = project.path.rsplit('/').next();
    json!({
        "id": project.id, "name": name, "path_with_namespace": project.path, "default_branch": "main", "web_url": url,
        "http_url_to_repo": format!("{url}.git"), "git_http_url": format!("{url}.git"),
    })
}

pub async fn project(
    State(shared): State<Arc<Shared>>, Path(named): Path<String>, headers: HeaderMap,
) -> Answer<Json<Value>> {
    let project = shared.project(&named, &headers)?;
    Ok(Json(project_json(&shared, &project)))
}

pub async fn commit(
    State(shared): State<Arc<Shared>>, Path((named, sha)): Path<(String, String)>, headers: HeaderMap,
) -> Answer<Json<Value>> {
    let id = found(&shared, &named, &headers, &sha, "Commit").await?;
    let now = jiff::Timestamp::now().to_string();
    Ok(Json(json!({"id": id, "short_id": &id[..8], "parent_ids": [], "message": "A change", "committed_date": now})))
}

/// `GET /projects/ID/events`: pushes, newest first.
pub async fn events(
    State(shared): State<Arc<Shared>>, Path(named): Path<String>, headers: HeaderMap,
) -> Answer<Json<Value>> {
    let project = shared.project(&named, &headers)?;
    let state = shared.state();
    Ok(Json(state.pushes.iter().rev().filter(|push| push["project"] == project.path.as_str()).cloned().collect()))
}

pub async fn branch(
    State(shared): State<Arc<Shared>>, Path((named, name)): Path<(String, String)>, headers: HeaderMap,
) -> Answer<Json<Value>> {
    let sha = found(&shared, &named, &headers, &format!("refs/heads/{name}"), "Branch").await?;
    Ok(Json(json!({"name": name, "commit": {"id": sha}})))
}

pub async fn tag(
    State(shared): State<Arc<Shared>>, Path((named, name)): Path<(String, String)>, headers: HeaderMap,
) -> Answer<Json<Value>> {
    let sha = found(&shared, &named, &headers, &format!("refs/tags/{name}"), "Tag").await?;
    Ok(Json(json!({"name": name, "commit": {"id": sha}})))
}

async fn found(shared: &Shared, named: &str, headers: &HeaderMap, name: &str, kind: &str) -> Answer<String> {
    let project = shared.project(named, headers)?;
    project.bare.resolve(name).await?.ok_or_else(|| Refusal::not_found(kind))
}

#[derive(Debug, Deserialize)]
pub struct At {
    #[serde(default)]
    path: String,
    #[serde(rename = "ref")]
    reference: String,
    #[serde(default = "first")]
    page: usize,
    #[serde(default = "usual")]
    per_page: usize,
}

fn first() -> usize {
    1
}

fn usual() -> usize {
    20
}

pub async fn tree(
    State(shared): State<Arc<Shared>>, Path(named): Path<String>, Query(at): Query<At>, headers: HeaderMap,
) -> Answer<Json<Value>> {
    let project = shared.project(&named, &headers)?;
    let missing = || Refusal::not_found("invalid revision or path");
    let sha = project.bare.resolve(&at.reference).await?.ok_or_else(missing)?;
    let entries = project.bare.list(&sha, &at.path).await?.ok_or_else(missing)?;
    let kind = |mode: &str| match mode {
        "040000" => "tree",
        "160000" => "commit",
        _ => "blob",
    };
    let listed = entries
        .iter()
        .skip((at.page - 1) * at.per_page)
        .take(at.per_page.min(100))
        .map(|entry| json!({"id": entry.sha, "name": entry.name, "type": kind(&entry.mode), "mode": entry.mode}));
    Ok(Json(listed.collect()))
}

pub async fn raw(
    State(shared): State<Arc<Shared>>, Path((named, path)): Path<(String, String)>, Query(at): Query<At>,
    headers: HeaderMap,
) -> Answer<Vec<u8>> {
    let project = shared.project(&named, &headers)?;
    let sha = project.bare.resolve(&at.reference).await?.ok_or_else(|| Refusal::not_found("Commit"))?;
    project.bare.read(&sha, &path).await?.ok_or_else(|| Refusal::not_found("File"))
}

/// `GET /GROUP/…/NAME.git/info/refs` and `POST …/git-upload-pack`, by git's own CGI program, with the token only.
pub async fn git(
    State(shared): State<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes,
) -> Response {
    let parts =
        ["/info/refs", "/git-upload-pack"].into_iter().find_map(|end| Some((uri.path().strip_suffix(end)?, end)));
    let Some((repository, end)) = parts else { return Refusal::not_found("Page").into_response() };
    let pair = STANDARD.encode(format!("oauth2:{TOKEN}"));
    if headers.get("authorization").is_none_or(|value| value.as_bytes() != format!("Basic {pair}").as_bytes()) {
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"GitLab\"")]).into_response();
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut command = git::git();
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", shared.directory.path())
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("{repository}{end}"))
        .env("REQUEST_METHOD", method.as_str())
        .env("QUERY_STRING", uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"));
    let output = git::run(command, body.to_vec()).await.ok();
    output.as_deref().and_then(cgi).unwrap_or_else(|| Refusal::not_found("Repository").into_response())
}

/// Headers, an empty line, the body; the status is a header of its own.
fn cgi(output: &[u8]) -> Option<Response> {
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
