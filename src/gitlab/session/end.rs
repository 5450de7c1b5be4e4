//! The end of a job: the rest of its trace, then its one final state, until GitLab has both.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;

use super::line::{Line, Shipped};
use super::order::Order;
use super::trace::{Extent, Trace};
use super::{Phase, Session};
use crate::clock;
use crate::gitlab::ABORTED;
use crate::gitlab::bureau::Bureau;
use crate::gitlab::client::{Client, Reply};
use crate::gitlab::ending::{self, Ending, Heard, Next, Settled};
use crate::gitlab::outcome::{self, Final, Verdict};
use crate::gitlab::ranges::Acknowledged;
use crate::gitlab::remote::{Wish, wish_after_update};
use crate::ids::JobId;
use crate::metrics::labels::GitLabJob;
use crate::store::{Job, StoreError};

impl Session {
    /// Tells the end of a job that is over here.
    pub(super) async fn end(mut self, job: &Job) -> Result<(), StoreError> {
        let is_over_there = self.wish == Wish::Abort || job.cancel_why.as_deref() == Some(ABORTED);
        let settled = if is_over_there {
            Settled::NotOurs
        } else {
            let Some(foreign) = self.bureau.store.foreign_job(&self.job).await? else { return Ok(()) };
            let verdict: Verdict = serde_json::from_value(foreign.verdict).unwrap_or_default();
            let Some(outcome) = &job.outcome else { return Ok(()) };
            let end = outcome::of(outcome, &verdict, &self.line.order.reasons);
            let has_begun = self.phase == Phase::Begun;
            tell(&mut self.line, &end, job.attempt, has_begun).await
        };
        self.bureau.store.settle_foreign(&self.job).await?;
        note(&self.line, settled);
        Ok(())
    }
}

/// Counts and says how a job was settled.
fn note(line: &Line, settled: Settled) {
    let (label, id) = (GitLabJob::from(settled), line.order.id);
    line.metrics.job(label);
    match settled {
        Settled::Acknowledged => tracing::info!(gitlab_job = id, bytes = line.trace.length(), "GitLab has a job's end"),
        Settled::NotOurs => tracing::info!(gitlab_job = id, "GitLab has ended a job by itself"),
        Settled::GivenUp => tracing::error!(gitlab_job = id, "GitLab does not take a job's end; it is told no more"),
    }
}

/// Has GitLab fail a job that cannot be run here, and says why in its trace. Nothing of it is stored: a restart in the middle
/// leaves it to GitLab's own limit.
pub(in crate::gitlab) async fn refuse(
    bureau: Arc<Bureau>, client: Arc<Client>, id: u64, token: SecretString, why: String,
) {
    let order =
        Order { instance: String::new(), runner: String::new(), id, token, reasons: Vec::new(), is_debug: false };
    let trace = Trace::new(bureau.logs.clone(), JobId::random());
    let mut line = Line::new(client, order, bureau.metrics.clone(), trace, 0);
    let end = outcome::refused(&why);
    tell(&mut line, &end, 1, false).await;
    line.metrics.job(GitLabJob::Refused);
    tracing::warn!(gitlab_job = id, why, "a GitLab job was refused");
}

/// Tells the end until it is settled.
async fn tell(line: &mut Line, end: &Final, attempt: u32, mut has_begun: bool) -> Settled {
    line.trace.set_remark(end.remark.clone());
    let extent = Extent { attempt, has_ended: true };
    let (mut tries, first) = (Ending::default(), Instant::now());
    loop {
        let heard = one_try(line, end, extent, &tries, &mut has_begun).await;
        match tries.heard(&heard, first.elapsed(), clock::jitter()) {
            Next::Settled(settled) => return settled,
            Next::Again { after, trace } => {
                wait(line, after, &heard).await;
                if trace == ending::Trace::FromTheStart {
                    line.acknowledged = Acknowledged::default();
                }
            }
            Next::BeginFirst { after } => {
                wait(line, after, &heard).await;
                has_begun = false;
            }
        }
    }
}

async fn wait(line: &Line, after: Duration, heard: &Heard) {
    tracing::debug!(gitlab_job = line.order.id, ?after, ?heard, "a job's end is told again");
    tokio::time::sleep(after).await;
}

/// Begins the job if GitLab may wait for that, sends the rest of the trace, then the state; gives the last answer, if there was one.
async fn one_try(line: &mut Line, end: &Final, extent: Extent, tries: &Ending, has_begun: &mut bool) -> Heard {
    let heard = |reply: Option<Reply>| reply.map_or(Heard::Silence(None), Heard::Reply);
    if !*has_begun {
        let Some(reply) = line.tell_alive("running").await else { return Heard::Silence(None) };
        if wish_after_update(&reply) == Wish::Abort {
            return Heard::Reply(Reply { status: 403, ..reply });
        }
        if reply.status >= 500 {
            return Heard::Silence(reply.retry_after);
        }
        *has_begun = true;
    }
    match line.ship(extent).await {
        Ok(Shipped { is_all: true, .. }) => {}
        Ok(Shipped { reply: Some(reply), .. }) if ending::refuses_trace(reply.status) => {
            // What the job is for GitLab, the answer to its state will tell.
            let is_about_job = matches!(reply.status, 403 | 404);
            if !is_about_job && !tries.gives_up_trace() {
                return Heard::TraceRefused(reply);
            }
        }
        Ok(Shipped { reply, .. }) => return Heard::Silence(reply.and_then(|reply| reply.retry_after)),
        Err(error) => tracing::error!(gitlab_job = line.order.id, %error, "a log cannot be read; its rest is not sent"),
    }
    heard(line.tell_final(end, tries.has_checksum()).await)
}
