//! Bytes ↔ frames.
//!
//! ```text
//! 0      1      2        4            8            12
//! ┌──────┬──────┬────────┬────────────┬────────────┬─────────┐
//! │ 0xDF │ kind │ 0x0000 │ stream, LE │ length, LE │ payload │
//! └──────┴──────┴────────┴────────────┴────────────┴─────────┘
//! ```
//!
//! An attach frame is recognisable in any garbage: its first 28 bytes are constant. The [`Decoder`] starts out searching
//! for one and goes back to searching on request.

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 12;

/// The largest payload of one frame. Larger announcements end the session. With its header a frame is then 32 KiB: as much as
/// a guest's kernel hands to its port at once. A few bytes more would cost each frame a second trip to the host.
pub const MAX_PAYLOAD: usize = 32 * 1024 - HEADER_LEN;

/// Random bytes that tell one attach from another.
pub const NONCE_LEN: usize = 16;

const START: u8 = 0xDF;
const ATTACH_MARK: &[u8; 16] = b"dayfly attach \r\n";
const ATTACH_LEN: usize = ATTACH_MARK.len() + NONCE_LEN + 2;
const SEARCHED_LEN: usize = HEADER_LEN + ATTACH_MARK.len();

/// A fresh value for every attach.
pub type Nonce = [u8; NONCE_LEN];

/// What a frame does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Host → agent: forget everything, a new conversation starts. Agent → host: it has started.
    Attach,
    /// Opens a stream; the payload is its request.
    Open,
    /// Bytes of a stream.
    Data,
    /// The receiver of a stream's bytes has room for that many more (payload: `u32`, LE).
    Credit,
    /// The sender will send no more bytes on this stream.
    End,
    /// The sender wants nothing more to do with this stream, in either direction.
    Reset,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Attach => 1,
            Self::Open => 2,
            Self::Data => 3,
            Self::Credit => 4,
            Self::End => 5,
            Self::Reset => 6,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Attach,
            2 => Self::Open,
            3 => Self::Data,
            4 => Self::Credit,
            5 => Self::End,
            6 => Self::Reset,
            _ => return None,
        })
    }
}

/// One unit on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    /// 0 for attach frames.
    pub stream: u32,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame without payload.
    pub fn empty(kind: Kind, stream: u32) -> Self {
        Self { kind, stream, payload: Vec::new() }
    }

    /// The frame that starts a conversation (and the answer to it).
    pub fn attach(nonce: Nonce, version: u16) -> Self {
        let mut payload = Vec::with_capacity(ATTACH_LEN);
        payload.extend_from_slice(ATTACH_MARK);
        payload.extend_from_slice(&nonce);
        payload.extend_from_slice(&version.to_le_bytes());
        Self { kind: Kind::Attach, stream: 0, payload }
    }

    /// Nonce and protocol version, if this is an attach frame.
    pub fn as_attach(&self) -> Option<(Nonce, u16)> {
        if self.kind != Kind::Attach {
            return None;
        }
        let rest = self.payload.strip_prefix(ATTACH_MARK.as_slice())?;
        let (nonce, version) = rest.split_first_chunk::<NONCE_LEN>()?;
        Some((*nonce, u16::from_le_bytes(version.try_into().ok()?)))
    }

    /// Appends the wire form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&header(self.kind, self.stream, self.payload.len()));
        out.extend_from_slice(&self.payload);
    }

    /// The wire form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN + self.payload.len());
        self.encode(&mut out);
        out
    }
}

/// What stands in front of a payload.
pub(crate) fn header(kind: Kind, stream: u32, payload_len: usize) -> [u8; HEADER_LEN] {
    debug_assert!(payload_len <= MAX_PAYLOAD, "senders split at MAX_PAYLOAD");
    let mut header = [0; HEADER_LEN];
    header[0] = START;
    header[1] = kind.code();
    header[4..8].copy_from_slice(&stream.to_le_bytes());
    header[8..12].copy_from_slice(&(payload_len as u32).to_le_bytes());
    header
}

