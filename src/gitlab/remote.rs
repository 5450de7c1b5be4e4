//! What GitLab wants of a job that runs here, as its answers tell. Pure.

use super::client::Reply;

/// From the mildest to the strongest; what was wanted once is not taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    #[default]
    GoOn,
    /// Its script stops, `after_script` runs, and the job ends.
    Cancel,
    /// It is over for GitLab: nothing of it is wanted any more.
    Abort,
}

/// What an answer to a patch of the trace, or to a state, wants.
pub fn wish(reply: &Reply) -> Wish {
    match (reply.job_status.as_deref(), reply.status) {
        (Some("canceling"), status) if status != 403 => Wish::Cancel,
        (Some("canceled" | "failed"), _) | (_, 403) => Wish::Abort,
        _ => Wish::GoOn,
    }
}

/// The same for an answer to a state, where 404 is about the job, and 409 says that another runner has it.
pub fn wish_after_update(reply: &Reply) -> Wish {
    if matches!(reply.status, 404 | 409) { Wish::Abort } else { wish(reply) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, job_status: &str) -> Reply {
        let job_status = (!job_status.is_empty()).then(|| job_status.to_owned());
        Reply { status, job_status, ..Reply::default() }
    }

    #[test]
    fn a_job_is_ended_as_gitlab_wants_it() {
        for (status, job_status, expected) in [
            (202, "running", Wish::GoOn),
            (202, "", Wish::GoOn),
            (202, "canceling", Wish::Cancel),
            (202, "canceled", Wish::Abort),
            (202, "failed", Wish::Abort),
            (403, "", Wish::Abort),
            (403, "canceling", Wish::Abort),
            (403, "success", Wish::Abort),
            (416, "running", Wish::GoOn),
            (500, "", Wish::GoOn),
            (404, "", Wish::GoOn),
        ] {
            assert_eq!(wish(&reply(status, job_status)), expected, "{status} {job_status}");
        }
        assert_eq!(
            [404, 409, 200].map(|status| wish_after_update(&reply(status, ""))),
            [Wish::Abort, Wish::Abort, Wish::GoOn]
        );
        assert!(Wish::GoOn < Wish::Cancel && Wish::Cancel < Wish::Abort);
    }
}
