//! The agent's requests as calls.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::VmError;
use super::channel::{Channel, Closed, Stream};
use crate::document::text::one_line;
use crate::protocol::message::{
    BadMessage, Exec, Exit, ExitStatus, FileContent, Identity, MAX_RECORD, Output, Owner, RECORD_HEADER_LEN, Request,
    Service, answer_from_record, encode, record_len,
};

/// How long a small request may take before the guest counts as lost. Emulated guests under load are slow.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// How long a guest may take to write a volume out. It may be gigabytes, under emulation.
const SEAL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Characters of an explanation of the guest that are kept. It wrote them, and they end up in logs and reports.
const MAX_WORDS: usize = 500;

/// A guest that is attached.
#[derive(Debug, Clone)]
pub struct Guest {
    channel: Channel,
    /// [`REQUEST_LIMIT`], but for tests.
    limit: Duration,
}

/// A program that runs in the guest.
#[derive(Debug)]
pub struct Running {
    records: Records,
    guest: Guest,
}

impl Guest {
    /// A guest on the other end of `channel`.
    pub fn new(channel: Channel) -> Self {
        Self { channel, limit: REQUEST_LIMIT }
    }

    /// Gives the guest another time to answer, for tests with guests that do not.
    #[cfg(test)]
    pub(super) fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Waits until the conversation with the guest is over; gives the reason.
    pub async fn lost(&self) -> Closed {
        self.channel.closed().await
    }

    /// Makes the guest somebody, before any byte of a job.
    pub async fn identify(&self, identity: Identity) -> Result<(), VmError> {
        self.ask("take its identity", &Request::Identify(identity), &[]).await
    }

    /// Starts a program. Its description, environment included, may take at most [`MAX_RECORD`] bytes.
    pub async fn exec(&self, exec: Exec) -> Result<Running, VmError> {
        let has_input = exec.stdin;
        let description = encode(&exec);
        if description.len() > MAX_RECORD {
            let detail = format!("its arguments and environment take more than {MAX_RECORD} bytes");
            return Err(VmError::Refused { what: "start a program", detail });
        }
        let stream = self.channel.open(encode(&Request::Exec { length: description.len() as u32 }))?;
        stream.write_all(&description).await?;
        if !has_input {
            stream.end();
        }
        Ok(Running { records: Records::new(stream), guest: self.clone() })
    }

    /// Stores a file; it appears whole.
    pub async fn write_file(&self, path: &str, content: &[u8], mode: u32, owner: Owner) -> Result<(), VmError> {
        let request = Request::WriteFile { path: path.to_owned(), mode, owner };
        self.ask("store a file", &request, content).await
    }

    /// Makes a directory and its missing parents.
    pub async fn make_directory(&self, path: &str, owner: Owner) -> Result<(), VmError> {
        self.ask("make a directory", &Request::MakeDirectory { path: path.to_owned(), owner }, &[]).await
    }

    /// Reads at most `limit` bytes of a file; an absent one is empty.
    pub async fn read_file(&self, path: &str, limit: u32) -> Result<FileContent, VmError> {
        let content: FileContent =
            self.ask("read a file", &Request::ReadFile { path: path.to_owned(), limit }, &[]).await?;
        if content.bytes.len() > limit as usize {
            return Err(VmError::Protocol(format!("{} bytes of a file when asked for {limit}", content.bytes.len())));
        }
        Ok(content)
    }

    /// Offers a host service on a loopback port of the guest.
    pub async fn listen(&self, port: u16, service: Service) -> Result<(), VmError> {
        self.ask("listen", &Request::Listen { port, service }, &[]).await
    }

    /// Ends every program of the guest and makes the fresh volume at `target` whole. The VM is of no use afterwards.
    pub async fn seal_volume(&self, target: &str) -> Result<(), VmError> {
        let request = Request::SealVolume { target: target.to_owned() };
        self.ask_within(SEAL_LIMIT, "make the volume whole", &request, &[]).await
    }

    /// Makes the guest write everything to its disks; with `freeze`, it never writes again.
    pub async fn sync(&self, freeze: bool) -> Result<(), VmError> {
        self.ask("write its disks", &Request::Sync { unmount: freeze }, &[]).await
    }

    async fn ask<T: DeserializeOwned>(
        &self, what: &'static str, request: &Request, content: &[u8],
    ) -> Result<T, VmError> {
        self.ask_within(self.limit, what, request, content).await
    }

