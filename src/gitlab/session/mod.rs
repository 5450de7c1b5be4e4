//! One job of a GitLab from its acceptance to the acknowledgement of its end.
//!
//! A session only tells what the store and the log say, and stores what GitLab wants. It may be broken off anywhere and begun
//! anew: where the trace goes on is asked of GitLab, and a state that was told already is told again.

mod end;
mod line;
pub(super) mod order;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use self::line::Line;
use self::order::Order;
use self::trace::{Extent, Trace};
use super::bureau::{Bureau, Place, Standing};
use super::remote::{Wish, wish, wish_after_update};
use super::{ABORTED, CANCELING};
use crate::clock;
use crate::forge::backoff;
use crate::ids::JobId;
use crate::store::{ForeignJob, Job, JobState, StoreError};

pub(super) use end::refuse;

/// How often GitLab is told that a job waits for its machine. It takes the job back after two minutes without.
const WAITING_KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long a job may have nothing to say before GitLab is told that it runs.
const RUNNING_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The same for a job that is being cancelled: somebody may be waiting to cancel it by force.
const CANCELING_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The longest time between two looks at the store: changes are told, and a lost one costs no more than this.
const LOOK: Duration = Duration::from_secs(3);
/// How often GitLab may refuse to let a job begin.
const MOST_REFUSALS: u32 = 3;
/// How often it is stored how much of a trace GitLab has. To know less costs a question.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);

/// Whether GitLab waits for the job to be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Perhaps: `pending` was not refused yet.
    Offered,
    /// The job runs, for GitLab.
    Begun,
}

struct Session {
    bureau: Arc<Bureau>,
    place: Place,
    job: JobId,
    line: Line,
    phase: Phase,
    wish: Wish,
    /// When GitLab last heard something.
    told: Option<Instant>,
    /// When the trace, or a failed call, is due.
    due: Instant,
    failed: u32,
    noted: Instant,
}

/// Speaks with GitLab for a job until GitLab knows its end, or the service stops.
pub(super) async fn accompany(bureau: Arc<Bureau>, foreign: ForeignJob, place: Option<Place>) {
    let job = foreign.job.clone();
    let Some(order) = Order::read(&foreign.request) else {
        tracing::error!(%job, "what is stored of a GitLab job cannot be read; GitLab ends it by itself");
        return settle(&bureau, &job).await;
    };
    let Some(client) = bureau.gitlabs.client(&order.instance) else {
        tracing::warn!(%job, instance = order.instance, "a job's GitLab is not configured any more");
        return;
    };
    let runner = format!("{}/{}", order.instance, order.runner);
    let Some(place) = place.or_else(|| bureau.gitlabs.sessions().enter(&job, &runner)) else { return };
    let known = foreign.progress["trace"].as_u64().unwrap_or(0);
    let trace = Trace::new(bureau.logs.clone(), job.clone());
    let line = Line::new(client, order, bureau.metrics.clone(), trace, known);
    let now = Instant::now();
    let session = Session {
        bureau: Arc::clone(&bureau),
        place,
        job,
        line,
        phase: Phase::Offered,
        wish: Wish::GoOn,
        told: None,
        due: now,
        failed: 0,
        noted: now,
    };
    let (job, id) = (session.job.clone(), session.line.order.id);
    if let Err(error) = session.run().await {
        tracing::error!(%job, gitlab_job = id, %error, "a GitLab job's progress could not be stored or read");
    }
}

async fn settle(bureau: &Bureau, job: &JobId) {
    if let Err(error) = bureau.store.settle_foreign(job).await {
        tracing::error!(%job, %error, "the end of a GitLab job could not be stored");
    }
}

impl Session {
    async fn run(mut self) -> Result<(), StoreError> {
        loop {
            let Some(job) = self.bureau.store.job(&self.job).await? else { return Ok(()) };
            if job.state == JobState::Finished {
                return self.end(&job).await;
            }
            self.turn(&job).await?;
            let wait = self.due.min(Instant::now() + LOOK);
            tokio::select! {
                () = self.bureau.stop.cancelled() => return Ok(()),
                () = self.place.handle.nudge.notified() => {}
                () = tokio::time::sleep_until(wait) => {}
            }
        }
    }

    /// Says what there is to say now of a job that has not ended.
    async fn turn(&mut self, job: &Job) -> Result<(), StoreError> {
        if self.wish == Wish::Abort {
            self.due = Instant::now() + LOOK;
            return Ok(());
        }
        match (job.started_at, self.phase) {
            (None, _) => self.keep_waiting().await,
            (Some(_), Phase::Offered) => self.begin().await,
            (Some(_), Phase::Begun) => self.go_on(job).await,
        }
    }

