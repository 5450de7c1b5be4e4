//! Whom a guest asks for, in the one spelling that rules compare and resolvers are asked with. Pure.
//!
//! Names have many spellings: capitals, a dot at the end, letters of other scripts, numbers in hexadecimal. What is compared
//! must be what is connected to, so everything is brought into one form first, and what has none is refused.

use core::fmt;
use core::net::IpAddr;

/// Bytes of a name, from the DNS.
const MAX_NAME: usize = 253;

/// Bytes of one label of a name.
const MAX_LABEL: usize = 63;

/// A host in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// Small ASCII letters (other scripts in punycode), without a dot at the end; never something that reads as an address.
    Name(String),
    /// An address that stood in the request itself.
    Address(IpAddr),
}

/// The text names no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadHost;

impl Host {
    /// Reads a name, an IPv4 address in any spelling that a resolver would take for one (`127.1`, `0x7f.1`), or an IPv6
    /// address in brackets, without a zone.
    pub fn parse(text: &str) -> Result<Self, BadHost> {
        // An escape or a zone is of no use in any of them, and says different things to different readers.
        if text.is_empty() || text.len() > 4 * MAX_NAME || text.contains('%') {
            return Err(BadHost);
        }
        match url::Host::parse(text).map_err(|_| BadHost)? {
            url::Host::Ipv4(address) => Ok(Self::Address(address.into())),
            url::Host::Ipv6(address) => Ok(Self::Address(address.into())),
            url::Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                let is_label = |label: &str| (1..=MAX_LABEL).contains(&label.len());
                if name.len() > MAX_NAME || !name.is_ascii() || !name.split('.').all(is_label) {
                    return Err(BadHost);
                }
                Ok(Self::Name(name.to_owned()))
            }
        }
    }

    /// Reads `host:port`.
    pub fn parse_with_port(text: &str) -> Result<(Self, u16), BadHost> {
        let (host, port) = text.rsplit_once(':').ok_or(BadHost)?;
        Ok((Self::parse(host)?, parse_port(port).ok_or(BadHost)?))
    }
}

/// A port in decimal digits alone: `+80` and `0` are none.
pub fn parse_port(text: &str) -> Option<u16> {
    let is_plain = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| is_plain && *port != 0)
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => out.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(out),
            Self::Address(IpAddr::V6(address)) => write!(out, "[{address}]"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_a_host_is_the_same_host() {
        let table = [
            ("Example.ORG", "example.org"),
            ("example.org.", "example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("ｅｘａｍｐｌｅ.org", "example.org"),
            ("example。org", "example.org"),
            ("my_host.example", "my_host.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("１２７.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
        ];
        for (text, host) in table {
            assert_eq!(Host::parse(text).map(|host| host.to_string()), Ok(host.to_owned()), "{text}");
        }
        assert_eq!(Host::parse("0x7f.1"), Ok(Host::Address("127.0.0.1".parse().unwrap())));
    }

    #[test]
    fn what_names_no_host_is_refused() {
        let long = format!("{}.example", "a".repeat(64));
        let longer = "a.".repeat(200);
        let texts = [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "a@b",
            "a?b",
            "a#b",
            "a\\b",
            "a\0b",
            "a%41",
            "%31",
            "::1",
            "[::1",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]",
            "1.2.3.4.5",
            "256.1.1.1",
            "a.0x",
            "[]",
            "a:80",
            &long,
            &longer,
        ];
        for text in texts {
            assert_eq!(Host::parse(text), Err(BadHost), "{text:?}");
        }
    }

    #[test]
    fn ports_are_plain_numbers() {
        assert_eq!(Host::parse_with_port("a.example:443"), Ok((Host::Name("a.example".into()), 443)));
        assert_eq!(Host::parse_with_port("[::1]:8443").map(|(_, port)| port), Ok(8443));
        for text in ["a", "a:", "a:0", "a:+80", "a:65536", "a:080000", "a: 80", "[::1]", "::1:80", ":80"] {
            assert_eq!(Host::parse_with_port(text), Err(BadHost), "{text}");
        }
    }

    proptest! {
        /// What is read is read the same once more, and no name can be taken for an address by a resolver.
        #[test]
        fn the_one_spelling_is_stable(text in "[a-zA-Z0-9.x_\\-äß:\\[\\]%]{0,24}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_string()), Ok(host.clone()));
                if let Host::Name(name) = &host {
                    let last = name.rsplit('.').next().unwrap();
                    prop_assert!(!last.bytes().all(|b| b.is_ascii_digit()), "{name}");
                    prop_assert_eq!(name.to_ascii_lowercase(), name.clone());
                }
            }
        }
    }
}
