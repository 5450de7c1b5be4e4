//! The agent's requests as calls.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::VmError;
use super::channel::{Channel, Stream};
use crate::protocol::message::{
    BadMessage, Exec, FileContent, Identity, Output, Owner, RECORD_HEADER_LEN, Request, Service, answer_from_record,
    encode, record_len,
};

/// How long a small request may take before the guest counts as lost. Emulated guests under load are slow.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// A guest that is attached.
#[derive(Debug, Clone)]
pub struct Guest {
    channel: Channel,
}

/// A program that runs in the guest.
#[derive(Debug)]
pub struct Running {
    records: Records,
    channel: Channel,
}

impl Guest {
    /// A guest on the other end of `channel`.
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Waits until the conversation with the guest is over; gives the reason.
    pub async fn lost(&self) -> String {
        self.channel.closed().await
    }

    /// Makes the guest somebody, before any byte of a job.
    pub async fn identify(&self, identity: Identity) -> Result<(), VmError> {
        self.ask("take its identity", &Request::Identify(identity), &[]).await
    }

    /// Starts a program.
    pub fn exec(&self, exec: Exec) -> Result<Running, VmError> {
        let has_input = exec.stdin;
        let stream = self.channel.open(encode(&Request::Exec(exec)))?;
        if !has_input {
            stream.end();
        }
        Ok(Running { records: Records::new(stream), channel: self.channel.clone() })
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
        self.ask("read a file", &Request::ReadFile { path: path.to_owned(), limit }, &[]).await
    }

    /// Offers a host service on a loopback port of the guest.
    pub async fn listen(&self, port: u16, service: Service) -> Result<(), VmError> {
        self.ask("listen", &Request::Listen { port, service }, &[]).await
    }

    /// Makes the guest write everything to its disks; with `freeze`, it never writes again.
    pub async fn sync(&self, freeze: bool) -> Result<(), VmError> {
        self.ask("write its disks", &Request::Sync { unmount: freeze }, &[]).await
    }

    async fn ask<T: DeserializeOwned>(
        &self, what: &'static str, request: &Request, content: &[u8],
    ) -> Result<T, VmError> {
        let exchange = async {
            let stream = self.channel.open(encode(request))?;
            stream.write_all(content).await?;
            stream.end();
            let mut records = Records::new(stream);
            let Some((tag, content)) = records.next().await? else {
                return Err(VmError::Protocol(format!("no answer when asked to {what}")));
            };
            answer_from_record(tag, &content)?.map_err(|detail| VmError::Refused { what, detail })
        };
        let limit = REQUEST_LIMIT;
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or(Err(VmError::TimedOut { what: "an answer of the guest", limit }))
    }
}

impl Running {
    /// The next piece of output; the last one is [`Output::Exited`].
    pub async fn next(&mut self) -> Result<Output, VmError> {
        match self.records.next().await? {
            Some((tag, content)) => Ok(Output::from_record(tag, content)?),
            None => Err(VmError::Protocol("a program's output ended without its exit status".into())),
        }
    }

    /// Gives the program input. [`Running::end_input`] ends it.
    pub async fn write_input(&self, bytes: &[u8]) -> Result<(), VmError> {
        self.records.stream.write_all(bytes).await
    }

    /// No more input comes.
    pub fn end_input(&self) {
        self.records.stream.end();
    }

    /// Sends a signal to the program's process group. One that has ended already is no error.
    pub async fn signal(&self, signal: i32) -> Result<(), VmError> {
        let guest = Guest { channel: self.channel.clone() };
        let request = Request::Signal { stream: self.records.stream.id(), signal };
        match guest.ask("send a signal", &request, &[]).await {
            Err(VmError::Refused { .. }) => Ok(()),
            other => other,
        }
    }
}

/// Cuts a stream's bytes into records.
#[derive(Debug)]
struct Records {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Records {
    fn new(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Cancel-safe: what has arrived stays in the buffer.
    async fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, VmError> {
        loop {
            if let Some((header, rest)) = self.buffer.split_first_chunk::<RECORD_HEADER_LEN>() {
                let length = record_len(*header)?;
                if rest.len() >= length {
                    let tag = header[0];
                    let after = self.buffer.split_off(RECORD_HEADER_LEN + length);
                    let content = std::mem::replace(&mut self.buffer, after).split_off(RECORD_HEADER_LEN);
                    return Ok(Some((tag, content)));
                }
            }
            match self.stream.read().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None if self.buffer.is_empty() => return Ok(None),
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

/// Takes what the agent opens on the bulk channel, for those who serve it.
pub type Connections = mpsc::Receiver<(Stream, Vec<u8>)>;
