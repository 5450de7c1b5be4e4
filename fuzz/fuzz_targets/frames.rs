//! Bytes of a guest → frames: any bytes in any pieces, before and after an attach.
#![no_main]

use dayfly::protocol::frame::{Decoder, Frame, Kind, MAX_PAYLOAD, NONCE_LEN};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, Vec<Vec<u8>>)| {
    let (is_attached, pieces) = input;
    let mut decoder = Decoder::default();
    let mut is_first = true;
    if is_attached {
        decoder.push(&Frame::attach([7; NONCE_LEN], 1).to_bytes());
    }
    for piece in pieces {
        decoder.push(&piece);
        while let Ok(Some(frame)) = decoder.next_frame() {
            assert!(frame.payload.len() <= MAX_PAYLOAD);
            assert!(!is_first || frame.kind == Kind::Attach, "nothing comes before an attach");
            assert!(frame.kind != Kind::Attach || frame.as_attach().is_some());
            is_first = false;
        }
    }
});
