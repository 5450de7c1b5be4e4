//! One delivery as bytes of a segment.
//!
//! ```text
//!  "DFD1" │ length of head │ length of body │ CRC-32 of the rest │ head │ body
//!    4            4                4                 4
//! ```
//! Numbers are little-endian. A reader stops at the first bytes that are no record: what a crash cut off, or room that was
//! never written.

use std::io::{self, Read};

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use super::super::model::DeliveryKey;

/// Begins each record, and names its version.
const MAGIC: [u8; 4] = *b"DFD1";

/// Bytes before the head.
const PREFIX: usize = 16;

/// Longest head, in bytes. All that is in it is bounded where it is received.
const MAX_HEAD: usize = 16 * 1024;

/// What is known of a delivery besides its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) forge: String,
    pub(super) id: String,
    pub(super) event: String,
    pub(super) received_at: i64,
    /// Why it cannot be read, if so.
    pub(super) problem: Option<String>,
}

impl Head {
    pub(super) fn key(&self) -> DeliveryKey {
        DeliveryKey { forge: self.forge.clone(), id: self.id.clone() }
    }
}

/// Everything of a record but the body, which follows it.
pub(super) fn encode(head: &Head, body: &[u8]) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "a delivery is too long for the inbox");
    let head = postcard::to_stdvec(head).map_err(io::Error::other)?;
    if head.len() > MAX_HEAD {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a delivery's head is too long for the inbox"));
    }
    let lengths = [u32::try_from(head.len()).map_err(too_long)?, u32::try_from(body.len()).map_err(too_long)?];
    let mut bytes = Vec::with_capacity(PREFIX + head.len());
    bytes.extend(MAGIC);
    lengths.iter().for_each(|length| bytes.extend(length.to_le_bytes()));
    bytes.extend(checksum(lengths, &head, body).to_le_bytes());
    bytes.extend(head);
    Ok(bytes)
}

/// Reads the record that begins here, of at most `available` bytes; gives it with its length. `None`: there is none.
pub(super) fn read(from: &mut impl Read, available: u64) -> io::Result<Option<(Head, Vec<u8>, u64)>> {
    let mut prefix = [0; PREFIX];
    if available < PREFIX as u64 {
        return Ok(None);
    }
    from.read_exact(&mut prefix)?;
    let number = |at: usize| u32::from_le_bytes(prefix[at..at + 4].try_into().expect("four bytes"));
    let lengths = [number(4), number(8)];
    let [head_length, body_length] = lengths.map(u64::from);
    let length = PREFIX as u64 + head_length + body_length;
    if prefix[..4] != MAGIC || head_length > MAX_HEAD as u64 || length > available {
        return Ok(None);
    }
    let (mut head, mut body) = (vec![0; lengths[0] as usize], vec![0; lengths[1] as usize]);
    from.read_exact(&mut head)?;
    from.read_exact(&mut body)?;
    if checksum(lengths, &head, &body) != number(12) {
        return Ok(None);
    }
    Ok(postcard::from_bytes(&head).ok().map(|head| (head, body, length)))
}

fn checksum(lengths: [u32; 2], head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    lengths.iter().for_each(|length| hasher.update(&length.to_le_bytes()));
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(id: &str) -> Head {
        let (forge, event) = ("github".into(), "push".into());
        Head { forge, id: id.into(), event, received_at: -1, problem: Some("no".into()) }
    }

    fn written(id: &str, body: &[u8]) -> Vec<u8> {
        [encode(&head(id), body).unwrap(), body.to_vec()].concat()
    }

    #[test]
    fn a_head_beyond_its_limit_is_refused() {
        assert!(encode(&head(&"a".repeat(MAX_HEAD)), b"").is_err());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(id in "[a-z0-9-]{0,40}", body: Vec<u8>, rest: Vec<u8>) {
            let bytes = [written(&id, &body), rest].concat();
            let (read_head, read_body, length) = read(&mut &bytes[..], bytes.len() as u64).unwrap().unwrap();
            prop_assert_eq!((read_head, &read_body), (head(&id), &body));
            prop_assert_eq!(length as usize, written(&id, &body).len());
        }

        #[test]
        fn what_was_cut_off_or_changed_is_no_record(body: Vec<u8>, at: prop::sample::Index, change in 1_u8..) {
            let whole = written("a", &body);
            let at = at.index(whole.len());
            let cut = &whole[..at];
            prop_assert!(read(&mut &cut[..], at as u64).unwrap().is_none());
            let mut changed = whole.clone();
            changed[at] ^= change;
            prop_assert!(read(&mut &changed[..], changed.len() as u64).unwrap().is_none());
        }

        #[test]
        fn anything_is_read_without_harm(bytes: Vec<u8>) {
            prop_assert!(read(&mut &bytes[..], bytes.len() as u64).is_ok());
        }
    }
}
