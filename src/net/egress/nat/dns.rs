//! Questions and answers of the DNS, as far as a guest's resolver needs them: one question, and IPv4 addresses. Pure.
//!
//! The question comes from a guest and is taken apart without trust; its bytes are given back unchanged, as resolvers compare
//! them. Whatever follows it (EDNS) is not read.

use core::net::Ipv4Addr;

use crate::net::egress::host::Host;

/// Bytes of a message over UDP, without extensions.
pub const MAX_UDP: usize = 512;

/// Seconds for which a guest may keep an answer.
const TTL: u32 = 60;

/// Addresses in one answer, which fit into [`MAX_UDP`] with the longest name.
pub const MAX_ADDRESSES: usize = 8;

const HEADER: usize = 12;
const CLASS_INTERNET: u16 = 1;
const TYPE_A: u16 = 1;

/// The first answer's name is that of the question, which begins behind the header.
const NAME_OF_QUESTION: u16 = 0xC000 | HEADER as u16;

/// Bits of the second and third bytes of a header.
const IS_RESPONSE: u8 = 0x80;
const OPERATION: u8 = 0x78;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Without addresses: there are none of the kind that was asked for.
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    NotImplemented = 4,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question<'a> {
    id: [u8; 2],
    flags: u8,
    /// Name, type and class, as they came.
    bytes: &'a [u8],
    pub host: Host,
    /// Whether IPv4 addresses are asked for; there is nothing else to be told.
    pub wants_addresses: bool,
}

/// Reads a question; the error is what to answer, if that can be answered at all.
pub fn read(message: &[u8]) -> Result<Question<'_>, Option<Vec<u8>>> {
    let header = message.get(..HEADER).ok_or(None)?;
    let (id, flags) = ([header[0], header[1]], header[2]);
    if flags & IS_RESPONSE != 0 {
        return Err(None);
    }
    let refused = |code| Err(Some(response(id, flags, code, &[], &[])));
    if flags & OPERATION != 0 {
        return refused(Code::NotImplemented);
    }
    if header[4..6] != [0, 1] {
        return refused(Code::FormatError);
    }
    let Some((name, length)) = name(&message[HEADER..]) else { return refused(Code::FormatError) };
    let Some(bytes) = message.get(HEADER..HEADER + length + 4) else { return refused(Code::FormatError) };
    let number = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let answer = |code| Err(Some(response(id, flags, code, bytes, &[])));
    if number(length + 2) != CLASS_INTERNET {
        return answer(Code::NotImplemented);
    }
    match Host::parse(&name) {
        Ok(host) => Ok(Question { id, flags, bytes, host, wants_addresses: number(length) == TYPE_A }),
        Err(_) => answer(Code::NoSuchName),
    }
}

/// The name at the beginning of `bytes`, and how many of them it takes. Names of questions are whole: nothing stands before them
/// that could be pointed to.
fn name(bytes: &[u8]) -> Option<(String, usize)> {
    const MAX_NAME: usize = 255;
    const MAX_LABEL: u8 = 63;
    let (mut name, mut at) = (String::new(), 0);
    loop {
        let length = *bytes.get(at).filter(|length| **length <= MAX_LABEL)?;
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        let label = bytes.get(at..at + usize::from(length))?;
        if !label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.') || at > MAX_NAME {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().copied().map(char::from));
        at += label.len();
    }
}

impl Question<'_> {
    /// An answer with these addresses, of which the first [`MAX_ADDRESSES`] are told.
    pub fn answer(&self, addresses: &[Ipv4Addr]) -> Vec<u8> {
        response(self.id, self.flags, Code::NoError, self.bytes, addresses)
    }

    /// An answer without any.
    pub fn refuse(&self, code: Code) -> Vec<u8> {
        response(self.id, self.flags, code, self.bytes, &[])
    }
}

fn response(id: [u8; 2], flags: u8, code: Code, question: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let addresses = &addresses[..addresses.len().min(MAX_ADDRESSES)];
    let mut message = Vec::with_capacity(HEADER + question.len() + 16 * addresses.len());
    message.extend(id);
    message.push(IS_RESPONSE | flags & (OPERATION | RECURSION_DESIRED));
    message.push(RECURSION_AVAILABLE | code as u8);
    for count in [usize::from(!question.is_empty()), addresses.len(), 0, 0] {
        message.extend((count as u16).to_be_bytes());
    }
    message.extend(question);
    for address in addresses {
        message.extend(NAME_OF_QUESTION.to_be_bytes());
        message.extend(TYPE_A.to_be_bytes());
        message.extend(CLASS_INTERNET.to_be_bytes());
        message.extend(TTL.to_be_bytes());
        message.extend(4u16.to_be_bytes());
        message.extend(address.octets());
    }
    message
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xAB, 0xCD, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        // EDNS, as resolvers add it.
        message.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        message
    }

    #[test]
    fn a_question_is_answered_in_its_own_spelling() {
        let message = query("ExAmple.ORG", 1);
        let question = read(&message).unwrap();
        assert_eq!((question.host.to_string().as_str(), question.wants_addresses), ("example.org", true));
        let answer = question.answer(&[Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(192, 0, 2, 8)]);
        assert_eq!(answer[..12], [0xAB, 0xCD, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
        assert_eq!(answer[12..29], message[12..29]);
        assert_eq!(answer[29..45], [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
        assert_eq!(question.refuse(Code::NoSuchName)[2..8], [0x81, 0x83, 0, 1, 0, 0]);
        let of_ipv6 = query("example.org", 28);
        assert!(!read(&of_ipv6).unwrap().wants_addresses);
    }

    #[test]
    fn what_is_no_question_is_told_apart() {
        let good = query("a.example", 1);
        let change = |at: usize, to: u8| {
            let mut message = good.clone();
            message[at] = to;
            read(&message).map(drop).unwrap_err().map(|answer| answer[3] & 0xF)
        };
        assert_eq!(change(2, 0x81), None, "an answer is not answered");
        assert_eq!(change(2, 0x29), Some(4), "another operation");
        assert_eq!(change(5, 2), Some(1), "two questions");
        assert_eq!(change(5, 0), Some(1), "no question");
        assert_eq!(change(12, 0xC0), Some(1), "a pointer");
        assert_eq!(change(13, 0), Some(1), "a NUL in a name");
        assert_eq!(change(13, b'.'), Some(1), "a dot in a label");
        assert_eq!(change(26, 3), Some(4), "another class");
        assert_eq!(read(&good[..20]).unwrap_err().map(|answer| answer[3] & 0xF), Some(1), "cut off");
        assert_eq!(read(&good[..11]), Err(None));
        let root = query("", 1);
        assert_eq!(read(&root).unwrap_err().map(|answer| answer[3] & 0xF), Some(3), "the root has no address");
    }

    #[test]
    fn the_longest_name_with_all_addresses_fits_into_a_datagram() {
        let name = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(61));
        let message = query(&name, 1);
        assert!(read(&message).unwrap().answer(&[Ipv4Addr::LOCALHOST; 20]).len() <= MAX_UDP);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Err(Some(answer)) = read(&bytes) {
                prop_assert!(answer[2] & IS_RESPONSE != 0);
            }
        }
    }
}
