//! Frames ↔ streams: the rules of one conversation, without IO.
//!
//! Either side opens streams (the host takes odd numbers, the agent even ones), each with a request as its first message.
//! Both directions of a stream end separately. A sender may have at most [`WINDOW`] bytes on the way that the receiver has
//! not consumed; so a side that does not read costs its peer a window and nothing more.
//!
//! ```text
//!  open ──► both directions open ── End sent ──► half closed ── End received ──► gone
//!                    └───────────────── Reset, either side ─────────────────────►
//! ```

use std::collections::HashMap;

use super::frame::{Frame, Kind, MAX_PAYLOAD};

/// Bytes of one stream and direction that may be on the way unconsumed: enough for a guest to go on writing while word of what
/// was read comes back to it, which takes milliseconds on a host that is busy.
pub const WINDOW: u32 = 512 * 1024;

/// Consumed bytes that are worth a word to the sender.
const ANNOUNCED: u32 = WINDOW / 4;

/// Streams that may be open at a time, both sides' together.
pub const MAX_STREAMS: usize = 128;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Host,
    Agent,
}

impl Side {
    const fn first_stream(self) -> u32 {
        match self {
            Self::Host => 1,
            Self::Agent => 2,
        }
    }

    const fn owns(self, stream: u32) -> bool {
        stream != 0 && stream % 2 == self.first_stream() % 2
    }
}

/// A rule that the peer broke. The conversation cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// Opened a stream whose number is not its to give, or used one that was never opened.
    StreamNumber(u32),
    /// More than [`MAX_STREAMS`] at a time.
    TooManyStreams,
    /// Sent more than it was allowed to.
    Window(u32),
    /// Sent a data frame without data, which costs no window and so could be sent without end.
    Empty(u32),
    /// Sent data after the end.
    AfterEnd(u32),
    /// A credit frame that is not four bytes, or lifts the window above its size.
    Credit(u32),
    /// An attach in the middle of a conversation.
    Attach,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StreamNumber(stream) => write!(out, "the peer used stream {stream}, which is not its to use"),
            Self::TooManyStreams => write!(out, "the peer opened more than {MAX_STREAMS} streams at a time"),
            Self::Window(stream) => write!(out, "the peer sent more on stream {stream} than its window allows"),
            Self::Empty(stream) => write!(out, "the peer sent nothing on stream {stream}"),
            Self::AfterEnd(stream) => write!(out, "the peer sent data on stream {stream} after ending it"),
            Self::Credit(stream) => write!(out, "the peer sent a wrong credit for stream {stream}"),
            Self::Attach => write!(out, "the peer attached in the middle of a conversation"),
        }
    }
}

impl std::error::Error for Violation {}

/// What a received frame means to this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer opened a stream.
    Opened { stream: u32, request: Vec<u8> },
    /// Bytes arrived. Report them with [`Session::consumed`] once they are out of memory.
    Data { stream: u32, bytes: Vec<u8> },
    /// More may be sent on the stream.
    Writable { stream: u32 },
    /// The peer sends no more on the stream.
    Ended { stream: u32 },
    /// The stream is gone.
    Reset { stream: u32 },
    /// Nothing to do: a late frame of a stream that is gone.
    Nothing,
}

#[derive(Debug)]
struct StreamState {
    /// Bytes that this side may still send.
    credit: u32,
    /// Bytes that the peer may still send.
    window: u32,
    /// Bytes consumed here and not yet announced to the peer.
    unannounced: u32,
    sent_end: bool,
    received_end: bool,
}

/// One conversation, from an attach to the next.
#[derive(Debug)]
pub struct Session {
    side: Side,
    next_own: u32,
    /// The smallest number that the peer may still give.
    next_peer: u32,
    streams: HashMap<u32, StreamState>,
}

impl Session {
    /// A conversation without streams.
    pub fn new(side: Side) -> Self {
        let peer = match side {
            Side::Host => Side::Agent,
            Side::Agent => Side::Host,
        };
        Self { side, next_own: side.first_stream(), next_peer: peer.first_stream(), streams: HashMap::new() }
    }

    /// Opens a stream. `None` when [`MAX_STREAMS`] are open, or `request` is larger than a frame.
    pub fn open(&mut self, request: Vec<u8>) -> Option<(u32, Frame)> {
        if self.streams.len() >= MAX_STREAMS || request.len() > MAX_PAYLOAD {
            return None;
        }
        let stream = self.next_own;
        self.next_own = stream.checked_add(2)?;
        self.streams.insert(stream, StreamState::new());
        Some((stream, Frame { kind: Kind::Open, stream, payload: request }))
    }

