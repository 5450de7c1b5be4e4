//! Jobs that GitLabs give away, and what is said about them.

use prometheus::{IntCounter, IntGauge};

use super::family::{Counters, Maker};
use super::labels::{GitLabAnswer, GitLabCall, GitLabJob};
use crate::gitlab::client::ClientError;

/// The runners of GitLabs that this service is.
#[derive(Debug, Clone)]
pub struct GitLabMetrics {
    calls: Counters<(GitLabCall, GitLabAnswer)>,
    jobs: Counters<GitLabJob>,
    trace_bytes: IntCounter,
    trace_resumes: IntCounter,
    unsettled: IntGauge,
    refused_runners: IntGauge,
}

impl GitLabMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            calls: maker.counters("gitlab_calls_total", "Calls of the runner protocol, by what GitLab answered."),
            jobs: maker.counters("gitlab_jobs_total", "Jobs that a GitLab gave away, by what became of them."),
            trace_bytes: maker.counter("gitlab_trace_bytes_total", "Bytes of traces that a GitLab took."),
            trace_resumes: maker
                .counter("gitlab_trace_resumes_total", "Patches of a trace that GitLab wanted from another place on."),
            unsettled: maker.gauge("gitlab_jobs_unsettled", "Jobs whose end their GitLab does not know yet."),
            refused_runners: maker.gauge("gitlab_runners_refused", "Runners whose token their GitLab does not take."),
        }
    }

    /// A call was made; `status` is that of an answer.
    pub fn called<T>(&self, call: GitLabCall, made: &Result<T, ClientError>, status: impl Fn(&T) -> u16) {
        let answer = match made {
            Ok(answered) => GitLabAnswer::of(call, status(answered)),
            Err(ClientError::Forbidden { .. }) => GitLabAnswer::Forbidden,
            Err(ClientError::Transient { .. }) => GitLabAnswer::Transient,
            Err(_) => GitLabAnswer::Refused,
        };
        self.calls.inc((call, answer));
    }

    /// Something became of a job.
    pub fn job(&self, became: GitLabJob) {
        self.jobs.inc(became);
    }

    /// GitLab took so many bytes of a trace.
    pub fn shipped(&self, bytes: u64) {
        self.trace_bytes.inc_by(bytes);
    }

    /// GitLab wants a trace from another place on.
    pub fn resumed(&self) {
        self.trace_resumes.inc();
    }

    /// A job has, or has no longer, an end that its GitLab does not know.
    pub fn unsettled(&self, change: i64) {
        self.unsettled.add(change);
    }

    /// A runner's token is not taken, or is again.
    pub fn refused_runners(&self, change: i64) {
        self.refused_runners.add(change);
    }
}
