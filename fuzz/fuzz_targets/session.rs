//! Frames of a guest → events: the rules hold and what may be on the way stays bounded, whatever the guest and the host do.
#![no_main]

use dayfly::protocol::frame::{Decoder, Frame, Kind, MAX_PAYLOAD, NONCE_LEN};
use dayfly::protocol::session::{Event, Session, Side, WINDOW};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// Few, so that moves meet.
const STREAMS: u8 = 12;

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

#[derive(Debug, Arbitrary)]
enum Move {
    /// The guest says this.
    Frame {
        kind: u8,
        stream: u8,
        payload: Vec<u8>,
    },
    /// The guest says as many bytes as fill a part of a window.
    Fill {
        stream: u8,
        length: u16,
    },
    /// The guest says this, whatever it is.
    Bytes(Vec<u8>),
    Open,
    Send {
        stream: u8,
        length: u16,
    },
    Consume {
        stream: u8,
        length: u16,
    },
    End(u8),
    Reset(u8),
}

fn framed(kind: u8, stream: u8, payload: Vec<u8>) -> Vec<u8> {
    let stream = stream % STREAMS;
    let kinds = [Kind::Attach, Kind::Open, Kind::Data, Kind::Credit, Kind::End, Kind::Reset];
    Frame { kind: kinds[usize::from(kind) % kinds.len()], stream: stream.into(), payload }.to_bytes()
}

/// Gives whether the conversation goes on.
fn receive(decoder: &mut Decoder, session: &mut Session, bytes: &[u8]) -> bool {
    decoder.push(bytes);
    loop {
        match decoder.next_frame() {
            Ok(None) => return true,
            Err(_) => return false,
            Ok(Some(frame)) => match session.receive(frame) {
                Err(_) => return false,
                Ok(Event::Opened { stream, .. }) => assert_eq!(stream % 2, 0, "the guest's numbers are even"),
                Ok(Event::Data { bytes, .. }) => assert!(!bytes.is_empty() && bytes.len() <= WINDOW as usize),
                Ok(_) => {}
            },
        }
    }
}

fuzz_target!(|moves: Vec<Move>| {
    let (mut decoder, mut session) = (Decoder::default(), Session::new(Side::Host));
    decoder.push(&Frame::attach([7; NONCE_LEN], 1).to_bytes());
    assert!(matches!(decoder.next_frame(), Ok(Some(_))));
    for step in moves {
        let goes_on = match step {
            Move::Frame { kind, stream, payload } => {
                receive(&mut decoder, &mut session, &framed(kind, stream, payload))
            }
            Move::Fill { stream, length } => {
                receive(&mut decoder, &mut session, &framed(2, stream, vec![0; usize::from(length).min(MAX_PAYLOAD)]))
            }
            Move::Bytes(bytes) => receive(&mut decoder, &mut session, &bytes),
            Move::Open => {
                drop(session.open(b"request".to_vec()));
                true
            }
            Move::Send { stream, length } => {
                drop(session.send((stream % STREAMS).into(), &ZEROS[..length.into()]));
                true
            }
            Move::Consume { stream, length } => {
                drop(session.consumed((stream % STREAMS).into(), length.into()));
                true
            }
            Move::End(stream) => {
                drop(session.end((stream % STREAMS).into()));
                true
            }
            Move::Reset(stream) => {
                drop(session.reset((stream % STREAMS).into()));
                true
            }
        };
        if !goes_on {
            return;
        }
        for stream in 0..STREAMS {
            assert!(session.credit_of(stream.into()).is_none_or(|credit| credit <= WINDOW));
        }
    }
});