    /// Takes as many of `bytes` as a frame and the peer's window allow; `None` when nothing may be sent now. An error
    /// means that the stream is gone.
    pub fn send(&mut self, stream: u32, bytes: &[u8]) -> Result<Option<Frame>, Gone> {
        Ok(match self.take_credit(stream, bytes.len())? {
            0 => None,
            length => Some(Frame { kind: Kind::Data, stream, payload: bytes[..length].to_vec() }),
        })
    }

    /// The same for who writes the frame without a copy of its payload: gives how many of `wanted` bytes must be in it.
    pub fn take_credit(&mut self, stream: u32, wanted: usize) -> Result<usize, Gone> {
        let state = self.streams.get_mut(&stream).filter(|state| !state.sent_end).ok_or(Gone)?;
        let length = wanted.min(MAX_PAYLOAD).min(state.credit as usize);
        state.credit -= length as u32;
        Ok(length)
    }

    /// Bytes that may be sent on the stream now; `None` if it is gone.
    pub fn credit_of(&self, stream: u32) -> Option<u32> {
        self.streams.get(&stream).map(|state| state.credit)
    }

    /// Ends this side's direction. `None` if the stream is gone or ended already.
    pub fn end(&mut self, stream: u32) -> Option<Frame> {
        let state = self.streams.get_mut(&stream).filter(|state| !state.sent_end)?;
        state.sent_end = true;
        self.forget_if_over(stream);
        Some(Frame::empty(Kind::End, stream))
    }

    /// Gives the stream up in both directions. `None` if it is gone already.
    pub fn reset(&mut self, stream: u32) -> Option<Frame> {
        self.streams.remove(&stream)?;
        Some(Frame::empty(Kind::Reset, stream))
    }

    /// Notes that `count` received bytes are out of memory; gives the credit frame to send, if it is worth one.
    pub fn consumed(&mut self, stream: u32, count: usize) -> Option<Frame> {
        let state = self.streams.get_mut(&stream).filter(|state| !state.received_end)?;
        state.unannounced = state.unannounced.saturating_add(u32::try_from(count).ok()?);
        if state.unannounced < ANNOUNCED {
            return None;
        }
        let credit = std::mem::take(&mut state.unannounced);
        state.window += credit;
        Some(Frame { kind: Kind::Credit, stream, payload: credit.to_le_bytes().to_vec() })
    }

    /// Checks a received frame against the rules. Attach frames are the caller's: they begin another session.
    pub fn receive(&mut self, frame: Frame) -> Result<Event, Violation> {
        let stream = frame.stream;
        match frame.kind {
            Kind::Attach => return Err(Violation::Attach),
            Kind::Open => return self.peer_opens(frame),
            Kind::Data | Kind::Credit | Kind::End | Kind::Reset => {}
        }
        let Some(state) = self.streams.get_mut(&stream) else {
            // Frames cross on the way: what was sent before our Reset arrived is no fault. A number never used is.
            let was_used =
                if self.side.owns(stream) { stream < self.next_own } else { stream != 0 && stream < self.next_peer };
            return if was_used { Ok(Event::Nothing) } else { Err(Violation::StreamNumber(stream)) };
        };
        match frame.kind {
            Kind::Attach | Kind::Open => Err(Violation::StreamNumber(stream)),
            Kind::Data => {
                if state.received_end {
                    return Err(Violation::AfterEnd(stream));
                }
                if frame.payload.is_empty() {
                    return Err(Violation::Empty(stream));
                }
                state.window = u32::try_from(frame.payload.len())
                    .ok()
                    .and_then(|length| state.window.checked_sub(length))
                    .ok_or(Violation::Window(stream))?;
                Ok(Event::Data { stream, bytes: frame.payload })
            }
            Kind::Credit => {
                let more = <[u8; 4]>::try_from(frame.payload.as_slice()).map_err(|_| Violation::Credit(stream))?;
                let credit = state.credit.checked_add(u32::from_le_bytes(more)).filter(|credit| *credit <= WINDOW);
                state.credit = credit.ok_or(Violation::Credit(stream))?;
                Ok(Event::Writable { stream })
            }
            Kind::End => {
                state.received_end = true;
                self.forget_if_over(stream);
                Ok(Event::Ended { stream })
            }
            Kind::Reset => {
                self.streams.remove(&stream);
                Ok(Event::Reset { stream })
            }
        }
    }

    fn peer_opens(&mut self, frame: Frame) -> Result<Event, Violation> {
        if self.side.owns(frame.stream) || frame.stream < self.next_peer {
            return Err(Violation::StreamNumber(frame.stream));
        }
        if self.streams.len() >= MAX_STREAMS {
            return Err(Violation::TooManyStreams);
        }
        self.next_peer = frame.stream.checked_add(2).ok_or(Violation::StreamNumber(frame.stream))?;
        self.streams.insert(frame.stream, StreamState::new());
        Ok(Event::Opened { stream: frame.stream, request: frame.payload })
    }

    fn forget_if_over(&mut self, stream: u32) {
        if self.streams.get(&stream).is_some_and(|state| state.sent_end && state.received_end) {
            self.streams.remove(&stream);
        }
    }
}

