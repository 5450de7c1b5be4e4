//! What the packet filter counted, as entries of the egress log. Pure.
//!
//! The filter knows addresses; names are those that the DNS server gave for them. Its sets are bounded, so the log is.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

use serde_json::Value;

use super::ruleset::{ANSWERED, AUDITED, CROWDED, EXHAUSTED, REACHED, REFUSED};
use crate::net::egress::log::{Connection, Verdict};
use crate::net::egress::policy::Scope;

/// An address and a port.
type Target = (Ipv4Addr, u16);

/// The bytes of each target of one set.
type Set = BTreeMap<Target, u64>;

/// What a listing of the table in the namespace says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counted {
    reached: Set,
    answered: Set,
    refused: Set,
    audited: Set,
    /// Whether a limit refused something.
    is_crowded: bool,
    is_exhausted: bool,
}

/// Reads what `nft -n -j list table` says.
pub fn read(listing: &[u8]) -> Result<Counted, serde_json::Error> {
    let listing: Value = serde_json::from_slice(listing)?;
    let mut counted = Counted::default();
    for object in listing["nftables"].as_array().into_iter().flatten() {
        let has_counted = object["counter"]["packets"].as_u64().is_some_and(|packets| packets > 0);
        match object["counter"]["name"].as_str() {
            Some(CROWDED) => counted.is_crowded = has_counted,
            Some(EXHAUSTED) => counted.is_exhausted = has_counted,
            _ => {}
        }
        let set = match object["set"]["name"].as_str() {
            Some(REACHED) => &mut counted.reached,
            Some(ANSWERED) => &mut counted.answered,
            Some(REFUSED) => &mut counted.refused,
            Some(AUDITED) => &mut counted.audited,
            _ => continue,
        };
        set.extend(object["set"]["elem"].as_array().into_iter().flatten().filter_map(element));
    }
    Ok(counted)
}

fn element(element: &Value) -> Option<(Target, u64)> {
    let element = &element["elem"];
    let target = element["val"]["concat"].as_array()?;
    let address = target.first()?.as_str()?.parse().ok()?;
    let port = target.get(1)?.as_u64()?.try_into().ok()?;
    Some(((address, port), element["counter"]["bytes"].as_u64()?))
}

impl Counted {
    /// The entries, with the names by which the guest asked for addresses. `began_at` is when the card was connected.
    pub fn connections(
        &self, scope: &Scope, names: &BTreeMap<Ipv4Addr, String>, began_at: i64, took_ms: u64,
    ) -> Vec<Connection> {
        let entry = |target: String, verdict, why: String| Connection {
            target,
            verdict,
            why,
            address: None,
            sent: 0,
            received: 0,
            began_at,
            took_ms,
        };
        let named = |(address, port): &Target| match names.get(address) {
            Some(name) => format!("{name}:{port}"),
            None => format!("{address}:{port}"),
        };
        let shown = |(address, port): &Target| Some(format!("{address}:{port}"));
        let whose = &scope.whose;
        let mut connections = Vec::new();
        for (target, sent) in &self.reached {
            let (verdict, why) = if self.audited.contains_key(target) {
                (Verdict::Audited, format!("`{}` is not allowed by {whose}", named(target)))
            } else {
                (Verdict::Allowed, "by the packet filter".to_owned())
            };
            let received = self.answered.get(target).copied().unwrap_or(0);
            let address = shown(target);
            connections.push(Connection { address, sent: *sent, received, ..entry(named(target), verdict, why) });
        }
        for target in self.refused.keys() {
            const HINT: &str = "\n  hint: `allow`, `ports` and `allow_addresses` say what may be reached";
            let why = format!("`{}` is not allowed by {whose}{HINT}", named(target));
            let address = shown(target);
            connections.push(Connection { address, ..entry(named(target), Verdict::Refused, why) });
        }
        let limits = scope.policy.limits;
        if self.is_crowded {
            let why = format!("{} connections were open, which is as many as may be", limits.connections);
            connections.push(entry("other hosts".to_owned(), Verdict::Failed, why));
        }
        if self.is_exhausted {
            let why = format!("{} bytes were moved, which is as many as may be", limits.bytes);
            connections.push(entry("other hosts".to_owned(), Verdict::Failed, why));
        }
        connections
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::net::egress::policy::Policy;

    const LISTING: &str = r#"{"nftables": [
        {"metainfo": {"json_schema_version": 1}},
        {"table": {"family": "inet", "name": "egress"}},
        {"counter": {"family": "inet", "name": "crowded", "packets": 2, "bytes": 120}},
        {"counter": {"family": "inet", "name": "exhausted", "packets": 0, "bytes": 0}},
        {"set": {"name": "reached", "elem": [
            {"elem": {"val": {"concat": ["203.0.113.7", 443]}, "counter": {"packets": 3, "bytes": 180}}},
            {"elem": {"val": {"concat": ["203.0.113.9", 22]}, "counter": {"packets": 1, "bytes": 60}}}]}},
        {"set": {"name": "answered", "elem": [
            {"elem": {"val": {"concat": ["203.0.113.7", 443]}, "counter": {"packets": 3, "bytes": 4000}}}]}},
        {"set": {"name": "audited", "elem": [
            {"elem": {"val": {"concat": ["203.0.113.9", 22]}, "counter": {"packets": 1, "bytes": 60}}}]}},
        {"set": {"name": "refused", "elem": [
            {"elem": {"val": {"concat": ["169.254.169.254", 80]}, "counter": {"packets": 4, "bytes": 240}}},
            {"elem": {"val": "strange"}}]}},
        {"set": {"name": "named", "elem": [{"elem": {"val": {"concat": ["203.0.113.7", 443]}, "timeout": 3600}}]}},
        {"chain": {"name": "judge"}}]}"#;

    #[test]
    fn what_was_counted_is_told_by_name() {
        let counted = read(LISTING.as_bytes()).unwrap();
        let names = BTreeMap::from([(Ipv4Addr::new(203, 0, 113, 7), "a.example".to_owned())]);
        let connections = counted.connections(&Scope::of("profile `linux`", Policy::default()), &names, 5, 9);
        let lines = connections.iter().map(|one| {
            let why = one.why.lines().next().unwrap();
            format!("{} {} {}/{}: {why}", one.verdict.as_str(), one.target, one.sent, one.received)
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
        allowed a.example:443 180/4000: by the packet filter
        would be refused 203.0.113.9:22 60/0: `203.0.113.9:22` is not allowed by profile `linux`
        refused 169.254.169.254:80 0/0: `169.254.169.254:80` is not allowed by profile `linux`
        failed other hosts 0/0: 64 connections were open, which is as many as may be
        ");
    }

    #[test]
    fn an_empty_table_counted_nothing() {
        assert_eq!(read(br#"{"nftables": []}"#).unwrap(), Counted::default());
        assert!(read(b"Error: No such file").is_err());
    }
}
