//! Who may be reached: the operator's lists, judged for one host and port. Pure.
//!
//! Two things must agree: the profile's policy, and what the repository's entry narrows it to. As both are asked, an entry
//! cannot widen anything, whatever it says. What audit mode lets pass is only what a list says; an address that is out of
//! reach, and what is no request at all, stay refused.

use core::net::IpAddr;
use std::path::PathBuf;

use super::addresses::Addresses;
use super::hello::{self, Hello};
use super::host::Host;
use super::rules::Rule;
use crate::document::reader::quoted;

/// The port on which only TLS is spoken.
const HTTPS: u16 = 443;

/// How a guest reaches others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Through the host's proxy, by name and port.
    #[default]
    Proxy,
    /// Not at all.
    None,
    /// Through a network card and the host's filter, by address and port.
    Nat,
}

/// `egress` of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub mode: Mode,
    /// Names that may be reached.
    pub allow: Vec<Rule>,
    /// Names that may not, whatever `allow` says.
    pub deny: Vec<Rule>,
    /// Ports of entries of `allow` that name none.
    pub ports: Vec<u16>,
    pub addresses: Addresses,
    /// Let pass what the lists refuse, and log it.
    pub audit: bool,
    pub limits: Limits,
    /// Certificates that the guest shall trust as well.
    pub ca_bundle: Option<PathBuf>,
}

impl Default for Policy {
    /// Every public host by its name, on the ports of the web.
    fn default() -> Self {
        Self {
            mode: Mode::Proxy,
            allow: vec![Rule::ALL],
            deny: Vec::new(),
            ports: vec![80, HTTPS],
            addresses: Addresses::default(),
            audit: false,
            limits: Limits::default(),
            ca_bundle: None,
        }
    }
}

/// Limits of one job's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open at a time; more wait for their turn.
    pub connections: u32,
    /// Bytes per second, of all connections and both directions together.
    pub bandwidth: u64,
    /// Bytes of all connections and both directions together.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, bandwidth: 128 << 20, bytes: 64 << 30 }
    }
}

/// `egress` of a repository's entry.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Narrowing {
    /// Nothing may be reached.
    pub is_off: bool,
    /// Only these of what the profile allows.
    pub allow: Option<Vec<Rule>>,
    /// These not, either.
    pub deny: Vec<Rule>,
}

/// The policy for one job, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    /// For messages: "profile `linux`".
    pub whose: String,
    pub policy: Policy,
    pub narrowing: Option<Narrowing>,
}

impl Scope {
    /// A policy that no repository narrows.
    pub fn of(whose: impl Into<String>, policy: Policy) -> Self {
        Self { whose: whose.into(), policy, narrowing: None }
    }

    /// That of a profile.
    pub fn of_profile(name: &str, policy: &Policy, narrowing: Option<&Narrowing>) -> Self {
        Self { whose: format!("profile `{name}`"), policy: policy.clone(), narrowing: narrowing.cloned() }
    }

    /// Whether there is a proxy for the guest.
    pub fn is_offered(&self) -> bool {
        self.policy.mode == Mode::Proxy && !self.is_off()
    }

    /// Whether the guest's network card leads anywhere.
    pub fn has_uplink(&self) -> bool {
        self.policy.mode == Mode::Nat && !self.is_off()
    }

    fn is_off(&self) -> bool {
        self.policy.mode == Mode::None || self.narrowing.as_ref().is_some_and(|narrowing| narrowing.is_off)
    }

    /// Judges a name for every port that a list names; gives by what, and on which ports it may be reached.
    ///
    /// # Errors
    /// Why it may be reached on none of them.
    pub fn judge_all_ports(&self, name: &str) -> Result<(String, Vec<u16>), Refusal> {
        let narrower = self.narrowing.iter().filter_map(|narrowing| narrowing.allow.as_ref()).flatten();
        let own = self.policy.allow.iter().chain(narrower).filter_map(Rule::own_port);
        let mut ports: Vec<u16> = self.policy.ports.iter().copied().chain(own).collect();
        ports.sort_unstable();
        ports.dedup();
        let host = Host::Name(name.to_owned());
        let judged: Vec<_> = ports.iter().map(|port| (*port, self.judge(&host, *port))).collect();
        match judged.iter().find_map(|(_, judged)| judged.as_ref().ok()) {
            Some(rule) => {
                let allowed = judged.iter().filter(|(_, judged)| judged.is_ok()).map(|(port, _)| *port);
                Ok((rule.clone(), allowed.collect()))
            }
            None => Err(judged.into_iter().find_map(|(_, judged)| judged.err()).unwrap_or(Refusal::NotAllowed)),
        }
    }

