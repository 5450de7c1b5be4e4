//! The DNS server of a guest with a network card. It answers for names that the policy allows, with addresses that were judged,
//! and admits those to the packet filter before it answers.
//!
//! Names are looked up by the host's own resolver, so that guests see what the operator sees. Addresses of IPv6 are not told.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::dns::{self, Code, MAX_ADDRESSES, MAX_UDP, Question};
use super::ruleset;
use crate::clock;
use crate::document::reader::quoted;
use crate::host::wire::Wire;
use crate::net::egress::Shared;
use crate::net::egress::host::Host;
use crate::net::egress::log::{Connection, Verdict};
use crate::net::egress::policy::Refusal;

/// Questions that are answered at a time; more are dropped, as a resolver asks again.
const MAX_QUESTIONS: usize = 32;

/// Connections over TCP, and how long one may be silent.
const MAX_CONNECTIONS: usize = 8;
const SILENCE: Duration = Duration::from_secs(5);

/// Time for the addresses of a name. Resolvers in guests wait for 5 s.
const RESOLVE_LIMIT: Duration = Duration::from_secs(10);

/// For how long an admission is not renewed. The filter keeps it for an hour.
const FRESH: Duration = Duration::from_secs(20 * 60);

/// Names whose addresses are remembered for the log.
const MAX_NAMES: usize = 4096;

/// Where the guest's questions arrive.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) datagrams: std::net::UdpSocket,
    pub(super) connections: std::net::TcpListener,
}

/// The server of one guest.
#[derive(Debug)]
pub(super) struct Filter {
    wire: Arc<Wire>,
    /// Gone when the job is.
    egress: Weak<Shared>,
    known: Mutex<Known>,
    /// One change of the rules at a time.
    admission: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    names: BTreeMap<Ipv4Addr, String>,
    /// When an address was admitted last, for which name.
    admitted: BTreeMap<(Ipv4Addr, String), Instant>,
}

impl Filter {
    pub(super) fn new(wire: Arc<Wire>, egress: &Arc<Shared>) -> Self {
        Self { wire, egress: Arc::downgrade(egress), known: Mutex::default(), admission: tokio::sync::Mutex::default() }
    }

    /// Addresses that were told, each with the name for which it was told last.
    pub(super) fn names(&self) -> BTreeMap<Ipv4Addr, String> {
        self.known().names.clone()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Whoever panicked while holding the lock left maps that are still maps.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers until it is dropped.
    pub(super) async fn serve(self: Arc<Self>, sockets: Sockets) -> io::Result<()> {
        let datagrams = Arc::new(UdpSocket::from_std(sockets.datagrams)?);
        let connections = TcpListener::from_std(sockets.connections)?;
        let room = Arc::new(Semaphore::new(MAX_QUESTIONS));
        let (mut open, mut asked) = (JoinSet::new(), JoinSet::new());
        let mut buffer = [0; MAX_UDP];
        loop {
            tokio::select! {
                received = datagrams.recv_from(&mut buffer) => {
                    let (length, from) = received?;
                    // The guest decides how much it asks.
                    if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
                        let (filter, socket, message) = (Arc::clone(&self), Arc::clone(&datagrams), buffer[..length].to_vec());
                        asked.spawn(async move {
                            let _permit = permit;
                            filter.answer_datagram(&socket, &message, from).await;
                        });
                    }
                }
                Ok((stream, _)) = connections.accept(), if open.len() < MAX_CONNECTIONS => {
                    let filter = Arc::clone(&self);
                    open.spawn(async move { filter.answer_connection(stream).await });
                }
                Some(_) = asked.join_next(), if !asked.is_empty() => {}
                Some(_) = open.join_next(), if !open.is_empty() => {}
            }
        }
    }

    async fn answer_datagram(&self, socket: &UdpSocket, message: &[u8], from: SocketAddr) {
        if let Some(answer) = self.answer(message).await
            && let Err(error) = socket.send_to(&answer, from).await
        {
            tracing::debug!(%error, "an answer did not reach a guest");
        }
    }

    /// Questions one after the other, each with its length in front.
    async fn answer_connection(&self, mut stream: TcpStream) -> Option<()> {
        loop {
            let length = timeout(SILENCE, stream.read_u16()).await.ok()?.ok()?;
            if usize::from(length) > MAX_UDP {
                return None;
            }
            let mut message = vec![0; usize::from(length)];
            timeout(SILENCE, stream.read_exact(&mut message)).await.ok()?.ok()?;
            let answer = self.answer(&message).await?;
            let length = u16::try_from(answer.len()).ok()?;
            let framed = [&length.to_be_bytes()[..], &answer].concat();
            timeout(SILENCE, stream.write_all(&framed)).await.ok()?.ok()?;
        }
    }

