//! `host[:port]` of the operator's lists: one name, all names below one, or all names. Pure.

use core::fmt;

use super::addresses::Network;
use super::host::{Host, parse_port};
use crate::document::Complaint;
use crate::document::reader::quoted;

/// One entry of `allow` or `deny`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    names: Names,
    /// None: in `allow` those of `ports`, in `deny` every one.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    /// `*`
    All,
    /// `*.example.org`: one label or more in front of it, not the name itself.
    Below(String),
    One(String),
}

impl Rule {
    /// Every name.
    pub const ALL: Self = Self { names: Names::All, port: None };

    /// Reads `example.org`, `*.example.org`, `*`, each with a port behind it if wanted.
    ///
    /// # Errors
    /// With a hint, for what a person may have meant.
    pub fn parse(text: &str) -> Result<Self, Complaint> {
        let wrong = |hint: &str| Complaint::new(format!("{} is not a host", quoted(text))).hint(hint);
        const EXAMPLE: &str =
            "write `example.org`, `*.example.org` or `*`, with a port like `example.org:8443` if needed";
        if text.contains("://") {
            return Err(wrong("leave the scheme and the path out: `example.org`"));
        }
        // Behind a bracket the colon is the port's; in an address without brackets it is not.
        let is_address = Host::parse(&format!("[{text}]")).is_ok() || Network::parse(text).is_ok();
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !is_address && !port.ends_with(']') => {
                let port = parse_port(port).ok_or_else(|| wrong("a port is a number from 1 to 65535"))?;
                (name, Some(port))
            }
            _ => (text, None),
        };
        if name == "*" {
            return Ok(Self { names: Names::All, port });
        }
        let below = name.strip_prefix("*.");
        match Host::parse(below.unwrap_or(name)) {
            Ok(Host::Name(name)) if name.contains('*') => {
                Err(wrong("`*` stands for whole names in front: `*.example.org`"))
            }
            Ok(Host::Name(name)) => {
                Ok(Self { names: below.map_or(Names::One as fn(_) -> _, |_| Names::Below)(name), port })
            }
            Ok(Host::Address(_)) => {
                Err(wrong("lists name hosts; addresses belong in `allow_addresses` or `deny_addresses`"))
            }
            Err(_) if is_address => {
                Err(wrong("lists name hosts; addresses belong in `allow_addresses` or `deny_addresses`"))
            }
            Err(_) => Err(wrong(EXAMPLE)),
        }
    }

    /// The port that the entry itself has.
    pub fn own_port(&self) -> Option<u16> {
        self.port
    }

    /// Whether it stands for every name.
    pub fn is_of_all_names(&self) -> bool {
        matches!(self.names, Names::All)
    }

    /// Whether an entry of `allow` names this; `ports` are those of entries without one.
    pub fn allows(&self, name: &str, port: u16, ports: &[u16]) -> bool {
        self.names.contain(name) && self.port.map_or_else(|| ports.contains(&port), |own| own == port)
    }

    /// Whether an entry of `deny` names this.
    pub fn denies(&self, name: &str, port: u16) -> bool {
        self.names.contain(name) && self.port.is_none_or(|own| own == port)
    }

    /// Whether everything that `other` allows is allowed by this as well, with the same `ports`.
    pub fn covers(&self, other: &Self, ports: &[u16]) -> bool {
        let of_names = match (&self.names, &other.names) {
            (Names::All, _) => true,
            (Names::Below(suffix), Names::Below(other)) => other == suffix || is_below(other, suffix),
            (Names::Below(suffix), Names::One(other)) => is_below(other, suffix),
            (Names::One(name), Names::One(other)) => name == other,
            (Names::One(_) | Names::Below(_), _) => false,
        };
        let of_ports = match (self.port, other.port) {
            (None, Some(port)) => ports.contains(&port),
            (own, others) => own == others,
        };
        of_names && of_ports
    }
}

