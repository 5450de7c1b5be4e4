//! What a job prints → what is shown: harmless, and the same however the output was cut into records.
#![no_main]

use dayfly::log::render::{MAX_HELD, plain, safe_length};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = plain(bytes);
    assert!(whole.chars().all(|letter| !letter.is_control() || letter == '\n' || letter == '\t'));
    let (mut held, mut text) = (Vec::new(), String::new());
    for piece in bytes.chunks(usize::from(size).max(1)) {
        held.extend_from_slice(piece);
        let rest = held.split_off(safe_length(&held));
        assert!(rest.len() <= MAX_HELD);
        text.push_str(&plain(&held));
        held = rest;
    }
    text.push_str(&plain(&held));
    assert_eq!(text, whole);
});
