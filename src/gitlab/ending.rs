//! How a job's one final state comes to GitLab: what each answer to it means, and what to do next. Pure.
//!
//! GitLab may take the state and want it again while it puts the trace away (202), miss bytes of the trace (412), not answer,
//! or have ended the job itself (403, 404). The state that is told never changes on the way.

use std::time::Duration;

use super::client::Reply;
use crate::forge::backoff;

/// Where GitLab names no other, between two tries while it puts the trace away.
const ACCEPTED_WAIT: Duration = Duration::from_secs(3);
/// How often GitLab may miss bytes of a trace that it took before. After that it gets the state without a checksum: a job
/// that does not end is worse than a trace of which GitLab says that it is not whole.
const MAX_MISMATCHES: u32 = 5;
/// How often an answer counts that says that the request is wrong.
const MAX_REFUSALS: u32 = 5;
/// How often the same counts for a patch of the trace. After that GitLab gets the state as it is.
const MAX_TRACE_REFUSALS: u32 = 3;
/// After this time without an acknowledgement, GitLab has ended the job for lack of news.
const MATTERS_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What became of a try to tell the final state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Reply(Reply),
    /// GitLab does not take the rest of the trace, so that the state was not told.
    TraceRefused(Reply),
    /// No complete answer: it may have been carried out. GitLab may have said how long it wants to be left alone.
    Silence(Option<Duration>),
}

/// How it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// GitLab has the state.
    Acknowledged,
    /// The job is not ours, or has ended for GitLab: by our own state, whose acknowledgement was lost, or without us.
    NotOurs,
    /// GitLab does not take it.
    GivenUp,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Settled(Settled),
    /// Wait, send what GitLab lacks of the trace, then tell again.
    Again {
        after: Duration,
        trace: Trace,
    },
    /// Wait, say that the job runs, then tell again: GitLab takes no end of a job that it does not know to have begun.
    BeginFirst {
        after: Duration,
    },
}

impl Next {
    /// GitLab said how long it wants to be left alone.
    fn not_before(self, retry_after: Option<Duration>) -> Self {
        let wait = |after: Duration| after.max(retry_after.unwrap_or_default());
        match self {
            Self::Settled(_) => self,
            Self::Again { after, trace } => Self::Again { after: wait(after), trace },
            Self::BeginFirst { after } => Self::BeginFirst { after: wait(after) },
        }
    }
}

/// Whether an answer to a patch of the trace says that it will not be taken, now or later.
pub fn refuses_trace(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 408 | 416 | 425 | 429)
}

/// From where the trace is sent before the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    GoOn,
    FromTheStart,
}

/// The tries so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ending {
    unanswered: u32,
    mismatches: u32,
    refusals: u32,
    trace_refusals: u32,
}

impl Ending {
    /// Whether the next try tells the checksum.
    pub fn has_checksum(&self) -> bool {
        self.mismatches < MAX_MISMATCHES
    }

    /// Whether the next try gives up the trace if GitLab does not take it: the state matters more.
    pub fn gives_up_trace(&self) -> bool {
        self.trace_refusals >= MAX_TRACE_REFUSALS
    }

    /// What follows from the answer to a try that was made `since_first` after the first one. `jitter` is 0 to 1, random.
    pub fn heard(&mut self, heard: &Heard, since_first: Duration, jitter: f64) -> Next {
        let answered = match heard {
            Heard::Reply(reply) => self.reply(reply, jitter).not_before(reply.retry_after),
            Heard::TraceRefused(reply) => {
                self.trace_refusals += 1;
                self.later(jitter).not_before(reply.retry_after)
            }
            Heard::Silence(retry_after) => self.later(jitter).not_before(*retry_after),
        };
        match answered {
            Next::Settled(_) => answered,
            _ if since_first >= MATTERS_FOR => Next::Settled(Settled::GivenUp),
            _ => answered,
        }
    }

    fn reply(&mut self, reply: &Reply, jitter: f64) -> Next {
        let go_on = |after| Next::Again { after, trace: Trace::GoOn };
        match reply.status {
            200 => Next::Settled(Settled::Acknowledged),
            202 => {
                self.unanswered = 0;
                go_on(reply.interval.unwrap_or(ACCEPTED_WAIT))
            }
            403 | 404 => Next::Settled(Settled::NotOurs),
            412 => {
                self.unanswered = 0;
                self.mismatches += 1;
                Next::Again { after: backoff(self.mismatches - 1, jitter), trace: Trace::FromTheStart }
            }
            400 | 401 | 402 | 405..=407 | 409..=411 | 413..=424 | 426..=428 | 431 => {
                self.refusals += 1;
                match self.refusals {
                    MAX_REFUSALS.. => Next::Settled(Settled::GivenUp),
                    refusals => Next::BeginFirst { after: backoff(refusals, jitter) },
                }
            }
            _ => self.later(jitter),
        }
    }

