//! From a program's write in the guest to a reader of its log on the host, beside the same bytes over the bare channel.
//!
//! Ours is the whole way: the agent's pipe, records, frames, credit, the log's writer, its files, and a reader who follows
//! them. The bare channel is the same virtual port with nothing above it: a program in the guest writes into it, a
//! socket on the host is read. Both begin with the same file in the guest's memory, and both count from the first byte that
//! arrives to the last.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures::StreamExt;

use super::bare::Bare;
use super::report::{BenchReport, Distribution};
use crate::clock;
use crate::engine::{Engine, Prepared};
use crate::ids::{JobId, VmId};
use crate::log::{LogStore, LogWriter, Stream};
use crate::protocol::BULK_PORT;
use crate::protocol::message::{Exec, ExitStatus, Output, Owner};
use crate::vm::guest::Guest;
use crate::vm::machine::Template;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct LogBench {
    pub runs: usize,
    /// Bytes of output in each run.
    pub bytes: u64,
}

/// Where the guest has the text, in its memory.
const TEXT: &str = "/dev/shm/text";

/// A line of the text. Real logs have lines, and lines cost more than a single block of bytes would.
const LINE: &str = "a line of a log, neither very short nor very long: 0123456789 abcdefghijklmnopqrstuvwxyz";

/// How long nothing may arrive before the bare channel counts as broken.
const SILENCE: Duration = Duration::from_secs(60);

