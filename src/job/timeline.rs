//! What happened when, recorded beside the work: a job does not wait for its timeline to reach the disk.

use tokio::sync::mpsc;

use crate::clock;
use crate::ids::JobId;
use crate::store::{JobEvent, Store};

/// Events on their way to the store. More are dropped, and the log says so.
const QUEUE: usize = 4096;

/// Records events.
#[derive(Debug, Clone)]
pub struct Timeline(mpsc::Sender<(JobId, JobEvent)>);

impl Timeline {
    /// A timeline, and the task that writes it; the task ends when the last clone of the timeline is gone.
    pub fn start(store: Store) -> Self {
        let (sender, mut events) = mpsc::channel::<(JobId, JobEvent)>(QUEUE);
        tokio::spawn(async move {
            while let Some((job, event)) = events.recv().await {
                if let Err(error) = store.record_event(&job, event).await {
                    tracing::warn!(%job, %error, "an event of a job's timeline was lost");
                }
            }
        });
        Self(sender)
    }

    /// Something happened now.
    pub fn record(&self, job: &JobId, attempt: u32, kind: &str, detail: &str) {
        self.record_at(job, attempt, clock::now_us(), kind, detail);
    }

    /// Something happened at a time, in microseconds since the epoch.
    pub fn record_at(&self, job: &JobId, attempt: u32, at_us: i64, kind: &str, detail: &str) {
        let event = JobEvent { attempt, at_us, kind: kind.to_owned(), detail: detail.to_owned() };
        if self.0.try_send((job.clone(), event)).is_err() {
            tracing::warn!(%job, kind, "an event of a job's timeline was dropped");
        }
    }
}