impl StreamState {
    const fn new() -> Self {
        Self { credit: WINDOW, window: WINDOW, unannounced: 0, sent_end: false, received_end: false }
    }
}

/// The stream does not exist any more in the direction asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair() -> (Session, Session) {
        (Session::new(Side::Host), Session::new(Side::Agent))
    }

    #[test]
    fn a_stream_lives_and_ends_in_both_directions() {
        let (mut host, mut agent) = pair();
        let (stream, open) = host.open(b"request".to_vec()).unwrap();
        assert_eq!(agent.receive(open), Ok(Event::Opened { stream, request: b"request".to_vec() }));
        let data = agent.send(stream, b"answer").unwrap().unwrap();
        assert_eq!(host.receive(data), Ok(Event::Data { stream, bytes: b"answer".to_vec() }));
        assert_eq!(host.receive(agent.end(stream).unwrap()), Ok(Event::Ended { stream }));
        assert_eq!(agent.send(stream, b"more"), Err(Gone));
        assert_eq!(agent.receive(host.end(stream).unwrap()), Ok(Event::Ended { stream }));
        assert!(host.streams.is_empty() && agent.streams.is_empty());
    }

    #[test]
    fn a_sender_stops_at_the_window_and_goes_on_with_credit() {
        let (mut host, mut agent) = pair();
        let (stream, open) = host.open(Vec::new()).unwrap();
        agent.receive(open).unwrap();
        let mut sent = 0;
        while let Some(frame) = agent.send(stream, &[0; MAX_PAYLOAD]).unwrap() {
            sent += frame.payload.len();
            host.receive(frame).unwrap();
        }
        assert_eq!(sent, WINDOW as usize);
        let credit = host.consumed(stream, sent).unwrap();
        assert_eq!(agent.receive(credit), Ok(Event::Writable { stream }));
        assert!(agent.send(stream, b"x").unwrap().is_some());
    }

    #[test]
    fn every_broken_rule_has_a_name() {
        let frame = |kind, stream, payload: &[u8]| Frame { kind, stream, payload: payload.to_vec() };
        let cases: [(&[Frame], Violation); 8] = [
            (&[frame(Kind::Open, 2, b""), frame(Kind::Data, 2, b"")], Violation::Empty(2)),
            (&[frame(Kind::Open, 1, b"")], Violation::StreamNumber(1)),
            (&[frame(Kind::Open, 0, b"")], Violation::StreamNumber(0)),
            (&[frame(Kind::Open, 4, b""), frame(Kind::Open, 2, b"")], Violation::StreamNumber(2)),
            (&[frame(Kind::Data, 8, b"x")], Violation::StreamNumber(8)),
            (
                &[frame(Kind::Open, 2, b""), frame(Kind::End, 2, b""), frame(Kind::Data, 2, b"x")],
                Violation::AfterEnd(2),
            ),
            (&[frame(Kind::Open, 2, b""), frame(Kind::Credit, 2, b"\x01\0\0\0")], Violation::Credit(2)),
            (&[frame(Kind::Open, 2, b""), frame(Kind::Credit, 2, b"")], Violation::Credit(2)),
        ];
        for (frames, violation) in cases {
            let mut host = Session::new(Side::Host);
            let (last, before) = frames.split_last().unwrap();
            for frame in before {
                host.receive(frame.clone()).unwrap();
            }
            assert_eq!(host.receive(last.clone()), Err(violation));
        }
    }

    #[test]
    fn a_peer_may_not_open_streams_without_end() {
        let mut host = Session::new(Side::Host);
        let refused = (1..).find_map(|n| host.receive(Frame::empty(Kind::Open, n * 2)).err());
        assert_eq!(refused, Some(Violation::TooManyStreams));
        assert_eq!(host.streams.len(), MAX_STREAMS);
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let kind = prop_oneof![
            Just(Kind::Attach),
            Just(Kind::Open),
            Just(Kind::Data),
            Just(Kind::Credit),
            Just(Kind::End),
            Just(Kind::Reset)
        ];
        (kind, 0u32..12, proptest::collection::vec(any::<u8>(), 0..6)).prop_map(|(kind, stream, payload)| Frame {
            kind,
            stream,
            payload,
        })
    }

    proptest! {
        #[test]
        fn no_sequence_of_frames_panics_or_exceeds_limits(frames in proptest::collection::vec(any_frame(), 0..200)) {
            let mut host = Session::new(Side::Host);
            host.open(Vec::new());
            for frame in frames {
                if host.receive(frame).is_err() {
                    break;
                }
                prop_assert!(host.streams.len() <= MAX_STREAMS);
                prop_assert!(host.streams.values().all(|s| s.credit <= WINDOW && s.window <= WINDOW));
            }
        }
    }
}