    async fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        let question = match dns::read(message) {
            Ok(question) => question,
            Err(answer) => return answer,
        };
        let egress = self.egress.upgrade()?;
        match self.resolve(&egress, &question).await {
            Ok(addresses) => Some(question.answer(&addresses)),
            Err(code) => Some(question.refuse(code)),
        }
    }

    /// The addresses to tell, which are admitted by then.
    async fn resolve(&self, egress: &Shared, question: &Question<'_>) -> Result<Vec<Ipv4Addr>, Code> {
        let Host::Name(name) = &question.host else { return Err(Code::NoSuchName) };
        let ports = match egress.scope.judge_all_ports(name) {
            Ok((_, ports)) => ports,
            Err(refusal) if egress.scope.policy.audit && refusal.is_of_lists() => {
                self.note(egress, name, Verdict::Audited, &refusal.text(name, &egress.scope));
                Vec::new()
            }
            Err(refusal) => return Err(self.refuse(egress, name, &refusal)),
        };
        if !question.wants_addresses {
            return Ok(Vec::new());
        }
        let found = self.look_up(egress, name).await?;
        let addresses = self.judged(egress, name, &found)?;
        self.admit(name, &addresses, &ports).await.map_err(|error| {
            tracing::error!(%error, "an address could not be admitted to a guest's packet filter");
            Code::ServerFailure
        })?;
        Ok(addresses)
    }

    async fn look_up(&self, egress: &Shared, name: &str) -> Result<Vec<IpAddr>, Code> {
        match timeout(RESOLVE_LIMIT, egress.network.resolve(name)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                tracing::debug!(name, %error, "a name that a guest asked for does not resolve");
                self.note(egress, name, Verdict::Failed, &format!("{} has no address", quoted(name)));
                Err(Code::NoSuchName)
            }
            Err(_) => Err(Code::ServerFailure),
        }
    }

    /// The addresses of IPv4 that the guest may reach. A name that has only others exists all the same.
    fn judged(&self, egress: &Shared, name: &str, found: &[IpAddr]) -> Result<Vec<Ipv4Addr>, Code> {
        let own = egress.network.own_addresses().map_err(|error| {
            tracing::error!(%error, "the host's own addresses are not known, so no guest is told any");
            Code::ServerFailure
        })?;
        let (mut admitted, mut refused) = (Vec::new(), None);
        for address in found {
            // A card reaches none of this host's addresses, listed or not.
            let why = egress.scope.policy.addresses.refuses(*address, &own);
            let why = why.or_else(|| own.contains(address).then_some("it is an address of the runner's host"));
            match (why, address.to_canonical()) {
                (None, IpAddr::V4(v4)) => admitted.push(v4),
                (None, IpAddr::V6(_)) => {}
                (Some(why), _) => refused = refused.or(Some(Refusal::Address(*address, why))),
            }
        }
        admitted.truncate(MAX_ADDRESSES);
        match refused {
            Some(refusal) if admitted.is_empty() => Err(self.refuse(egress, name, &refusal)),
            _ => Ok(admitted),
        }
    }

    async fn admit(&self, name: &str, addresses: &[Ipv4Addr], ports: &[u16]) -> io::Result<()> {
        let _turn = self.admission.lock().await;
        let now = Instant::now();
        let stale: Vec<Ipv4Addr> = {
            let known = self.known();
            let is_fresh = |address: &Ipv4Addr| {
                known.admitted.get(&(*address, name.to_owned())).is_some_and(|at| now.duration_since(*at) < FRESH)
            };
            addresses.iter().copied().filter(|address| !is_fresh(address)).collect()
        };
        if !stale.is_empty() && !ports.is_empty() {
            self.wire.change_rules(&ruleset::admit(&stale, ports)).await?;
        }
        let mut known = self.known();
        known.admitted.retain(|_, at| now.duration_since(*at) < FRESH);
        for address in stale {
            known.admitted.insert((address, name.to_owned()), now);
            if known.names.len() < MAX_NAMES {
                known.names.insert(address, name.to_owned());
            }
        }
        Ok(())
    }

    fn refuse(&self, egress: &Shared, name: &str, refusal: &Refusal) -> Code {
        self.note(egress, name, Verdict::Refused, &refusal.text(name, &egress.scope));
        Code::NoSuchName
    }

    fn note(&self, egress: &Shared, name: &str, verdict: Verdict, why: &str) {
        egress.note(Connection {
            target: name.to_owned(),
            verdict,
            why: why.to_owned(),
            address: None,
            sent: 0,
            received: 0,
            began_at: clock::now_ms(),
            took_ms: 0,
        });
    }
}
