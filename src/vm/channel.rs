//! The host's end of the conversation with an agent: streams over one socket.
//!
//! A reader task sorts frames into streams, a writer task sends them in the order in which the session made them. A peer
//! that breaks a rule, or goes away, closes the channel, and every stream with it; [`Channel::closed`] says why.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, watch};

use super::VmError;
use crate::protocol::VERSION;
use crate::protocol::frame::{Decoder, Frame, MAX_PAYLOAD, NONCE_LEN};
use crate::protocol::session::{Event, MAX_STREAMS, Session, Side, WINDOW};

const READ_SIZE: usize = 64 * 1024;

/// What may wait to be sent, in bytes: all windows full, and some. A guest that lets more gather does not read on purpose.
const MAX_QUEUED: usize = MAX_STREAMS * WINDOW as usize + (1 << 20);

/// What a queued frame takes beside its payload.
const FRAME_OVERHEAD: usize = 64;

/// Whether the agent may open streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    Accepted,
    Refused,
}

/// Streams that the agent opened and nobody has taken yet.
const MAX_INCOMING: usize = 64;

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
    /// Unbounded in type; `queued` bounds it.
    outgoing: mpsc::UnboundedSender<Frame>,
    /// What is in `outgoing`, in bytes.
    queued: AtomicUsize,
    /// Whether the agent may open streams.
    accepts: bool,
    closed: watch::Sender<Option<String>>,
}

#[derive(Debug)]
struct State {
    session: Session,
    streams: HashMap<u32, Inbox>,
}

#[derive(Debug)]
struct Inbox {
    /// Unbounded in type only: the window bounds it. Dropped at the end of the stream's input.
    chunks: Option<mpsc::UnboundedSender<Vec<u8>>>,
    writable: Arc<Notify>,
}

/// One stream. Dropping it resets it, unless both directions have ended.
#[derive(Debug)]
pub struct Stream {
    id: u32,
    shared: Arc<Shared>,
    chunks: tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<u8>>>,
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
        let state = State { session: Session::new(Side::Host), streams: HashMap::new() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            outgoing,
            queued: AtomicUsize::new(0),
            accepts,
            closed: watch::Sender::new(None),
        });
        tokio::spawn(write_frames(writer, frames, Arc::downgrade(&shared)));
        tokio::spawn(read_frames(reader, decoder, Arc::clone(&shared), opened));
        (Self { shared }, incoming)
    }

    /// Opens a stream to the agent.
    pub fn open(&self, request: Vec<u8>) -> Result<Stream, VmError> {
        let mut state = self.shared.state();
        if let Some(reason) = self.shared.closed.borrow().clone() {
            return Err(VmError::Lost(reason));
        }
        debug_assert!(request.len() <= MAX_PAYLOAD, "requests are small; what is long is a stream's content");
        let opened = state.session.open(request);
        let (id, frame) = opened.ok_or_else(|| VmError::Protocol("too many open streams".into()))?;
        let stream = self.shared.register(&mut state, id);
        self.shared.send(frame);
        Ok(stream)
    }

    /// Waits until the conversation is over; gives the reason.
    pub async fn closed(&self) -> String {
        let mut closed = self.shared.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the channel is closed".to_owned(),
        }
    }

    /// Ends the conversation.
    pub fn close(&self, reason: &str) {
        self.shared.close(reason);
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

async fn write_frames(
    mut writer: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<Frame>, shared: std::sync::Weak<Shared>,
) {
    let mut buffer = Vec::new();
    while let Some(frame) = frames.recv().await {
        buffer.clear();
        let mut taken = frame.payload.len() + FRAME_OVERHEAD;
        frame.encode(&mut buffer);
        while buffer.len() < READ_SIZE
            && let Ok(more) = frames.try_recv()
        {
            taken += more.payload.len() + FRAME_OVERHEAD;
            more.encode(&mut buffer);
        }
        if let Some(shared) = shared.upgrade() {
            shared.queued.fetch_sub(taken, Ordering::Relaxed);
        }
        if let Err(error) = writer.write_all(&buffer).await {
            if let Some(shared) = shared.upgrade() {
                shared.close(&format!("its channel cannot be written ({error})"));
            }
            return;
        }
    }
}

async fn read_frames(
    mut reader: OwnedReadHalf, mut decoder: Decoder, shared: Arc<Shared>, opened: mpsc::Sender<(Stream, Vec<u8>)>,
) {
    let mut buffer = vec![0; READ_SIZE];
    let mut closed = shared.closed.subscribe();
    let reason = loop {
        if let Err(reason) = take_frames(&mut decoder, &shared, &opened) {
            break reason;
        }
        let read = tokio::select! {
            read = reader.read(&mut buffer) => read,
            _ = closed.wait_for(Option::is_some) => break "the channel is closed".to_owned(),
        };
        match read {
            Ok(0) => break "its channel closed".to_owned(),
            Ok(length) => decoder.push(&buffer[..length]),
            Err(error) => break format!("its channel cannot be read ({error})"),
        }
    };
    shared.close(&reason);
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
            Event::Data { stream, bytes } => {
                if let Some(chunks) = state.streams.get(&stream).and_then(|inbox| inbox.chunks.as_ref()) {
                    // A receiver that is gone has reset the stream.
                    drop(chunks.send(bytes));
                }
            }
            Event::Writable { stream } => {
                if let Some(inbox) = state.streams.get(&stream) {
                    inbox.writable.notify_one();
                }
            }
            Event::Ended { stream } => {
                if let Some(inbox) = state.streams.get_mut(&stream) {
                    inbox.chunks = None;
                }
            }
            Event::Reset { stream } => {
                if let Some(inbox) = state.streams.remove(&stream) {
                    inbox.writable.notify_one();
                }
            }
            Event::Nothing => {}
        }
    }
    Ok(())
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(self: &Arc<Self>, state: &mut State, id: u32) -> Stream {
        let (sender, chunks) = mpsc::unbounded_channel();
        let writable = Arc::new(Notify::new());
        state.streams.insert(id, Inbox { chunks: Some(sender), writable: Arc::clone(&writable) });
        Stream { id, shared: Arc::clone(self), chunks: tokio::sync::Mutex::new(chunks), writable }
    }

    /// Called with the state locked, so that frames leave in the order in which the session made them.
    fn send(&self, frame: Frame) {
        let size = frame.payload.len() + FRAME_OVERHEAD;
        if self.queued.fetch_add(size, Ordering::Relaxed) > MAX_QUEUED {
            self.note_closed("the guest does not read what it is sent");
            return;
        }
        // The writer ends only after a close, which every reader sees.
        drop(self.outgoing.send(frame));
    }

    /// Without touching the streams: the reader task, which sees it, closes them.
    fn note_closed(&self, reason: &str) {
        self.closed.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(reason.to_owned());
            }
            first
        });
    }

    fn close(&self, reason: &str) {
        self.note_closed(reason);
        let streams = std::mem::take(&mut self.state().streams);
        for inbox in streams.into_values() {
            inbox.writable.notify_one();
        }
    }

    fn lost(&self) -> VmError {
        let reason = self.closed.borrow().clone();
        VmError::Lost(reason.unwrap_or_else(|| "the agent gave a stream up".to_owned()))
    }
}

