//! How programs in the guest learn of the proxy: by the variables that most of them know. Pure.

/// The guest's loopback port of the proxy, the usual one of proxies.
pub const PORT: u16 = 3128;

/// Hosts that are asked directly: the guest itself, where also the git proxy is.
const DIRECT: &str = "localhost,127.0.0.1,::1";

/// The address of the proxy in the guest.
pub fn address() -> String {
    format!("http://127.0.0.1:{PORT}")
}

/// The variables, each in both cases: programs do not agree on which one they read.
///
/// `ALL_PROXY` names the proxy by `http` although it speaks SOCKS5 as well: some libraries fail at the mere sight of a SOCKS
/// proxy that they have no support for. Who wants SOCKS asks for `socks5h://127.0.0.1:3128`.
pub fn variables() -> Vec<(String, String)> {
    let address = address();
    let values = [("http_proxy", &*address), ("https_proxy", &address), ("all_proxy", &address), ("no_proxy", DIRECT)];
    let both =
        |(name, value): (&str, &str)| [name.to_owned(), name.to_ascii_uppercase()].map(|name| (name, value.to_owned()));
    values.into_iter().flat_map(both).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn programs_find_the_proxy_in_either_case() {
        let lines: Vec<String> =
            super::variables().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        http_proxy=http://127.0.0.1:3128
        HTTP_PROXY=http://127.0.0.1:3128
        https_proxy=http://127.0.0.1:3128
        HTTPS_PROXY=http://127.0.0.1:3128
        all_proxy=http://127.0.0.1:3128
        ALL_PROXY=http://127.0.0.1:3128
        no_proxy=localhost,127.0.0.1,::1
        NO_PROXY=localhost,127.0.0.1,::1
        ");
    }
}