    fn later(&mut self, jitter: f64) -> Next {
        let after = backoff(self.unanswered, jitter);
        self.unanswered = self.unanswered.saturating_add(1);
        Next::Again { after, trace: Trace::GoOn }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(status: u16) -> Heard {
        Heard::Reply(Reply { status, ..Reply::default() })
    }

    fn after(ending: &mut Ending, heard: &Heard) -> Next {
        ending.heard(heard, Duration::ZERO, 1.0)
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let seconds = Duration::from_secs;
        let again = |after| Next::Again { after, trace: Trace::GoOn };
        for (heard, expected) in [
            (status(200), Next::Settled(Settled::Acknowledged)),
            (status(202), again(ACCEPTED_WAIT)),
            (status(403), Next::Settled(Settled::NotOurs)),
            (status(404), Next::Settled(Settled::NotOurs)),
            (status(412), Next::Again { after: seconds(1), trace: Trace::FromTheStart }),
            (status(400), Next::BeginFirst { after: seconds(2) }),
            (status(409), Next::BeginFirst { after: seconds(2) }),
            (status(429), again(seconds(1))),
            (status(502), again(seconds(1))),
            (status(302), again(seconds(1))),
            (Heard::Silence(None), again(seconds(1))),
            (Heard::Silence(Some(seconds(120))), again(seconds(120))),
        ] {
            assert_eq!(after(&mut Ending::default(), &heard), expected, "{heard:?}");
        }
        let patient = Heard::Reply(Reply { status: 202, interval: Some(seconds(40)), ..Reply::default() });
        assert_eq!(after(&mut Ending::default(), &patient), again(seconds(40)));
        let busy = Heard::Reply(Reply { status: 429, retry_after: Some(seconds(90)), ..Reply::default() });
        assert_eq!(after(&mut Ending::default(), &busy), again(seconds(90)));
    }

    #[test]
    fn a_trace_that_is_refused_does_not_keep_the_state_back() {
        let refused = |status| Heard::TraceRefused(Reply { status, ..Reply::default() });
        let mut ending = Ending::default();
        for _ in 0..MAX_TRACE_REFUSALS {
            assert!(!ending.gives_up_trace());
            assert!(matches!(after(&mut ending, &refused(413)), Next::Again { .. }));
        }
        assert!(ending.gives_up_trace() && ending.has_checksum());
        let refusing: Vec<u16> = (200..600).filter(|status| refuses_trace(*status)).collect();
        assert!([400, 401, 403, 404, 413, 422].iter().all(|status| refusing.contains(status)));
        assert!(![202, 302, 408, 416, 425, 429, 500, 503].iter().any(|status| refusing.contains(status)));
    }

    #[test]
    fn a_trace_that_never_fits_is_told_without_its_checksum() {
        let mut ending = Ending::default();
        for _ in 0..MAX_MISMATCHES {
            assert!(ending.has_checksum());
            after(&mut ending, &status(412));
        }
        assert!(!ending.has_checksum());
    }

    #[test]
    fn what_is_wrong_every_time_is_given_up() {
        let mut ending = Ending::default();
        let answers: Vec<Next> = (0..MAX_REFUSALS).map(|_| after(&mut ending, &status(400))).collect();
        assert_eq!(answers.last(), Some(&Next::Settled(Settled::GivenUp)));
        assert!(answers[..answers.len() - 1].iter().all(|next| matches!(next, Next::BeginFirst { .. })));
    }

    proptest! {
        #[test]
        fn tries_end_with_an_answer_or_with_the_day_and_wait_in_bounds(
            answers in prop::collection::vec(prop_oneof![
                (100_u16..600).prop_map(status), Just(Heard::Silence(None)), Just(Heard::TraceRefused(Reply::default())), Just(status(202)), Just(status(412))
            ], 1..60),
            late: bool,
        ) {
            let mut ending = Ending::default();
            for heard in answers {
                let since = if late { MATTERS_FOR } else { Duration::ZERO };
                match ending.heard(&heard, since, 0.5) {
                    Next::Settled(_) => break,
                    _ if late => prop_assert!(false, "it does not matter any more"),
                    Next::Again { after, .. } | Next::BeginFirst { after } => {
                        prop_assert!(after > Duration::ZERO && after <= Duration::from_secs(300));
                    }
                }
            }
        }
    }
}