impl Stream {
    /// The number by which the agent knows the stream.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The next bytes; `None` after the last. A stream that the agent gave up looks like one that ended: what must be
    /// complete says so in its content.
    pub async fn read(&self) -> Result<Option<Vec<u8>>, VmError> {
        let Some(bytes) = self.chunks.lock().await.recv().await else {
            return if self.shared.closed.borrow().is_some() { Err(self.shared.lost()) } else { Ok(None) };
        };
        let mut state = self.shared.state();
        if let Some(frame) = state.session.consumed(self.id, bytes.len()) {
            self.shared.send(frame);
        }
        Ok(Some(bytes))
    }

    /// Sends all of `bytes`, waiting while the agent's window is full.
    pub async fn write_all(&self, mut bytes: &[u8]) -> Result<(), VmError> {
        while !bytes.is_empty() {
            let sent = {
                let mut state = self.shared.state();
                match state.session.send(self.id, bytes) {
                    Err(_) => return Err(self.shared.lost()),
                    Ok(_) if self.shared.closed.borrow().is_some() => return Err(self.shared.lost()),
                    Ok(None) => 0,
                    Ok(Some(frame)) => {
                        let length = frame.payload.len();
                        self.shared.send(frame);
                        length
                    }
                }
            };
            bytes = &bytes[sent..];
            if sent == 0 {
                self.writable.notified().await;
            }
        }
        Ok(())
    }

    /// Sends no more; the agent may still.
    pub fn end(&self) {
        let mut state = self.shared.state();
        if let Some(frame) = state.session.end(self.id) {
            self.shared.send(frame);
        }
    }

    /// The stream as something to read and write bytes, for code that knows nothing of channels.
    pub fn into_io(self) -> DuplexStream {
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
            tokio::join!(upload, download);
        });
        theirs
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(frame) = state.session.reset(self.id) {
            self.shared.send(frame);
        }
        state.streams.remove(&self.id);
    }
}
