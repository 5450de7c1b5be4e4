//! Network cards whose guests are this test: it writes frames to their taps, and reads what comes back.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, channel};

use super::{DEADLINE, World};
use crate::host::netns::elsewhere;
use crate::host::wire::Wire;
use crate::net::egress::log::Verdict;
use crate::net::egress::policy::{Mode, Policy};
use crate::net::egress::rules::Rule;
use crate::protocol::card;

const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// Protocols.
const ICMP: u8 = 1;
const UDP: u8 = 17;

/// A guest's end of a card.
struct Guest {
    tap: File,
    frames: Receiver<Vec<u8>>,
}

/// The parts of a packet that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    protocol: u8,
    from: Ipv4Addr,
    payload: Vec<u8>,
}

impl Guest {
    fn new(tap: std::os::fd::OwnedFd) -> Self {
        let tap = File::from(tap);
        let (to, frames) = channel();
        let mut reader = tap.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            // Ends with the card, or with the test.
            while let Ok(length) = reader.read(&mut buffer) {
                if to.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { tap, frames }
    }

    /// Sends a datagram; `from` are the addresses that it claims to come from.
    fn say(&mut self, from: ([u8; 6], Ipv4Addr), to: (Ipv4Addr, u16), payload: &[u8]) {
        let length = 28 + payload.len() as u16;
        let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0];
        header[2..4].copy_from_slice(&length.to_be_bytes());
        header.extend(from.1.octets());
        header.extend(to.0.octets());
        let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let sum = !((sum & 0xFFFF) + (sum >> 16)) as u16;
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut frame = [&GATEWAY_MAC[..], &from.0, &[8, 0], &header, &[0x30, 0x39]].concat();
        frame.extend(to.1.to_be_bytes());
        frame.extend((length - 20).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        self.tap.write_all(&frame).unwrap();
    }

    /// The next packet that comes back.
    fn hears(&self) -> Packet {
        loop {
            let frame = self.frames.recv_timeout(DEADLINE).expect("nothing came back");
            if frame[12..14] == [8, 0] {
                let address = |at: usize| Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
                return Packet { protocol: frame[23], from: address(26), payload: frame[34..].to_vec() };
            }
        }
    }

    /// Asks for a name, and gives the address that it is told, or the code that it is refused with.
    fn asks(&mut self, from: ([u8; 6], Ipv4Addr), id: u8, name: &str) {
        let mut message = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        self.say(from, (card::GATEWAY, 53), &message);
    }
}

const OWN: ([u8; 6], Ipv4Addr) = (GUEST_MAC, card::GUEST);

fn world() -> World {
    let allow = ["site.example", "inside.example"].map(|name| Rule::parse(name).unwrap()).to_vec();
    let world = World::new(Policy { mode: Mode::Nat, allow, ..Policy::default() });
    world.name("site.example", &[&["2001:db8::1", "8.8.8.8"]]);
    world.name("inside.example", &[&["10.1.2.3"]]);
    world
}

async fn guest_of(world: &World, number: u32) -> (Guest, std::sync::Arc<Wire>) {
    let (wire, tap) = Wire::lay(number, "vm-test").unwrap();
    let wire = std::sync::Arc::new(wire);
    world.egress.connect(Some(&wire)).await.unwrap();
    (Guest::new(tap), wire)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_passes_its_own_guests_frames_to_what_is_allowed() {
    if !elsewhere::is_here("net::egress::tests::nat::a_card_passes_its_own_guests_frames_to_what_is_allowed") {
        return;
    }
    let (first, second) = (world(), world());
    let (mut guest, _wire) = guest_of(&first, 900_001).await;
    let (_neighbour, _others) = guest_of(&second, 900_002).await;

    // Whoever is not this guest is not even answered: the first answer is to the last question.
    guest.asks((OTHER_MAC, card::GUEST), 1, "site.example");
    guest.asks((GUEST_MAC, Ipv4Addr::new(192, 0, 0, 3)), 2, "site.example");
    guest.asks(OWN, 3, "site.example");
    let answer = guest.hears();
    assert_eq!((answer.protocol, answer.from), (UDP, card::GATEWAY));
    assert_eq!(answer.payload[8..12], [0, 3, 0x81, 0x80]);
    assert_eq!(answer.payload[answer.payload.len() - 4..], [8, 8, 8, 8], "the one address that a guest can use");
    for (id, name) in [(4, "other.example"), (5, "inside.example")] {
        guest.asks(OWN, id, name);
        assert_eq!(guest.hears().payload[8..12], [0, id, 0x81, 0x83], "{name}");
    }

    // What is refused is refused at once, by the router; the neighbour's link and the host's end of one's own among it.
    let neighbour = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 1).to_bits() + 2 * (900_002 % (1 << 16)));
    let own_host = Ipv4Addr::from_bits(neighbour.to_bits() - 3);
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    for address in [neighbour, own_host, metadata, Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(9, 9, 9, 9)] {
        guest.say(OWN, (address, 443), b"hello");
        let answer = guest.hears();
        assert_eq!(
            (answer.protocol, answer.from, &answer.payload[..2]),
            (ICMP, card::GATEWAY, &[3, 13][..]),
            "{address}"
        );
    }
    // What is allowed gets as far as this host, which has no way to it here.
    guest.say(OWN, (Ipv4Addr::new(8, 8, 8, 8), 443), b"hello");
    let answer = guest.hears();
    assert_eq!((answer.protocol, answer.from, &answer.payload[..2]), (ICMP, own_host, &[3, 0][..]));
    guest.say(OWN, (Ipv4Addr::new(8, 8, 8, 8), 22), b"hello");
    assert_eq!(guest.hears().payload[..2], [3, 13], "on its ports alone");

    first.egress.settled().await;
    let log = first.egress.log();
    let has = |target: &str, verdict| log.entries.iter().any(|one| one.target == target && one.verdict == verdict);
    assert!(has("site.example:443", Verdict::Allowed) && has("site.example:22", Verdict::Refused), "{log:?}");
    assert!(has("169.254.169.254:443", Verdict::Refused) && has("inside.example", Verdict::Refused), "{log:?}");
    second.egress.settled().await;
    assert_eq!(nix::net::if_::if_nameindex().unwrap().iter().count(), 1, "links are left");
}
