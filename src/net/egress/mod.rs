//! What jobs reach of the world: a proxy on the host for guests without a network card, and a filter of packets for those with one.
//!
//! The agent listens on one loopback port of the guest and carries each connection to the host as a stream. Here it is read
//! what the guest wants (HTTP, CONNECT or SOCKS5), judged, and connected. Invariants:
//!
//! - The host decides about everything; the agent only carries bytes.
//! - A name is resolved once, each address is judged, and only judged addresses are connected to. This host, private networks
//!   and the metadata services of clouds are out of reach unless the operator lists their addresses.
//! - TLS must be for the server that was asked for.
//! - Every connection ends in the job's egress log, also one that the end of the job broke off.
//! - Heads, connections, bandwidth, bytes and times are bounded.
//!
//! ```text
//!  stream ── head (connect, socks, plain) ── host ── policy ── reach: resolve, judge, dial ── splice ── log
//! ```

pub mod addresses;
pub mod connect;
pub mod environment;
pub mod hello;
pub mod host;
pub mod log;
pub mod nat;
pub mod network;
mod plain;
pub mod policy;
mod rate;
mod reach;
pub mod rules;
pub mod socks;
mod splice;
mod ticket;
mod tunnel;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use tokio_util::task::TaskTracker;
use url::Url;

use self::host::Host;
use self::log::{Connection, EgressLog};
use self::nat::Uplink;
use self::network::Network;
use self::policy::Scope;
use self::splice::Meter;
use crate::host::wire::Wire;
use crate::metrics::EgressMetrics;

/// How long given up connections may take to end.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);

/// Names that one job has looked up at a time. All jobs share the threads that this takes.
const MAX_LOOKUPS: usize = 4;

/// Serves the connections of one job.
#[derive(Debug, Clone)]
pub struct Egress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    scope: Scope,
    network: Arc<dyn Network>,
    meter: Meter,
    /// One for each connection that may be open.
    turns: Arc<Semaphore>,
    /// One for each name that may be looked up at a time.
    lookups: Arc<Semaphore>,
    log: Mutex<EgressLog>,
    /// Connections that are not in the log yet.
    open: TaskTracker,
    metrics: EgressMetrics,
    /// The way of a network card, while there is one.
    uplink: tokio::sync::Mutex<Option<Uplink>>,
}

impl Egress {
    /// A proxy with this policy.
    pub fn new(scope: Scope, network: Arc<dyn Network>, metrics: EgressMetrics) -> Self {
        let limits = scope.policy.limits;
        let turns = Arc::new(Semaphore::new(limits.connections as usize));
        Self(Arc::new(Shared {
            scope,
            network,
            meter: Meter::new(limits),
            turns,
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            log: Mutex::default(),
            open: TaskTracker::new(),
            metrics,
            uplink: tokio::sync::Mutex::default(),
        }))
    }

    /// Whether guests are to be offered the proxy at all.
    pub fn is_offered(&self) -> bool {
        self.0.scope.is_offered()
    }

    /// Whether the policy lets guests ask for the host and port of an address, by name.
    pub fn reaches(&self, url: &Url) -> bool {
        let host = url.host_str().and_then(|host| Host::parse(host).ok());
        let port = url.port_or_known_default();
        host.zip(port).is_some_and(|(host, port)| self.0.scope.judge(&host, port).is_ok())
    }

    /// Where the certificates are that guests shall trust as well.
    pub fn ca_bundle(&self) -> Option<&Path> {
        self.0.scope.policy.ca_bundle.as_deref()
    }

    /// The variables by which programs of the guest find the proxy.
    pub fn variables(&self) -> Vec<(String, String)> {
        if self.is_offered() { environment::variables() } else { Vec::new() }
    }

    /// Serves one connection until it ends. Dropping the future ends everything that it started.
    pub async fn serve_connection<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, stream: S) {
        tunnel::serve(&self.0, stream).await;
    }

    /// Opens the way of a machine's network card, where the policy has one. It ends with [`Self::settled`].
    ///
    /// # Errors
    /// When the machine has no card, or this host cannot open the way.
    pub async fn connect(&self, wire: Option<&Arc<Wire>>) -> io::Result<()> {
        if !self.0.scope.has_uplink() {
            return Ok(());
        }
        let wire = wire.ok_or_else(|| io::Error::other("the machine has no network card"))?;
        let mut uplink = self.0.uplink.lock().await;
        // The machine before this one has its link no more.
        *uplink = None;
        *uplink = Some(Uplink::open(&self.0, Arc::clone(wire)).await?);
        Ok(())
    }

    /// Waits until connections whose serving was given up are in the log, and closes the way of a network card.
    pub async fn settled(&self) {
        if let Some(uplink) = self.0.uplink.lock().await.take() {
            uplink.close(&self.0).await;
        }
        self.0.open.close();
        // They end where they wait; one that does not must not keep a job.
        if tokio::time::timeout(SETTLE_LIMIT, self.0.open.wait()).await.is_err() {
            tracing::warn!("connections of a job that is over do not end");
        }
    }

    /// What was reached and refused so far. Connections that are open are not in it.
    pub fn log(&self) -> EgressLog {
        self.0.lock_log().clone()
    }
}

impl Shared {
    /// Notes what became of something that a guest wanted.
    fn note(&self, connection: Connection) {
        self.metrics.ended(connection.verdict, connection.sent, connection.received);
        self.lock_log().add(connection);
    }

    fn lock_log(&self) -> std::sync::MutexGuard<'_, EgressLog> {
        // Whoever panicked while holding the lock left a list that is still a list.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
