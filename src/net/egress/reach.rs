//! From a host and port that a guest asked for to a connection: judged by the lists, resolved once, judged by its addresses,
//! and connected to exactly those.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Shared;
use super::host::Host;
use super::log::Verdict;
use super::network::dial;
use super::policy::Refusal;
use crate::config::format_duration;
use crate::document::reader::quoted;

/// How long a connection waits for its turn when as many are open as may be.
const TURN_LIMIT: Duration = Duration::from_secs(30);

/// Time for the addresses of a name.
const RESOLVE_LIMIT: Duration = Duration::from_secs(15);

/// Time until one of the addresses answers.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// A connection that may be used.
pub(super) struct Reached {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    /// Allowed, or let pass by audit mode; and by what.
    pub(super) verdict: Verdict,
    pub(super) why: String,
    /// Its place among the connections of the job.
    pub(super) turn: OwnedSemaphorePermit,
}

/// Why there is no connection.
pub(super) enum Unreached {
    Refused(Refusal),
    /// There are as many connections as may be, or they have moved as many bytes as they may.
    Exhausted(String),
    Unresolved(String),
    /// Nobody listens there.
    Declined(String),
    Failed(String),
}

impl Shared {
    /// Connects to `host` and `port`, if the policy allows it.
    pub(super) async fn reach(&self, host: &Host, port: u16) -> Result<Reached, Unreached> {
        let target = format!("{host}:{port}");
        let (verdict, why) = match self.scope.judge(host, port) {
            Ok(rule) => (Verdict::Allowed, rule),
            Err(refusal) if self.scope.policy.audit && refusal.is_of_lists() => {
                (Verdict::Audited, refusal.text(&target, &self.scope))
            }
            Err(refusal) => return Err(Unreached::Refused(refusal)),
        };
        if let Some(why) = self.meter.exhausted() {
            return Err(Unreached::Exhausted(why));
        }
        let turn = timeout(TURN_LIMIT, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            let most = self.scope.policy.limits.connections;
            return Err(Unreached::Exhausted(format!("{most} connections are open, which is as many as may be")));
        };
        let addresses = self.admitted_addresses(host, port).await?;
        match timeout(CONNECT_LIMIT, dial(&*self.network, &addresses)).await {
            Ok(Ok((stream, address))) => Ok(Reached { stream, address, verdict, why, turn }),
            Ok(Err(error)) => {
                let text = format!("{} does not answer: {error}", quoted(&target));
                let is_declined = error.kind() == io::ErrorKind::ConnectionRefused;
                Err(if is_declined { Unreached::Declined(text) } else { Unreached::Failed(text) })
            }
            Err(_) => {
                let limit = format_duration(CONNECT_LIMIT);
                Err(Unreached::Failed(format!("{} did not answer within {limit}", quoted(&target))))
            }
        }
    }

    /// The addresses of a name. The job's turn ends with the look-up, not with whoever waits for it: names that resolve slowly take
    /// the job's own turns and not those of all jobs.
    pub(super) async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let turn = Arc::clone(&self.lookups).acquire_owned().await.map_err(io::Error::other)?;
        let found = self.network.resolve(name);
        let looked_up = tokio::spawn(async move {
            let _turn = turn;
            found.await
        });
        looked_up.await.map_err(io::Error::other)?
    }

    /// The addresses that may be connected to. They are not looked up again: the next answer may be another one.
    async fn admitted_addresses(&self, host: &Host, port: u16) -> Result<Vec<SocketAddr>, Unreached> {
        let found = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => match timeout(RESOLVE_LIMIT, self.look_up(name)).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    tracing::debug!(name, %error, "a name that a guest asked for does not resolve");
                    return Err(Unreached::Unresolved(format!("{} has no address", quoted(name))));
                }
                Err(_) => {
                    let limit = format_duration(RESOLVE_LIMIT);
                    return Err(Unreached::Unresolved(format!("{} did not resolve within {limit}", quoted(name))));
                }
            },
        };
        let own = self.network.own_addresses().map_err(|error| {
            tracing::error!(%error, "the host's own addresses are not known, so no guest reaches anything");
            Unreached::Failed("the host's own addresses are not known".to_owned())
        })?;
        let mut refused = None;
        let mut admitted = Vec::new();
        for address in found {
            match self
                .scope
                .policy
                .addresses
                .refuses(address, &own)
                .or_else(|| self.refuses_itself(address, port, &own))
            {
                None => admitted.push(SocketAddr::new(address, port)),
                Some(why) => refused = refused.or(Some(Refusal::Address(address, why))),
            }
        }
        match refused {
            Some(refusal) if admitted.is_empty() => Err(Unreached::Refused(refusal)),
            None if admitted.is_empty() => {
                Err(Unreached::Unresolved(format!("{} has no address", quoted(&host.to_string()))))
            }
            _ => Ok(admitted),
        }
    }

    /// Says that an address leads to this very service, if it does.
    fn refuses_itself(&self, address: IpAddr, port: u16, own: &[IpAddr]) -> Option<&'static str> {
        let address = address.to_canonical();
        let is_this_host = address.is_loopback() || address.is_unspecified() || own.contains(&address);
        (is_this_host && self.network.is_served(port)).then_some("Dayfly itself listens there")
    }
}
