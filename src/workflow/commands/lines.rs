//! The bytes of one stream as lines, of which none is kept longer than it must be.

/// Bytes of a line that are kept together. What is longer is no command and no problem, and goes on in pieces.
pub(super) const MAX_LINE: usize = 1024 * 1024;

/// What has come and was not taken yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
    /// How far it was looked through for an end.
    searched: usize,
    /// Whether a part of the line at hand was taken already.
    is_within_line: bool,
}

/// A line that is over, with its end; the last one of a stream may have none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'b> {
    pub(super) bytes: &'b [u8],
    /// Whether nothing of it was taken before.
    pub(super) is_whole: bool,
}

impl Lines {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        // Moved only once as much was taken: then each byte is moved at most once more.
        if self.taken * 2 >= self.pending.len() {
            self.pending.drain(..self.taken);
            self.searched -= self.taken;
            self.taken = 0;
        }
        self.pending.extend_from_slice(bytes);
    }

    /// Takes the next line, if it is over.
    pub(super) fn next(&mut self, is_end: bool) -> Option<Line<'_>> {
        let start = self.taken;
        let found = self.pending[self.searched..].iter().position(|byte| *byte == b'\n');
        self.searched = match found {
            Some(at) => self.searched + at + 1,
            None => self.pending.len(),
        };
        if found.is_none() && (!is_end || start == self.pending.len()) {
            return None;
        }
        self.taken = self.searched;
        let is_whole = !std::mem::take(&mut self.is_within_line);
        Some(Line { bytes: &self.pending[start..self.taken], is_whole })
    }

    /// What there is of a line that is not over.
    pub(super) fn open(&self) -> &[u8] {
        &self.pending[self.taken..]
    }

    /// Whether a part of that line was taken already.
    pub(super) fn is_within_line(&self) -> bool {
        self.is_within_line
    }

    /// Takes so much of the line that is not over.
    pub(super) fn take_open(&mut self, length: usize) {
        self.taken += length;
        self.is_within_line |= length > 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_arrives(chunks in proptest::collection::vec("[ab\n]{0,8}", 0..12), takes: [bool; 12]) {
            let mut lines = Lines::default();
            let mut told = Vec::new();
            for (chunk, takes_open) in chunks.iter().zip(takes) {
                lines.push(chunk.as_bytes());
                while let Some(line) = lines.next(false) {
                    prop_assert_eq!(line.bytes.iter().position(|byte| *byte == b'\n'), Some(line.bytes.len() - 1));
                    told.extend_from_slice(line.bytes);
                }
                if takes_open {
                    told.extend_from_slice(lines.open());
                    lines.take_open(lines.open().len());
                }
            }
            while let Some(line) = lines.next(true) {
                told.extend_from_slice(line.bytes);
            }
            prop_assert_eq!(String::from_utf8_lossy(&told), chunks.concat());
        }
    }

    #[test]
    fn a_line_is_whole_unless_a_part_of_it_was_taken() {
        let mut lines = Lines::default();
        lines.push(b"one\ntw");
        assert_eq!(lines.next(false), Some(Line { bytes: b"one\n", is_whole: true }));
        assert_eq!(lines.next(false), None);
        assert_eq!(lines.open(), b"tw");
        lines.take_open(1);
        lines.push(b"o\nthree");
        assert_eq!(lines.next(false), Some(Line { bytes: b"wo\n", is_whole: false }));
        assert_eq!(lines.next(true), Some(Line { bytes: b"three", is_whole: true }));
        assert_eq!(lines.next(true), None);
    }
}
