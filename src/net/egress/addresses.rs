//! Which addresses a guest may be connected to, whatever name led there. Pure.
//!
//! A name is its owner's to point anywhere: at this host, at its neighbours, at the service that hands out a cloud's
//! credentials. So after resolution every address is judged, and only one that was judged is connected to. Addresses that
//! carry another one inside (IPv4 in IPv6) are judged by that as well.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::document::Complaint;
use crate::document::reader::quoted;

/// A range of addresses, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    length: u32,
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or one address.
    ///
    /// # Errors
    /// With a hint; also for a range so large that it would mix private addresses with others.
    pub fn parse(text: &str) -> Result<Self, Complaint> {
        let wrong = |hint: &str| Complaint::new(format!("{} is not a range of addresses", quoted(text))).hint(hint);
        const EXAMPLE: &str = "write it like `10.1.0.0/16`, `fd12::/48` or `10.1.2.3`";
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong(EXAMPLE))?;
        let (bits, shortest) = if address.is_ipv4() { (32, 8) } else { (128, 7) };
        let length = match length {
            Some(length) => length.parse().ok().filter(|length| *length <= bits).ok_or_else(|| wrong(EXAMPLE))?,
            None => bits,
        };
        if length < shortest {
            return Err(wrong(&format!("a range has at least `/{shortest}`: name what is really meant")));
        }
        let network = Self { first: address, length };
        let first = network.masked(address);
        if first != address {
            return Err(wrong(&format!("did you mean `{}`?", Self { first, length })));
        }
        Ok(network)
    }

    /// Whether the address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.masked(address) == self.first
    }

    /// Whether it is of IPv4.
    pub fn is_of_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    fn is_single(&self) -> bool {
        self.length == if self.first.is_ipv4() { 32 } else { 128 }
    }

    fn masked(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !tail(self.length, 32) as u32).into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !tail(self.length, 128)).into(),
        }
    }
}

/// The bits behind a prefix of `length`.
fn tail(length: u32, bits: u32) -> u128 {
    1u128.checked_shl(bits - length).map_or(u128::MAX, |bit| bit - 1)
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(out)?;
        if self.is_single() { Ok(()) } else { write!(out, "/{}", self.length) }
    }
}

/// What the operator said about addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    pub allow: Vec<Network>,
    pub deny: Vec<Network>,
}

impl Addresses {
    /// Whether the operator listed the address: then it may also be asked for without a name.
    pub fn lists(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|network| network.contains(plain(address)))
    }

    /// Says why the address is out of reach, if it is. `own` are this host's addresses: those that are not loopback are only
    /// admitted one by one, so that a range for the corporate network does not open this host.
    pub fn refuses(&self, address: IpAddr, own: &[IpAddr]) -> Option<&'static str> {
        let address = plain(address);
        let inner = embedded(address);
        let is_denied =
            |network: &Network| network.contains(address) || inner.is_some_and(|inner| network.contains(inner));
        if self.deny.iter().any(is_denied) {
            return Some("it is in `deny_addresses`");
        }
        let is_ones = |one: &IpAddr| plain(*one) == address || Some(plain(*one)) == inner;
        let is_own = own.iter().any(is_ones) && special(address) != Some(LOOPBACK);
        let listed = |network: &&Network| network.contains(address) && (!is_own || network.is_single());
        if self.allow.iter().any(|network| listed(&network)) {
            return None;
        }
        if is_own { Some("it is an address of the runner's host") } else { special(address) }
    }
}

/// An IPv4 address that is written as IPv6 is that IPv4 address to the system as well.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

const LOOPBACK: &str = "it is a loopback address";
const PRIVATE: &str = "it is a private address";
const LINK_LOCAL: &str = "it is a link-local address";
const METADATA: &str = "it is a cloud's metadata service";
const MULTICAST: &str = "it is a multicast address";
const RESERVED: &str = "it is a reserved address";

/// Ranges of IPv4 that are not the internet, from IANA's registry of special-purpose addresses, and what clouds made special.
const SPECIAL_V4: [([u8; 4], u32, &str); 21] = [
    ([169, 254, 169, 254], 32, METADATA),
    ([169, 254, 170, 0], 24, METADATA),
    ([168, 63, 129, 16], 32, METADATA),
    ([100, 100, 100, 200], 32, METADATA),
    ([192, 0, 0, 192], 32, METADATA),
    ([0, 0, 0, 0], 8, RESERVED),
    ([10, 0, 0, 0], 8, PRIVATE),
    ([100, 64, 0, 0], 10, PRIVATE),
    ([127, 0, 0, 0], 8, LOOPBACK),
    ([169, 254, 0, 0], 16, LINK_LOCAL),
    ([172, 16, 0, 0], 12, PRIVATE),
    ([192, 0, 0, 0], 24, RESERVED),
    ([192, 0, 2, 0], 24, RESERVED),
    ([192, 88, 99, 0], 24, RESERVED),
    ([192, 168, 0, 0], 16, PRIVATE),
    ([198, 18, 0, 0], 15, PRIVATE),
    ([198, 51, 100, 0], 24, RESERVED),
    ([203, 0, 113, 0], 24, RESERVED),
    ([224, 0, 0, 0], 4, MULTICAST),
    ([255, 255, 255, 255], 32, RESERVED),
    ([240, 0, 0, 0], 4, RESERVED),
];

