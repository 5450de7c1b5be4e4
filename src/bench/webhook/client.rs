//! The client: as little HTTP as the benchmark needs, so that the servers get the processors.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::payload::Deliveries;

/// Longest answer that is looked at, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// One turn of one side.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) took: Duration,
    /// Of each delivery, from the first byte of the request to the last of a good answer.
    pub(super) latencies: Vec<Duration>,
}

/// Sends `count` deliveries over `connections` connections that stay open; each sends its next when it has its answer.
pub(super) async fn send(
    server: SocketAddr, path: &'static str, deliveries: &Arc<Deliveries>, count: usize, connections: usize,
) -> anyhow::Result<Turn> {
    let sent = Arc::new(AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    let began = Instant::now();
    for _ in 0..connections {
        let (deliveries, sent) = (Arc::clone(deliveries), Arc::clone(&sent));
        senders.spawn(async move {
            let mut connection = Connection::open(server).await?;
            let mut latencies = Vec::new();
            while sent.fetch_add(1, Ordering::Relaxed) < count {
                let request = deliveries.next_request(path);
                let began = Instant::now();
                connection.exchange(&request).await?;
                latencies.push(began.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = Vec::with_capacity(count);
    while let Some(ended) = senders.join_next().await {
        latencies.extend(ended.context("a sender broke off")??);
    }
    Ok(Turn { took: began.elapsed(), latencies })
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    async fn open(server: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server).await.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Sends a request and reads its answer, which must be a success with a known length.
    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await.context("sending a delivery")?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await.context("reading an answer")? == 0 {
                bail!("the server closed the connection: {}", String::from_utf8_lossy(&self.answer));
            }
            let Some(head) = self.answer.windows(4).position(|window| window == b"\r\n\r\n") else {
                if self.answer.len() > MAX_ANSWER {
                    bail!("an answer's head is too long");
                }
                continue;
            };
            let (status, length) = read_head(&self.answer[..head])?;
            if self.answer.len() < head + 4 + length {
                continue;
            }
            if !(200..300).contains(&status) {
                bail!("a delivery was refused: {}", String::from_utf8_lossy(&self.answer));
            }
            return Ok(());
        }
    }
}

fn read_head(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let text = std::str::from_utf8(head).context("an answer's head is no text")?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).context("an answer without a status")?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse().ok() } else { None }
    });
    Ok((status, length.filter(|length| *length <= MAX_ANSWER).context("an answer without a bounded length")?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_or_refused() {
        assert_eq!(read_head(b"HTTP/1.1 202 Accepted\r\nContent-Length: 9").unwrap(), (202, 9));
        for bad in [&b""[..], b"HTTP/1.1", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\ncontent-length: 9999999", b"\xFF"] {
            assert!(read_head(bad).is_err());
        }
    }
}
