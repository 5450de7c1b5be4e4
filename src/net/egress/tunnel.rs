//! Connections whose bytes are the two ends' own: CONNECT and SOCKS5. Other requests go on to [`super::plain`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::Shared;
use super::connect::{self, Head};
use super::host::Host;
use super::plain;
use super::policy::Refusal;
use super::reach::Unreached;
use super::socks::{self, Read, Reply};
use super::splice::{Gate, splice};
use super::ticket::Ticket;

/// Time for a guest to say what it wants.
const HEAD_LIMIT: Duration = Duration::from_secs(60);

/// How the guest asked, and so how it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Connect,
    Socks,
}

/// What a guest wants.
enum Opening {
    /// A connection to this host and port, or to a text that names none; and what the guest sent behind the request.
    Tunnel { protocol: Protocol, asked: Result<(Host, u16), String>, rest: Vec<u8> },
    /// An HTTP request; what was read of it.
    Plain(Vec<u8>),
    /// Nothing that can be served; what to answer.
    Nonsense(Vec<u8>),
}

/// Serves one connection of a guest.
pub(super) async fn serve<S>(shared: &Arc<Shared>, mut stream: S)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match timeout(HEAD_LIMIT, read_opening(&mut stream)).await {
        Ok(Ok(Opening::Tunnel { protocol, asked, rest })) => tunnel(shared, stream, protocol, asked, rest).await,
        Ok(Ok(Opening::Plain(head))) => plain::serve(shared, head, stream).await,
        Ok(Ok(Opening::Nonsense(answer))) => drop(stream.write_all(&answer).await),
        // The guest may break its connections as it likes.
        Ok(Err(error)) => tracing::debug!(%error, "a guest's connection ended before it asked for anything"),
        Err(_) => {}
    }
}

async fn read_opening<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<Opening> {
    let mut bytes = Vec::new();
    read_more(stream, &mut bytes).await?;
    if socks::is_socks(bytes[0]) {
        return read_socks(stream, bytes).await;
    }
    loop {
        match connect::read(&bytes) {
            Head::Incomplete => read_more(stream, &mut bytes).await?,
            Head::Other => return Ok(Opening::Plain(bytes)),
            Head::Malformed => {
                return Ok(Opening::Nonsense(connect::refusal(400, "Bad Request", &"this is no CONNECT request")));
            }
            Head::Connect { authority, length } => {
                let asked = Host::parse_with_port(&authority).map_err(|_| authority);
                return Ok(Opening::Tunnel { protocol: Protocol::Connect, asked, rest: bytes.split_off(length) });
            }
        }
    }
}

async fn read_socks<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, mut bytes: Vec<u8>) -> io::Result<Opening> {
    loop {
        match socks::greeting(&bytes) {
            Read::Incomplete => read_more(stream, &mut bytes).await?,
            Read::Wrong(reply) => return Ok(Opening::Nonsense(reply.bytes().to_vec())),
            Read::Done(false, _) => return Ok(Opening::Nonsense(socks::chosen_method(false).to_vec())),
            Read::Done(true, length) => {
                bytes.drain(..length);
                break;
            }
        }
    }
    stream.write_all(&socks::chosen_method(true)).await?;
    loop {
        match socks::request(&bytes) {
            Read::Incomplete => read_more(stream, &mut bytes).await?,
            Read::Wrong(reply) => return Ok(Opening::Nonsense(reply.bytes().to_vec())),
            Read::Done((host, port), length) => {
                let asked = host.map(|host| (host, port));
                return Ok(Opening::Tunnel { protocol: Protocol::Socks, asked, rest: bytes.split_off(length) });
            }
        }
    }
}

/// Every reader of these bytes says by itself when there are too many.
async fn read_more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<()> {
    if stream.read_buf(bytes).await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Arc<Shared>, mut stream: S, protocol: Protocol, asked: Result<(Host, u16), String>, rest: Vec<u8>,
) {
    let (host, port) = match asked {
        Ok(asked) => asked,
        Err(text) => {
            let why = Ticket::new(shared, text).refused(&Refusal::NotAHost);
            return protocol.refuse(&mut stream, &Unreached::Refused(Refusal::NotAHost), &why).await;
        }
    };
    let mut ticket = Ticket::new(shared, format!("{host}:{port}"));
    let reached = match shared.reach(&host, port).await {
        Ok(reached) => reached,
        Err(unreached) => {
            let why = ticket.unreached(&unreached);
            // In the log by the time that the guest knows of it.
            drop(ticket);
            return protocol.refuse(&mut stream, &unreached, &why).await;
        }
    };
    ticket.reached(&reached);
    if stream.write_all(protocol.accepted()).await.is_ok() {
        let gate = Gate { scope: &shared.scope, host: &host, port };
        let traffic = Arc::clone(&ticket.traffic);
        ticket.ended(splice(&shared.meter, &traffic, Some(gate), stream, rest, reached.stream).await);
    }
    drop(reached.turn);
}

impl Protocol {
    fn accepted(self) -> &'static [u8] {
        match self {
            Self::Connect => connect::ESTABLISHED,
            Self::Socks => &[5, Reply::Succeeded as u8, 0, 1, 0, 0, 0, 0, 0, 0],
        }
    }

    async fn refuse(self, stream: &mut (impl AsyncWrite + Unpin), unreached: &Unreached, why: &str) {
        let answer = match self {
            Self::Connect => {
                let (status, name) = unreached.status();
                connect::refusal(status, name, &why)
            }
            Self::Socks => unreached.reply().bytes().to_vec(),
        };
        // A guest that does not wait for its answer needs none.
        if stream.write_all(&answer).await.is_ok() {
            drop(stream.shutdown().await);
        }
    }
}

impl Unreached {
    /// How HTTP says it.
    pub(super) fn status(&self) -> (u16, &'static str) {
        match self {
            Self::Refused(Refusal::NotAHost) => (400, "Bad Request"),
            Self::Refused(_) => (403, "Forbidden"),
            Self::Exhausted(_) => (503, "Service Unavailable"),
            Self::Unresolved(_) | Self::Declined(_) | Self::Failed(_) => (502, "Bad Gateway"),
        }
    }

    fn reply(&self) -> Reply {
        match self {
            Self::Refused(_) => Reply::NotAllowed,
            Self::Unresolved(_) => Reply::HostUnreachable,
            Self::Declined(_) => Reply::ConnectionRefused,
            Self::Exhausted(_) | Self::Failed(_) => Reply::Failed,
        }
    }
}
