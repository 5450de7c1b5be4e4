//! Bytes of one connection in both directions, within the job's limits.
//!
//! Each direction ends by itself, as TCP has it. The connection ends when both have, when nothing moves for a while, or when
//! the job has had its share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::host::Host;
use super::policy::{Limits, Refusal, Scope};
use super::rate::Rate;
use crate::config::format_size;

/// Bytes that are passed on at a time.
const CHUNK: usize = 64 << 10;

/// Time without a byte in either direction.
const IDLE_LIMIT: Duration = Duration::from_secs(10 * 60);

/// What TLS clients are told when they ask for another server: a fatal alert, `unrecognized_name`.
const WRONG_NAME_ALERT: [u8; 7] = [21, 3, 1, 0, 2, 2, 112];

/// What all connections of a job share.
#[derive(Debug)]
pub(super) struct Meter {
    limits: Limits,
    began: Instant,
    rate: Mutex<Rate>,
    bytes: AtomicU64,
}

impl Meter {
    pub(super) fn new(limits: Limits) -> Self {
        let rate = Mutex::new(Rate::new(limits.bandwidth));
        Self { limits, began: Instant::now(), rate, bytes: AtomicU64::new(0) }
    }

    /// What to say when the job may move no more bytes.
    pub(super) fn exhausted(&self) -> Option<String> {
        let is_over = self.bytes.load(Ordering::Relaxed) >= self.limits.bytes;
        is_over.then(|| format!("the job has moved {}, which is as much as it may", format_size(self.limits.bytes)))
    }

    /// Waits until so many bytes may pass.
    async fn pass(&self, bytes: u64) -> Result<(), Cut> {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(why) = self.exhausted() {
            return Err(Cut::Limit(why));
        }
        let wait = {
            let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
            rate.reserve(self.began.elapsed(), bytes)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

/// What passed in one connection, seen while it does.
#[derive(Debug)]
pub(super) struct Traffic {
    began: Instant,
    /// From the guest, to the guest, and when anything last did, in milliseconds since the beginning.
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    moved_at: AtomicU64,
    /// What audit mode let pass.
    pub(super) audited: OnceLock<Refusal>,
}

impl Traffic {
    pub(super) fn new() -> Self {
        let (sent, received, moved_at, audited) = Default::default();
        Self { began: Instant::now(), sent, received, moved_at, audited }
    }

    /// In milliseconds.
    pub(super) fn age(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn moved(&self, counter: &AtomicU64, bytes: u64) {
        counter.fetch_add(bytes, Ordering::Relaxed);
        self.moved_at.store(self.age(), Ordering::Relaxed);
    }

    async fn idle(&self) {
        loop {
            let quiet = Duration::from_millis(self.age().saturating_sub(self.moved_at.load(Ordering::Relaxed)));
            match IDLE_LIMIT.checked_sub(quiet).filter(|left| !left.is_zero()) {
                Some(left) => tokio::time::sleep(left).await,
                None => return,
            }
        }
    }
}

/// Why a connection was ended before its two ends did so.
#[derive(Debug)]
pub(super) enum Cut {
    Refused(Refusal),
    Limit(String),
    Idle,
    /// One of the two ends broke it.
    Broken,
}

impl From<std::io::Error> for Cut {
    fn from(_: std::io::Error) -> Self {
        Self::Broken
    }
}

/// For whom a connection was admitted: its first bytes are held back until they say the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gate<'a> {
    pub(super) scope: &'a Scope,
    pub(super) host: &'a Host,
    pub(super) port: u16,
}

/// Passes bytes in both directions; `first` are some that the guest has sent already.
pub(super) async fn splice<G, U>(
    meter: &Meter, traffic: &Traffic, gate: Option<Gate<'_>>, guest: G, first: Vec<u8>, upstream: U,
) -> Result<(), Cut>
where
    G: AsyncRead + AsyncWrite,
    U: AsyncRead + AsyncWrite,
{
    let (mut from_guest, mut to_guest) = tokio::io::split(guest);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let upload = async {
        if hold_back(meter, traffic, gate, first, &mut from_guest, &mut to_upstream).await? {
            copy(meter, traffic, &traffic.sent, &mut from_guest, &mut to_upstream).await?;
        }
        Ok(to_upstream.shutdown().await?)
    };
    let download = async {
        copy(meter, traffic, &traffic.received, &mut from_upstream, &mut to_guest).await?;
        Ok(to_guest.shutdown().await?)
    };
    let ended = tokio::select! {
        both = async { tokio::try_join!(upload, download) } => both.map(|_| ()),
        () = traffic.idle() => Err(Cut::Idle),
    };
    if let Err(Cut::Refused(Refusal::OtherServerName(_) | Refusal::NoServerName)) = &ended {
        // It may have gone already.
        drop(to_guest.write_all(&WRONG_NAME_ALERT).await);
    }
    ended
}

/// Sends the guest's first bytes once they are what was admitted; gives whether more may follow.
async fn hold_back(
    meter: &Meter, traffic: &Traffic, gate: Option<Gate<'_>>, mut held: Vec<u8>, from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<bool, Cut> {
    if let Some(Gate { scope, host, port }) = gate {
        let judged = loop {
            if let Some(judged) = scope.judge_first_bytes(host, port, &held) {
                break judged;
            }
            // What reads first bytes wants no more than a bounded number of them.
            if from.read_buf(&mut held).await? == 0 {
                return Ok(false);
            }
        };
        match judged {
            Ok(()) => {}
            Err(refusal) if scope.policy.audit => drop(traffic.audited.set(refusal)),
            Err(refusal) => return Err(Cut::Refused(refusal)),
        }
    }
    if !held.is_empty() {
        let length = held.len() as u64;
        meter.pass(length).await?;
        traffic.moved(&traffic.sent, length);
        to.write_all(&held).await?;
    }
    Ok(true)
}

async fn copy(
    meter: &Meter, traffic: &Traffic, counter: &AtomicU64, from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Cut> {
    let mut buffer = vec![0; CHUNK];
    while let length @ 1.. = from.read(&mut buffer).await? {
        meter.pass(length as u64).await?;
        // Counted first: who reads the last of it may end the whole connection.
        traffic.moved(counter, length as u64);
        to.write_all(&buffer[..length]).await?;
    }
    Ok(())
}