    async fn ask_within<T: DeserializeOwned>(
        &self, limit: Duration, what: &'static str, request: &Request, content: &[u8],
    ) -> Result<T, VmError> {
        let exchange = async {
            let stream = self.channel.open(encode(request))?;
            stream.write_all(content).await?;
            stream.end();
            let mut records = Records::new(stream);
            let Some((tag, content)) = records.next().await? else {
                return Err(VmError::Protocol(format!("no answer when asked to {what}")));
            };
            answer_from_record(tag, &content)?
                .map_err(|detail| VmError::Refused { what, detail: one_line(&detail, MAX_WORDS) })
        };
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or(Err(VmError::TimedOut { what: "an answer of the guest", limit }))
    }
}

impl Running {
    /// Waits for the program's end; gives its status and the last `kept` bytes that it wrote.
    pub async fn ended(mut self, kept: usize) -> Result<(ExitStatus, Vec<u8>), VmError> {
        let mut output = Vec::new();
        loop {
            match self.next().await? {
                Output::Stdout(bytes) | Output::Stderr(bytes) => {
                    output.extend_from_slice(&bytes);
                    output.drain(..output.len().saturating_sub(kept));
                }
                Output::Exited(exit) => return Ok((exit.status, output)),
            }
        }
    }

    /// The next piece of output; the last one is [`Output::Exited`].
    pub async fn next(&mut self) -> Result<Output, VmError> {
        match self.records.next().await? {
            Some((tag, content)) => Ok(with_few_words(Output::from_record(tag, content)?)),
            None => Err(VmError::Protocol("a program's output ended without its exit status".into())),
        }
    }

    /// The program's input, to be written beside reading its output: a program may stop reading until it can write.
    pub fn input(&self) -> Input {
        Input(Arc::clone(&self.records.stream))
    }

    /// Sends a signal to the program's process group. One that has ended already is no error.
    pub async fn signal(&self, signal: i32) -> Result<(), VmError> {
        let request = Request::Signal { stream: self.records.stream.id(), signal };
        match self.guest.ask("send a signal", &request, &[]).await {
            Err(VmError::Refused { .. }) => Ok(()),
            other => other,
        }
    }
}

/// An explanation is shown as one line, whatever the guest wrote.
fn with_few_words(mut output: Output) -> Output {
    if let Output::Exited(Exit { status: ExitStatus::NotStarted(why), .. }) = &mut output {
        *why = one_line(why, MAX_WORDS);
    }
    output
}

/// The input of a program that runs.
#[derive(Debug)]
pub struct Input(Arc<Stream>);

impl Input {
    /// Gives the program bytes, waiting while it does not read.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), VmError> {
        self.0.write_all(bytes).await
    }

    /// No more comes.
    pub fn end(&self) {
        self.0.end();
    }
}

/// Records that are taken in a row before others get their turn: a guest that sends tiny ones must not keep a processor of
/// the host to itself.
const RECORDS_IN_A_ROW: u32 = 64;

/// Cuts a stream's bytes into records.
#[derive(Debug)]
struct Records {
    stream: Arc<Stream>,
    buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that are done with.
    done: usize,
    in_a_row: u32,
}

impl Records {
    fn new(stream: Stream) -> Self {
        Self { stream: Arc::new(stream), buffer: Vec::new(), done: 0, in_a_row: 0 }
    }

    /// Cancel-safe: what has arrived stays in the buffer.
    async fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, VmError> {
        loop {
            if self.in_a_row >= RECORDS_IN_A_ROW {
                self.in_a_row = 0;
                tokio::task::yield_now().await;
            }
            let pending = &self.buffer[self.done..];
            if let Some((header, rest)) = pending.split_first_chunk::<RECORD_HEADER_LEN>() {
                let length = record_len(*header)?;
                if let Some(content) = rest.get(..length) {
                    let record = (header[0], content.to_vec());
                    self.done += RECORD_HEADER_LEN + length;
                    self.in_a_row += 1;
                    return Ok(Some(record));
                }
            }
            match self.stream.read().await? {
                Some(bytes) => {
                    self.buffer.drain(..self.done);
                    self.done = 0;
                    self.buffer.extend_from_slice(&bytes);
                }
                None if self.buffer.len() == self.done => return Ok(None),
                None => return Err(VmError::Protocol("a record was cut off".into())),
            }
        }
    }
}

impl From<BadMessage> for VmError {
    fn from(error: BadMessage) -> Self {
        Self::Protocol(error.to_string())
    }
}
