//! What is prepared for jobs, what shall be, and why something is not.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::failure::{Asked, Failure};
use crate::config::Prepare;
use crate::core::Core;
use crate::document::reader::quoted;
use crate::forge::{CommitSha, RepoName};
use crate::store::{Upkeep, UpkeepKind, UpkeepState};
use crate::upkeep::retention::{self, Used};
use crate::upkeep::shelf::Removed;

/// Digits of a hash that are enough to ask with.
const MIN_HASH: usize = 4;

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    Ready,
    /// To be made, or being made.
    Wanted,
    Failed,
}

/// A prepared snapshot, or one that is to be made.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PreparedView {
    hash: String,
    /// `snapshot`, or `cache` for one that is to be filled: what is filled, `dayfly cache list` shows.
    kind: &'static str,
    repo: RepoName,
    profile: String,
    sha: CommitSha,
    state: Standing,
    /// Whether the default branch asks for this one now.
    is_current: bool,
    image: Option<String>,
    bytes: Option<u64>,
    made_at: Option<i64>,
    /// When a job last started from it, or else when it was made.
    used_at: Option<i64>,
    hits: u64,
    /// Of the repository and the profile, with whatever was there at the time.
    all_hits: u64,
    all_misses: u64,
    /// Of the wish, while it is the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    wish: Option<WishView>,
}

/// How it is made.
#[derive(Debug, Clone, Serialize)]
struct WishView {
    key: Vec<String>,
    run: String,
    tries: u32,
    detail: String,
    next_try_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    has_log: bool,
}

/// Why a default branch does not get all that it asks for.
#[derive(Debug, Serialize)]
struct Problem {
    repo: RepoName,
    sha: CommitSha,
    detail: String,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    prepared: Vec<PreparedView>,
    problems: Vec<Problem>,
}

/// `GET /v1/prepared`: by repository and profile, the latest first.
pub(super) async fn list(State(core): State<Arc<Core>>) -> Result<Json<Listing>, Failure> {
    let upkeep = core.store.all_upkeep().await?;
    let problem = |upkeep: &Upkeep| {
        (upkeep.key.kind == UpkeepKind::Look && !upkeep.detail.is_empty()).then(|| Problem {
            repo: upkeep.key.repo.clone(),
            sha: upkeep.sha.clone(),
            detail: upkeep.detail.clone(),
        })
    };
    let problems = upkeep.iter().filter_map(problem).collect();
    Ok(Json(Listing { prepared: views(retention::all(&core).await?, &upkeep), problems }))
}

fn views(snapshots: Vec<Used>, upkeep: &[Upkeep]) -> Vec<PreparedView> {
    let wishes: Vec<&Upkeep> = upkeep.iter().filter(|upkeep| upkeep.key.kind != UpkeepKind::Look).collect();
    let is_of = |used: &Used, wish: &Upkeep| {
        let (of, key) = (&used.description, &wish.key);
        key.kind == UpkeepKind::Prepare && of.repo == key.repo && of.profile == key.profile
    };
    let all_hits: Vec<(RepoName, String, u64)> = snapshots
        .iter()
        .map(|used| (used.description.repo.clone(), used.description.profile.clone(), used.hits))
        .collect();
    let hits_of = |repo: &RepoName, profile: &str| {
        all_hits.iter().filter(|(of, with, _)| of == repo && with == profile).map(|(_, _, hits)| hits).sum()
    };
    let unmade = wishes.iter().filter(|wish| {
        wish.state != UpkeepState::Done && !snapshots.iter().any(|used| used.description.hash == wish.hash)
    });
    let unmade: Vec<PreparedView> =
        unmade.map(|wish| of_wish(wish, hits_of(&wish.key.repo, &wish.key.profile))).collect();
    let ready = snapshots.iter().map(|used| {
        let wish = wishes.iter().copied().find(|wish| is_of(used, wish));
        of_snapshot(used, wish, hits_of(&used.description.repo, &used.description.profile))
    });
    let mut views: Vec<PreparedView> = unmade.into_iter().chain(ready).collect();
    views.sort_by(|one, other| {
        let place = |view: &PreparedView| {
            (view.repo.as_str().to_owned(), view.profile.clone(), view.made_at.map_or(i64::MIN, |at| -at))
        };
        place(one).cmp(&place(other))
    });
    views
}

fn of_wish(wish: &Upkeep, all_hits: u64) -> PreparedView {
    PreparedView {
        hash: wish.hash.clone(),
        kind: if wish.key.kind == UpkeepKind::Fill { "cache" } else { "snapshot" },
        repo: wish.key.repo.clone(),
        profile: wish.key.profile.clone(),
        sha: wish.sha.clone(),
        state: if wish.state == UpkeepState::Failed { Standing::Failed } else { Standing::Wanted },
        is_current: true,
        image: None,
        bytes: None,
        made_at: None,
        used_at: None,
        hits: 0,
        all_hits,
        all_misses: wish.misses,
        wish: Some(wish_view(wish)),
    }
}