    /// The ports on which every name may be reached, so that an address needs none; `None` where a list tells names apart.
    pub fn open_ports(&self) -> Option<Vec<u16>> {
        let Policy { allow, deny, ports, .. } = &self.policy;
        let is_narrowed = self.narrowing.as_ref().is_some_and(|own| own.allow.is_some() || !own.deny.is_empty());
        let of_all: Vec<&Rule> = allow.iter().filter(|rule| rule.is_of_all_names()).collect();
        if is_narrowed || !deny.is_empty() || of_all.is_empty() {
            return None;
        }
        let mut open: Vec<u16> =
            of_all.iter().flat_map(|rule| rule.own_port().map_or_else(|| ports.clone(), |own| vec![own])).collect();
        open.sort_unstable();
        open.dedup();
        Some(open)
    }

    /// Whether addresses that the operator listed may be asked for without a name.
    pub fn takes_literals(&self) -> bool {
        self.narrowing.as_ref().is_none_or(|narrowing| narrowing.allow.is_none())
    }

    /// Judges a host and port, before anything is resolved; gives by what it may be reached.
    pub fn judge(&self, host: &Host, port: u16) -> Result<String, Refusal> {
        if self.is_off() {
            return Err(Refusal::Off);
        }
        match host {
            Host::Address(address) => self.judge_address(*address, port),
            Host::Name(name) => self.judge_name(name, port),
        }
    }

    fn judge_address(&self, address: IpAddr, port: u16) -> Result<String, Refusal> {
        let Policy { addresses, ports, .. } = &self.policy;
        if !self.takes_literals() || !addresses.lists(address) {
            return Err(Refusal::Literal);
        }
        if ports.contains(&port) { Ok("allow_addresses".to_owned()) } else { Err(Refusal::Port) }
    }

    fn judge_name(&self, name: &str, port: u16) -> Result<String, Refusal> {
        let Policy { allow, deny, ports, .. } = &self.policy;
        let narrowing = self.narrowing.as_ref();
        let denied = deny.iter().chain(narrowing.iter().flat_map(|narrowing| &narrowing.deny));
        if let Some(rule) = denied.into_iter().find(|rule| rule.denies(name, port)) {
            return Err(Refusal::Denied(rule.to_string()));
        }
        let allowed = |list: &[Rule]| list.iter().find(|rule| rule.allows(name, port, ports)).map(Rule::to_string);
        let Some(rule) = allowed(allow) else {
            let on_other_ports = ports.iter().any(|other| allow.iter().any(|rule| rule.allows(name, *other, ports)));
            return Err(if on_other_ports { Refusal::Port } else { Refusal::NotAllowed });
        };
        match narrowing.and_then(|narrowing| narrowing.allow.as_ref()) {
            Some(narrower) => allowed(narrower).ok_or(Refusal::NotInNarrowing),
            None => Ok(rule),
        }
    }

    /// Judges the first bytes that a guest sends to whom it was admitted to; `None` if it takes more of them.
    pub fn judge_first_bytes(&self, host: &Host, port: u16, bytes: &[u8]) -> Option<Result<(), Refusal>> {
        // Addresses that the operator listed have no name that could differ.
        let Host::Name(_) = host else { return Some(Ok(())) };
        Some(match hello::read(bytes) {
            Hello::Incomplete => return None,
            Hello::NotTls if port == HTTPS => Err(Refusal::NotTls),
            Hello::NotTls => Ok(()),
            Hello::Malformed => Err(Refusal::BadHello),
            Hello::Complete { server_name: None } => Err(Refusal::NoServerName),
            Hello::Complete { server_name: Some(said) } if Host::parse(&said).as_ref() == Ok(host) => Ok(()),
            Hello::Complete { server_name: Some(said) } => Err(Refusal::OtherServerName(said)),
        })
    }
}

/// Why a connection is not made, or not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The mode is `none`.
    Off,
    /// The text names no host, or no port.
    NotAHost,
    /// By this entry of `deny`.
    Denied(String),
    NotAllowed,
    NotInNarrowing,
    /// The name may be reached, on other ports.
    Port,
    /// An address instead of a name.
    Literal,
    /// Where the name leads is out of reach, and why.
    Address(IpAddr, &'static str),
    NotTls,
    BadHello,
    NoServerName,
    OtherServerName(String),
}

