//! Which bytes of a trace go to GitLab next. Pure.
//!
//! GitLab appends a patch only where its own copy ends, and says where that is if it ends elsewhere: an answer that was lost
//! costs one more question and never a byte.

use super::client::Reply;

/// Bytes of one patch.
pub const MAX_PATCH: u64 = 1 << 20;

/// Bytes of a trace, of which there is at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    pub start: u64,
    pub length: u64,
}

impl Patch {
    /// The header: first and last byte, both included, and no unit.
    pub fn content_range(self) -> String {
        format!("{}-{}", self.start, self.end() - 1)
    }

    fn end(self) -> u64 {
        self.start + self.length
    }
}

/// What an answer to a patch means for the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// GitLab has the patch.
    Taken,
    /// GitLab's copy ends elsewhere; that is where the next patch begins.
    Moved,
    /// Try the same again later.
    Later,
}

/// How much of a trace GitLab has, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Acknowledged(u64);

impl Acknowledged {
    /// So many bytes, from the first one on.
    pub fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// How many bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// What to send of a trace that has `length` bytes now.
    pub fn next(self, length: u64) -> Option<Patch> {
        let missing = length.saturating_sub(self.0);
        (missing > 0).then(|| Patch { start: self.0, length: missing.min(MAX_PATCH) })
    }

    /// Takes note of the answer to a patch.
    pub fn heard(&mut self, patch: Patch, reply: &Reply) -> Progress {
        match reply.status {
            202 => {
                self.0 = patch.end();
                Progress::Taken
            }
            416 => {
                self.0 = reply.has.unwrap_or(0);
                Progress::Moved
            }
            _ => Progress::Later,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What becomes of a patch on its way.
    #[derive(Debug, Clone, Copy)]
    enum Fate {
        Fine,
        /// Not carried out.
        Lost,
        /// Carried out, and the answer is lost.
        AnswerLost,
        /// GitLab's copy is cut to so many parts of 256.
        Cut(u8),
    }

    fn fates() -> impl Strategy<Value = Vec<Fate>> {
        let fate = prop_oneof![
            4 => Just(Fate::Fine),
            1 => Just(Fate::Lost),
            1 => Just(Fate::AnswerLost),
            1 => any::<u8>().prop_map(Fate::Cut),
        ];
        prop::collection::vec(fate, 0..40)
    }

    /// GitLab's side: appends where its copy ends, else says where that is.
    fn patch(copy: &mut Vec<u8>, patch: Patch, trace: &[u8]) -> Reply {
        let ends_here = copy.len() as u64 == patch.start;
        if ends_here {
            copy.extend_from_slice(&trace[patch.start as usize..(patch.start + patch.length) as usize]);
        }
        let status = if ends_here { 202 } else { 416 };
        Reply { status, has: Some(copy.len() as u64), ..Reply::default() }
    }

    proptest! {
        #[test]
        fn whatever_happens_on_the_way_the_copy_becomes_the_trace(
            trace in prop::collection::vec(any::<u8>(), 0..4000), growth in 1_usize..700, fates in fates(), start in 0_u64..5000
        ) {
            let (mut copy, mut known) = (Vec::new(), Acknowledged::new(start));
            let mut fates = fates.into_iter();
            let mut length = 0;
            for _ in 0..10_000 {
                length = (length + growth).min(trace.len());
                let Some(next) = known.next(length as u64) else {
                    if length == trace.len() { break }
                    continue;
                };
                match fates.next().unwrap_or(Fate::Fine) {
                    Fate::Fine => { known.heard(next, &patch(&mut copy, next, &trace)); }
                    Fate::Lost => {}
                    Fate::AnswerLost => { patch(&mut copy, next, &trace); }
                    Fate::Cut(parts) => copy.truncate(copy.len() * usize::from(parts) / 256),
                }
                prop_assert!(trace.starts_with(&copy), "the copy is never anything but a beginning");
            }
            // Begun beyond the end, or cut after the last patch: only the checksum at the end tells.
            if known.bytes() == copy.len() as u64 {
                prop_assert_eq!(copy, trace);
            }
        }

        #[test]
        fn patches_are_bounded_and_follow_each_other(acknowledged: u64, length: u64) {
            match Acknowledged::new(acknowledged).next(length) {
                Some(patch) => {
                    prop_assert!(patch.start == acknowledged && (1..=MAX_PATCH).contains(&patch.length));
                    prop_assert!(patch.start + patch.length <= length);
                }
                None => prop_assert!(acknowledged >= length),
            }
        }
    }

    #[test]
    fn ranges_include_both_ends() {
        assert_eq!(Patch { start: 0, length: 1 }.content_range(), "0-0");
        assert_eq!(Patch { start: 10, length: 5 }.content_range(), "10-14");
        let mut known = Acknowledged::new(7);
        let moved = Reply { status: 416, ..Reply::default() };
        assert_eq!((known.heard(Patch { start: 7, length: 1 }, &moved), known.bytes()), (Progress::Moved, 0));
    }
}
