//! The host's way to others: names to addresses, addresses to connections. A trait, so that tests decide what names mean.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::host::addresses;

/// Names that are looked up at a time, by all jobs of this process. Each takes a thread until the host's resolver gives up.
const MAX_LOOKUPS: usize = 32;

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// How long one address is tried alone before the next one is tried as well.
const STAGGER: Duration = Duration::from_millis(300);

/// What the egress proxy needs of a network.
pub trait Network: fmt::Debug + Send + Sync {
    /// The addresses of a name, in the order in which they are to be tried.
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;

    /// A connection to exactly this address.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>>;

    /// This host's own addresses.
    fn own_addresses(&self) -> io::Result<Vec<IpAddr>>;

    /// Whether this service listens on that port of the host. It is out of reach there, whatever the operator lists.
    fn is_served(&self, port: u16) -> bool;
}

/// This host's network.
///
/// Names are looked up by the system's resolver rather than by one of ours: guests then see the names that the operator sees,
/// with the same hosts file, search domains, split DNS and encrypted resolver.
#[derive(Debug, Clone)]
pub struct HostNetwork {
    lookups: Arc<Semaphore>,
    served: Arc<Mutex<Vec<u16>>>,
}

impl Default for HostNetwork {
    fn default() -> Self {
        Self { lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)), served: Arc::default() }
    }
}

impl HostNetwork {
    /// Notes that this service listens on a port.
    pub fn note_served(&self, port: u16) {
        self.served().push(port);
    }

    fn served(&self) -> MutexGuard<'_, Vec<u16>> {
        // Whoever panicked while holding the lock left a list that is still a list.
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network for HostNetwork {
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let (name, lookups) = (name.to_owned(), Arc::clone(&self.lookups));
        async move {
            let permit = lookups.acquire_owned().await.map_err(io::Error::other)?;
            let lookup = tokio::task::spawn_blocking(move || {
                // Kept until the call returns, not until somebody stops waiting for it.
                let _permit = permit;
                (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect())
            });
            lookup.await.map_err(io::Error::other)?
        }
        .boxed()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        TcpStream::connect(address).boxed()
    }

    fn own_addresses(&self) -> io::Result<Vec<IpAddr>> {
        addresses::own()
    }

    fn is_served(&self, port: u16) -> bool {
        self.served().contains(&port)
    }
}

/// Connects to the first of the addresses that answers; the later ones get a chance when an earlier one is slow.
pub(super) async fn dial(network: &dyn Network, addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    let mut waiting = addresses.iter().take(MAX_ADDRESSES).copied();
    let mut tried = FuturesUnordered::new();
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let attempt = |address| network.connect(address).map(move |connected| connected.map(|stream| (stream, address)));
    loop {
        match waiting.next() {
            Some(address) => tried.push(attempt(address)),
            None if tried.is_empty() => return Err(last_error),
            None => {}
        }
        let stagger = if waiting.len() > 0 { STAGGER } else { Duration::MAX };
        match tokio::time::timeout(stagger, tried.next()).await {
            Ok(Some(Ok((stream, address)))) => {
                stream.set_nodelay(true)?;
                return Ok((stream, address));
            }
            Ok(Some(Err(error))) => last_error = error,
            Ok(None) | Err(_) => {}
        }
    }
}
