//! A job's log as it grows, over all of the job's attempts, with how the job stands: what the log page's events and the
//! control socket's logs are made of.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::forge::Conclusion;
use crate::ids::JobId;
use crate::log::{Chunk, LogError, LogReader, LogStore};
use crate::store::{Job, JobState, Store, StoreError};

/// How often a follower looks at the job's state.
const STATE_INTERVAL: Duration = Duration::from_secs(1);

/// Items that wait for a slow client; reading the log stops until it has taken them.
const QUEUE: usize = 4;

/// One thing that a follower is told.
#[derive(Debug)]
pub(super) enum Told {
    /// How the job stands, at first and after each change.
    State(Standing),
    /// The log of another attempt begins.
    Attempt(u32),
    Log {
        attempt: u32,
        chunk: Chunk,
    },
    /// The job has finished and its log is complete: nothing follows.
    End,
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Standing {
    state: JobState,
    attempt: u32,
    conclusion: Option<Conclusion>,
    /// For people.
    pub(super) text: String,
}

impl Standing {
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
pub(super) struct Place {
    pub(super) attempt: u32,
    pub(super) cursor: u64,
}

/// Why a feed broke off. The cause is for the operator, not for whoever follows.
#[derive(Debug, thiserror::Error)]
pub(super) enum FeedError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the job is not kept any more")]
    Forgotten,
}

/// Why a feed ends before its job does.
enum Stop {
    /// The client is gone.
    Gone,
    Failed(FeedError),
}

impl<E: Into<FeedError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What a feed is made from.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    pub(super) store: Store,
    pub(super) logs: LogStore,
    pub(super) job: JobId,
    /// Whether the guest's colours stay in the text.
    pub(super) with_colours: bool,
}

impl Feed {
    /// Tells everything from `place` on until the job has finished, nobody listens, or the time is over. A failure is logged
    /// and ends the feed without [`Told::End`]. `held` is dropped when nothing more will be told, even if the client is stuck.
    pub(super) fn start(self, place: Place, limit: Duration, held: impl Send + 'static) -> mpsc::Receiver<Told> {
        let (items, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let _held = held;
            let teller = Teller { feed: self, items: items.clone(), told: None };
            tokio::select! {
                result = teller.run(place) => if let Err(Stop::Failed(error)) = result {
                    tracing::warn!(%error, "following a log failed");
                },
                () = items.closed() => {}
                () = tokio::time::sleep(limit) => {}
            }
        });
        receiver
    }
}

/// What is received, as a stream.
pub(super) fn received(receiver: mpsc::Receiver<Told>) -> impl Stream<Item = Told> {
    stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|told| (told, receiver)))
}

/// What one client is told.
struct Teller {
    feed: Feed,
    items: mpsc::Sender<Told>,
    told: Option<Standing>,
}

impl Teller {
    async fn run(mut self, mut place: Place) -> Result<(), Stop> {
        let mut job = self.look().await?;
        loop {
            // What is true of the job now is true of a log that is absent or ends after.
            let is_last = job.state == JobState::Finished && job.attempt == place.attempt;
            let log = self.feed.logs.reader(&job.id, place.attempt).await?;
            let was_told = match log {
                Some(log) if self.feed.with_colours => self.tell_log(&log.with_colours(), &mut place).await?,
                Some(log) => self.tell_log(&log, &mut place).await?,
                None => false,
            };
            if is_last {
                return self.send(Told::End).await;
            }
            if job.attempt > place.attempt {
                place = Place { attempt: place.attempt + 1, cursor: 0 };
                self.send(Told::Attempt(place.attempt)).await?;
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
                    self.send(Told::Log { attempt: place.attempt, chunk }).await?;
                }
                _ = ticks.tick() => drop(self.look().await?),
            }
        }
    }

    /// Reads the job and tells how it stands if that has changed.
    async fn look(&mut self) -> Result<Job, Stop> {
        let job = self.feed.store.job(&self.feed.job).await?.ok_or(FeedError::Forgotten)?;
        let standing = Standing::of(&job);
        if self.told.as_ref() != Some(&standing) {
            self.told = Some(standing.clone());
            self.send(Told::State(standing)).await?;
        }
        Ok(job)
    }

    async fn send(&self, item: Told) -> Result<(), Stop> {
        self.items.send(item).await.map_err(|_| Stop::Gone)
    }
}
