//! The host's end of the conversation with an agent: streams over one socket.
//!
//! A reader task sorts bytes into the streams' inboxes, a writer task sends frames in the order in which the session made
//! them. A peer that breaks a rule, or goes away, closes the channel, and every stream with it; [`Channel::closed`] says why.
//!
//! The peer is a guest, and may be a hostile one. What it can make this process hold is bounded whatever it sends: an inbox
//! is one buffer of at most a window, however small the frames that filled it; what waits to be sent to a guest that does
//! not read stops at `HIGH_WATER`, because senders wait; and what nobody waits for, the answers to its own frames, ends the
//! conversation at `MAX_QUEUED`.

mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, watch};

pub use stream::Stream;

use super::VmError;
use crate::protocol::VERSION;
use crate::protocol::frame::{Decoder, Frame, MAX_PAYLOAD, NONCE_LEN};
use crate::protocol::session::{Event, Session, Side};

const READ_SIZE: usize = 64 * 1024;

/// Bytes that wait to be sent before those who have more wait too.
const HIGH_WATER: usize = 1 << 20;

/// The most that may wait to be sent, in bytes. A guest that lets more gather does not read on purpose.
const MAX_QUEUED: usize = 4 << 20;

/// What a queued frame takes beside its payload.
const FRAME_OVERHEAD: usize = 64;

/// Whether the agent may open streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    Accepted,
    Refused,
}

/// Streams that the agent opened and nobody has taken yet; more are reset.
const MAX_INCOMING: usize = 16;

/// Why a conversation is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// One of the two sides went away.
    Gone(String),
    /// The guest broke a rule.
    Violated(String),
}

impl From<Closed> for VmError {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Gone(how) => Self::Lost(how),
            Closed::Violated(how) => Self::Protocol(how),
        }
    }
}

/// One conversation.
#[derive(Debug, Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

/// Streams that the agent opened, and their requests.
pub type Connections = mpsc::Receiver<(Stream, Vec<u8>)>;

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Unbounded in type; `State::queued` bounds it.
    outgoing: mpsc::UnboundedSender<Frame>,
    /// Whether the agent may open streams.
    accepts: bool,
    closed: watch::Sender<Option<Closed>>,
}

#[derive(Debug)]
struct State {
    session: Session,
    /// One for each [`Stream`] that exists, whatever the session knows of it.
    inboxes: HashMap<u32, Inbox>,
    /// What is in `outgoing`, in bytes.
    queued: usize,
    /// Somebody waits for less to be queued.
    is_congested: bool,
}

#[derive(Debug)]
struct Inbox {
    /// At most a window; see [`crate::protocol::session::WINDOW`].
    received: Vec<u8>,
    /// Nothing will be added.
    is_ended: bool,
    readable: Arc<Notify>,
    writable: Arc<Notify>,
}

