//! A log as a stream of server-sent events.
//!
//! - `state`: how the job stands, at first and after each change: `{"state", "attempt", "conclusion", "text"}`.
//! - `log`: a JSON list of log entries. Its id is the attempt and the cursor after it, as `ATTEMPT-OFFSET`; a client that sends
//!   it back as `Last-Event-ID`, or as `?after=`, goes on there.
//! - `attempt`: the log of another attempt begins: `{"attempt"}`.
//! - `end`: the job has finished and its log is complete. Clients must not connect again.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Deserialize;

use super::{LogPages, PageError};
use crate::http::feed::{Feed, Place, Told, received};

/// How long one connection lasts; browsers connect again by themselves. Frees what dead connections hold.
const CONNECTION_LIMIT: Duration = Duration::from_hours(1);

#[derive(Debug, Deserialize)]
pub(super) struct After {
    after: Option<String>,
}

/// `GET /logs/{token}/events`
pub(super) async fn follow(
    State(pages): State<LogPages>, Path(token): Path<String>, Query(After { after }): Query<After>, headers: HeaderMap,
) -> Result<Response, PageError> {
    const NO_PROXY_BUFFER: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");
    let job = pages.job(&token).await?;
    let seat = pages.followers.try_acquire_owned().map_err(|_| PageError::TooManyFollowers)?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).or(after.as_deref());
    // An attempt that the job has not had is nobody's place.
    let from = last.and_then(parse_place).filter(|from| (1..=job.attempt).contains(&from.attempt));
    let start = from.unwrap_or(Place { attempt: job.attempt, cursor: 0 });
    let feed = Feed { store: pages.store, logs: pages.logs, job: job.id, with_colours: false };
    let events = received(feed.start(start, CONNECTION_LIMIT, seat)).map(event);
    Ok(([NO_PROXY_BUFFER], Sse::new(events).keep_alive(KeepAlive::default())).into_response())
}

fn parse_place(text: &str) -> Option<Place> {
    let (attempt, cursor) = text.split_once('-')?;
    Some(Place { attempt: attempt.parse().ok()?, cursor: cursor.parse().ok()? })
}

fn event(told: Told) -> Result<Event, axum::Error> {
    match told {
        Told::State(standing) => Event::default().event("state").json_data(standing),
        Told::Attempt(attempt) => {
            Event::default().event("attempt").json_data(serde_json::json!({ "attempt": attempt }))
        }
        Told::Log { attempt, chunk } => {
            Event::default().event("log").id(format!("{attempt}-{}", chunk.next)).json_data(chunk.entries)
        }
        Told::End => Ok(Event::default().event("end").data("{}")),
    }
}