/// Ranges of IPv6 with their names. What is in none of them and not in [`GLOBAL_V6`] is reserved.
const SPECIAL_V6: [(Ipv6Addr, u32, &str); 12] = [
    (Ipv6Addr::LOCALHOST, 128, LOOPBACK),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128, METADATA),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, PRIVATE),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, LINK_LOCAL),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, PRIVATE),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, MULTICAST),
    // Teredo, benchmarks, ORCHID and others that are special.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, RESERVED),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, RESERVED),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, RESERVED),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, PRIVATE),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, RESERVED),
    (Ipv6Addr::UNSPECIFIED, 96, RESERVED),
];

/// The addresses of the internet.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// IPv4 behind translators and tunnels: the range, and the bit at which the inner address ends, from the right.
const EMBEDDING: [(Ipv6Addr, u32, u32); 2] = [
    // NAT64: where there is no IPv4, public hosts are reached so.
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, 0),
    // 6to4
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, 80),
];

/// The IPv4 address that a translator or a tunnel would make of it.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let within = |first: Ipv6Addr, length| Network { first: first.into(), length }.contains(address);
    let (.., shift) = EMBEDDING.iter().find(|(first, length, _)| within(*first, *length))?;
    Some(Ipv4Addr::from_bits((v6.to_bits() >> shift) as u32).into())
}

/// The ranges of IPv4 that are not the internet.
pub fn special_ranges() -> impl Iterator<Item = Network> {
    SPECIAL_V4.iter().map(|(first, length, _)| Network { first: (*first).into(), length: *length })
}

