//! A guest for tests that says whatever it likes.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::channel::{Channel, Connections, Incoming};
use crate::protocol::VERSION;
use crate::protocol::frame::{Decoder, Frame, Kind, Nonce};

/// The longest that these tests wait for anything.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// The guest's end of a channel.
pub(super) struct FakeGuest {
    socket: UnixStream,
    decoder: Decoder,
    /// What the host attached with.
    pub(super) nonce: Nonce,
}

impl FakeGuest {
    /// A guest that was just attached to, and has not answered; and what the host's call gives once it has.
    pub(super) async fn attached_to(
        incoming: Incoming, limit: Duration,
    ) -> (Self, tokio::task::JoinHandle<Result<(Channel, Connections), super::VmError>>) {
        let (host, guest) = UnixStream::pair().unwrap();
        let attaching = tokio::spawn(Channel::attach(host, incoming, limit, async { Ok(()) }));
        let mut guest = Self { socket: guest, decoder: Decoder::default(), nonce: Nonce::default() };
        let attach = guest.next().await.unwrap();
        guest.nonce = attach.as_attach().unwrap().0;
        (guest, attaching)
    }

    /// A guest in conversation with the host.
    pub(super) async fn joined(incoming: Incoming) -> (Self, Channel, Connections) {
        let (mut guest, attaching) = Self::attached_to(incoming, DEADLINE).await;
        guest.say(&Frame::attach(guest.nonce, VERSION).to_bytes()).await;
        let (channel, connections) = attaching.await.unwrap().unwrap();
        (guest, channel, connections)
    }

    /// Sends bytes, unless the host listens no more.
    pub(super) async fn say(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.ok();
    }

    /// The next frame of the host; `None` when it has hung up.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let mut buffer = [0; 4096];
            let length = tokio::time::timeout(DEADLINE, self.socket.read(&mut buffer)).await.unwrap().unwrap_or(0);
            if length == 0 {
                return None;
            }
            self.decoder.push(&buffer[..length]);
        }
    }

    /// Waits for the host's next request; gives its stream.
    pub(super) async fn request(&mut self) -> u32 {
        loop {
            let frame = self.next().await.unwrap();
            if frame.kind == Kind::Open {
                return frame.stream;
            }
        }
    }
}

/// A frame's bytes.
pub(super) fn frame(kind: Kind, stream: u32, payload: &[u8]) -> Vec<u8> {
    Frame { kind, stream, payload: payload.to_vec() }.to_bytes()
}