fn searched() -> [u8; SEARCHED_LEN] {
    let mut bytes = [0; SEARCHED_LEN];
    bytes[..HEADER_LEN].copy_from_slice(&header(Kind::Attach, 0, ATTACH_LEN));
    bytes[HEADER_LEN..].copy_from_slice(ATTACH_MARK);
    bytes
}

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("the peer sent bytes that are no frame of this protocol")
    }
}

impl std::error::Error for Malformed {}

/// Takes bytes in pieces of any size, gives frames. Holds at most one frame's worth of bytes plus the last piece.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    consumed: usize,
    searching: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: Vec::new(), consumed: 0, searching: true }
    }
}

impl Decoder {
    /// Drops what is buffered and ignores everything up to the next attach frame.
    pub fn search(&mut self) {
        *self = Self::default();
    }

    /// Adds received bytes. Call [`Self::next_frame`] until it gives `None` before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame. While searching, the first one is an attach frame; in a conversation every kind may come.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        if self.searching && !self.find_attach() {
            return Ok(None);
        }
        let pending = &self.buffer[self.consumed..];
        let Some((header, rest)) = pending.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let [START, code, 0, 0, ..] = *header else { return Err(Malformed) };
        let kind = Kind::from_code(code).ok_or(Malformed)?;
        let stream = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        if length > MAX_PAYLOAD {
            return Err(Malformed);
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let frame = Frame { kind, stream, payload: payload.to_vec() };
        if kind == Kind::Attach && (stream != 0 || frame.as_attach().is_none()) {
            return Err(Malformed);
        }
        self.consumed += HEADER_LEN + length;
        self.searching = false;
        Ok(Some(frame))
    }

    /// Moves to the start of the next attach frame; keeps a tail that may be the beginning of one.
    fn find_attach(&mut self) -> bool {
        let wanted = searched();
        let pending = &self.buffer[self.consumed..];
        if let Some(at) = pending.windows(SEARCHED_LEN).position(|window| window == wanted) {
            self.consumed += at;
            return true;
        }
        self.consumed += pending.len().saturating_sub(SEARCHED_LEN - 1);
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames_of(decoder: &mut Decoder, bytes: &[u8], piece: usize) -> Result<Vec<Frame>, Malformed> {
        let mut frames = Vec::new();
        for chunk in bytes.chunks(piece.max(1)) {
            decoder.push(chunk);
            while let Some(frame) = decoder.next_frame()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    fn data(stream: u32, payload: &[u8]) -> Frame {
        Frame { kind: Kind::Data, stream, payload: payload.to_vec() }
    }

    #[test]
    fn garbage_before_an_attach_is_skipped_whatever_the_pieces() {
        let attach = Frame::attach([7; NONCE_LEN], 1);
        let mut bytes = vec![START; 100];
        bytes.extend_from_slice(&searched()[..20]);
        attach.encode(&mut bytes);
        data(3, b"hello").encode(&mut bytes);
        for piece in [1, 2, 27, 28, 29, 1000] {
            let frames = frames_of(&mut Decoder::default(), &bytes, piece);
            assert_eq!(frames, Ok(vec![attach.clone(), data(3, b"hello")]), "pieces of {piece}");
        }
    }

    #[test]
    fn a_huge_announcement_is_refused_before_it_is_believed() {
        let mut bytes = Frame::attach([1; NONCE_LEN], 1).to_bytes();
        bytes.extend_from_slice(&[START, 3, 0, 0, 1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert_eq!(frames_of(&mut Decoder::default(), &bytes, 4096), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096), piece in 1usize..500) {
            let mut attached = Frame::attach([1; NONCE_LEN], 1).to_bytes();
            attached.extend_from_slice(&bytes);
            let _outcome = frames_of(&mut Decoder::default(), &attached, piece);
        }

        #[test]
        fn frames_survive_the_wire(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20), piece in 1usize..700) {
            let mut sent = vec![Frame::attach([9; NONCE_LEN], 1)];
            sent.extend(payloads.iter().enumerate().map(|(i, p)| data(i as u32, p)));
            let bytes: Vec<u8> = sent.iter().flat_map(Frame::to_bytes).collect();
            prop_assert_eq!(frames_of(&mut Decoder::default(), &bytes, piece), Ok(sent));
        }
    }
}