    /// There is no machine yet.
    async fn keep_waiting(&mut self) -> Result<(), StoreError> {
        let due = self.told.map(|told| told + WAITING_KEEP_ALIVE);
        // The first one is not sent at once: mostly there is a machine before that.
        let told = *self.told.get_or_insert_with(Instant::now);
        self.due = due.unwrap_or(told + WAITING_KEEP_ALIVE);
        if self.due > Instant::now() {
            return Ok(());
        }
        let state = if self.phase == Phase::Begun { "running" } else { "pending" };
        let reply = self.line.tell_alive(state).await;
        self.told = Some(Instant::now());
        self.due = Instant::now() + WAITING_KEEP_ALIVE;
        match reply {
            // It gave the job away for good: it knows nothing of an acknowledgement, or had it.
            Some(reply) if reply.status == 400 && state == "pending" => self.phase = Phase::Begun,
            Some(reply) => self.note_wish(wish_after_update(&reply)).await?,
            None => {}
        }
        Ok(())
    }

    /// There is a machine: from GitLab's answer on the job is ours to run, or gone.
    async fn begin(&mut self) -> Result<(), StoreError> {
        if Instant::now() < self.due && self.failed > 0 {
            return Ok(());
        }
        let reply = self.line.tell_alive("running").await;
        let wanted = reply.as_ref().and_then(|reply| reply.retry_after).unwrap_or_default();
        match reply {
            Some(reply) if reply.status == 200 => {
                (self.phase, self.failed) = (Phase::Begun, 0);
                self.due = Instant::now();
                self.told = Some(Instant::now());
                self.place.handle.standing.send_replace(Standing::Ours);
                self.note_wish(wish_after_update(&reply)).await
            }
            Some(reply) if wish_after_update(&reply) != Wish::GoOn => self.note_wish(wish_after_update(&reply)).await,
            // It does not let the job begin, whatever the reason: the machine is not kept for that.
            Some(reply) if reply.status == 400 && self.failed >= MOST_REFUSALS => self.note_wish(Wish::Abort).await,
            _ => {
                self.due = Instant::now() + backoff(self.failed, clock::jitter()).max(wanted);
                self.failed = self.failed.saturating_add(1);
                Ok(())
            }
        }
    }

    /// The job runs: its trace goes to GitLab, or a sign of life.
    async fn go_on(&mut self, job: &Job) -> Result<(), StoreError> {
        // Where GitLab gave the job away for good, nobody has to be asked.
        self.place.handle.standing.send_if_modified(|standing| {
            let was_asking = *standing == Standing::Asking;
            if was_asking {
                *standing = Standing::Ours;
            }
            was_asking
        });
        if Instant::now() >= self.due {
            let shipped = self.line.ship(Extent { attempt: job.attempt, has_ended: false }).await;
            match shipped {
                Ok(shipped) => {
                    self.due = Instant::now() + shipped.again_in;
                    if let Some(reply) = shipped.reply {
                        self.told = Some(Instant::now());
                        self.note_wish(wish(&reply)).await?;
                        self.note_progress().await?;
                    }
                }
                Err(error) => {
                    tracing::warn!(job = %self.job, %error, "a GitLab job's log cannot be read");
                    self.due = Instant::now() + RUNNING_KEEP_ALIVE;
                }
            }
        }
        let quiet = if self.wish == Wish::Cancel { CANCELING_KEEP_ALIVE } else { RUNNING_KEEP_ALIVE };
        if self.told.is_none_or(|told| told.elapsed() >= quiet) {
            self.told = Some(Instant::now());
            if let Some(reply) = self.line.tell_alive("running").await {
                self.note_wish(wish_after_update(&reply)).await?;
            }
        }
        Ok(())
    }

    /// Has the job end if GitLab wants that.
    async fn note_wish(&mut self, wish: Wish) -> Result<(), StoreError> {
        if wish <= self.wish {
            return Ok(());
        }
        self.wish = wish;
        let why = if wish == Wish::Abort { ABORTED } else { CANCELING };
        tracing::info!(job = %self.job, gitlab_job = self.line.order.id, why, "GitLab wants a job to end");
        self.bureau.store.request_cancel(&self.job, why).await?;
        self.bureau.wake.scheduler.notify_one();
        if wish == Wish::Abort {
            self.place.handle.standing.send_replace(Standing::Gone);
        }
        Ok(())
    }

    async fn note_progress(&mut self) -> Result<(), StoreError> {
        if self.noted.elapsed() < NOTE_INTERVAL {
            return Ok(());
        }
        self.noted = Instant::now();
        let progress = json!({"trace": self.line.acknowledged.bytes()});
        self.bureau.store.note_foreign_progress(&self.job, progress).await
    }
}
