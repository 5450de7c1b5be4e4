//! A log as a stream of server-sent events.
//!
//! - `state`: how the job stands, at first and after each change: `{"state", "attempt", "conclusion", "text"}`.
//! - `log`: a JSON list of log entries. Its id is the attempt and the cursor after it, as `ATTEMPT-OFFSET`; a client that sends
//!   it back as `Last-Event-ID`, or as `?after=`, goes on there.
//! - `attempt`: the log of another attempt begins: `{"attempt"}`.
//! - `end`: the job has finished and its log is complete. Clients must not connect again.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::{LogPages, PageError};
use crate::forge::Conclusion;
use crate::log::LogReader;
use crate::store::{Job, JobState};

/// How often a follower looks at the job's state.
const STATE_INTERVAL: Duration = Duration::from_secs(1);

/// How long one connection lasts; browsers connect again by themselves. Frees what dead connections hold.
const CONNECTION_LIMIT: Duration = Duration::from_hours(1);

/// Events that wait for a slow client; reading the log stops until it has taken them.
const QUEUE: usize = 4;

/// How a job stands, for the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct StateEvent {
    state: JobState,
    attempt: u32,
    conclusion: Option<Conclusion>,
    /// For people.
    pub(super) text: String,
}

impl StateEvent {
    pub(super) fn of(job: &Job) -> Self {
        let conclusion = job.outcome.as_ref().map(|outcome| outcome.conclusion);
        let text = match (job.state, conclusion) {
            (JobState::Waiting, _) => "Waiting for other jobs",
            (JobState::Queued, _) => "Queued",
            (JobState::Leased, _) => "Getting its VM",
            (JobState::Running, _) if job.cancel_requested => "Being cancelled",
            (JobState::Running, _) => "Running",
            (JobState::Finished, Some(Conclusion::Success)) => "Succeeded",
            (JobState::Finished, Some(Conclusion::Failure)) => "Failed",
            (JobState::Finished, Some(Conclusion::Error) | None) => "Ended with an error",
            (JobState::Finished, Some(Conclusion::TimedOut)) => "Timed out",
            (JobState::Finished, Some(Conclusion::Cancelled)) => "Cancelled",
            (JobState::Finished, Some(Conclusion::Skipped)) => "Skipped",
        };
        let text = if job.attempt > 1 { format!("{text} (attempt {})", job.attempt) } else { text.to_owned() };
        Self { state: job.state, attempt: job.attempt, conclusion, text }
    }
}

/// Where a client has stopped reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    attempt: u32,
    cursor: u64,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (attempt, cursor) = text.split_once('-')?;
        Some(Self { attempt: attempt.parse().ok()?, cursor: cursor.parse().ok()? })
    }
}

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
    let seat = pages.clone().followers.try_acquire_owned().map_err(|_| PageError::TooManyFollowers)?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).or(after.as_deref());
    // An attempt that the job has not had is nobody's place.
    let from = last.and_then(Place::parse).filter(|from| (1..=job.attempt).contains(&from.attempt));
    let (events, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let feed = Feed { pages, token, events: events.clone(), told: None };
        let start = from.unwrap_or(Place { attempt: job.attempt, cursor: 0 });
        tokio::select! {
            result = feed.run(job, start) => if let Err(Stop::Failed(error)) = result {
                tracing::warn!(?error, "following a log failed");
            },
            () = events.closed() => {}
            () = tokio::time::sleep(CONNECTION_LIMIT) => {}
        }
        drop(seat);
    });
    Ok(([NO_PROXY_BUFFER], Sse::new(received(receiver)).keep_alive(KeepAlive::default())).into_response())
}

fn received(receiver: mpsc::Receiver<Event>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|event| (Ok(event), receiver)))
}

/// Why a feed ends before the job does.
enum Stop {
    /// The client is gone.
    Gone,
    /// The client may connect again.
    Failed(PageError),
}

impl<E: Into<PageError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What one client is told.
struct Feed {
    pages: LogPages,
    token: String,
    events: mpsc::Sender<Event>,
    told: Option<StateEvent>,
}

impl Feed {
    /// Tells the logs of the job's attempts from `place` on, until the job has finished.
    async fn run(mut self, mut job: Job, mut place: Place) -> Result<(), Stop> {
        self.tell_state(&job).await?;
        loop {
            // What is true of the job now is true of a log that is absent or ends after.
            let is_last = job.state == JobState::Finished && job.attempt == place.attempt;
            let log = self.pages.logs.reader(&job.id, place.attempt).await?;
            let was_told = match log {
                Some(log) => self.tell_log(&log, &mut place).await?,
                None => false,
            };
            if is_last {
                return self.send(Event::default().event("end").data("{}")).await;
            }
            if job.attempt > place.attempt {
                place = Place { attempt: place.attempt + 1, cursor: 0 };
                let event = Event::default().event("attempt");
                self.send(event.json_data(serde_json::json!({ "attempt": place.attempt })).map_err(unexpected)?)
                    .await?;
            } else if !was_told {
                tokio::time::sleep(STATE_INTERVAL).await;
            }
            job = self.look().await?;
        }
    }

    /// Tells a log to its end. Returns whether there was anything new.
    async fn tell_log(&mut self, log: &LogReader, place: &mut Place) -> Result<bool, Stop> {
        let mut chunks = Box::pin(log.follow(place.cursor));
        let mut ticks = interval(STATE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let start = place.cursor;
        loop {
            tokio::select! {
                chunk = chunks.next() => {
                    let Some(chunk) = chunk.transpose()? else { return Ok(place.cursor != start) };
                    place.cursor = chunk.next;
                    let event = Event::default().event("log").id(format!("{}-{}", place.attempt, place.cursor));
                    self.send(event.json_data(&chunk.entries).map_err(unexpected)?).await?;
                }
                _ = ticks.tick() => drop(self.look().await?),
            }
        }
    }

    /// Reads the job and tells its state if that has changed.
    async fn look(&mut self) -> Result<Job, Stop> {
        let job = self.pages.job(&self.token).await?;
        self.tell_state(&job).await?;
        Ok(job)
    }

    async fn tell_state(&mut self, job: &Job) -> Result<(), Stop> {
        let state = StateEvent::of(job);
        if self.told.as_ref() != Some(&state) {
            self.send(Event::default().event("state").json_data(&state).map_err(unexpected)?).await?;
            self.told = Some(state);
        }
        Ok(())
    }

    async fn send(&self, event: Event) -> Result<(), Stop> {
        self.events.send(event).await.map_err(|_| Stop::Gone)
    }
}

fn unexpected(error: axum::Error) -> PageError {
    PageError::Unavailable(error.to_string())
}
