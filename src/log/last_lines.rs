//! The last lines of a log, with the cursor from which to go on.

use std::collections::VecDeque;

use futures::TryStreamExt;

use super::reader::{Chunk, Entry, LogReader};
use super::{LogError, Stream};

/// Most text that is kept for the last lines, in bytes: lines may be very long.
const MAX_BYTES: usize = 4 * 1024 * 1024;

impl LogReader {
    /// The last `lines` lines of what the log holds now, fewer if they are longer than 4 MiB together. Reads the whole log.
    pub async fn last_lines(&self, lines: usize) -> Result<Chunk, LogError> {
        let mut tail = Tail { lines, ..Tail::default() };
        let mut next = 0;
        let mut chunks = std::pin::pin!(self.read(0));
        while let Some(chunk) = chunks.try_next().await? {
            next = chunk.next;
            for entry in chunk.entries {
                tail.push(entry);
            }
        }
        Ok(Chunk { entries: tail.finish(), next })
    }
}

/// The end of what was pushed.
#[derive(Default)]
struct Tail {
    lines: usize,
    entries: VecDeque<Entry>,
    line_ends: usize,
    bytes: usize,
}

impl Tail {
    fn push(&mut self, entry: Entry) {
        self.line_ends += line_ends(&entry);
        self.bytes += size(&entry);
        self.entries.push_back(entry);
        // One line more than wanted, because the last one may have no end yet.
        while let Some(first) = self.entries.front()
            && self.entries.len() > 1
            && (self.line_ends - line_ends(first) > self.lines || self.bytes > MAX_BYTES)
        {
            self.line_ends -= line_ends(first);
            self.bytes -= size(first);
            self.entries.pop_front();
        }
    }

    fn finish(mut self) -> Vec<Entry> {
        let is_open = self.entries.back().is_some_and(|last| !last.to_text().ends_with('\n'));
        let mut excess = (self.line_ends + usize::from(is_open)).saturating_sub(self.lines);
        while excess > 0 {
            let Some(first) = self.entries.front_mut() else { break };
            let ends = line_ends(first);
            match first {
                Entry::Piece { stream, text, .. } if *stream != Stream::Heading && ends >= excess => {
                    let (cut, _) = text.match_indices('\n').nth(excess - 1).unwrap_or_default();
                    text.drain(..=cut);
                    break;
                }
                _ => drop(self.entries.pop_front()),
            }
            excess = excess.saturating_sub(ends);
        }
        self.entries.into()
    }
}

fn line_ends(entry: &Entry) -> usize {
    entry.to_text().matches('\n').count()
}

fn size(entry: &Entry) -> usize {
    match entry {
        Entry::Piece { text, .. } => text.len(),
        Entry::Cut { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tail_of(texts: &[String], lines: usize) -> String {
        let mut tail = Tail { lines, ..Tail::default() };
        for text in texts {
            tail.push(Entry::Piece { step: 1, stream: Stream::Stdout, at_ms: 0, text: text.clone() });
        }
        tail.finish().iter().map(Entry::to_text).collect()
    }

    proptest! {
        #[test]
        fn the_tail_is_the_last_lines_of_the_whole(texts in prop::collection::vec("[ab\n]{1,6}", 0..20), lines in 0_usize..8) {
            let whole = texts.concat();
            let all: Vec<&str> = whole.split_inclusive('\n').collect();
            let expected = all[all.len().saturating_sub(lines)..].concat();
            prop_assert_eq!(tail_of(&texts, lines), expected);
        }
    }
}
