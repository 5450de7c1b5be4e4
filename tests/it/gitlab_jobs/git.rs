//! Repositories of the small GitLab, served by git's own program to whoever has the token of a job that runs.

use std::path::PathBuf;
use std::process::Stdio;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::local_gitlab::GitLab;

/// Largest request, in bytes.
const MAX_REQUEST: usize = 8 << 20;

#[derive(Clone)]
struct Repositories {
    /// Each below it as `GROUP/NAME.git`.
    root: PathBuf,
    gitlab: GitLab,
}

/// The routes of repositories whose groups are `demo`.
pub(super) fn routes(root: PathBuf, gitlab: GitLab) -> Router {
    Router::new().route("/demo/{*rest}", any(answer)).with_state(Repositories { root, gitlab })
}

async fn answer(State(of): State<Repositories>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if !may_read(&of.gitlab, &head.headers) {
        let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"GitLab\"")];
        return (StatusCode::UNAUTHORIZED, ask).into_response();
    }
    let body = axum::body::to_bytes(body, MAX_REQUEST).await.unwrap();
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &of.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "2")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_CONFIG_KEY_1", "uploadpack.allowAnySHA1InWant")
        .env("GIT_CONFIG_VALUE_1", "true")
        .env("PATH_INFO", head.uri.path())
        .env("REQUEST_METHOD", head.method.as_str())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", text("content-type"))
        .env("HTTP_CONTENT_ENCODING", text("content-encoding"))
        .env("GIT_PROTOCOL", text("git-protocol"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let feed = async move { input.write_all(&body).await.ok() };
    let (_fed, output) = tokio::join!(feed, child.wait_with_output());
    from_cgi(&output.unwrap().stdout)
}

/// Whether this is the token of a job that runs; nobody else is let in.
fn may_read(gitlab: &GitLab, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_of = |token: &str| given == format!("Basic {}", STANDARD.encode(format!("gitlab-ci-token:{token}")));
    gitlab.jobs().iter().any(|job| job.state.is_with_runner() && is_of(&job.token))
}

fn from_cgi(output: &[u8]) -> Response {
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head");
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let body = Bytes::copy_from_slice(&output[end + 4..]);
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let status = value("Status: ").and_then(|status| status.split(' ').next()?.parse().ok()).unwrap_or(200);
    let kind = value("Content-Type: ").unwrap_or_default();
    (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, kind)], body).into_response()
}
