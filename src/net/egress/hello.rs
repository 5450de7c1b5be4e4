//! The first words of a TLS client, read for the name of the server that it wants. Pure.
//!
//! A connection that was asked for by one name must not be used for another one that happens to live at the same address. The
//! client says the name in the clear in its ClientHello; with Encrypted Client Hello that is the outer name, by which the
//! connection is routed. The message may come in any pieces, and in several records.

/// Bytes of records that are looked at. Real ones have at most a few thousand, with keys for tomorrow's computers in them.
pub const MAX_HELLO: usize = 64 << 10;

/// Bytes of one record's content, from the protocol.
const MAX_RECORD: usize = 16 << 10;

const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What the first bytes of a client are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// More bytes will tell.
    Incomplete,
    /// Something else than TLS.
    NotTls,
    /// TLS, but no ClientHello that a server would accept.
    Malformed,
    /// The server's name as it stands there, if there is one.
    Complete { server_name: Option<String> },
}

/// Whether bytes that begin so are TLS.
fn is_tls(bytes: &[u8]) -> bool {
    bytes.iter().zip([HANDSHAKE, 3]).all(|(byte, expected)| *byte == expected)
}

/// Reads what a client has sent so far.
pub fn read(bytes: &[u8]) -> Hello {
    if !is_tls(bytes) {
        return Hello::NotTls;
    }
    match handshake(bytes) {
        Err(hello) => hello,
        Ok(message) => match server_name(&message) {
            Some(server_name) => Hello::Complete { server_name },
            None => Hello::Malformed,
        },
    }
}

/// The first handshake message, put together from its records.
fn handshake(mut bytes: &[u8]) -> Result<Vec<u8>, Hello> {
    let mut message = Vec::new();
    let mut seen = 0;
    loop {
        if let Some((header, body)) = message.split_at_checked(HANDSHAKE_HEADER) {
            let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
            if header[0] != CLIENT_HELLO || length > MAX_HELLO {
                return Err(Hello::Malformed);
            }
            if let Some(whole) = body.get(..length) {
                return Ok(whole.to_vec());
            }
        }
        let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER) else {
            return Err(if is_tls(bytes) { Hello::Incomplete } else { Hello::Malformed });
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        seen += RECORD_HEADER + length;
        // A record without content says nothing, and could be said without end.
        if !is_tls(header) || length == 0 || length > MAX_RECORD || seen > MAX_HELLO {
            return Err(Hello::Malformed);
        }
        let Some((content, rest)) = rest.split_at_checked(length) else { return Err(Hello::Incomplete) };
        message.extend_from_slice(content);
        bytes = rest;
    }
}

/// The name in a whole ClientHello; `None` if it is not one, or says two.
fn server_name(message: &[u8]) -> Option<Option<String>> {
    let mut rest = Cursor(message);
    // The version and the client's random bytes.
    rest.take(2 + 32)?;
    rest.prefixed_by_one()?;
    let suites = rest.prefixed_by_two()?;
    rest.prefixed_by_one()?;
    if suites.0.is_empty() || rest.0.is_empty() {
        // Without extensions there is no name; without suites it is no hello.
        return if suites.0.is_empty() { None } else { Some(None) };
    }
    let mut extensions = rest.prefixed_by_two()?;
    if !rest.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.prefixed_by_two()?;
        if kind == SERVER_NAME && found.replace(only_name(content)?).is_some() {
            return None;
        }
    }
    Some(found)
}

/// The one name of the extension.
fn only_name(mut content: Cursor<'_>) -> Option<String> {
    let mut list = content.prefixed_by_two()?;
    let kind = list.take(1)?;
    let name = list.prefixed_by_two()?;
    if kind != [HOST_NAME] || !list.0.is_empty() || !content.0.is_empty() || name.0.is_empty() {
        return None;
    }
    core::str::from_utf8(name.0).ok().map(str::to_owned)
}

/// Bytes that are left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn prefixed_by_one(&mut self) -> Option<Self> {
        let length = self.take(1)?[0];
        self.take(usize::from(length)).map(Self)
    }

    fn prefixed_by_two(&mut self) -> Option<Self> {
        let length = self.number()?;
        self.take(usize::from(length)).map(Self)
    }
}

