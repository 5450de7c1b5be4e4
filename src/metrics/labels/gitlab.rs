//! Labels of what is said between this service and the GitLabs whose jobs it runs.

use crate::gitlab::ending::Settled;
use crate::metrics::family::Label;

label_enum!(
    /// What was said.
    GitLabCall, "call" {
        /// Whether a runner's token is good.
        Verify = "verify",
        RequestJob = "request_job",
        /// The state of a job.
        UpdateJob = "update_job",
        AppendTrace = "append_trace",
    }
);

label_enum!(
    /// What GitLab answered.
    GitLabAnswer, "result" {
        Ok = "ok",
        /// Nothing now: 202 for a state or a patch, 204 for a request.
        Waiting = "waiting",
        /// 409: another runner was faster, or has the job.
        Conflict = "conflict",
        /// 412 and 416: it has other bytes of the trace.
        Mismatch = "mismatch",
        /// 401 and 403.
        Forbidden = "forbidden",
        /// No proper answer, or one that it cannot now.
        Transient = "transient",
        Refused = "refused",
    }
);

impl GitLabAnswer {
    /// That of a status.
    pub fn of(call: GitLabCall, status: u16) -> Self {
        match (call, status) {
            (GitLabCall::AppendTrace, 202) | (_, 200 | 201) => Self::Ok,
            (_, 202 | 204) => Self::Waiting,
            (_, 401 | 403) => Self::Forbidden,
            (_, 408 | 425 | 429 | 500..) => Self::Transient,
            (_, 409) => Self::Conflict,
            (_, 412 | 416) => Self::Mismatch,
            _ => Self::Refused,
        }
    }
}

label_enum!(
    /// What became of a job that a GitLab gave away.
    GitLabJob, "result" {
        Accepted = "accepted",
        /// It cannot be run here, or not even be read.
        Refused = "refused",
        /// GitLab has its end.
        Acknowledged = "acknowledged",
        /// GitLab ended it, or gave it to another runner.
        NotOurs = "not_ours",
        /// GitLab does not take its end.
        GivenUp = "given_up",
    }
);

impl From<Settled> for GitLabJob {
    fn from(settled: Settled) -> Self {
        match settled {
            Settled::Acknowledged => Self::Acknowledged,
            Settled::NotOurs => Self::NotOurs,
            Settled::GivenUp => Self::GivenUp,
        }
    }
}
