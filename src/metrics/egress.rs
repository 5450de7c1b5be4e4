//! What guests reach of other hosts.

use super::family::{Counters, Maker};
use super::labels::Way;
use crate::net::egress::log::Verdict;

/// Connections through the egress proxies of all jobs.
#[derive(Debug, Clone)]
pub struct EgressMetrics {
    connections: Counters<Verdict>,
    bytes: Counters<Way>,
}

impl EgressMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            connections: maker.counters(
                "egress_connections_total",
                "Connections that guests asked for and that have ended, by verdict.",
            ),
            bytes: maker.counters("egress_bytes_total", "Bytes of those connections, by direction."),
        }
    }

    /// A connection has ended.
    pub fn ended(&self, verdict: Verdict, sent: u64, received: u64) {
        self.connections.inc(verdict);
        self.bytes.add(Way::Sent, sent);
        self.bytes.add(Way::Received, received);
    }
}

impl Default for EgressMetrics {
    /// Metrics that nobody reads.
    fn default() -> Self {
        Self::new(&Maker::default())
    }
}