impl Names {
    fn contain(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Below(suffix) => is_below(name, suffix),
            Self::One(one) => one == name,
        }
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.names {
            Names::All => out.write_str("*")?,
            Names::Below(suffix) => write!(out, "*.{suffix}")?,
            Names::One(name) => out.write_str(name)?,
        }
        self.port.iter().try_for_each(|port| write!(out, ":{port}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(text: &str) -> Rule {
        Rule::parse(text).unwrap()
    }

    #[test]
    fn a_rule_names_hosts_and_ports() {
        let table = [
            ("example.org", "example.org", 443, true),
            ("Example.ORG.", "example.org", 80, true),
            ("example.org", "www.example.org", 443, false),
            ("example.org", "example.org", 22, false),
            ("example.org:22", "example.org", 22, true),
            ("example.org:22", "example.org", 443, false),
            ("*.example.org", "a.example.org", 443, true),
            ("*.example.org", "a.b.example.org", 443, true),
            ("*.example.org", "example.org", 443, false),
            ("*.example.org", "badexample.org", 443, false),
            ("*.example.org", ".example.org", 443, false),
            ("*.BÜCHER.example", "x.xn--bcher-kva.example", 443, true),
            ("*", "anything.example", 80, true),
            ("*", "anything.example", 8080, false),
            ("*:8080", "anything.example", 8080, true),
        ];
        for (text, name, port, expected) in table {
            assert_eq!(rule(text).allows(name, port, &[80, 443]), expected, "{text} {name}:{port}");
        }
        assert!(rule("*.example.org").denies("a.example.org", 8443), "a denial without a port is of every port");
        assert!(!rule("a.example:1").denies("a.example", 2));
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_remedy() {
        let texts = [
            "",
            "https://example.org/x",
            "example.org/x",
            "a b",
            "*.*",
            "a.*.example",
            "ex*ample.org",
            "example.org:0",
            "example.org:https",
            "10.0.0.1",
            "10.0.0.0/8",
            "[::1]:443",
            "::1",
            "*.10.0.0.1",
        ];
        let shown = texts.map(|text| Rule::parse(text).unwrap_err().to_string().replace("\n  hint:", " ->"));
        insta::assert_snapshot!(shown.join("\n"), @"
        `` is not a host -> write `example.org`, `*.example.org` or `*`, with a port like `example.org:8443` if needed
        `https://example.org/x` is not a host -> leave the scheme and the path out: `example.org`
        `example.org/x` is not a host -> write `example.org`, `*.example.org` or `*`, with a port like `example.org:8443` if needed
        `a b` is not a host -> write `example.org`, `*.example.org` or `*`, with a port like `example.org:8443` if needed
        `*.*` is not a host -> `*` stands for whole names in front: `*.example.org`
        `a.*.example` is not a host -> `*` stands for whole names in front: `*.example.org`
        `ex*ample.org` is not a host -> `*` stands for whole names in front: `*.example.org`
        `example.org:0` is not a host -> a port is a number from 1 to 65535
        `example.org:https` is not a host -> a port is a number from 1 to 65535
        `10.0.0.1` is not a host -> lists name hosts; addresses belong in `allow_addresses` or `deny_addresses`
        `10.0.0.0/8` is not a host -> lists name hosts; addresses belong in `allow_addresses` or `deny_addresses`
        `[::1]:443` is not a host -> lists name hosts; addresses belong in `allow_addresses` or `deny_addresses`
        `::1` is not a host -> lists name hosts; addresses belong in `allow_addresses` or `deny_addresses`
        `*.10.0.0.1` is not a host -> lists name hosts; addresses belong in `allow_addresses` or `deny_addresses`
        ");
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let name = "[ab]{1,2}(\\.[ab]){0,2}";
        let names = prop_oneof![Just(Names::All), name.prop_map(Names::Below), name.prop_map(Names::One)];
        (names, proptest::option::of(79u16..82)).prop_map(|(names, port)| Rule { names, port })
    }

    proptest! {
        #[test]
        fn a_rule_reads_as_it_is_shown(rule in any_rule()) {
            prop_assert_eq!(Rule::parse(&rule.to_string()), Ok(rule));
        }

        /// Nothing that a covered rule allows is refused by the one that covers it.
        #[test]
        fn covering_never_widens(wide in any_rule(), narrow in any_rule(), name in "[ab]{1,2}(\\.[ab]){0,3}", port in 79u16..82) {
            let ports = [80];
            if wide.covers(&narrow, &ports) && narrow.allows(&name, port, &ports) {
                prop_assert!(wide.allows(&name, port, &ports));
            }
        }
    }
}
