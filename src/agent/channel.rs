//! A line to the host as a set of streams that threads read and write.
//!
//! One thread reads the line and sorts bytes into the streams' inboxes; whoever has something to send takes the port's
//! write lock, lets the session make the frame, and writes it. That lock comes before the session's, always, so that frames
//! reach the wire in the order in which the session made them and nothing of an old conversation follows a new attach.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::unistd::pipe2;

use super::line::Line;
use crate::protocol::VERSION;
use crate::protocol::frame::{self, Decoder, Frame, Kind, MAX_PAYLOAD, Nonce};
use crate::protocol::session::{Event, Session, Side};

/// Bytes taken from the port at once.
const READ_SIZE: usize = 64 * 1024;

/// A port and its conversation.
pub(super) struct Channel {
    port: Mutex<Port>,
    state: Mutex<State>,
    changed: Condvar,
}

/// The writing end of a line.
struct Port {
    /// None until the host has called for the first time.
    file: Option<File>,
    /// A frame on its way. The port takes it in one piece or makes two trips of it, so it is put together here.
    frame: Vec<u8>,
    /// Pages on their way from a program's output to the port. Empty between two frames.
    pages: (OwnedFd, OwnedFd),
}

impl Port {
    fn new() -> io::Result<Self> {
        Ok(Self { file: None, frame: Vec::new(), pages: pipe2(OFlag::O_CLOEXEC)? })
    }

    /// Takes at most `most` bytes from a pipe, without waiting, to be sent by [`Port::write_pages`].
    fn take_pages(&self, source: &impl AsFd, most: usize) -> nix::Result<usize> {
        splice(source, None, &self.pages.1, None, most, SpliceFFlags::SPLICE_F_NONBLOCK)
    }

    /// Sends a frame whose payload is `head` and the `length` bytes that were taken.
    fn write_pages(&mut self, stream: u32, head: &[u8], mut length: usize) -> io::Result<()> {
        self.frame.clear();
        self.frame.extend_from_slice(&frame::header(Kind::Data, stream, head.len() + length));
        self.frame.extend_from_slice(head);
        let mut file = self.file.as_ref().ok_or_else(gone)?;
        let mut sent = file.write_all(&self.frame);
        while sent.is_ok() && length > 0 {
            match splice(&self.pages.0, None, file, None, length, SpliceFFlags::SPLICE_F_MOVE) {
                Ok(moved) => length -= moved,
                Err(errno) => sent = Err(errno.into()),
            }
        }
        if sent.is_err() {
            // What is left in the pipe must not get into a later frame.
            self.pages = pipe2(OFlag::O_CLOEXEC)?;
        }
        sent
    }

    fn write(&mut self, kind: Kind, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.frame.clear();
        self.frame.extend_from_slice(&frame::header(kind, stream, payload.len()));
        self.frame.extend_from_slice(payload);
        self.file.as_ref().ok_or_else(gone)?.write_all(&self.frame)
    }
}

struct State {
    session: Session,
    /// Which conversation this is; streams of an earlier one are dead.
    conversation: u64,
    inboxes: HashMap<u32, Inbox>,
}

#[derive(Default)]
struct Inbox {
    chunks: VecDeque<Vec<u8>>,
    ended: bool,
}

/// What moving a program's output came to.
enum Moved {
    /// What there was, if there was any.
    Some,
    /// Nothing: the host's window is full.
    NoCredit,
    /// There will be no more.
    Ended,
}

/// One stream of the current conversation. Dropping it without [`Stream::end`] resets it.
pub(super) struct Stream {
    channel: Arc<Channel>,
    conversation: u64,
    id: u32,
}

/// Panics of one handler must not take the agent down with poisoned locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the stream is gone")
}

