//! One connection's place in the log: noted when it is over, in whatever way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Shared;
use super::log::{Connection, Verdict};
use super::policy::Refusal;
use super::reach::{Reached, Unreached};
use super::splice::{Cut, Traffic};
use crate::clock;

/// Dropped, it is in the log.
pub(super) struct Ticket {
    shared: Arc<Shared>,
    target: String,
    began_at: i64,
    verdict: Verdict,
    why: String,
    address: Option<String>,
    pub(super) traffic: Arc<Traffic>,
    /// Dropped last: whoever waits for open connections finds them in the log.
    _open: TaskTrackerToken,
}

impl Ticket {
    /// For somebody who asks for `target`.
    pub(super) fn new(shared: &Arc<Shared>, target: String) -> Self {
        Self {
            shared: Arc::clone(shared),
            target,
            began_at: clock::now_ms(),
            verdict: Verdict::Failed,
            why: "it was broken off before there was an answer".to_owned(),
            address: None,
            traffic: Arc::new(Traffic::new()),
            _open: shared.open.token(),
        }
    }

    /// Notes that there is a connection.
    pub(super) fn reached(&mut self, reached: &Reached) {
        self.verdict = reached.verdict;
        self.why.clone_from(&reached.why);
        self.address = Some(reached.address.to_string());
    }

    /// Notes why there is none; gives that as text.
    pub(super) fn unreached(&mut self, unreached: &Unreached) -> String {
        (self.verdict, self.why) = match unreached {
            Unreached::Refused(refusal) => (Verdict::Refused, refusal.text(&self.target, &self.shared.scope)),
            Unreached::Exhausted(why)
            | Unreached::Unresolved(why)
            | Unreached::Declined(why)
            | Unreached::Failed(why) => (Verdict::Failed, why.clone()),
        };
        self.why.clone()
    }

    /// Notes a refusal that came before it was known who is asked for, or after it was connected.
    pub(super) fn refused(&mut self, refusal: &Refusal) -> String {
        self.verdict = Verdict::Refused;
        self.why = refusal.text(&self.target, &self.shared.scope);
        self.why.clone()
    }

    /// Notes how the connection ended.
    pub(super) fn ended(&mut self, ended: Result<(), Cut>) {
        match ended {
            Err(Cut::Refused(refusal)) => drop(self.refused(&refusal)),
            Err(Cut::Limit(why)) => (self.verdict, self.why) = (Verdict::Failed, why),
            // The two ends may part as they like.
            Ok(()) | Err(Cut::Idle | Cut::Broken) => {}
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let (Verdict::Allowed, Some(refusal)) = (self.verdict, self.traffic.audited.get()) {
            self.verdict = Verdict::Audited;
            self.why = refusal.text(&self.target, &self.shared.scope);
        }
        let connection = Connection {
            target: std::mem::take(&mut self.target),
            verdict: self.verdict,
            why: std::mem::take(&mut self.why),
            address: self.address.take(),
            sent: self.traffic.sent.load(Ordering::Relaxed),
            received: self.traffic.received.load(Ordering::Relaxed),
            began_at: self.began_at,
            took_ms: self.traffic.age(),
        };
        self.shared.note(connection);
    }
}
