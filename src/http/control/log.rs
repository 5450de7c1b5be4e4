//! A job's log over the control socket, now or as it grows.
//!
//! As text it is what the log page has as text. As JSON, one object per line:
//! - `{"state": {"state", "attempt", "conclusion", "text"}}`: how the job stands, at first and after each change (only with `follow`).
//! - `{"attempt": {"attempt"}}`: the log of another attempt begins.
//! - `{"log": {"attempt", "next", "entries"}}`: entries, and the cursor after them, which `after` takes.
//! - `{"end": {}}`: the job has ended and its log is complete (only with `follow`).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::json;

use super::failure::{Asked, Failure};
use super::find;
use crate::core::Core;
use crate::http::feed::{Feed, Place, Told, received};
use crate::log::{Chunk, LogReader};

/// How long a log is followed over one connection: as long as a job may take.
const CONNECTION_LIMIT: Duration = Duration::from_hours(7 * 24);

/// Most lines that `tail` gives.
const MAX_TAIL: usize = 100_000;

/// Which part of the log is wanted, and in which form.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Goes on until the job has ended, over all further attempts.
    #[serde(default)]
    follow: bool,
    /// Without it: the latest.
    attempt: Option<u32>,
    /// Only so many of the lines that there are.
    tail: Option<usize>,
    /// Only what comes after this cursor.
    #[serde(default)]
    after: u64,
    #[serde(default)]
    format: Format,
    /// Leaves the guest's colours in the text.
    #[serde(default)]
    colours: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Text,
    Json,
}

impl Format {
    fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/x-ndjson",
        }
    }

    fn encode(self, told: Told) -> Bytes {
        match self {
            Self::Text => text(told).into(),
            Self::Json => format!("{}\n", line(told)).into(),
        }
    }
}

fn text(told: Told) -> String {
    match told {
        Told::Log { chunk, .. } => chunk.to_text(),
        Told::Attempt(attempt) => format!("\n[dayfly: attempt {attempt} begins here]\n"),
        Told::State(_) | Told::End => String::new(),
    }
}

fn line(told: Told) -> serde_json::Value {
    match told {
        Told::State(standing) => json!({ "state": standing }),
        Told::Attempt(attempt) => json!({ "attempt": { "attempt": attempt } }),
        Told::Log { attempt, chunk } => {
            json!({ "log": { "attempt": attempt, "next": chunk.next, "entries": chunk.entries } })
        }
        Told::End => json!({ "end": {} }),
    }
}

/// `GET /v1/jobs/{id}/log`
pub(super) async fn log(
    State(core): State<Arc<Core>>, Path(id): Path<String>, Asked(wanted): Asked<Wanted>,
) -> Result<Response, Failure> {
    let id = find::job(&core.store, &id).await?;
    let (job, _) = find::job_and_run(&core.store, &id).await?;
    let attempt = wanted.attempt.unwrap_or(job.attempt);
    if !(1..=job.attempt).contains(&attempt) {
        let error = format!("job `{id}` has had no attempt {attempt}");
        return Err(Failure::new(StatusCode::NOT_FOUND, error).hint(format!("its latest is {}", job.attempt)));
    }
    let reader = core.logs.reader(&id, attempt).await?;
    let reader = if wanted.colours { reader.map(LogReader::with_colours) } else { reader };
    let mut place = Place { attempt, cursor: wanted.after };
    let mut first = None;
    if let (Some(reader), Some(lines)) = (&reader, wanted.tail) {
        let chunk = reader.last_lines(lines.min(MAX_TAIL)).await?;
        place.cursor = chunk.next;
        first = Some(Told::Log { attempt, chunk });
    }
    let format = wanted.format;
    let first = stream::iter(first);
    let body = if wanted.follow {
        let feed = Feed { store: core.store.clone(), logs: core.logs.clone(), job: id, with_colours: wanted.colours };
        let rest = received(feed.start(place, CONNECTION_LIMIT, ()));
        Body::from_stream(first.chain(rest).map(move |told| Ok::<_, Infallible>(format.encode(told))))
    } else {
        let rest = stream::iter(reader).flat_map(move |reader| reader.read(place.cursor));
        let rest = rest.map(move |chunk: Result<Chunk, _>| chunk.map(|chunk| Told::Log { attempt, chunk }));
        Body::from_stream(first.map(Ok).chain(rest).map(move |told| told.map(|told| format.encode(told))))
    };
    Ok(([(CONTENT_TYPE, format.content_type())], body).into_response())
}
