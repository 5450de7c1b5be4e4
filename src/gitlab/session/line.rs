//! The connection of one job to its GitLab: each call once, counted.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::forge::backoff;
use crate::gitlab::client::{Client, ClientError, Output, Reply, Update};
use crate::gitlab::outcome::Final;
use crate::gitlab::ranges::{Acknowledged, MAX_PATCH, Progress};
use crate::log::LogError;
use crate::metrics::GitLabMetrics;
use crate::metrics::labels::GitLabCall;

use super::order::Order;
use super::trace::{Extent, Trace};

/// Between two patches, where GitLab names no other time.
const INTERVAL: Duration = Duration::from_secs(3);

/// Answers in a row that only move the place, after which it is waited.
const MOST_MOVES: u32 = 3;

/// Says of a job what there is to say.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) client: Arc<Client>,
    pub(super) order: Order,
    pub(super) metrics: GitLabMetrics,
    pub(super) trace: Trace,
    pub(super) acknowledged: Acknowledged,
    /// Patches in a row that came to nothing.
    failed: u32,
}

/// What came of sending the trace.
#[derive(Debug)]
pub(super) struct Shipped {
    /// When it is worth looking again.
    pub(super) again_in: Duration,
    /// GitLab has all that there is.
    pub(super) is_all: bool,
    /// The last answer, if there was one.
    pub(super) reply: Option<Reply>,
}

impl Shipped {
    /// GitLab said how long it wants to be left alone.
    fn not_before(self, retry_after: Option<Duration>) -> Self {
        Self { again_in: self.again_in.max(retry_after.unwrap_or_default()), ..self }
    }
}

impl Line {
    pub(super) fn new(client: Arc<Client>, order: Order, metrics: GitLabMetrics, trace: Trace, known: u64) -> Self {
        Self { client, order, metrics, trace, acknowledged: Acknowledged::new(known), failed: 0 }
    }

    /// Tells a state.
    pub(super) async fn tell(&self, update: &Update) -> Option<Reply> {
        let told = self.client.update_job(self.order.id, &self.order.token, update).await;
        self.metrics.called(GitLabCall::UpdateJob, &told, |reply| reply.status);
        self.heard(told)
    }

    /// That the job is waiting for its machine (`pending`), or runs (`running`).
    pub(super) async fn tell_alive(&self, state: &'static str) -> Option<Reply> {
        self.tell(&Update { state, ..Update::default() }).await
    }

    /// How the job ended.
    pub(super) async fn tell_final(&self, end: &Final, has_checksum: bool) -> Option<Reply> {
        let output: Option<Output> = has_checksum.then(|| self.trace.output());
        let Final { state, failure_reason, exit_code, .. } = end;
        self.tell(&Update { state, failure_reason: failure_reason.clone(), exit_code: *exit_code, output }).await
    }

    /// Sends what GitLab lacks of the trace: all of it at the end, and before that one patch, since there is always more.
    pub(super) async fn ship(&mut self, extent: Extent) -> Result<Shipped, LogError> {
        let mut shipped = Shipped { again_in: INTERVAL, is_all: false, reply: None };
        let mut moves = 0;
        loop {
            let from = self.acknowledged.bytes();
            self.trace.read(extent, from, from.saturating_add(MAX_PATCH)).await?;
            let Some(patch) = self.acknowledged.next(self.trace.length()) else {
                shipped.is_all = true;
                return Ok(shipped);
            };
            let bytes = self.trace.bytes(patch);
            let Order { id, token, is_debug, .. } = &self.order;
            let appended = self.client.append_trace(*id, token, patch, bytes, *is_debug).await;
            self.metrics.called(GitLabCall::AppendTrace, &appended, |reply| reply.status);
            let Some(reply) = self.heard(appended) else { return Ok(self.later(shipped)) };
            shipped.again_in = reply.interval.unwrap_or(INTERVAL);
            let (progress, retry_after) = (self.acknowledged.heard(patch, &reply), reply.retry_after);
            shipped.reply = Some(reply);
            match progress {
                Progress::Taken => {
                    self.failed = 0;
                    moves = 0;
                    self.metrics.shipped(patch.length);
                    if !extent.has_ended {
                        let has_more = patch.length >= MAX_PATCH;
                        shipped.again_in = if has_more { Duration::ZERO } else { shipped.again_in };
                        return Ok(shipped);
                    }
                }
                Progress::Moved if moves < MOST_MOVES => {
                    moves += 1;
                    self.metrics.resumed();
                }
                Progress::Moved | Progress::Later => return Ok(self.later(shipped).not_before(retry_after)),
            }
        }
    }

    fn later(&mut self, shipped: Shipped) -> Shipped {
        let again_in = backoff(self.failed, clock::jitter());
        self.failed = self.failed.saturating_add(1);
        Shipped { again_in, ..shipped }
    }

    fn heard(&self, heard: Result<Reply, ClientError>) -> Option<Reply> {
        heard.inspect_err(|error| tracing::debug!(job = self.order.id, %error, "GitLab did not answer")).ok()
    }
}
