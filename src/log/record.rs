//! The records of a log file: a header of fixed size, then the bytes. Pure.
//!
//! A file is only ever appended to, so after a crash all that can be wrong is its end: a header or bytes that are missing,
//! or zeros where the file system had grown the file but not written it. No kind of record is zero.

/// Bytes of a header on disk.
pub(super) const HEADER: usize = 16;

/// Where a piece of a log came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    Stdout,
    Stderr,
    /// Dayfly itself.
    Service,
    /// The display name of a step that begins.
    Heading,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Piece(Stream),
    /// The log is complete; nothing follows.
    End,
}

/// What is known of a record before its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// The record before ends within a line of another stream or step: a reader must break the line.
    pub(super) breaks_line: bool,
    pub(super) step: u16,
    /// Bytes that follow.
    pub(super) length: u32,
    /// Milliseconds since the epoch.
    pub(super) at_ms: i64,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER] {
        let kind = match self.kind {
            Kind::Piece(Stream::Stdout) => 1,
            Kind::Piece(Stream::Stderr) => 2,
            Kind::Piece(Stream::Service) => 3,
            Kind::Piece(Stream::Heading) => 4,
            Kind::End => 5,
        };
        let mut bytes = [0; HEADER];
        bytes[0] = kind;
        bytes[1] = u8::from(self.breaks_line);
        bytes[2..4].copy_from_slice(&self.step.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.at_ms.to_le_bytes());
        bytes
    }

    /// `None` for what is not a header: the torn end of a file.
    pub(super) fn decode(bytes: [u8; HEADER]) -> Option<Self> {
        let [kind, breaks_line, s0, s1, l0, l1, l2, l3, at @ ..] = bytes;
        let kind = match kind {
            1 => Kind::Piece(Stream::Stdout),
            2 => Kind::Piece(Stream::Stderr),
            3 => Kind::Piece(Stream::Service),
            4 => Kind::Piece(Stream::Heading),
            5 => Kind::End,
            _ => return None,
        };
        Some(Self {
            kind,
            breaks_line: breaks_line == 1,
            step: u16::from_le_bytes([s0, s1]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            at_ms: i64::from_le_bytes(at),
        })
    }

    /// Bytes that the record takes on disk.
    pub(super) fn record_size(self) -> u64 {
        HEADER as u64 + u64::from(self.length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_survive_the_disk(breaks_line: bool, step: u16, length: u32, at_ms: i64) {
            for kind in [Kind::Piece(Stream::Stdout), Kind::Piece(Stream::Stderr), Kind::Piece(Stream::Service),
                         Kind::Piece(Stream::Heading), Kind::End] {
                let header = Header { kind, breaks_line, step, length, at_ms };
                prop_assert_eq!(Header::decode(header.encode()), Some(header));
            }
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(Header::decode([0; HEADER]), None);
    }
}
