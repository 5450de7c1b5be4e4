//! The addresses of this host's network interfaces.

use std::io;
use std::net::IpAddr;

/// All of them, loopback included, as they are now: interfaces come and go.
pub fn own() -> io::Result<Vec<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    });
    Ok(addresses.collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn loopback_is_among_them() {
        assert!(super::own().unwrap().contains(&std::net::Ipv4Addr::LOCALHOST.into()));
    }
}
