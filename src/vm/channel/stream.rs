//! One stream of a conversation, as calls that wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;

use super::{HIGH_WATER, Shared, VmError};
use crate::protocol::frame::MAX_PAYLOAD;
use crate::protocol::session::WINDOW;

/// How long the guest may take to end its direction of a stream when the host has ended the other.
const LINGER: Duration = Duration::from_secs(30);

/// One stream. Dropping it resets it, unless both directions have ended.
#[derive(Debug)]
pub struct Stream {
    id: u32,
    shared: Arc<Shared>,
    readable: Arc<Notify>,
    writable: Arc<Notify>,
}

impl Stream {
    pub(super) fn new(id: u32, shared: Arc<Shared>, readable: Arc<Notify>, writable: Arc<Notify>) -> Self {
        Self { id, shared, readable, writable }
    }

    /// The number by which the agent knows the stream.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The next bytes; `None` after the last. A stream that the agent gave up looks like one that ended: what must be
    /// complete says so in its content. Cancel-safe.
    pub async fn read(&self) -> Result<Option<Vec<u8>>, VmError> {
        loop {
            {
                let mut state = self.shared.state();
                let inbox = state.inboxes.get_mut(&self.id).expect("a stream's inbox is kept until it is dropped");
                let (bytes, is_ended) = (std::mem::take(&mut inbox.received), inbox.is_ended);
                if !bytes.is_empty() {
                    if let Some(credit) = state.session.consumed(self.id, bytes.len()) {
                        self.shared.send(&mut state, credit);
                    }
                    return Ok(Some(bytes));
                }
                if is_ended {
                    return self.shared.why_closed().map_or(Ok(None), Err);
                }
            }
            self.readable.notified().await;
        }
    }

    /// Sends all of `bytes`, waiting while the agent's window is full or much waits to be sent.
    pub async fn write_all(&self, mut bytes: &[u8]) -> Result<(), VmError> {
        while !bytes.is_empty() {
            let sent = self.write_some(bytes)?;
            bytes = &bytes[sent..];
            if sent == 0 {
                self.writable.notified().await;
            }
        }
        Ok(())
    }

    /// Queues a frame's worth of `bytes`; 0 when nothing may be sent now.
    fn write_some(&self, bytes: &[u8]) -> Result<usize, VmError> {
        let mut state = self.shared.state();
        if let Some(error) = self.shared.why_closed() {
            return Err(error);
        }
        if state.queued >= HIGH_WATER {
            state.is_congested = true;
            return Ok(0);
        }
        let frame = state.session.send(self.id, bytes).map_err(|_| self.shared.lost())?;
        let Some(frame) = frame else { return Ok(0) };
        let length = frame.payload.len();
        self.shared.send(&mut state, frame);
        Ok(length)
    }

    /// Sends no more; the agent may still.
    pub fn end(&self) {
        let mut state = self.shared.state();
        if let Some(frame) = state.session.end(self.id) {
            self.shared.send(&mut state, frame);
        }
    }

    /// The stream as something to read and write bytes, for code that knows nothing of channels.
    pub fn into_io(self) -> DuplexStream {
        self.into_lingering_io(LINGER)
    }

    pub(super) fn into_lingering_io(self, linger: Duration) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(WINDOW as usize);
        let (mut from_them, mut to_them) = tokio::io::split(ours);
        tokio::spawn(async move {
            // Apart, so that a peer that does not read cannot keep its own bytes from being taken.
            let upload = async {
                let mut buffer = vec![0; MAX_PAYLOAD];
                while let Ok(length @ 1..) = from_them.read(&mut buffer).await {
                    if self.write_all(&buffer[..length]).await.is_err() {
                        break;
                    }
                }
                self.end();
            };
            let download = async {
                while let Ok(Some(bytes)) = self.read().await {
                    if to_them.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
                // It fails only if they are gone, and then there is nobody to tell.
                drop(to_them.shutdown().await);
            };
            tokio::pin!(upload, download);
            tokio::select! {
                () = &mut download => upload.await,
                // Where it takes longer, the stream is reset.
                () = &mut upload => drop(tokio::time::timeout(linger, download).await),
            }
        });
        theirs
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(frame) = state.session.reset(self.id) {
            self.shared.send(&mut state, frame);
        }
        state.inboxes.remove(&self.id);
    }
}
