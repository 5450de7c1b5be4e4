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
    deliver(&control, "pull_request", &payload, json!({"number": pull.number, "sha": pull.sha})).await
}

async fn push_to_pull_request(
    State(control): State<Control>, Path(number): Path<u64>, Json(asked): Json<PushToPullRequest>,
) -> Answer {
    let files = pairs(&asked.files);
    let pull = control.forge.push_to_pull_request(&control.repository, number, &files).await.map_err(failed)?;
    let payload = control.forge.pull_request_payload(&pull, "synchronize");
    deliver(&control, "pull_request", &payload, json!({"number": pull.number, "sha": pull.sha})).await
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