/// How long is waited for what a program said that did not do its work.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Copies the text into the agent's own port, with pieces as large as the kernel passes on at once. The port can be open only
/// once, so the descriptor is taken from the agent, which does not use it while no host speaks to it there.
const PUMP: &str = r#"
    my ($name, $text) = @ARGV;
    my ($port) = grep { open(my $file, "<", "$_/name"); <$file> =~ /^\Q$name\E$/ } glob("/sys/class/virtio-ports/*");
    $port =~ s|.*/|/dev/|;
    my ($fd) = map { m|([0-9]+)$| } grep { readlink($_) eq $port } glob("/proc/1/fd/*");
    my $own = syscall(438, syscall(434, 1, 0), $fd + 0, 0);
    die "taking descriptor $fd of $port: $!\n" if $own < 0;
    open(my $out, ">&=", $own) or die "$!\n";
    open(my $in, "<", $text) or die "$!\n";
    while (my $length = sysread($in, my $piece, 32768)) {
        my $done = 0;
        while ($done < $length) { $done += syswrite($out, $piece, $length - $done, $done) // die "$!\n"; }
    }
"#;

/// Measures in `directory`, where the logs go; `tell` hears of each run.
pub async fn run(
    engine: &Engine, prepared: &Prepared, bench: LogBench, monitor: String, directory: &Path,
    mut tell: impl FnMut(usize),
) -> anyhow::Result<BenchReport> {
    let logs = LogStore::new(directory)?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for run in 1..=bench.runs {
        tell(run);
        ours.push(rate(bench.bytes, once(engine, prepared, bench.bytes, &logs).await?));
        bare.push(rate(bench.bytes, once_bare(engine, prepared, bench.bytes).await?));
    }
    let mut report = BenchReport::new("log", prepared.template.accelerator.to_string(), monitor);
    for (name, rates) in [("log", ours), ("channel", bare)] {
        if let Some(distribution) = Distribution::of_values(&rates, "MB/s") {
            report.results.insert(name, distribution);
        }
    }
    report.add_ratio("log_over_channel", "log", "channel");
    report
        .notes
        .push(format!("each run is {} bytes of text, in a fresh VM; the log's limit is above that", bench.bytes));
    Ok(report)
}

fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

async fn once(engine: &Engine, prepared: &Prepared, bytes: u64, logs: &LogStore) -> anyhow::Result<Duration> {
    let mut machine = engine.restore(engine.home(VmId::random())?, prepared, None).await?;
    let measured = follow_log(machine.guest(), bytes, logs).await;
    machine.destroy().await?;
    measured
}

async fn follow_log(guest: &Guest, bytes: u64, logs: &LogStore) -> anyhow::Result<Duration> {
    run_to_end(guest, shell(&make_text(bytes)), None).await?;
    let job = JobId::random();
    // Twice as much: the records have heads, and nothing of the middle may be cut.
    let mut writer = logs.create(&job, 1, bytes * 2).await?;
    let reader = logs.reader(&job, 1).await?.context("the log that was just begun")?;
    let reading = tokio::spawn(async move {
        let mut chunks = std::pin::pin!(reader.follow(0));
        let (mut began, mut read) = (None, 0);
        while let Some(chunk) = chunks.next().await {
            let began = *began.get_or_insert_with(Instant::now);
            read += chunk?.to_text().len() as u64;
            if read >= bytes {
                return anyhow::Ok(began.elapsed());
            }
        }
        bail!("the log ended after {read} of {bytes} bytes")
    });
    run_to_end(guest, shell(&format!("cat {TEXT}")), Some(&mut writer)).await?;
    writer.finish(clock::now_ms()).await?;
    reading.await?
}

async fn run_to_end(guest: &Guest, exec: Exec, mut log: Option<&mut LogWriter>) -> anyhow::Result<()> {
    let mut running = guest.exec(exec).await?;
    loop {
        match (running.next().await?, &mut log) {
            (Output::Exited(exit), _) => {
                ensure!(exit.status == ExitStatus::Code(0), "the guest's program failed: {:?}", exit.status);
                return Ok(());
            }
            (Output::Stdout(bytes), Some(log)) => log.append(1, Stream::Stdout, clock::now_ms(), &bytes).await?,
            (Output::Stdout(bytes) | Output::Stderr(bytes), _) => {
                bail!("the guest's program said: {}", String::from_utf8_lossy(&bytes))
            }
        }
    }
}

async fn once_bare(engine: &Engine, prepared: &Prepared, bytes: u64) -> anyhow::Result<Duration> {
    let template = prepared.template.clone();
    let mut home = engine.home(VmId::random())?;
    let directory = home.path().to_owned();
    let measured = tokio::task::spawn_blocking(move || read_port(&template, &directory, bytes)).await?;
    home.remove().await?;
    Ok(measured?)
}

fn read_port(template: &Template, directory: &Path, bytes: u64) -> io::Result<Duration> {
    let mut bare = Bare::start(template, directory)?;
    let script = format!("{}\nexec perl -e '{PUMP}' {BULK_PORT} {TEXT}", make_text(bytes));
    bare.request(&shell(&script))?;
    let took = count(&mut bare.bulk, bytes).map_err(|error| {
        // The program says why it ended early, if it did.
        let said = bare.control.set_read_timeout(Some(LAST_WORDS)).and_then(|()| bare.wait()).unwrap_or_default();
        io::Error::other(format!("nothing comes over the bare channel: {error}: {}", String::from_utf8_lossy(&said)))
    });
    bare.end()?;
    took
}

/// Reads so many bytes; gives the time from the first of them to the last.
fn count(port: &mut UnixStream, bytes: u64) -> io::Result<Duration> {
    port.set_read_timeout(Some(SILENCE))?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut began, mut read) = (None, 0);
    while read < bytes {
        match port.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => read += length as u64,
        }
        began.get_or_insert_with(Instant::now);
    }
    Ok(began.map(|began| began.elapsed()).unwrap_or_default())
}

fn make_text(bytes: u64) -> String {
    format!("yes '{LINE}' | head -c {bytes} > {TEXT}")
}

fn shell(script: &str) -> Exec {
    let path = ("PATH".to_owned(), "/usr/bin:/bin".to_owned());
    let argv = ["sh", "-ec", script].map(str::to_owned).to_vec();
    Exec { argv, env: vec![path], directory: "/".into(), owner: Owner::ROOT, stdin: false }
}
