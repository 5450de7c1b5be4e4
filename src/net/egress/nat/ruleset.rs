//! The packet filter's rules for a guest with a network card, from the operator's lists. Pure.
//!
//! What a list says of names, the filter cannot see; it sees addresses that the DNS server admits when it answers. Invariants:
//!
//! - Only the guest's own address, from its own card, comes in; no IPv6.
//! - This host, denied and special ranges are out of reach before anything is allowed. An admitted address was judged when its
//!   name was resolved.
//! - What is not allowed is refused, and noted in a set that is bounded.

use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr};

use crate::host::wire::{LINK_PREFIX, LINK_RANGE, TAP, UPLINK};
use crate::net::egress::addresses::{Network, metadata_ranges, special_ranges};
use crate::net::egress::policy::Scope;
use crate::protocol::card;

/// The table in the namespace.
pub const FAMILY: &str = "inet";
pub const TABLE: &str = "egress";

/// Sets in which the filter counts, by address and port, and counters of what a limit refused.
pub const REACHED: &str = "reached";
pub const ANSWERED: &str = "answered";
pub const REFUSED: &str = "refused";
pub const AUDITED: &str = "audited";
pub const CROWDED: &str = "crowded";
pub const EXHAUSTED: &str = "exhausted";

/// Addresses and ports that each of the sets holds; more are not counted.
const MAX_COUNTED: usize = 256;

/// Addresses and ports that are admitted at a time, and for how long.
const MAX_NAMED: usize = 32_768;
const NAMED_FOR: &str = "1h";

/// The part of a second whose bytes may pass at once.
const BURST: u64 = 10;

/// The rules of the host, the same for all VMs. They may be there already.
pub fn of_host() -> String {
    let (links, (range, length)) = (format!("\"{LINK_PREFIX}*\""), LINK_RANGE);
    format!(
        "add table inet dayfly
delete table inet dayfly
table inet dayfly {{
  chain input {{
    type filter hook input priority -10; policy accept;
    iifname {links} drop
  }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    iifname {links} oifname {links} drop
    iifname {links} ip saddr {range}/{length} accept
    iifname {links} drop
    oifname {links} ct state established,related accept
    oifname {links} drop
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    ip saddr {range}/{length} oifname != {links} masquerade
  }}
}}
"
    )
}

/// The rules in a guest's namespace. `own` are this host's addresses, none of which the guest may reach.
pub fn of_namespace(scope: &Scope, own: &[IpAddr]) -> String {
    let (guest, gateway, mac) = (card::GUEST, card::GATEWAY, card::MAC);
    format!(
        "table netdev guest {{
  chain from_guest {{
    type filter hook ingress device \"{TAP}\" priority 0; policy drop;
    ether saddr != {mac} drop
    ether type arp arp operation {{ request, reply }} arp saddr ether {mac} arp saddr ip {guest} accept
    ether type ip ip saddr {guest} accept
  }}
}}
table {FAMILY} {TABLE} {{
{sets}  chain input {{
    type filter hook input priority 0; policy drop;
    iifname \"{TAP}\" ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 accept
  }}
{forward}{judge}  chain begin {{
    ct state new ct count over {connections} counter name {CROWDED} reject with icmp type admin-prohibited
    goto pass
  }}
  chain pass {{
    meta l4proto {{ tcp, udp }} update @{REACHED} {{ ip daddr . th dport counter }}
    accept
  }}
  chain refuse {{
    meta l4proto {{ tcp, udp }} update @{REFUSED} {{ ip daddr . th dport counter }}
    reject with icmp type admin-prohibited
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    oifname \"{UPLINK}\" masquerade
  }}
}}
",
        sets = sets(scope, own),
        forward = forward(scope),
        judge = judge(scope),
        connections = scope.policy.limits.connections,
    )
}