impl Channel {
    /// Starts a conversation on a connected socket and waits until the agent has joined it. `once_sent` runs when the
    /// attach is on its way: the moment to let a restored guest run.
    pub async fn attach<F: Future<Output = Result<(), VmError>>>(
        socket: UnixStream, incoming: Incoming, limit: Duration, once_sent: F,
    ) -> Result<(Self, Connections), VmError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|error| VmError::host("a nonce")(error.into()))?;
        let (mut reader, mut writer) = socket.into_split();
        writer
            .write_all(&Frame::attach(nonce, VERSION).to_bytes())
            .await
            .map_err(|error| VmError::Lost(format!("its channel is closed ({error})")))?;
        once_sent.await?;
        let decoder = tokio::time::timeout(limit, await_attach(&mut reader, nonce))
            .await
            .map_err(|_| VmError::TimedOut { what: "the agent's answer", limit })??;
        Ok(Self::start(reader, writer, decoder, incoming == Incoming::Accepted))
    }

    fn start(reader: OwnedReadHalf, writer: OwnedWriteHalf, decoder: Decoder, accepts: bool) -> (Self, Connections) {
        let (outgoing, frames) = mpsc::unbounded_channel();
        let (opened, incoming) = mpsc::channel(MAX_INCOMING);
        let session = Session::new(Side::Host);
        let state = State { session, inboxes: HashMap::new(), queued: 0, is_congested: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), outgoing, accepts, closed: watch::Sender::new(None) });
        tokio::spawn(write_frames(writer, frames, Arc::downgrade(&shared)));
        tokio::spawn(read_frames(reader, decoder, Arc::clone(&shared), opened));
        (Self { shared }, incoming)
    }

    /// Opens a stream to the agent.
    pub fn open(&self, request: Vec<u8>) -> Result<Stream, VmError> {
        let mut state = self.shared.state();
        if let Some(error) = self.shared.why_closed() {
            return Err(error);
        }
        debug_assert!(request.len() <= MAX_PAYLOAD, "requests are small; what is long is a stream's content");
        let opened = state.session.open(request);
        let (id, frame) = opened.ok_or_else(|| VmError::Protocol("too many open streams".into()))?;
        let stream = self.shared.register(&mut state, id);
        self.shared.send(&mut state, frame);
        Ok(stream)
    }

    /// Waits until the conversation is over; gives the reason.
    pub async fn closed(&self) -> Closed {
        let mut closed = self.shared.closed.subscribe();
        let reason = closed.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_else(|| Closed::Gone("the channel is closed".to_owned()))
    }

    /// Ends the conversation.
    pub fn close(&self, reason: &str) {
        self.shared.close(Closed::Gone(reason.to_owned()));
    }
}

async fn await_attach(reader: &mut OwnedReadHalf, nonce: [u8; NONCE_LEN]) -> Result<Decoder, VmError> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let length = reader.read(&mut buffer).await.unwrap_or(0);
        if length == 0 {
            return Err(VmError::Lost("its channel closed before the agent answered".into()));
        }
        decoder.push(&buffer[..length]);
        // Frames of an earlier conversation may come first, and are no fault.
        while let Some(frame) = decoder.next_frame().unwrap_or_else(|_| {
            decoder.search();
            None
        }) {
            match frame.as_attach() {
                Some((answered, VERSION)) if answered == nonce => return Ok(decoder),
                Some((answered, version)) if answered == nonce => {
                    let detail = format!("the agent speaks version {version} of the protocol, this is {VERSION}");
                    return Err(VmError::Protocol(detail));
                }
                _ => {}
            }
        }
    }
}

async fn write_frames(mut writer: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<Frame>, shared: Weak<Shared>) {
    let mut buffer = Vec::new();
    while let Some(frame) = frames.recv().await {
        buffer.clear();
        let mut taken = size_of_queued(&frame);
        frame.encode(&mut buffer);
        while buffer.len() < READ_SIZE
            && let Ok(more) = frames.try_recv()
        {
            taken += size_of_queued(&more);
            more.encode(&mut buffer);
        }
        if let Some(shared) = shared.upgrade() {
            shared.state().note_taken(taken);
        }
        if let Err(error) = writer.write_all(&buffer).await {
            if let Some(shared) = shared.upgrade() {
                shared.close(Closed::Gone(format!("its channel cannot be written ({error})")));
            }
            return;
        }
    }
}

fn size_of_queued(frame: &Frame) -> usize {
    frame.payload.len() + FRAME_OVERHEAD
}

async fn read_frames(
    mut reader: OwnedReadHalf, mut decoder: Decoder, shared: Arc<Shared>, opened: mpsc::Sender<(Stream, Vec<u8>)>,
) {
    let mut buffer = vec![0; READ_SIZE];
    let mut closed = shared.closed.subscribe();
    let reason = loop {
        if let Err(violation) = take_frames(&mut decoder, &shared, &opened) {
            break Closed::Violated(violation);
        }
        let read = tokio::select! {
            read = reader.read(&mut buffer) => read,
            _ = closed.wait_for(Option::is_some) => break Closed::Gone("the channel is closed".to_owned()),
        };
        match read {
            Ok(0) => break Closed::Gone("its channel closed".to_owned()),
            Ok(length) => decoder.push(&buffer[..length]),
            Err(error) => break Closed::Gone(format!("its channel cannot be read ({error})")),
        }
    };
    shared.close(reason);
}