/// Why an address is not one of the internet, if it is not.
fn special(address: IpAddr) -> Option<&'static str> {
    let within = |first: IpAddr, length| Network { first, length }.contains(address);
    if address.is_ipv4() {
        return SPECIAL_V4.iter().find(|(first, length, _)| within((*first).into(), *length)).map(|(.., why)| *why);
    }
    if let Some(inner) = embedded(address) {
        return special(inner);
    }
    let known = SPECIAL_V6.iter().find(|(first, length, _)| within((*first).into(), *length)).map(|(.., why)| *why);
    known.or_else(|| (!within(GLOBAL_V6.0.into(), GLOBAL_V6.1)).then_some(RESERVED))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn addresses(allow: &[&str], deny: &[&str]) -> Addresses {
        let read = |list: &[&str]| list.iter().map(|text| Network::parse(text).unwrap()).collect();
        Addresses { allow: read(allow), deny: read(deny) }
    }

    #[test]
    fn what_is_not_the_internet_is_out_of_reach() {
        let table = [
            ("0.0.0.0", RESERVED),
            ("10.1.2.3", PRIVATE),
            ("100.64.0.1", PRIVATE),
            ("100.100.100.200", METADATA),
            ("127.0.0.1", LOOPBACK),
            ("127.255.255.254", LOOPBACK),
            ("169.254.169.254", METADATA),
            ("169.254.170.2", METADATA),
            ("169.254.1.1", LINK_LOCAL),
            ("168.63.129.16", METADATA),
            ("172.31.255.255", PRIVATE),
            ("192.0.0.1", RESERVED),
            ("192.0.2.1", RESERVED),
            ("192.88.99.1", RESERVED),
            ("192.168.0.1", PRIVATE),
            ("198.19.255.255", PRIVATE),
            ("224.0.0.1", MULTICAST),
            ("239.255.255.250", MULTICAST),
            ("240.0.0.1", RESERVED),
            ("255.255.255.255", RESERVED),
            ("::", RESERVED),
            ("::1", LOOPBACK),
            ("::127.0.0.1", RESERVED),
            ("::ffff:127.0.0.1", LOOPBACK),
            ("::ffff:169.254.169.254", METADATA),
            ("::ffff:0:7f00:1", RESERVED),
            ("64:ff9b::7f00:1", LOOPBACK),
            ("64:ff9b::a9fe:a9fe", METADATA),
            ("64:ff9b:1::1", PRIVATE),
            ("100::1", RESERVED),
            ("2001::1", RESERVED),
            ("2001:db8::1", RESERVED),
            ("2002:7f00:1::", LOOPBACK),
            ("2002:a00:1::1", PRIVATE),
            ("3fff::1", RESERVED),
            ("4000::1", RESERVED),
            ("5f00::1", RESERVED),
            ("fc00::1", PRIVATE),
            ("fd00:ec2::254", METADATA),
            ("fe80::1", LINK_LOCAL),
            ("fec0::1", PRIVATE),
            ("ff02::1", MULTICAST),
        ];
        for (text, why) in table {
            assert_eq!(Addresses::default().refuses(ip(text), &[]), Some(why), "{text}");
        }
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "172.32.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert_eq!(Addresses::default().refuses(ip(text), &[]), None, "{text}");
        }
    }

    #[test]
    fn lists_of_the_operator_decide_before_that() {
        let listed = addresses(&["10.0.0.0/8", "fd12::/48"], &["10.9.0.0/16", "1.1.1.1"]);
        assert_eq!(listed.refuses(ip("10.1.2.3"), &[]), None);
        assert_eq!(listed.refuses(ip("::ffff:10.1.2.3"), &[]), None);
        assert_eq!(listed.refuses(ip("fd12::5"), &[]), None);
        assert!(listed.refuses(ip("10.9.1.1"), &[]).is_some(), "what is denied stays denied");
        assert!(listed.refuses(ip("1.1.1.1"), &[]).is_some());
        assert!(listed.refuses(ip("64:ff9b::101:101"), &[]).is_some(), "however it is wrapped");
        assert!(listed.refuses(ip("192.168.1.1"), &[]).is_some());
        assert!(listed.lists(ip("10.1.2.3")) && !listed.lists(ip("8.8.8.8")));
    }

    #[test]
    fn this_host_is_admitted_by_its_very_address_only() {
        let own = [ip("10.1.2.3"), ip("8.8.4.4"), ip("127.0.0.1"), ip("::1")];
        let range = addresses(&["10.0.0.0/8", "127.0.0.0/8"], &[]);
        assert_eq!(range.refuses(own[0], &own), Some("it is an address of the runner's host"));
        assert_eq!(range.refuses(own[1], &own), Some("it is an address of the runner's host"));
        assert_eq!(range.refuses(ip("10.1.2.4"), &own), None);
        assert_eq!(range.refuses(own[2], &own), None, "loopback is of this host in any case");
        assert_eq!(range.refuses(ip("::ffff:10.1.2.3"), &own), Some("it is an address of the runner's host"));
        assert_eq!(addresses(&["10.1.2.3"], &[]).refuses(own[0], &own), None);
    }

    #[test]
    fn ranges_are_written_as_they_are_meant() {
        for text in ["10.0.0.0/8", "10.1.2.3", "fd12::/48", "::1", "127.0.0.0/8", "fc00::/7"] {
            assert_eq!(Network::parse(text).unwrap().to_string(), text);
        }
        let shown = ["10.1.2.3/8", "10.0.0.0/33", "0.0.0.0/0", "::/0", "10.0.0.0/", "corp", "10.0.0", "fe80::1%eth0"]
            .map(|text| Network::parse(text).unwrap_err().to_string().replace("\n  hint:", " ->"));
        insta::assert_snapshot!(
            shown.join("\n"),
            @"
        `10.1.2.3/8` is not a range of addresses -> did you mean `10.0.0.0/8`?
        `10.0.0.0/33` is not a range of addresses -> write it like `10.1.0.0/16`, `fd12::/48` or `10.1.2.3`
        `0.0.0.0/0` is not a range of addresses -> a range has at least `/8`: name what is really meant
        `::/0` is not a range of addresses -> a range has at least `/7`: name what is really meant
        `10.0.0.0/` is not a range of addresses -> write it like `10.1.0.0/16`, `fd12::/48` or `10.1.2.3`
        `corp` is not a range of addresses -> write it like `10.1.0.0/16`, `fd12::/48` or `10.1.2.3`
        `10.0.0` is not a range of addresses -> write it like `10.1.0.0/16`, `fd12::/48` or `10.1.2.3`
        `fe80::1%eth0` is not a range of addresses -> write it like `10.1.0.0/16`, `fd12::/48` or `10.1.2.3`
        "
        );
    }

    proptest! {
        /// However an IPv4 address is wrapped, it is not easier to reach than bare.
        #[test]
        fn no_wrapping_opens_an_address(bits: u32) {
            let inner = Ipv4Addr::from_bits(bits);
            let [a, b, c, d] = inner.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let wrapped = [
                inner.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
            ];
            if special(inner.into()).is_some() {
                for address in wrapped {
                    prop_assert!(Addresses::default().refuses(address.into(), &[]).is_some(), "{address}");
                }
            }
        }

        #[test]
        fn a_range_holds_what_shares_its_first_bits(bits: u32, length in 8u32..=32, other: u32) {
            let first = Ipv4Addr::from_bits(bits & !tail(length, 32) as u32);
            let network = Network::parse(&format!("{first}/{length}")).unwrap();
            let shares = (other ^ first.to_bits()).leading_zeros() >= length;
            prop_assert_eq!(network.contains(Ipv4Addr::from_bits(other).into()), shares);
        }
    }
}
