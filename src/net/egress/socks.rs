//! SOCKS5 as clients without a password speak it (RFC 1928): a greeting, and one request to connect. Pure.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::host::Host;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

/// Whether a conversation that begins so is SOCKS5.
pub fn is_socks(first: u8) -> bool {
    first == VERSION
}

/// What was read so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read<T> {
    Incomplete,
    /// The value, and how many bytes it took.
    Done(T, usize),
    /// It cannot be answered by anything but this.
    Wrong(Reply),
}

/// How a request ended, by the numbers of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Succeeded = 0,
    Failed = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    ConnectionRefused = 5,
    CommandNotSupported = 7,
    AddressNotSupported = 8,
}

impl Reply {
    /// Its bytes. The address that connections leave from is nobody's business, and clients do not look at it.
    pub fn bytes(self) -> [u8; 10] {
        [VERSION, self as u8, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

/// The greeting; gives whether the client can go without a password.
pub fn greeting(bytes: &[u8]) -> Read<bool> {
    match bytes {
        [VERSION, count, methods @ ..] => match methods.get(..usize::from(*count)) {
            Some(methods) => Read::Done(methods.contains(&NO_AUTHENTICATION), 2 + methods.len()),
            None => Read::Incomplete,
        },
        [] | [VERSION] => Read::Incomplete,
        _ => Read::Wrong(Reply::Failed),
    }
}

/// The answer to the greeting.
pub fn chosen_method(has_none: bool) -> [u8; 2] {
    [VERSION, if has_none { NO_AUTHENTICATION } else { NO_METHOD }]
}

/// The request; gives whom to connect to. A name that is none is given as its text.
pub fn request(bytes: &[u8]) -> Read<(Result<Host, String>, u16)> {
    let [version, command, reserved, kind, rest @ ..] = bytes else { return Read::Incomplete };
    match (*version, *command, *reserved) {
        (VERSION, CONNECT, 0) => {}
        (VERSION, _, 0) => return Read::Wrong(Reply::CommandNotSupported),
        _ => return Read::Wrong(Reply::Failed),
    }
    let (host, used) = match kind {
        1 => match rest.first_chunk::<4>() {
            Some(octets) => (Ok(Host::Address(Ipv4Addr::from(*octets).into())), 4),
            None => return Read::Incomplete,
        },
        4 => match rest.first_chunk::<16>() {
            Some(octets) => (Ok(Host::Address(Ipv6Addr::from(*octets).into())), 16),
            None => return Read::Incomplete,
        },
        3 => {
            let Some((length, name)) = rest.split_first() else { return Read::Incomplete };
            let Some(name) = name.get(..usize::from(*length)) else { return Read::Incomplete };
            let text = String::from_utf8_lossy(name).into_owned();
            (Host::parse(&text).map_err(|_| text), 1 + name.len())
        }
        _ => return Read::Wrong(Reply::AddressNotSupported),
    };
    match rest[used..].first_chunk::<2>() {
        Some(port) => match u16::from_be_bytes(*port) {
            0 => Read::Wrong(Reply::Failed),
            port => Read::Done((host, port), 4 + used + 2),
        },
        None => Read::Incomplete,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_name(name: &str, port: u16) -> Vec<u8> {
        [&[5, 1, 0, 3, name.len() as u8], name.as_bytes(), &port.to_be_bytes()].concat()
    }

    #[test]
    fn requests_are_read_in_any_pieces() {
        let table: [(Vec<u8>, &str); 4] = [
            (by_name("Example.org", 443), "example.org"),
            (by_name("0x7f.1", 443), "127.0.0.1"),
            (vec![5, 1, 0, 1, 192, 0, 2, 1, 1, 187], "192.0.2.1"),
            ([&[5, 1, 0, 4][..], &[0; 15], &[1, 1, 187]].concat(), "[::1]"),
        ];
        for (bytes, host) in table {
            for cut in 0..bytes.len() {
                assert_eq!(request(&bytes[..cut]), Read::Incomplete, "{host} {cut}");
            }
            let with_more = [&bytes[..], b"GET"].concat();
            assert_eq!(request(&with_more), Read::Done((Ok(Host::parse(host).unwrap()), 443), bytes.len()));
        }
        assert_eq!(request(&by_name("a b", 1)), Read::Done((Err("a b".to_owned()), 1), 10));
    }

    #[test]
    fn what_is_not_offered_is_refused_by_its_number() {
        let table: [(&[u8], Reply); 6] = [
            (&[5, 2, 0, 1], Reply::CommandNotSupported),
            (&[5, 3, 0, 1], Reply::CommandNotSupported),
            (&[4, 1, 0, 1], Reply::Failed),
            (&[5, 1, 9, 1], Reply::Failed),
            (&[5, 1, 0, 2], Reply::AddressNotSupported),
            (&[5, 1, 0, 1, 1, 1, 1, 1, 0, 0], Reply::Failed),
        ];
        for (bytes, reply) in table {
            assert_eq!(request(bytes), Read::Wrong(reply), "{bytes:?}");
        }
        assert_eq!(greeting(&[5, 2, 2, 0, 9]), Read::Done(true, 4));
        assert_eq!(greeting(&[5, 1, 2]), Read::Done(false, 3));
        assert_eq!(greeting(&[5, 0]), Read::Done(false, 2));
        assert_eq!(greeting(&[5, 3, 0]), Read::Incomplete);
        assert_eq!(greeting(&[4]), Read::Wrong(Reply::Failed));
        assert_eq!((chosen_method(true), chosen_method(false)), ([5, 0], [5, 0xff]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Read::Done(_, used) = request(&bytes) {
                prop_assert!(used <= bytes.len());
            }
            if let Read::Done(_, used) = greeting(&bytes) {
                prop_assert!(used <= bytes.len());
            }
        }
    }
}
