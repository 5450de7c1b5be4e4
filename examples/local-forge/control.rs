//! `POST /_control/…`: plays the people who use the forge. Each call changes the repository and sends the webhook that
//! GitHub would send, then answers with what it did.

use std::collections::BTreeMap;
use std::io;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::forge::{Forge, NewPullRequest, Pushed};

#[derive(Clone)]
struct Control {
    forge: Forge,
    repository: String,
}

type Answer = Result<Json<Value>, (StatusCode, String)>;

/// The routes; `repository` is the one that they act upon.
pub(crate) fn router(forge: Forge, repository: String) -> Router {
    Router::new()
        .route("/_control/pull-requests", post(open_pull_request))
        .route("/_control/pull-requests/{number}/push", post(push_to_pull_request))
        .route("/_control/pull-requests/{number}/close", post(close_pull_request))
        .route("/_control/comments", post(comment))
        .route("/_control/permissions", post(set_permission))
        .route("/_control/check-runs/{id}/rerequest", post(rerequest))
        .route("/_control/push", post(push))
        .route("/_control/writes", get(writes))
        .with_state(Control { forge, repository })
}

/// Content by path.
type Files = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenPullRequest {
    #[serde(default = "default_title")]
    title: String,
    files: Files,
    #[serde(default)]
    from_fork: bool,
    /// The webhook gets lost on its way.
    #[serde(default)]
    lost: bool,
}

fn default_title() -> String {
    "A change".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    #[serde(default = "default_branch")]
    branch: String,
    #[serde(default = "default_title")]
    message: String,
    files: Files,
}

fn default_branch() -> String {
    "main".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PushToPullRequest {
    files: Files,
    /// The webhook gets lost on its way.
    #[serde(default)]
    lost: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Comment {
    number: u64,
    author: String,
    body: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetPermission {
    user: String,
    permission: String,
}

async fn open_pull_request(State(control): State<Control>, Json(asked): Json<OpenPullRequest>) -> Answer {
    let new = NewPullRequest {
        title: &asked.title,
        files: &pairs(&asked.files),
        author: if asked.from_fork { "stranger" } else { "octocat" },
        from_fork: asked.from_fork,
        ..NewPullRequest::default()
    };
    let pull = control.forge.open_pull_request(&control.repository, new).await.map_err(failed)?;
    let payload = control.forge.pull_request_payload(&pull, "opened");
    control.forge.lose_deliveries(usize::from(asked.lost));
    deliver(&control, "pull_request", &payload, json!({"number": pull.number, "sha": pull.sha})).await
}

async fn push_to_pull_request(
    State(control): State<Control>, Path(number): Path<u64>, Json(asked): Json<PushToPullRequest>,
) -> Answer {
    let files = pairs(&asked.files);
    let pull = control.forge.push_to_pull_request(&control.repository, number, &files).await.map_err(failed)?;
    let payload = control.forge.pull_request_payload(&pull, "synchronize");
    control.forge.lose_deliveries(usize::from(asked.lost));
    deliver(&control, "pull_request", &payload, json!({"number": pull.number, "sha": pull.sha})).await
}

async fn close_pull_request(State(control): State<Control>, Path(number): Path<u64>) -> Answer {
    let pull = control.forge.close_pull_request(&control.repository, number).map_err(failed)?;
    let payload = control.forge.pull_request_payload(&pull, "closed");
    deliver(&control, "pull_request", &payload, json!({"number": pull.number, "sha": pull.sha})).await
}

async fn comment(State(control): State<Control>, Json(asked): Json<Comment>) -> Answer {
    let pull = control.forge.pull_request(&control.repository, asked.number).map_err(failed)?;
    let payload = control.forge.comment_payload(&pull, &asked.author, &asked.body);
    deliver(&control, "issue_comment", &payload, json!({"number": pull.number, "sha": pull.sha})).await
}

async fn set_permission(State(control): State<Control>, Json(asked): Json<SetPermission>) -> Answer {
    control.forge.set_permission(&control.repository, &asked.user, &asked.permission).map_err(failed)?;
    Ok(Json(json!({"user": asked.user, "permission": asked.permission})))
}

/// Presses "Re-run" of a check run.
async fn rerequest(State(control): State<Control>, Path(id): Path<u64>) -> Answer {
    let run = control.forge.check_runs().into_iter().find(|run| run.id == id);
    let run = run.ok_or_else(|| failed(io::Error::other(format!("there is no check run {id}"))))?;
    let payload = control.forge.check_run_rerequested_payload(&run);
    deliver(&control, "check_run", &payload, json!({"name": run.name, "sha": run.head_sha})).await
}

async fn push(State(control): State<Control>, Json(asked): Json<Push>) -> Answer {
    let Control { forge, repository } = &control;
    let before = forge.branch(repository, &asked.branch).await.map_err(failed)?;
    let files = pairs(&asked.files);
    let after = forge.commit(repository, &asked.branch, &files, &asked.message).await.map_err(failed)?;
    let changed: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
    let pushed = Pushed { branch: &asked.branch, before: before.as_deref(), after: Some(&after), changed: &changed };
    let payload = forge.push_payload(repository, pushed);
    deliver(&control, "push", &payload, json!({"sha": after})).await
}

/// What Dayfly wrote so far, oldest first.
async fn writes(State(control): State<Control>) -> Json<Value> {
    let writes = control.forge.writes();
    let shown = writes.into_iter().map(|write| {
        json!({"kind": format!("{:?}", write.kind), "repository": write.repository, "sha": write.sha, "body": write.body})
    });
    Json(shown.collect())
}

async fn deliver(control: &Control, event: &str, payload: &Value, mut done: Value) -> Answer {
    match control.forge.deliver(event, payload).await {
        Ok(answer) => done["webhook"] = json!({"status": answer.status, "body": answer.body}),
        Err(error) => done["webhook"] = json!({"error": error.to_string()}),
    }
    Ok(Json(done))
}

fn pairs(files: &Files) -> Vec<(&str, &str)> {
    files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect()
}

fn failed(error: io::Error) -> (StatusCode, String) {
    (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n"))
}
