//! The network card of a guest that has one: the same in every guest, so that it can stand in a snapshot.
//!
//! The addresses are those that the internet's registry sets aside for the two ends of such a line (RFC 7335); no network uses them.

use core::net::Ipv4Addr;

/// The guest's address.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);

/// The host's end: the guest's router, and its DNS server.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);

/// Bits that the two addresses share.
pub const PREFIX: u8 = 30;

/// The card's hardware address, of those that nobody sells.
pub const MAC: &str = "02:00:00:00:00:02";

/// The same of the host's end.
pub const GATEWAY_MAC: &str = "02:00:00:00:00:01";
