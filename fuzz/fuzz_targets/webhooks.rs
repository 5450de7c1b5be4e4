//! Deliveries → events: the signature header before anything is known of the sender, then a body of a sender who knows the
//! secret.
#![no_main]

use dayfly::webhook::{GitHubHeaders, check_github_signature, parse_github, verify_github};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8], &[u8])| {
    let (event, header, body) = input;
    drop(check_github_signature(Some(header)));
    assert!(verify_github(&"a secret".to_owned().into(), Some(header), body).is_err());
    if let Ok(headers) = GitHubHeaders::parse(Some(event), Some(b"72d3162e-cc78-11e3-81ab-4c9367dc0958")) {
        drop(parse_github(&headers.event, body));
    }
});