fn sets(scope: &Scope, own: &[IpAddr]) -> String {
    let mut text = String::new();
    for (name, is_wanted) in [(REACHED, true), (ANSWERED, true), (REFUSED, true), (AUDITED, scope.policy.audit)] {
        if is_wanted {
            let kind = "type ipv4_addr . inet_service; flags dynamic;";
            line(&mut text, &format!("  set {name} {{ {kind} size {MAX_COUNTED}; counter; }}"));
        }
    }
    for counter in [CROWDED, EXHAUSTED] {
        line(&mut text, &format!("  counter {counter} {{ }}"));
    }
    let kind = "type ipv4_addr . inet_service; flags timeout;";
    line(&mut text, &format!("  set named {{ {kind} size {MAX_NAMED}; timeout {NAMED_FOR}; }}"));
    let addresses = &scope.policy.addresses;
    // Those of links are special, and there is one for each VM.
    let links = Network::parse(&format!("{}/{}", LINK_RANGE.0, LINK_RANGE.1)).ok();
    let is_link = |address: &IpAddr| links.is_some_and(|links| links.contains(*address));
    let own = own.iter().filter(|address| address.is_ipv4() && !is_link(address)).map(IpAddr::to_string);
    let denied = addresses.deny.iter().filter(|range| range.is_of_ipv4()).map(Network::to_string);
    ranges(&mut text, "denied", denied.chain(own));
    let opened = addresses.allow.iter().filter(|range| range.is_of_ipv4());
    let (single, opened): (Vec<&Network>, Vec<&Network>) = opened.partition(|range| range.is_single());
    ranges(&mut text, "single", single.iter().map(ToString::to_string));
    ranges(&mut text, "metadata", metadata_ranges().map(|range| range.to_string()));
    ranges(&mut text, "opened", opened.iter().map(ToString::to_string));
    ranges(&mut text, "special", special_ranges().map(|range| range.to_string()));
    text
}

/// A set of ranges, which may overlap.
fn ranges(text: &mut String, name: &str, ranges: impl Iterator<Item = String>) {
    let ranges: Vec<String> = ranges.collect();
    let elements = if ranges.is_empty() { String::new() } else { format!(" elements = {{ {} }};", ranges.join(", ")) };
    line(text, &format!("  set {name} {{ type ipv4_addr; flags interval; auto-merge;{elements} }}"));
}

/// What holds in both directions.
fn forward(scope: &Scope) -> String {
    let limits = scope.policy.limits;
    let (rate, burst) = (limits.bandwidth, (limits.bandwidth / BURST).max(1 << 16));
    format!(
        "  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state invalid drop
    quota over {bytes} bytes counter name {EXHAUSTED} reject with icmp type admin-prohibited
    limit rate over {rate} bytes/second burst {burst} bytes drop
    iifname \"{UPLINK}\" oifname \"{TAP}\" ct state established,related goto answer
    iifname \"{TAP}\" oifname \"{UPLINK}\" goto judge
  }}
  chain answer {{
    meta l4proto {{ tcp, udp }} update @{ANSWERED} {{ ip saddr . th sport counter }}
    accept
  }}
",
        bytes = limits.bytes,
    )
}

/// Where a guest's packets may go.
fn judge(scope: &Scope) -> String {
    let mut text = String::from("  chain judge {\n");
    let mut rule = |words: &str| line(&mut text, &format!("    {words}"));
    rule("ct state established,related goto pass");
    rule("ip daddr @denied goto refuse");
    rule("meta l4proto { tcp, udp } ip daddr . th dport @named goto begin");
    if scope.takes_literals() {
        let ports = set_of(&scope.policy.ports);
        rule(&format!("ip daddr @single meta l4proto {{ tcp, udp }} th dport {ports} goto begin"));
        // No range opens them.
        rule("ip daddr @metadata goto refuse");
        rule(&format!("ip daddr @opened meta l4proto {{ tcp, udp }} th dport {ports} goto begin"));
    }
    rule("ip daddr @special goto refuse");
    if let Some(ports) = scope.open_ports() {
        rule(&format!("meta l4proto {{ tcp, udp }} th dport {} goto begin", set_of(&ports)));
        rule("icmp type echo-request goto begin");
    }
    if scope.policy.audit {
        rule(&format!("meta l4proto {{ tcp, udp }} update @{AUDITED} {{ ip daddr . th dport counter }}"));
        rule("goto begin");
    }
    rule("goto refuse");
    text.push_str("  }\n");
    text
}

fn set_of(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("{{ {} }}", ports.join(", "))
}