/// Hellos for tests.
#[cfg(test)]
pub(super) mod sample {
    use super::{CLIENT_HELLO, HANDSHAKE};

    fn two(length: usize) -> [u8; 2] {
        u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
    }

    /// A ClientHello with these names, each in an extension of its own, cut into records of so many bytes.
    pub(crate) fn client_hello(names: &[&str], record: usize) -> Vec<u8> {
        let mut extensions = vec![0, 0x2b, 0, 3, 2, 3, 4];
        for name in names {
            let entry = [&[0][..], &two(name.len()), name.as_bytes()].concat();
            extensions.extend([0, 0]);
            extensions.extend(two(entry.len() + 2));
            extensions.extend(two(entry.len()));
            extensions.extend(entry);
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend(two(extensions.len()));
        body.extend(extensions);
        let mut message = vec![CLIENT_HELLO, 0];
        message.extend(two(body.len()));
        message.extend(body);
        let records = message.chunks(record).map(|part| [&[HANDSHAKE, 3, 1][..], &two(part.len()), part].concat());
        records.collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::sample::client_hello;
    use super::*;

    fn named(name: &str) -> Hello {
        Hello::Complete { server_name: Some(name.to_owned()) }
    }

    #[test]
    fn the_name_is_found_however_the_hello_is_cut() {
        for record in [1, 3, 40, 16 << 10] {
            let bytes = client_hello(&["Example.org"], record);
            assert_eq!(read(&bytes), named("Example.org"), "{record}");
            for cut in 1..bytes.len() {
                assert_eq!(read(&bytes[..cut]), Hello::Incomplete, "{record} {cut}");
            }
            assert_eq!(read(&[&bytes[..], b"\x14\x03\x03\0\x01\x01"].concat()), named("Example.org"));
        }
        assert_eq!(read(&client_hello(&[], 99)), Hello::Complete { server_name: None });
    }

    #[test]
    fn what_is_no_hello_has_its_name() {
        let hello = client_hello(&["a.example"], 16 << 10);
        let with = |at: usize, byte: u8| {
            let mut bytes = hello.clone();
            bytes[at] = byte;
            bytes
        };
        let table = [
            (b"GET / HTTP/1.1".to_vec(), Hello::NotTls),
            (b"SSH-2.0-x".to_vec(), Hello::NotTls),
            (vec![0x80, 0x2e, 1, 3, 1], Hello::NotTls),
            (vec![22, 4], Hello::NotTls),
            (vec![22, 3, 1, 0, 0], Hello::Malformed),
            (vec![22, 3, 1, 0xff, 0xff], Hello::Malformed),
            // A ServerHello, a hello of sixteen megabytes, and a session id that is longer than the message.
            (with(5, 2), Hello::Malformed),
            (with(6, 0xff), Hello::Malformed),
            (with(43, 0xff), Hello::Malformed),
            // Two names, and an alert between the records.
            (client_hello(&["a.example", "b.example"], 16 << 10), Hello::Malformed),
            ([&client_hello(&["a.example"], 20)[..25], &[21, 3, 1, 0, 2, 1, 0]].concat(), Hello::Malformed),
        ];
        for (bytes, expected) in table {
            assert_eq!(read(&bytes), expected, "{bytes:?}");
        }
        let endless = [22, 3, 1, 0, 1, 1].repeat(MAX_HELLO);
        assert_eq!(read(&endless), Hello::Malformed);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_limits(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), tls: bool) {
            if tls && bytes.len() > 2 {
                bytes[..2].copy_from_slice(&[22, 3]);
            }
            let _ = read(&bytes);
        }

        #[test]
        fn a_changed_byte_never_makes_another_name_out_of_nothing(at in 0usize..90, byte: u8) {
            let mut bytes = client_hello(&["a.example"], 16 << 10);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Hello::Complete { server_name: Some(name) } = read(&bytes) {
                prop_assert!(name.len() <= bytes.len());
            }
        }
    }
}
