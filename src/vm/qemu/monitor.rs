//! QEMU's control socket (QMP): JSON objects, one a line. QEMU is trusted less than the host: lines are bounded, and what is
//! not understood is an error.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use super::message::{Message, interpret};
use crate::vm::VmError;
use crate::vm::backend::GuestEnd;

/// The longest line that is accepted.
const MAX_LINE: u64 = 1 << 20;

/// Answers that may wait unread. Commands are sent one after the other, so one would do.
const MAX_ANSWERS: usize = 4;

/// The longest that a command may take unless it says otherwise. A host under load is slow, not broken.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// A connected control socket.
#[derive(Debug)]
pub struct Monitor {
    writer: OwnedWriteHalf,
    answers: mpsc::Receiver<Result<Value, String>>,
    ended: watch::Receiver<Option<GuestEnd>>,
    /// Whether the last migration that ended succeeded.
    migrated: watch::Receiver<bool>,
}

impl Monitor {
    /// Speaks the greeting. The socket may be connected before QEMU listens to it.
    pub async fn greet(stream: UnixStream) -> Result<Self, VmError> {
        let (reader, writer) = stream.into_split();
        let (answer, answers) = mpsc::channel(MAX_ANSWERS);
        let (end, ended) = watch::channel(None);
        let (migration, migrated) = watch::channel(false);
        tokio::spawn(read_lines(reader, answer, end, migration));
        let mut monitor = Self { writer, answers, ended, migrated };
        monitor.command("qmp_capabilities", json!({})).await?;
        Ok(monitor)
    }

    /// Runs one command and gives its answer.
    pub async fn command(&mut self, name: &'static str, arguments: Value) -> Result<Value, VmError> {
        self.command_with(name, arguments, None).await
    }

    async fn command_with(
        &mut self, name: &'static str, arguments: Value, descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Value, VmError> {
        let mut line = json!({ "execute": name, "arguments": arguments }).to_string();
        line.push('\n');
        let exchange = async {
            self.send(line.as_bytes(), descriptor).await.map_err(VmError::host(format!("monitor command `{name}`")))?;
            match self.answers.recv().await {
                Some(Ok(answer)) => Ok(answer),
                Some(Err(detail)) => Err(VmError::Monitor { detail: format!("`{name}`: {detail}") }),
                None => Err(VmError::Monitor { detail: format!("it ended during `{name}`") }),
            }
        };
        let limit = COMMAND_LIMIT;
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or(Err(VmError::TimedOut { what: "a command to the monitor", limit }))
    }

    async fn send(&self, mut bytes: &[u8], mut descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let stream: &UnixStream = self.writer.as_ref();
        while !bytes.is_empty() {
            let rights = descriptor.map(|descriptor| [descriptor.as_raw_fd()]);
            let messages: Vec<_> = rights.iter().map(|fds| ControlMessage::ScmRights(fds)).collect();
            let sent = stream
                .async_io(Interest::WRITABLE, || {
                    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
                    Ok(sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(bytes)], &messages, flags, None)?)
                })
                .await?;
            bytes = &bytes[sent..];
            // It went with the first byte.
            descriptor = None;
        }
        Ok(())
    }

    /// Loads the machine's state from a file and waits until it is there. The guest does not run yet.
    pub async fn load_state(&mut self, state: BorrowedFd<'_>) -> Result<(), VmError> {
        self.migrate("migrate-incoming", state, "loading the snapshot").await
    }

    /// Saves the machine's state, without its memory, to a file. The guest must stand still.
    pub async fn save_state(&mut self, state: BorrowedFd<'_>) -> Result<(), VmError> {
        self.migrate("migrate", state, "saving the snapshot").await
    }

    async fn migrate(
        &mut self, command: &'static str, state: BorrowedFd<'_>, what: &'static str,
    ) -> Result<(), VmError> {
        // The state goes through a descriptor: a command line to run would need a child process, which the sandbox denies.
        self.command_with("getfd", json!({ "fdname": "state" }), Some(state)).await?;
        // Memory stays in its file; and the end of the migration is told as an event instead of being asked for.
        let capabilities = json!([
            { "capability": "x-ignore-shared", "state": true },
            { "capability": "events", "state": true },
        ]);
        self.command("migrate-set-capabilities", json!({ "capabilities": capabilities })).await?;
        // What was loaded before may be saved after it: only the end of this one counts.
        self.migrated.mark_unchanged();
        self.command(command, json!({ "uri": "fd:state" })).await?;
        match tokio::time::timeout(COMMAND_LIMIT, self.migrated.changed()).await {
            Err(_) => return Err(VmError::TimedOut { what, limit: COMMAND_LIMIT }),
            Ok(Err(_)) => return Err(VmError::Monitor { detail: format!("it ended while {what}") }),
            Ok(Ok(())) if *self.migrated.borrow() => return Ok(()),
            Ok(Ok(())) => {}
        }
        let status = self.command("query-migrate", json!({})).await?;
        let detail = status.get("error-desc").and_then(Value::as_str).unwrap_or("no reason given").to_owned();
        Err(VmError::Monitor { detail: format!("{what}: {detail}") })
    }

    /// Lets the guest run.
    pub async fn resume(&mut self) -> Result<(), VmError> {
        self.command("cont", json!({})).await.map(drop)
    }

    /// Holds the guest still; its disks are drained and flushed.
    pub async fn pause(&mut self) -> Result<(), VmError> {
        self.command("stop", json!({})).await.map(drop)
    }

    /// The last of what the guest wrote to its serial console.
    pub async fn console(&mut self) -> Result<String, VmError> {
        let answer = self.command("ringbuf-read", json!({ "device": "console", "size": 65536 })).await?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// Tells when and how the guest ended by itself.
    pub fn ended(&self) -> watch::Receiver<Option<GuestEnd>> {
        self.ended.clone()
    }
}

async fn read_lines(
    reader: OwnedReadHalf, answers: mpsc::Sender<Result<Value, String>>, ended: watch::Sender<Option<GuestEnd>>,
    migrated: watch::Sender<bool>,
) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(length) if length > 0) {
            break;
        }
        match interpret(&line) {
            Ok(Message::Answer(answer)) => {
                if answers.send(answer).await.is_err() {
                    break;
                }
            }
            Ok(Message::Ended(end)) => {
                ended.send_if_modified(|known| known.is_none() && known.replace(end).is_none());
            }
            Ok(Message::Migrated(completed)) => {
                migrated.send_replace(completed);
            }
            Ok(Message::Other) => {}
            Err(detail) => {
                tracing::warn!(detail, "the monitor sent something that is no QMP");
                break;
            }
        }
    }
    ended.send_if_modified(|known| known.is_none() && known.replace(GuestEnd::MonitorGone).is_none());
}
