//! A small GitLab on this machine, to try Dayfly's runner without an account.
//!
//! ```text
//! cargo run --example local-gitlab
//! ```
//!
//! It prints one line of JSON with its address and the file with a runner's token, which is all that `[[gitlab]]` needs. Then
//! plan a job, and look at it:
//!
//! ```text
//! curl -d '{"steps": [{"name": "script", "script": ["echo hello"]}]}' -H 'content-type: application/json' URL/_control/jobs
//! curl URL/_control/jobs/1001
//! ```
//!
//! `POST URL/_control/jobs/1001/cancel` cancels it as a person does, with `?force=1` at once.

mod gitlab;

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use gitlab::{GitLab, Options};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(name = "local-gitlab", about = "A small GitLab on this machine, to try Dayfly's runner without an account")]
struct Arguments {
    /// Where to listen; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Have runners acknowledge jobs before they run
    #[arg(long)]
    two_phase: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let options = Options { listen: arguments.listen, two_phase: arguments.two_phase, ..Options::default() };
    let gitlab = GitLab::start_with(options, |gitlab| control(gitlab.clone()))
        .await
        .with_context(|| format!("listening on `{}`", arguments.listen))?;
    let credentials = tempfile::Builder::new().prefix("local-gitlab-credentials-").tempdir()?;
    let token_file = private_file(credentials.path(), "runner-token", &gitlab.add_runner())?;
    writeln!(io::stdout(), "{}", json!({"url": gitlab.url(), "runner_token_file": token_file}))?;
    // The temporary directory goes with the end of this function, so a signal has to arrive here.
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// What people do in GitLab's pages.
fn control(gitlab: GitLab) -> Router {
    Router::new()
        .route("/_control/jobs", post(add))
        .route("/_control/jobs/{id}", get(show))
        .route("/_control/jobs/{id}/cancel", post(cancel))
        .route("/_control/violations", get(violations))
        .with_state(gitlab)
}

async fn add(State(gitlab): State<GitLab>, Json(description): Json<Value>) -> Json<Value> {
    Json(json!({"id": gitlab.add_job(description)}))
}

async fn show(State(gitlab): State<GitLab>, UrlPath(id): UrlPath<u64>) -> Result<Json<Value>, StatusCode> {
    let job = gitlab.jobs().into_iter().find(|job| job.id == id).ok_or(StatusCode::NOT_FOUND)?;
    let artifacts: Vec<&str> = job.artifacts.iter().map(|artifact| artifact.file_name.as_str()).collect();
    Ok(Json(json!({
        "id": id, "state": job.state.as_str(), "failure_reason": job.failure_reason, "exit_code": job.exit_code,
        "artifacts": artifacts, "trace": job.text(),
    })))
}

async fn cancel(
    State(gitlab): State<GitLab>, UrlPath(id): UrlPath<u64>, Query(query): Query<HashMap<String, String>>,
) -> StatusCode {
    gitlab.cancel(id, !query.contains_key("force"));
    StatusCode::NO_CONTENT
}

async fn violations(State(gitlab): State<GitLab>) -> Json<Vec<String>> {
    Json(gitlab.violations())
}

/// Writes a file that only its owner may read.
fn private_file(directory: &Path, name: &str, content: &str) -> io::Result<PathBuf> {
    let path = directory.join(name);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(content.as_bytes())?;
    Ok(path)
}