/// Admits addresses on ports for `NAMED_FOR` from now on, whether or not they are admitted already.
pub fn admit(addresses: &[Ipv4Addr], ports: &[u16]) -> String {
    let pairs = addresses.iter().flat_map(|address| ports.iter().map(move |port| format!("{address} . {port}")));
    let elements = pairs.collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    // An element that is there keeps its old end; one that is not there cannot be deleted.
    for verb in ["add", "delete", "add"] {
        line(&mut text, &format!("{verb} element {FAMILY} {TABLE} named {{ {elements} }}"));
    }
    text
}

fn line(text: &mut String, words: &str) {
    writeln!(text, "{words}").expect("a text takes whatever is written to it");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::net::egress::addresses::Addresses;
    use crate::net::egress::policy::{Limits, Mode, Narrowing, Policy};
    use crate::net::egress::rules::Rule;

    fn rules(list: &[&str]) -> Vec<Rule> {
        list.iter().map(|text| Rule::parse(text).unwrap()).collect()
    }

    fn networks(list: &[&str]) -> Vec<Network> {
        list.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    fn policy(allow: &[&str]) -> Policy {
        Policy { mode: Mode::Nat, allow: rules(allow), ..Policy::default() }
    }

    #[test]
    fn a_narrow_profile_admits_what_the_dns_server_admits() {
        let addresses = Addresses { allow: networks(&["10.20.0.0/16", "fd12::/48"]), deny: networks(&["1.1.1.1"]) };
        let limits = Limits { connections: 8, bandwidth: 1 << 20, bytes: 1 << 30 };
        let policy = Policy { addresses, limits, ..policy(&["*.example.org", "git.example.org:9418"]) };
        let own = ["192.168.7.5", "198.18.0.2", "::1"].map(|text| text.parse().unwrap());
        insta::assert_snapshot!(of_namespace(&Scope::of("it", policy), &own));
    }

    #[test]
    fn lists_decide_what_the_filter_lets_pass() {
        let judge = |scope: Scope| judge(&scope).lines().skip(2).map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        let open = judge(Scope::of("it", policy(&["*", "*:8443"])));
        assert!(open.iter().any(|line| line.ends_with("th dport { 80, 443, 8443 } goto begin")), "{open:?}");
        assert!(
            open.iter().position(|line| line.contains("@special")) < open.iter().position(|line| line.contains("8443"))
        );
        let denies = Policy { deny: rules(&["evil.example"]), ..policy(&["*"]) };
        let narrowing = Narrowing { allow: Some(rules(&["a.example"])), ..Narrowing::default() };
        let narrowed = Scope { narrowing: Some(narrowing), ..Scope::of("it", policy(&["*"])) };
        for (scope, takes_literals) in [(Scope::of("it", denies), true), (narrowed, false)] {
            let lines = judge(scope);
            assert!(!lines.iter().any(|line| line.starts_with("meta l4proto { tcp, udp } th dport")), "{lines:?}");
            assert_eq!(lines.iter().any(|line| line.contains("@opened")), takes_literals, "{lines:?}");
            assert_eq!(lines.last().unwrap(), "}");
        }
        let audited = judge(Scope::of("it", Policy { audit: true, ..policy(&["a.example"]) }));
        let position = |what: &str| audited.iter().position(|line| line.contains(what)).unwrap();
        assert!(position("@special") < position("@audited"), "audit opens no special address: {audited:?}");
    }

    #[test]
    fn the_host_lets_links_reach_others_and_neither_itself_nor_each_other() {
        insta::assert_snapshot!(of_host());
    }

    #[test]
    fn an_admission_is_renewed_in_one_transaction() {
        let addresses = [Ipv4Addr::new(1, 2, 3, 4), Ipv4Addr::new(1, 2, 3, 5)];
        insta::assert_snapshot!(admit(&addresses, &[80, 443]), @r"
        add element inet egress named { 1.2.3.4 . 80, 1.2.3.4 . 443, 1.2.3.5 . 80, 1.2.3.5 . 443 }
        delete element inet egress named { 1.2.3.4 . 80, 1.2.3.4 . 443, 1.2.3.5 . 80, 1.2.3.5 . 443 }
        add element inet egress named { 1.2.3.4 . 80, 1.2.3.4 . 443, 1.2.3.5 . 80, 1.2.3.5 . 443 }
        ");
    }
}
