//! First bytes of a guest's connection → whom it wants to reach.
#![no_main]

use dayfly::net::egress::connect::{self, Head};
use dayfly::net::egress::hello::{self, Hello};
use dayfly::net::egress::host::Host;
use dayfly::net::egress::socks::{self, Read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Head::Connect { authority, length } = connect::read(data) {
        assert!(length <= data.len() && length <= connect::MAX_HEAD);
        if let Ok((host, port)) = Host::parse_with_port(&authority) {
            assert_eq!(Host::parse_with_port(&format!("{host}:{port}")), Ok((host, port)));
        }
    }
    if let Read::Done(_, length) = socks::greeting(data) {
        assert!(length <= data.len());
    }
    if let Read::Done((host, port), length) = socks::request(data) {
        assert!(length <= data.len() && port != 0);
        if let Ok(Host::Name(name)) = host {
            assert_eq!(Host::parse(&name), Ok(Host::Name(name)));
        }
    }
    match hello::read(data) {
        // What is complete does not change with what follows.
        Hello::Complete { server_name } => {
            assert_eq!(hello::read(&[data, b"more"].concat()), Hello::Complete { server_name });
        }
        Hello::Incomplete => assert!(data.len() < hello::MAX_HELLO + 5, "a record's head more at most"),
        Hello::NotTls | Hello::Malformed => {}
    }
});
