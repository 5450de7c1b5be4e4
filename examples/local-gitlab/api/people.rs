//! Accounts, roles and notes.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::state::{Note, Refusal, Shared};
use super::{Api, BOT};

type Answer<T> = Result<T, Refusal>;

pub async fn me(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Answer<Json<Value>> {
    shared.authorize(&headers)?;
    Ok(Json(json!({"id": 100, "username": BOT})))
}

pub async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Answer<Json<Value>> {
    shared.authorize(&headers)?;
    Ok(Json(json!({"scopes": ["api"], "active": true})))
}

pub async fn users(
    State(shared): State<Arc<Shared>>, Query(asked): Query<HashMap<String, String>>, headers: HeaderMap,
) -> Answer<Json<Value>> {
    shared.authorize(&headers)?;
    let name = asked.get("username").cloned().unwrap_or_default();
    let id = shared.state().users.get(&name).copied();
    let found = id.map(|id| json!({"id": id, "username": name, "state": "active"}));
    Ok(Json(found.into_iter().collect()))
}

pub async fn member(
    State(shared): State<Arc<Shared>>, Path((named, user)): Path<(String, u64)>, headers: HeaderMap,
) -> Answer<Json<Value>> {
    shared.project(&named, &headers)?;
    let level = shared.state().members.get(&user).copied().filter(|level| *level > 0);
    let level = level.ok_or_else(|| Refusal::not_found("Member"))?;
    Ok(Json(json!({"id": user, "access_level": level, "state": "active"})))
}

#[derive(Debug, Deserialize)]
pub struct Text {
    body: String,
}

pub async fn notes(
    State(shared): State<Arc<Shared>>, Path((named, iid)): Path<(String, u64)>, headers: HeaderMap,
) -> Answer<Json<Value>> {
    shared.project(&named, &headers)?;
    let state = shared.state();
    let ours = state.notes.iter().rev().filter(|note| note.iid == iid);
    Ok(Json(ours.map(|note| json!({"id": note.id, "body": note.body})).collect()))
}

pub async fn write_note(
    State(shared): State<Arc<Shared>>, Path((named, iid)): Path<(String, u64)>, headers: HeaderMap,
    Json(Text { body }): Json<Text>,
) -> Answer<(StatusCode, Json<Value>)> {
    shared.project(&named, &headers)?;
    let id = shared.change(|state| {
        let id = 1000 + state.notes.len() as u64;
        state.notes.push(Note { id, iid, author: BOT.to_owned(), body: body.clone() });
        id
    });
    Ok((StatusCode::CREATED, Json(json!({"id": id, "body": body}))))
}

pub async fn change_note(
    State(shared): State<Arc<Shared>>, Path((named, _, id)): Path<(String, u64, u64)>, headers: HeaderMap,
    Json(Text { body }): Json<Text>,
) -> Answer<Json<Value>> {
    shared.project(&named, &headers)?;
    shared.change(|state| {
        let note = state.notes.iter_mut().find(|note| note.id == id).ok_or_else(|| Refusal::not_found("Note"))?;
        note.body.clone_from(&body);
        Ok(Json(json!({"id": id, "body": body})))
    })
}

impl Api {
    /// The notes on a merge request, oldest first.
    pub fn notes(&self, iid: u64) -> Vec<Note> {
        self.shared.state().notes.iter().filter(|note| note.iid == iid).cloned().collect()
    }
}