fn take_frames(
    decoder: &mut Decoder, shared: &Arc<Shared>, opened: &mpsc::Sender<(Stream, Vec<u8>)>,
) -> Result<(), String> {
    while let Some(frame) = decoder.next_frame().map_err(|error| error.to_string())? {
        let mut state = shared.state();
        match state.session.receive(frame).map_err(|violation| violation.to_string())? {
            Event::Opened { .. } if !shared.accepts => {
                return Err("the guest opened a stream where it may not".to_owned());
            }
            Event::Opened { stream, request } => {
                let stream = shared.register(&mut state, stream);
                drop(state);
                // A full queue means that nobody serves the guest's connections: dropping resets the stream.
                drop(opened.try_send((stream, request)));
            }
            Event::Data { stream, bytes } => state.deliver(stream, bytes),
            Event::Writable { stream } => {
                if let Some(inbox) = state.inboxes.get(&stream) {
                    inbox.writable.notify_one();
                }
            }
            Event::Ended { stream } | Event::Reset { stream } => {
                if let Some(inbox) = state.inboxes.get_mut(&stream) {
                    inbox.end();
                }
            }
            Event::Nothing => {}
        }
    }
    Ok(())
}

impl Inbox {
    fn end(&mut self) {
        self.is_ended = true;
        self.readable.notify_one();
        self.writable.notify_one();
    }
}

impl State {
    /// A stream whose reader is gone has been reset, and what still comes for it is nobody's.
    fn deliver(&mut self, stream: u32, bytes: Vec<u8>) {
        let Some(inbox) = self.inboxes.get_mut(&stream) else { return };
        if inbox.received.is_empty() {
            inbox.received = bytes;
        } else {
            inbox.received.extend_from_slice(&bytes);
        }
        inbox.readable.notify_one();
    }

    fn note_taken(&mut self, bytes: usize) {
        self.queued = self.queued.saturating_sub(bytes);
        if self.is_congested && self.queued < HIGH_WATER {
            self.is_congested = false;
            self.inboxes.values().for_each(|inbox| inbox.writable.notify_one());
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(self: &Arc<Self>, state: &mut State, id: u32) -> Stream {
        let (readable, writable) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let inbox = Inbox {
            received: Vec::new(),
            is_ended: false,
            readable: Arc::clone(&readable),
            writable: Arc::clone(&writable),
        };
        state.inboxes.insert(id, inbox);
        Stream::new(id, Arc::clone(self), readable, writable)
    }

    /// Called with the state locked, so that frames leave in the order in which the session made them.
    fn send(&self, state: &mut State, frame: Frame) {
        let size = size_of_queued(&frame);
        if state.queued + size > MAX_QUEUED {
            self.note_closed(Closed::Violated("the guest does not read what it is sent".to_owned()));
            return;
        }
        state.queued += size;
        // The writer ends only after a close, which every reader sees.
        drop(self.outgoing.send(frame));
    }

    /// Without touching the streams: the reader task, which sees it, closes them.
    fn note_closed(&self, reason: Closed) {
        self.closed.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(reason);
            }
            first
        });
    }

    fn close(&self, reason: Closed) {
        self.note_closed(reason);
        self.state().inboxes.values_mut().for_each(Inbox::end);
    }

    fn why_closed(&self) -> Option<VmError> {
        self.closed.borrow().clone().map(VmError::from)
    }

    fn lost(&self) -> VmError {
        self.why_closed().unwrap_or_else(|| VmError::Lost("the agent gave a stream up".to_owned()))
    }
}
