//! What a job reached and what it was refused: the egress log. Pure.
//!
//! The guest decides how often it asks for what, so what is the same is one entry with a count, and the list is bounded.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::document::text::one_line;

/// Different entries of one log; more connections are only counted.
pub const MAX_ENTRIES: usize = 300;

/// Entries that are told where a job's log ends.
const MAX_TOLD: usize = 10;

/// Characters of a target or a reason.
const MAX_TEXT: usize = 300;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allowed,
    /// Made, although the policy refuses it: audit mode.
    Audited,
    Refused,
    /// Allowed, and not made or broken off.
    Failed,
}

impl Verdict {
    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Audited => "would be refused",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Connections to one target that ended alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `host:port`, as compared; what a guest wrote where that is none.
    pub target: String,
    pub verdict: Verdict,
    /// The rule that allowed it, or why it was refused or failed.
    pub why: String,
    /// Where the last of them was connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    pub count: u64,
    /// Bytes from the guest.
    pub sent: u64,
    /// Bytes to the guest.
    pub received: u64,
    /// Of all of them together, in milliseconds.
    pub took_ms: u64,
    /// When the first and the last began, in milliseconds since the epoch.
    pub first_at: i64,
    pub last_at: i64,
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (why, hint) = self.why.split_once('\n').map_or((&*self.why, None), |(why, hint)| (why, Some(hint)));
        write!(out, "egress: {}: {why}", self.verdict.as_str())?;
        if self.count > 1 {
            write!(out, " ({} times)", self.count)?;
        }
        hint.into_iter().try_for_each(|hint| write!(out, "\n{hint}"))
    }
}

/// The log of one attempt of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressLog {
    /// In the order in which each came first.
    pub entries: Vec<Entry>,
    /// Connections that did not fit into the list.
    pub left_out: u64,
    /// Bytes of all connections.
    pub sent: u64,
    pub received: u64,
}

/// One connection that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    pub target: String,
    pub verdict: Verdict,
    pub why: String,
    pub address: Option<String>,
    pub sent: u64,
    pub received: u64,
    pub began_at: i64,
    pub took_ms: u64,
}

impl EgressLog {
    /// Notes a connection.
    pub fn add(&mut self, connection: Connection) {
        let Connection { target, verdict, why, address, sent, received, began_at, took_ms } = connection;
        self.sent = self.sent.saturating_add(sent);
        self.received = self.received.saturating_add(received);
        let (target, why) = (one_line(&target, MAX_TEXT), bounded(&why));
        let same = |known: &&mut Entry| known.target == target && known.verdict == verdict && known.why == why;
        if let Some(known) = self.entries.iter_mut().find(same) {
            known.count += 1;
            known.sent = known.sent.saturating_add(sent);
            known.received = known.received.saturating_add(received);
            known.took_ms = known.took_ms.saturating_add(took_ms);
            known.first_at = known.first_at.min(began_at);
            known.last_at = known.last_at.max(began_at);
            known.address = address.or(known.address.take());
        } else if self.entries.len() < MAX_ENTRIES {
            let (first_at, last_at) = (began_at, began_at);
            self.entries.push(Entry {
                target,
                verdict,
                why,
                address,
                count: 1,
                sent,
                received,
                took_ms,
                first_at,
                last_at,
            });
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    /// What people should know who wonder why something did not work: a line for each, the hints behind them.
    pub fn complaints(&self) -> Vec<String> {
        let is_told = |entry: &&Entry| entry.verdict != Verdict::Allowed;
        let mut told: Vec<String> = self.entries.iter().filter(is_told).map(Entry::to_string).collect();
        let more = told.len().saturating_sub(MAX_TOLD) as u64 + self.left_out;
        told.truncate(MAX_TOLD);
        if more > 0 {
            told.push(format!("egress: {more} more connections are not listed here"));
        }
        told
    }

    /// How many connections ended so.
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.entries.iter().filter(|entry| entry.verdict == verdict).map(|entry| entry.count).sum()
    }
}

/// Words of Dayfly's own, in which a guest's may stand: its lines stay, each bounded and harmless.
fn bounded(why: &str) -> String {
    let lines: Vec<String> = why.lines().take(2).map(|line| one_line(line, MAX_TEXT)).collect();
    lines.join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(target: &str, verdict: Verdict) -> Connection {
        Connection {
            target: target.to_owned(),
            verdict,
            why: "`a:1` is not in `allow`\n  hint: ask".to_owned(),
            address: Some("192.0.2.1:443".to_owned()),
            sent: 10,
            received: 1000,
            began_at: 5,
            took_ms: 3,
        }
    }

    #[test]
    fn what_is_the_same_is_one_entry_and_the_list_is_bounded() {
        let mut log = EgressLog::default();
        for began_at in [9, 5, 7] {
            log.add(Connection { began_at, ..connection("a:1", Verdict::Refused) });
        }
        log.add(connection("a:1", Verdict::Allowed));
        for number in 0..600 {
            log.add(connection(&format!("\u{1b}{number}{}", "x".repeat(9000)), Verdict::Failed));
        }
        let first = &log.entries[0];
        assert_eq!(first.to_string(), "egress: refused: `a:1` is not in `allow` (3 times)\n  hint: ask");
        assert_eq!((first.count, first.sent, first.received, first.took_ms), (3, 30, 3000, 9));
        assert_eq!((first.first_at, first.last_at), (5, 9));
        assert_eq!((log.entries.len(), log.left_out, log.sent), (MAX_ENTRIES, 302, 6040));
        assert_eq!((log.count(Verdict::Refused), log.count(Verdict::Failed)), (3, 298));
        assert!(!log.entries[2].target.contains('\u{1b}') && log.entries[2].target.len() < 2 * MAX_TEXT);
    }
}