impl Refusal {
    /// Whether it comes from a list, so that audit mode lets it pass.
    pub fn is_of_lists(&self) -> bool {
        match self {
            Self::Denied(_) | Self::NotAllowed | Self::NotInNarrowing | Self::Port | Self::Literal => true,
            Self::NotTls | Self::BadHello | Self::NoServerName | Self::OtherServerName(_) => true,
            Self::Off | Self::NotAHost | Self::Address(..) => false,
        }
    }

    /// For people: what about `target` is refused by `scope`, and what would allow it.
    pub fn text(&self, target: &str, scope: &Scope) -> String {
        let (target, whose) = (quoted(target), &scope.whose);
        match self {
            Self::Off => format!("{target}: nothing may be reached with the egress of {whose}"),
            Self::NotAHost => format!("{target} is not a host and port"),
            Self::Denied(rule) => format!("{target} is in `deny` of {whose}, as `{rule}`"),
            Self::NotAllowed => format!("{target} is not in `allow` of {whose}"),
            Self::NotInNarrowing => format!("{target} is not in `allow` of the repository's `egress`"),
            Self::Port => {
                let ports: Vec<String> = scope.policy.ports.iter().map(u16::to_string).collect();
                format!("{target}: {whose} allows ports {}\n  hint: `allow` takes a name with a port", ports.join(", "))
            }
            Self::Literal => format!(
                "{target} is an address, and not in `allow_addresses` of {whose}\n  hint: ask for the host by its name"
            ),
            Self::Address(address, why) => {
                format!("{target} leads to {address}, and {why}\n  hint: `allow_addresses` of {whose} can admit it")
            }
            Self::NotTls => format!("{target}: only TLS may be spoken on port {HTTPS}"),
            Self::BadHello => format!("{target}: the first bytes look like TLS, but are no whole ClientHello"),
            Self::NoServerName => {
                format!(
                    "{target}: TLS without a server name\n  hint: the client must send the name that it connects to"
                )
            }
            Self::OtherServerName(said) => {
                format!("{target}: TLS for another server, {}", quoted(said))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::addresses::Network;
    use super::super::hello::sample::client_hello;
    use super::*;

    fn rules(list: &[&str]) -> Vec<Rule> {
        list.iter().map(|text| Rule::parse(text).unwrap()).collect()
    }

    fn scope(allow: &[&str], deny: &[&str]) -> Scope {
        let addresses = Addresses { allow: vec![Network::parse("10.0.0.0/8").unwrap()], deny: Vec::new() };
        Scope::of_profile(
            "linux",
            &Policy { allow: rules(allow), deny: rules(deny), addresses, ..Policy::default() },
            None,
        )
    }

    fn judged(scope: &Scope, target: &str) -> String {
        let (host, port) = Host::parse_with_port(target).unwrap();
        match scope.judge(&host, port) {
            Ok(rule) => format!("{target} by {rule}"),
            Err(refusal) => refusal.text(target, scope).replace("\n  hint:", " ->"),
        }
    }

    #[test]
    fn lists_decide_and_say_why() {
        let listed = scope(&["registry.example", "*.mirror.example", "git.example:9418"], &["evil.mirror.example"]);
        let narrowed = Scope {
            narrowing: Some(Narrowing {
                allow: Some(rules(&["registry.example"])),
                deny: rules(&["*:80"]),
                is_off: false,
            }),
            ..listed.clone()
        };
        let off = Scope { narrowing: Some(Narrowing { is_off: true, ..Narrowing::default() }), ..listed.clone() };
        let open = Scope::of("this command", Policy::default());
        let mut lines = Vec::new();
        for (scope, targets) in [
            (
                &listed,
                &[
                    "registry.example:443",
                    "REGISTRY.example.:80",
                    "registry.example:22",
                    "a.b.mirror.example:443",
                    "mirror.example:443",
                    "evil.mirror.example:443",
                    "git.example:9418",
                    "git.example:443",
                    "10.1.2.3:443",
                    "10.1.2.3:22",
                    "8.8.8.8:443",
                    "0x0a.1:80",
                ][..],
            ),
            (&narrowed, &["registry.example:443", "registry.example:80", "a.mirror.example:443", "10.1.2.3:443"]),
            (&off, &["registry.example:443"]),
            (&open, &["anything.example:443", "anything.example:25", "[2606:4700::1111]:443"]),
        ] {
            lines.extend(targets.iter().map(|target| judged(scope, target)));
        }
        insta::assert_snapshot!(lines.join("\n"), @"
        registry.example:443 by registry.example
        REGISTRY.example.:80 by registry.example
        `registry.example:22`: profile `linux` allows ports 80, 443 -> `allow` takes a name with a port
        a.b.mirror.example:443 by *.mirror.example
        `mirror.example:443` is not in `allow` of profile `linux`
        `evil.mirror.example:443` is in `deny` of profile `linux`, as `evil.mirror.example`
        git.example:9418 by git.example:9418
        `git.example:443` is not in `allow` of profile `linux`
        10.1.2.3:443 by allow_addresses
        `10.1.2.3:22`: profile `linux` allows ports 80, 443 -> `allow` takes a name with a port
        `8.8.8.8:443` is an address, and not in `allow_addresses` of profile `linux` -> ask for the host by its name
        0x0a.1:80 by allow_addresses
        registry.example:443 by registry.example
        `registry.example:80` is in `deny` of profile `linux`, as `*:80`
        `a.mirror.example:443` is not in `allow` of the repository's `egress`
        `10.1.2.3:443` is an address, and not in `allow_addresses` of profile `linux` -> ask for the host by its name
        `registry.example:443`: nothing may be reached with the egress of profile `linux`
        anything.example:443 by *
        `anything.example:25`: this command allows ports 80, 443 -> `allow` takes a name with a port
        `[2606:4700::1111]:443` is an address, and not in `allow_addresses` of this command -> ask for the host by its name
        ");
    }

    #[test]
    fn the_server_name_must_be_the_name_that_was_asked_for() {
        let scope = scope(&["*"], &[]);
        let judge = |target: &str, bytes: &[u8]| {
            let (host, port) = Host::parse_with_port(target).unwrap();
            scope.judge_first_bytes(&host, port, bytes)
        };
        let hello = |names: &[&str]| client_hello(names, 16 << 10);
        assert_eq!(judge("a.example:443", &hello(&["A.example"])), Some(Ok(())));
        assert_eq!(judge("a.example:8443", &hello(&["a.example."])), Some(Ok(())));
        let other = Some(Err(Refusal::OtherServerName("b.example".into())));
        assert_eq!(judge("a.example:443", &hello(&["b.example"])), other);
        assert_eq!(judge("a.example:22", &hello(&["b.example"])), other);
        assert_eq!(judge("a.example:443", &hello(&[])), Some(Err(Refusal::NoServerName)));
        assert_eq!(judge("a.example:443", &hello(&["a.example", "b.example"])), Some(Err(Refusal::BadHello)));
        assert_eq!(judge("a.example:443", b"GET / HTTP/1.1"), Some(Err(Refusal::NotTls)));
        assert_eq!(judge("a.example:22", b"SSH-2.0"), Some(Ok(())));
        assert_eq!(judge("a.example:443", b""), None);
        assert_eq!(judge("10.1.2.3:443", &hello(&["b.example"])), Some(Ok(())));
    }

    proptest! {
        /// A repository's entry takes away, and never gives.
        #[test]
        fn narrowing_never_widens(
            allow in proptest::collection::vec("(\\*\\.)?[ab]\\.example(:8[01])?", 0..4),
            deny in proptest::collection::vec("(\\*\\.)?[ab]\\.example(:8[01])?", 0..3),
            narrower in proptest::option::of(proptest::collection::vec("\\*|(\\*\\.)?[ab]\\.example(:8[01])?", 0..4)),
            name in "([ab]\\.)?[ab]\\.example", port in 79u16..82,
        ) {
            let read = |list: &[String]| list.iter().map(|text| Rule::parse(text).unwrap()).collect::<Vec<_>>();
            let policy = Policy { allow: read(&allow), deny: read(&deny), ..Policy::default() };
            let wide = Scope::of("it", policy);
            let narrowing = Narrowing { is_off: false, allow: narrower.as_deref().map(read), deny: Vec::new() };
            let narrow = Scope { narrowing: Some(narrowing), ..wide.clone() };
            let host = Host::parse(&name).unwrap();
            if narrow.judge(&host, port).is_ok() {
                prop_assert!(wide.judge(&host, port).is_ok());
            }
        }
    }
}
