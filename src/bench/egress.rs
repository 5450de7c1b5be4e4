//! How fast a guest reaches other hosts through the proxy, beside the same server asked directly on this host.
//!
//! The server is this process itself, on loopback. In the guest the clock is curl's: it counts from its start to its end, so
//! that starting curl is not part of the figures.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::report::{BenchReport, Distribution};
use crate::engine::{Engine, Prepared};
use crate::ids::VmId;
use crate::job::services::Services;
use crate::metrics::EgressMetrics;
use crate::net::egress::addresses::{Addresses, Network as Range};
use crate::net::egress::network::HostNetwork;
use crate::net::egress::policy::{Limits, Policy, Scope};
use crate::net::egress::{Egress, environment};
use crate::net::registry::RegistryProxy;
use crate::net::results::ResultsService;
use crate::protocol::message::{Exec, ExitStatus, Output, Owner};
use crate::vm::guest::Guest;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct EgressBench {
    /// Downloads, and ten times as many connections.
    pub runs: usize,
    /// Bytes of a download.
    pub bytes: u64,
}

/// Connections for each download: they are short.
const CONNECTIONS: usize = 10;

/// Bytes that the server writes at a time.
const CHUNK: usize = 64 << 10;

/// Measures in one VM; `tell` hears of each run.
pub async fn run(
    engine: &Engine, prepared: &Prepared, bench: EgressBench, monitor: String, mut tell: impl FnMut(usize),
) -> anyhow::Result<BenchReport> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    let _serving = AbortOnDropHandle::new(tokio::spawn(serve(listener)));
    let mut machine = engine.restore(engine.home(VmId::random())?, prepared, None).await?;
    let services = Services {
        git: None,
        egress: proxy(server)?,
        registries: RegistryProxy::none(),
        results: ResultsService::none(),
    };
    let connections = machine.take_connections().context("the connections of a new VM")?;
    let _proxying = AbortOnDropHandle::new(services.serve(connections));
    let measured = async {
        services.offer(machine.guest()).await?;
        let mut figures = Figures::default();
        for run in 1..=bench.runs {
            tell(run);
            figures.measure(machine.guest(), server, bench.bytes).await?;
        }
        anyhow::Ok(figures)
    };
    let measured = measured.await;
    machine.destroy().await?;
    let mut report = BenchReport::new("egress", prepared.template.accelerator.to_string(), monitor);
    measured?.tell(&mut report);
    report.notes.push(format!("each download has {} bytes; connections are set up by CONNECT", bench.bytes));
    Ok(report)
}

/// A proxy that lets this server be reached, and nothing be limited.
fn proxy(server: SocketAddr) -> anyhow::Result<Egress> {
    let loopback = Range::parse("127.0.0.0/8").map_err(|complaint| anyhow::anyhow!("{complaint}"))?;
    let policy = Policy {
        ports: vec![server.port()],
        addresses: Addresses { allow: vec![loopback], deny: Vec::new() },
        limits: Limits { bandwidth: u64::MAX, bytes: u64::MAX, ..Limits::default() },
        ..Policy::default()
    };
    let scope = Scope::of("this benchmark", policy);
    Ok(Egress::new(scope, Arc::new(HostNetwork::default()), EgressMetrics::default()))
}

#[derive(Default)]
struct Figures {
    /// Megabytes a second.
    proxied: Vec<f64>,
    direct: Vec<f64>,
    connects: Vec<Duration>,
    direct_connects: Vec<Duration>,
}

impl Figures {
    async fn measure(&mut self, guest: &Guest, server: SocketAddr, bytes: u64) -> anyhow::Result<()> {
        let took = curl(guest, server, bytes, "%{time_total}").await?;
        self.proxied.push(bytes as f64 / 1e6 / took.as_secs_f64());
        for _ in 0..CONNECTIONS {
            // Until the proxy's answer: the proxy has connected by then.
            self.connects.push(curl(guest, server, 1, "%{time_pretransfer}").await?);
            let began = Instant::now();
            drop(TcpStream::connect(server).await?);
            self.direct_connects.push(began.elapsed());
        }
        let began = Instant::now();
        download(server, bytes).await?;
        self.direct.push(bytes as f64 / 1e6 / began.elapsed().as_secs_f64());
        Ok(())
    }

    fn tell(&self, report: &mut BenchReport) {
        let rates = [("download", &self.proxied), ("download.direct", &self.direct)];
        let times = [("connect", &self.connects), ("connect.direct", &self.direct_connects)];
        let rates = rates.map(|(name, values)| (name, Distribution::of_values(values, "MB/s")));
        let times = times.map(|(name, values)| (name, Distribution::of_times(values)));
        for (name, distribution) in rates.into_iter().chain(times) {
            report.results.extend(distribution.map(|distribution| (name, distribution)));
        }
        report.add_ratio("download_over_direct", "download", "download.direct");
        report.add_ratio("connect_over_direct", "connect", "connect.direct");
    }
}

/// Has the guest fetch so many bytes through a tunnel; gives the time that curl names.
async fn curl(guest: &Guest, server: SocketAddr, bytes: u64, time: &str) -> anyhow::Result<Duration> {
    let argv = [
        "curl",
        "-s",
        "--fail",
        "--proxytunnel",
        "--noproxy",
        "",
        "-x",
        &environment::address(),
        "-o",
        "/dev/null",
        "-w",
        time,
        &format!("http://{server}/{bytes}"),
    ]
    .map(str::to_owned);
    let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    let exec = Exec { argv: argv.to_vec(), env, directory: "/".to_owned(), owner: Owner::ROOT, stdin: false };
    let mut running = guest.exec(exec).await?;
    let mut said = Vec::new();
    loop {
        match running.next().await? {
            Output::Stdout(bytes) | Output::Stderr(bytes) => said.extend(bytes),
            Output::Exited(exit) => {
                let said = String::from_utf8_lossy(&said);
                ensure!(exit.status == ExitStatus::Code(0), "curl in the guest failed: {:?}: {said}", exit.status);
                let seconds: f64 = said.trim().parse().with_context(|| format!("the time that curl said, `{said}`"))?;
                return Duration::try_from_secs_f64(seconds).context("the time that curl said");
            }
        }
    }
}

/// The same on this host.
async fn download(server: SocketAddr, bytes: u64) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(format!("GET /{bytes} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await?;
    let (mut buffer, mut read) = (vec![0; CHUNK], 0);
    while let length @ 1.. = stream.read(&mut buffer).await? {
        read += length as u64;
    }
    ensure!(read > bytes, "the server sent {read} bytes");
    Ok(())
}

/// Answers `GET /BYTES` with as many bytes, one request for each connection.
async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        // A client that leaves has what it wanted.
        tokio::spawn(async move { drop(answer(stream).await) });
    }
}

async fn answer(stream: TcpStream) -> anyhow::Result<()> {
    use tokio::io::AsyncBufReadExt as _;
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await?;
    let path = request.split(' ').nth(1).context("a request")?;
    let mut left: u64 = path.trim_start_matches('/').parse()?;
    while stream.read_line(&mut request).await? > 2 {}
    stream
        .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let chunk = vec![b'x'; CHUNK];
    while left > 0 {
        let length = left.min(CHUNK as u64);
        stream.write_all(&chunk[..usize::try_from(length)?]).await?;
        left -= length;
    }
    Ok(stream.shutdown().await?)
}
