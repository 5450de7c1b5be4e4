//! Watches one pull request's job through the service's own windows, the control socket and the log page, and shows what
//! happens while it happens.
//!
//! The two tell of the same moments with different delays, so what they tell is held for a moment and shown in the order in
//! which it happened.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow};
use dayfly::clock;
use futures::StreamExt;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};

use crate::control::{Control, Event, Job};
use crate::screen::Screen;

/// From the webhook until the VM is gone; far more than it takes on the slowest host.
const JOB_LIMIT: Duration = Duration::from_secs(180);
const LOG_END_LIMIT: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(25);
/// How long something is held so that something earlier can still be told.
const HOLD_US: i64 = 200_000;

/// What was seen of a job.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) jobs: Vec<Job>,
    /// With its events, after the last of them.
    pub(crate) job: Job,
    /// As it was streamed.
    pub(crate) log: String,
}

/// Watches until the VM is gone and the log is complete. Times are shown since `began_us`.
pub(crate) async fn job(control: &Control, sha: &str, began_us: i64, screen: &Screen) -> anyhow::Result<Seen> {
    let mut watch =
        Watch { screen, began_us, held: BTreeMap::new(), shown: 0, log: String::new(), line: String::new() };
    let watched = timeout(JOB_LIMIT, watch.follow(control, sha)).await;
    let job = watched.unwrap_or_else(|_| Err(anyhow!("the job was not over within {} s", JOB_LIMIT.as_secs())))?;
    let log = watch.log;
    Ok(Seen { jobs: control.jobs(sha).await?, job, log })
}

struct Watch<'a> {
    screen: &'a Screen,
    began_us: i64,
    /// By time, then by the order in which it was told.
    held: BTreeMap<(i64, usize), Told>,
    /// Events of the job that are shown or held.
    shown: usize,
    log: String,
    /// A line of the log whose end has not come.
    line: String,
}

enum Told {
    Event(Event),
    Log(String),
}

impl Watch<'_> {
    async fn follow(&mut self, control: &Control, sha: &str) -> anyhow::Result<Job> {
        let mut looks = interval(LOOK_INTERVAL);
        let id = loop {
            looks.tick().await;
            if let Some(job) = control.jobs(sha).await?.first() {
                break job.id.clone();
            }
        };
        let (pieces, mut log) = mpsc::unbounded_channel();
        let mut follower = None;
        let job = loop {
            tokio::select! {
                Some(piece) = log.recv() => self.hold_log(piece),
                _ = looks.tick() => {
                    let job = control.job(&id).await?;
                    self.hold_events(&job);
                    if follower.is_none() && has(&job, "agent_answered") {
                        let events = format!("{}/events", job.log_url);
                        follower = Some(tokio::spawn(follow_log(events, pieces.clone())));
                    }
                    if has(&job, "vm_destroyed") {
                        break job;
                    }
                }
            }
            self.show_until(clock::now_us() as i64 - HOLD_US);
        };
        drop(pieces);
        let follower = follower.ok_or_else(|| anyhow!("the VM is gone, but its agent never answered"))?;
        timeout(LOG_END_LIMIT, follower)
            .await
            .map_err(|_| anyhow!("the log's stream did not end with the job"))???;
        while let Some(piece) = log.recv().await {
            self.hold_log(piece);
        }
        self.show_until(i64::MAX);
        Ok(job)
    }

    fn hold_events(&mut self, job: &Job) {
        for event in &job.events[self.shown.min(job.events.len())..] {
            let order = self.held.len();
            self.held.insert((event.at_us, order), Told::Event(event.clone()));
        }
        self.shown = job.events.len();
    }

    fn hold_log(&mut self, piece: Piece) {
        self.log.push_str(&piece.text);
        for part in piece.text.split_inclusive('\n') {
            self.line.push_str(part);
            if part.ends_with('\n') {
                let order = self.held.len();
                self.held.insert((piece.at_ms * 1000, order), Told::Log(std::mem::take(&mut self.line)));
            }
        }
    }

    fn show_until(&mut self, us: i64) {
        let later = self.held.split_off(&(us, usize::MAX));
        for ((at_us, _), told) in std::mem::replace(&mut self.held, later) {
            match told {
                Told::Event(event) => self.screen.event(at_us - self.began_us, &event),
                Told::Log(line) => self.screen.log(line.trim_end()),
            }
        }
    }
}

fn has(job: &Job, kind: &str) -> bool {
    job.events.iter().any(|event| event.kind == kind)
}

/// What a step wrote.
struct Piece {
    at_ms: i64,
    text: String,
}

/// An entry of the log's stream.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Piece { stream: String, at_ms: i64, text: String },
    Cut { bytes: u64 },
}

/// Follows the log page's event stream to its end.
async fn follow_log(url: String, pieces: mpsc::UnboundedSender<Piece>) -> anyhow::Result<()> {
    let answer = reqwest::get(&url).await?.error_for_status().context("following the log")?;
    let mut bytes = answer.bytes_stream();
    let mut buffer = Vec::new();
    while let Some(chunk) = bytes.next().await {
        buffer.extend_from_slice(&chunk.context("following the log")?);
        while let Some(end) = buffer.windows(2).position(|window| window == b"\n\n") {
            let event: Vec<u8> = buffer.drain(..end + 2).collect();
            let event = String::from_utf8(event).context("the log's stream is not UTF-8")?;
            match field(&event, "event: ").as_str() {
                "end" => return Ok(()),
                "log" => tell(&field(&event, "data: "), &pieces)?,
                _ => {}
            }
        }
    }
    Err(anyhow!("the log's stream broke off"))
}

fn tell(data: &str, pieces: &mpsc::UnboundedSender<Piece>) -> anyhow::Result<()> {
    for entry in serde_json::from_str::<Vec<Entry>>(data).context("an entry of the log's stream")? {
        match entry {
            // The timeline has the names of steps already.
            Entry::Piece { stream, .. } if stream == "heading" => {}
            // Nobody listens any more once watching has failed.
            Entry::Piece { at_ms, text, .. } => drop(pieces.send(Piece { at_ms, text })),
            Entry::Cut { bytes } => return Err(anyhow!("{bytes} bytes of this short log were cut")),
        }
    }
    Ok(())
}

/// All lines of a field of a server-sent event.
fn field(event: &str, name: &str) -> String {
    event.lines().filter_map(|line| line.strip_prefix(name)).collect::<Vec<_>>().join("\n")
}
