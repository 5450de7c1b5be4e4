//! How many signed deliveries a second become durable, beside a program that verifies signatures and does nothing else.
//!
//! Both sides are processes of their own, started here, and get the same requests from the same client, in turn. Ours is
//! the service's own door with its own store on the disk that the service would use; what comes after the answer (reading
//! workflows, starting jobs) is not there. The peer logs nothing, runs nothing and keeps nothing. It is asked in two ways: as
//! GitHub asks, when it parses the JSON that it is told is there, as ours does too; and told not to, when the signature is
//! all that it looks at.

mod client;
mod payload;
mod peer;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Child;

use self::client::Turn;
use self::payload::Deliveries;
use super::report::{BenchReport, Distribution};
use crate::core::Wake;
use crate::forge::github;
use crate::host::process::{self, Lifetime, Spawn, find_program};
use crate::http::webhook::{Door, Lock, routes};
use crate::metrics::Metrics;
use crate::store::Store;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct WebhookBench {
    /// Deliveries for each side.
    pub deliveries: usize,
    pub connections: usize,
    /// Bytes of a body.
    pub size: usize,
}

/// Turns that each side gets: enough for a median, so that one disturbance does not decide.
const TURNS: usize = 5;

/// How long a server may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Signs the deliveries of the benchmark. It guards nothing.
const SECRET: &str = "a benchmark's secret guards nothing";

/// The store of the benchmark, in its directory.
const STORE: &str = "deliveries.db";

/// Measures in `directory`, which must be empty; `tell` hears of each turn.
pub async fn run(bench: WebhookBench, directory: &Path, mut tell: impl FnMut(&str)) -> anyhow::Result<BenchReport> {
    let mut ours = Server::start(directory, "endpoint", |address| endpoint_command(directory, address)).await?;
    let peer = match find_program(peer::PROGRAM) {
        Some(program) => {
            let hooks = peer::write_hooks(directory, SECRET).context("the peer's configuration")?;
            let arguments = |address| Ok((program.display().to_string(), peer::arguments(&hooks, address)));
            Some(Server::start(directory, peer::PROGRAM, arguments).await?)
        }
        None => None,
    };
    let mut sides = vec![Side::new("accept", ours.address, "/webhooks/github")];
    if let Some(peer) = &peer {
        sides.push(Side::new("peer", peer.address, peer::PATH));
        sides.push(Side::new("peer_unparsed", peer.address, peer::UNPARSED_PATH));
    }
    let deliveries = Arc::new(Deliveries::new(SECRET, bench.size));
    for turn in 0..=TURNS {
        tell(&format!("turn {turn} of {TURNS}"));
        for side in &mut sides {
            // The first turn fills caches and pools, and does not count.
            let count = bench.deliveries / if turn == 0 { 10 * TURNS } else { TURNS };
            let sent = client::send(side.address, side.path, &deliveries, count, bench.connections).await?;
            side.add(sent, turn > 0);
        }
    }
    // Not asked to end, but killed: what it answered for must be there nevertheless.
    ours.process.kill().await.context("ending the endpoint")?;
    verify(directory, sides[0].acknowledged).await?;
    Ok(report(bench, &sides))
}

/// All turns of one side.
#[derive(Debug)]
struct Side {
    name: &'static str,
    address: SocketAddr,
    path: &'static str,
    latencies: Vec<Duration>,
    rates: Vec<f64>,
    /// With those of the first turn.
    acknowledged: usize,
}

impl Side {
    fn new(name: &'static str, address: SocketAddr, path: &'static str) -> Self {
        Self { name, address, path, latencies: Vec::new(), rates: Vec::new(), acknowledged: 0 }
    }

    fn add(&mut self, turn: Turn, counts: bool) {
        self.acknowledged += turn.latencies.len();
        if counts {
            self.rates.push(turn.latencies.len() as f64 / turn.took.as_secs_f64());
            self.latencies.extend(turn.latencies);
        }
    }

    fn distribution(&self) -> Option<Distribution> {
        let rate = Distribution::of_values(&self.rates, "deliveries/s")?.p50;
        Some(Distribution { rate: Some(rate), ..Distribution::of_times(&self.latencies)? })
    }
}

fn report(bench: WebhookBench, sides: &[Side]) -> BenchReport {
    let setting = format!("{} connections, bodies of {} bytes", bench.connections, bench.size);
    let mut report = BenchReport::new("webhook", "durable before the answer".to_owned(), setting);
    for side in sides {
        if let Some(distribution) = side.distribution() {
            report.results.insert(side.name, distribution);
        }
    }
    report.add_rate_ratio("rate_over_peer", "accept", "peer");
    report.add_rate_ratio("rate_over_peer_unparsed", "accept", "peer_unparsed");
    if sides.len() == 1 {
        let program = peer::PROGRAM;
        report.notes.push(format!(
            "`{program}` is not installed, so there is no `rate_over_peer`; on Debian and Ubuntu: `apt-get install {program}`"
        ));
    }
    report
}

/// Every delivery that was acknowledged must be in the store, once.
async fn verify(directory: &Path, acknowledged: usize) -> anyhow::Result<()> {
    let store = Store::open(&directory.join(STORE)).await?;
    let stored = store.delivery_counts().await?.received;
    store.close().await;
    if stored != acknowledged as u64 {
        bail!("{acknowledged} deliveries were acknowledged, but {stored} are in the store");
    }
    Ok(())
}

/// Our side, in a process of its own: what `dayfly serve` does with deliveries, until it is killed.
pub async fn serve(directory: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let metrics = Metrics::new([]);
    let store = Store::open_measured(&directory.join(STORE), metrics.store.clone()).await?;
    let limit = crate::webhook::MAX_BODY as u64;
    let lock = Lock::GitHub(SECRET.into());
    let door = Door::new(github::NAME, lock, limit, store, Arc::new(Wake::default()), metrics.deliveries.clone());
    let listener = tokio::net::TcpListener::bind(address).await?;
    Ok(axum::serve(listener, routes("/webhooks/github", door)).await?)
}

fn endpoint_command(directory: &Path, address: SocketAddr) -> anyhow::Result<(String, Vec<String>)> {
    let program = std::env::current_exe().context("this program's own path")?;
    let arguments = ["bench", "webhook-endpoint", "--listen", &address.to_string(), "--directory"].map(str::to_owned);
    Ok((program.display().to_string(), [arguments.to_vec(), vec![directory.display().to_string()]].concat()))
}

/// A server under test. It ends with this process.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    async fn start(
        directory: &Path, name: &str, command: impl FnOnce(SocketAddr) -> anyhow::Result<(String, Vec<String>)>,
    ) -> anyhow::Result<Self> {
        // Freed at once: neither program takes a socket that is bound already.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let (program, arguments) = command(address)?;
        let log = directory.join(format!("{name}.log"));
        let output = std::fs::File::create(&log)?;
        let spawn = Spawn {
            program: &program,
            arguments: &arguments,
            directory,
            inherited: &[],
            output,
            lifetime: Lifetime::EndsWithUs,
        };
        let mut process = process::spawn(spawn).with_context(|| format!("starting `{program}`"))?;
        let listens = async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        tokio::select! {
            () = listens => Ok(Self { process, address }),
            ended = process.wait() => bail!("`{program}` ended at once ({}): {}", ended?, said().trim()),
            () = tokio::time::sleep(START_LIMIT) => {
                bail!("`{program}` did not listen within {} s: {}", START_LIMIT.as_secs(), said().trim())
            }
        }
    }
}