impl Channel {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let state = State { session: Session::new(Side::Agent), conversation: 0, inboxes: HashMap::new() };
        Ok(Arc::new(Self { port: Mutex::new(Port::new()?), state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// Reads the line for ever and calls `opened` with each stream that the host opens and its request.
    pub(super) fn read_line(
        self: &Arc<Self>, line: &Line, mut opened: impl FnMut(Stream, Vec<u8>),
    ) -> io::Result<std::convert::Infallible> {
        let mut decoder = Decoder::default();
        loop {
            let connection = line.connection()?;
            lock(&self.port).file = Some(connection.try_clone()?);
            let ended = self.read_connection(connection, &mut decoder, &mut opened);
            self.end_conversation();
            decoder.search();
            line.ended(ended.err())?;
        }
    }

    /// Reads until the host's end is closed.
    fn read_connection(
        self: &Arc<Self>, mut connection: File, decoder: &mut Decoder, opened: &mut impl FnMut(Stream, Vec<u8>),
    ) -> io::Result<()> {
        let mut buffer = vec![0; READ_SIZE];
        loop {
            match connection.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    decoder.push(&buffer[..length]);
                    if self.take_frames(decoder, opened).is_err() {
                        // The host broke the protocol, or is gone and what follows is another's: wait for an attach.
                        self.end_conversation();
                        decoder.search();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take_frames(
        self: &Arc<Self>, decoder: &mut Decoder, opened: &mut impl FnMut(Stream, Vec<u8>),
    ) -> io::Result<()> {
        while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
            if let Some((nonce, _)) = frame.as_attach() {
                self.begin_conversation(nonce)?;
                continue;
            }
            let mut state = lock(&self.state);
            match state.session.receive(frame).map_err(io::Error::other)? {
                Event::Opened { stream, request } => {
                    state.inboxes.insert(stream, Inbox::default());
                    let conversation = state.conversation;
                    drop(state);
                    opened(Stream { channel: Arc::clone(self), conversation, id: stream }, request);
                }
                Event::Data { stream, bytes } => {
                    if let Some(inbox) = state.inboxes.get_mut(&stream) {
                        inbox.chunks.push_back(bytes);
                    }
                }
                Event::Ended { stream } => {
                    if let Some(inbox) = state.inboxes.get_mut(&stream) {
                        inbox.ended = true;
                    }
                }
                Event::Reset { stream } => {
                    state.inboxes.remove(&stream);
                }
                Event::Writable { .. } | Event::Nothing => {}
            }
            self.changed.notify_all();
        }
        Ok(())
    }

    fn begin_conversation(&self, nonce: Nonce) -> io::Result<()> {
        let mut port = lock(&self.port);
        self.end_conversation();
        let attach = Frame::attach(nonce, VERSION);
        port.write(attach.kind, attach.stream, &attach.payload)
    }

    fn end_conversation(&self) {
        let mut state = lock(&self.state);
        state.session = Session::new(Side::Agent);
        state.conversation += 1;
        state.inboxes.clear();
        self.changed.notify_all();
    }

    /// Opens a stream to the host in the current conversation.
    pub(super) fn open(self: &Arc<Self>, request: Vec<u8>) -> io::Result<Stream> {
        let mut port = lock(&self.port);
        let mut state = lock(&self.state);
        let (id, frame) = state.session.open(request).ok_or_else(gone)?;
        state.inboxes.insert(id, Inbox::default());
        let conversation = state.conversation;
        drop(state);
        port.write(frame.kind, frame.stream, &frame.payload)?;
        drop(port);
        Ok(Stream { channel: Arc::clone(self), conversation, id })
    }

    /// Lets `make` produce a frame of conversation `conversation` and writes it before any later one.
    fn send_frame(
        &self, conversation: u64, make: impl FnOnce(&mut Session) -> io::Result<Option<Frame>>,
    ) -> io::Result<()> {
        let mut port = lock(&self.port);
        let mut state = lock(&self.state);
        if state.conversation != conversation {
            return Err(gone());
        }
        let frame = make(&mut state.session)?;
        drop(state);
        match frame {
            Some(frame) => port.write(frame.kind, frame.stream, &frame.payload),
            None => Ok(()),
        }
    }

    /// Moves what waits in a pipe to the host, as much as a frame may have now: without copying it, because copies are what
    /// an emulated guest is slowest at. `head` makes what stands in front of so many bytes, always `HEAD` bytes long.
    fn send_pages<const HEAD: usize>(
        &self, conversation: u64, stream: u32, source: &impl AsFd, head: impl Fn(usize) -> [u8; HEAD],
    ) -> io::Result<Moved> {
        let mut port = lock(&self.port);
        let mut state = lock(&self.state);
        if state.conversation != conversation {
            return Err(gone());
        }
        let most = (state.session.credit_of(stream).ok_or_else(gone)? as usize).min(MAX_PAYLOAD).saturating_sub(HEAD);
        if most == 0 {
            return Ok(Moved::NoCredit);
        }
        let length = match port.take_pages(source, most) {
            Ok(0) => return Ok(Moved::Ended),
            Ok(length) => length,
            Err(Errno::EAGAIN) => return Ok(Moved::Some),
            Err(errno) => return Err(errno.into()),
        };
        // There is as much credit as was looked up above: nobody else takes any while the port is locked.
        state.session.take_credit(stream, HEAD + length).map_err(|_| gone())?;
        drop(state);
        port.write_pages(stream, &head(length), length)?;
        Ok(Moved::Some)
    }

    /// Sends as many of `bytes` as a frame may have now; gives how many.
    fn send_data(&self, conversation: u64, stream: u32, bytes: &[u8]) -> io::Result<usize> {
        let mut port = lock(&self.port);
        let mut state = lock(&self.state);
        if state.conversation != conversation {
            return Err(gone());
        }
        let length = state.session.take_credit(stream, bytes.len()).map_err(|_| gone())?;
        drop(state);
        if length > 0 {
            port.write(Kind::Data, stream, &bytes[..length])?;
        }
        Ok(length)
    }
}

impl Stream {
    /// The stream's number, by which the host names it in requests.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The next bytes from the host; `None` after the last.
    pub(super) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let mut state = lock(&self.channel.state);
        let bytes = loop {
            if state.conversation != self.conversation {
                return Err(gone());
            }
            let inbox = state.inboxes.get_mut(&self.id).ok_or_else(gone)?;
            match inbox.chunks.pop_front() {
                Some(bytes) => break bytes,
                None if inbox.ended => return Ok(None),
                None => state = self.channel.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        self.channel.send_frame(self.conversation, |session| Ok(session.consumed(self.id, bytes.len())))?;
        Ok(Some(bytes))
    }

    /// Sends all of `bytes`, waiting while the host's window is full.
    pub(super) fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.channel.send_data(self.conversation, self.id, bytes)? {
                0 => self.wait_for_credit(1)?,
                length => bytes = &bytes[length..],
            }
        }
        Ok(())
    }

    /// Moves what waits in a pipe to the host, waiting while the host's window is full. Gives whether the pipe has ended.
    pub(super) fn move_from<const HEAD: usize>(
        &self, source: &impl AsFd, head: impl Fn(usize) -> [u8; HEAD],
    ) -> io::Result<bool> {
        loop {
            match self.channel.send_pages(self.conversation, self.id, source, &head)? {
                Moved::Some => return Ok(false),
                Moved::Ended => return Ok(true),
                Moved::NoCredit => self.wait_for_credit(HEAD + 1)?,
            }
        }
    }

    fn wait_for_credit(&self, least: usize) -> io::Result<()> {
        let mut state = lock(&self.channel.state);
        loop {
            if state.conversation != self.conversation {
                return Err(gone());
            }
            if state.session.credit_of(self.id).ok_or_else(gone)? as usize >= least {
                return Ok(());
            }
            state = self.channel.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sends no more; the host may still.
    pub(super) fn end(&self) -> io::Result<()> {
        self.channel.send_frame(self.conversation, |session| Ok(session.end(self.id)))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A stream that is over is forgotten by the session already; any other, nobody here reads or writes any more.
        // A failure means that the whole conversation is over, and its streams with it.
        drop(self.channel.send_frame(self.conversation, |session| Ok(session.reset(self.id))));
        lock(&self.channel.state).forget(self.conversation, self.id);
    }
}

impl State {
    fn forget(&mut self, conversation: u64, stream: u32) {
        if self.conversation == conversation {
            self.inboxes.remove(&stream);
        }
    }
}