fn of_snapshot(used: &Used, wish: Option<&Upkeep>, all_hits: u64) -> PreparedView {
    let of = &used.description;
    let current = wish.filter(|wish| wish.hash == of.hash);
    PreparedView {
        hash: of.hash.clone(),
        kind: "snapshot",
        repo: of.repo.clone(),
        profile: of.profile.clone(),
        sha: of.sha.clone(),
        state: Standing::Ready,
        is_current: current.is_some(),
        image: Some(of.image.clone()),
        bytes: Some(of.bytes),
        made_at: Some(of.made_at),
        used_at: Some(used.used_at),
        hits: used.hits,
        all_hits,
        all_misses: wish.map_or(0, |wish| wish.misses),
        wish: current.map(wish_view),
    }
}

fn wish_view(wish: &Upkeep) -> WishView {
    let Prepare { key, run } = wish.recipe.clone().unwrap_or(Prepare { key: Vec::new(), run: String::new() });
    WishView {
        key,
        run,
        tries: wish.tries,
        detail: wish.detail.clone(),
        next_try_at: wish.next_try_at,
        started_at: wish.started_at,
        finished_at: wish.finished_at,
        has_log: wish.log.is_some(),
    }
}

/// The one whose hash is or begins with `text`.
async fn find(core: &Core, text: &str) -> Result<PreparedView, Failure> {
    let unknown = || {
        let error = format!("nothing prepared has the key {}", quoted(text));
        Failure::new(StatusCode::NOT_FOUND, error).hint("`dayfly prepared list` shows what there is")
    };
    if text.len() < MIN_HASH || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(unknown());
    }
    let views = views(retention::all(core).await?, &core.store.all_upkeep().await?);
    let mut found = views.into_iter().filter(|view| view.hash.starts_with(text));
    let first = found.next().ok_or_else(unknown)?;
    if found.next().is_some() {
        let error = format!("{} is ambiguous", quoted(text));
        return Err(Failure::new(StatusCode::CONFLICT, error).hint("give more of it"));
    }
    Ok(first)
}

/// `GET /v1/prepared/{hash}`
pub(super) async fn show(
    State(core): State<Arc<Core>>, Path(hash): Path<String>,
) -> Result<Json<PreparedView>, Failure> {
    find(&core, &hash).await.map(Json)
}

/// `GET /v1/prepared/{hash}/log`: what the last try wrote, as text.
pub(super) async fn log(State(core): State<Arc<Core>>, Path(hash): Path<String>) -> Result<Response, Failure> {
    let view = find(&core, &hash).await?;
    let missing = || {
        let error = format!("there is no log of {} any more", quoted(&view.hash));
        Failure::new(StatusCode::NOT_FOUND, error).hint("the log of the last try is kept, for `limits.log_retention`")
    };
    let upkeep = core.store.all_upkeep().await?;
    let wish = upkeep.iter().find(|upkeep| upkeep.hash == view.hash).and_then(|upkeep| upkeep.log.clone());
    let reader = core.logs.reader(&wish.ok_or_else(missing)?, 1).await?.ok_or_else(missing)?;
    let chunks = stream::iter([reader]).flat_map(|reader| reader.read(0));
    let text = chunks.map(|chunk| chunk.map(|chunk| chunk.to_text()));
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], axum::body::Body::from_stream(text)).into_response())
}

/// `POST /v1/prepared/{hash}/remove`: 409 while a VM is just starting from it.
pub(super) async fn remove(
    State(core): State<Arc<Core>>, Path(hash): Path<String>,
) -> Result<Json<serde_json::Value>, Failure> {
    let view = find(&core, &hash).await?;
    match removed(&core, &view.hash).await? {
        Removed::Done => Ok(Json(json!({ "removed": view.hash }))),
        Removed::Busy => {
            let error = format!("a VM is just starting from {}", quoted(&view.hash));
            Err(Failure::new(StatusCode::CONFLICT, error).hint("try again in a few seconds"))
        }
        Removed::Unknown => {
            let error = format!("{} is not made yet", quoted(&view.hash));
            Err(Failure::new(StatusCode::CONFLICT, error).hint("the default branch asks for it; change `prepare`"))
        }
    }
}

async fn removed(core: &Core, hash: &str) -> Result<Removed, Failure> {
    let known = retention::all(core).await?.into_iter().find(|used| used.description.hash == hash);
    let Some(used) = known else { return Ok(Removed::Unknown) };
    retention::remove(core, &used.description).await.map_err(|error| {
        tracing::error!(hash, %error, "a prepared snapshot cannot be removed");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "it cannot be removed").hint("the service's log says why")
    })
}

/// What a collection of garbage shall do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Collection {
    /// Only tells what would go.
    #[serde(default)]
    dry_run: bool,
}

/// `POST /v1/prepared/gc`: removes what `[prepared]` does not allow to stay, which also happens every minute.
pub(super) async fn gc(
    State(core): State<Arc<Core>>, Asked(asked): Asked<Collection>,
) -> Result<Json<serde_json::Value>, Failure> {
    let mut gone = Vec::new();
    for used in retention::due(&core).await? {
        if asked.dry_run || removed(&core, &used.description.hash).await? == Removed::Done {
            let of = used.description;
            gone.push(json!({ "hash": of.hash, "repo": of.repo, "profile": of.profile, "bytes": of.bytes }));
        }
    }
    Ok(Json(json!({ "removed": gone, "dry_run": asked.dry_run })))
}
