//! LZ4's older form of streams, in which kernels are packed: a mark, then blocks, each with its packed length before it. Pure.

/// What a stream begins with.
pub(super) const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// The most that one block unpacks to.
const MAX_BLOCK: usize = 8 << 20;

/// The shortest repetition.
const LEAST_MATCH: usize = 4;

/// What `packed` unpacks to, which is at most `limit` bytes long; none if it is no such stream, or is torn, or says more.
pub(super) fn unpack(packed: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut rest = packed.strip_prefix(&MAGIC)?;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (block, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let most = limit.checked_sub(out.len())?.min(MAX_BLOCK);
        unpack_block(block, most, &mut out)?;
        rest = after;
    }
    Some(out)
}

/// Adds at most `most` bytes to `out`.
fn unpack_block(mut block: &[u8], most: usize, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let end = start + most;
    loop {
        let (token, after) = block.split_first()?;
        block = after;
        let literals = length(usize::from(token >> 4), &mut block)?;
        let (copied, after) = block.split_at_checked(literals)?;
        block = after;
        if out.len() + literals > end {
            return None;
        }
        out.extend_from_slice(copied);
        // The last sequence of a block has nothing that is repeated.
        if block.is_empty() {
            return Some(());
        }
        let (offset, after) = block.split_first_chunk::<2>()?;
        block = after;
        let repeated = length(usize::from(token & 15), &mut block)? + LEAST_MATCH;
        let from = out.len().checked_sub(usize::from(u16::from_le_bytes(*offset))).filter(|from| *from >= start)?;
        if from == out.len() || out.len() + repeated > end {
            return None;
        }
        // Byte by byte where it repeats what it has just written.
        for position in from..from + repeated {
            out.push(out[position]);
        }
    }
}

/// A length whose first four bits are `length`: all set means that bytes follow which are added, up to the first that is not full.
fn length(mut length: usize, block: &mut &[u8]) -> Option<usize> {
    if length == 15 {
        loop {
            let (more, after) = block.split_first()?;
            *block = after;
            length += usize::from(*more);
            if *more != u8::MAX {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(blocks: &[&[u8]]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for block in blocks {
            out.extend_from_slice(&(block.len() as u32).to_le_bytes());
            out.extend_from_slice(block);
        }
        out
    }

    #[test]
    fn literals_and_repetitions_come_out() {
        // `abc`, then 9 bytes from 3 back, then `!`.
        let block = [0x35, b'a', b'b', b'c', 3, 0, 0x10, b'!'];
        assert_eq!(unpack(&stream(&[&block, &block]), 100).unwrap(), b"abcabcabcabc!abcabcabcabc!");
        // A length of 15 + 255 + 2.
        let mut long = vec![0xf0, 255, 2];
        long.extend([7; 272]);
        assert_eq!(unpack(&stream(&[&long]), 1000).unwrap(), [7; 272]);
    }

    #[test]
    fn what_is_torn_or_says_too_much_is_refused() {
        let block = [0x35, b'a', b'b', b'c', 3, 0, 0x10, b'!'];
        let whole = stream(&[&block]);
        assert!(unpack(&whole, 12).is_none(), "one byte more than the limit");
        for end in 5..whole.len() {
            assert!(unpack(&whole[..end], 100).is_none(), "{end}");
        }
        assert!(unpack(&stream(&[&[0x10, b'a', 2, 0, 0]]), 100).is_none(), "before the beginning");
        assert!(unpack(&stream(&[&[0x10, b'a', 0, 0, 0]]), 100).is_none(), "from nowhere");
        assert!(unpack(b"HdrS", 100).is_none());
    }

    proptest! {
        #[test]
        fn whatever_comes_the_limit_holds(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(unpacked) = unpack(&stream(&[&bytes]), 64) {
                prop_assert!(unpacked.len() <= 64);
            }
        }
    }
}
