//! What guests with a network card reach: whatever the packet filter in their namespace lets pass.
//!
//! A card leads nowhere until a job begins that may reach others, and nowhere again when it ends. In between its packets are
//! judged by address and port, and names by the DNS server that is all a guest has. Invariants:
//!
//! - The rules are there before the link to the host is.
//! - What an allowed name leads to is judged like for the proxy, and reachable only on the ports of its entry.
//! - Rules, names and links go with the job, and with the VM in any case.

pub mod counted;
pub mod dns;
mod filter;
pub mod ruleset;

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use tokio_util::task::AbortOnDropHandle;

use self::filter::{Filter, Sockets};
use super::Shared;
use crate::clock;
use crate::host::wire::Wire;
use crate::protocol::card;

/// Where guests ask for names.
const DNS_PORT: u16 = 53;

/// A card's way to others, until it is closed. One that is dropped goes with its VM.
#[derive(Debug)]
pub(super) struct Uplink {
    wire: Arc<Wire>,
    filter: Arc<Filter>,
    _serving: AbortOnDropHandle<()>,
    began: Instant,
    began_at: i64,
}

impl Uplink {
    /// Opens the way, with the rules of that job.
    pub(super) async fn open(egress: &Arc<Shared>, wire: Arc<Wire>) -> io::Result<Self> {
        let own = egress.network.own_addresses()?;
        let rules = ruleset::of_namespace(&egress.scope, &own);
        wire.connect(&rules, &ruleset::of_host()).await?;
        let sockets = wire.namespace().within(|| {
            let place = (card::GATEWAY, DNS_PORT);
            let sockets = Sockets { datagrams: UdpSocket::bind(place)?, connections: TcpListener::bind(place)? };
            sockets.datagrams.set_nonblocking(true)?;
            sockets.connections.set_nonblocking(true)?;
            Ok(sockets)
        })?;
        let filter = Arc::new(Filter::new(Arc::clone(&wire), egress));
        let serving = Arc::clone(&filter).serve(sockets);
        let serving = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the DNS server of a guest has ended");
            }
        });
        let (began, began_at) = (Instant::now(), clock::now_ms());
        Ok(Self { wire, filter, _serving: AbortOnDropHandle::new(serving), began, began_at })
    }

    /// Closes it, and notes what was reached and refused.
    pub(super) async fn close(self, egress: &Shared) {
        if let Err(error) = self.wire.disconnect().await {
            tracing::warn!(%error, "the link of a VM could not be cut; it goes with the VM");
        }
        let listed = self.wire.list_table(ruleset::FAMILY, ruleset::TABLE).await;
        let counted = listed.and_then(|listing| counted::read(&listing).map_err(io::Error::other));
        match counted {
            Ok(counted) => {
                let took = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                let connections = counted.connections(&egress.scope, &self.filter.names(), self.began_at, took);
                connections.into_iter().for_each(|connection| egress.note(connection));
            }
            Err(error) => tracing::warn!(%error, "what a VM's packet filter counted is not known"),
        }
    }
}
