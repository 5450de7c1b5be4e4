//! `egress` of a profile and of a repository: what jobs may reach.

use super::Profile;
use super::sections::{Claimed, KIB, Sections, TIB};
use super::units::size_between;
use crate::document::reader::quoted;
use crate::document::{Complaint, Item};
use crate::net::egress::addresses::{Addresses, Network};
use crate::net::egress::policy::{Limits, Mode, Narrowing, Policy};
use crate::net::egress::rules::Rule;

/// Entries of one list.
const MAX_ENTRIES: usize = 1000;

/// Connections of one VM: its channel has room for a few more, which git needs.
const MAX_CONNECTIONS: u32 = 100;

/// `egress` of a profile; what is not said is as without it.
pub(super) fn policy(sections: &Sections<'_>, item: &Item<'_>) -> Option<Policy> {
    let known =
        &["mode", "allow", "deny", "ports", "allow_addresses", "deny_addresses", "audit", "limits", "ca_bundle"];
    let table = item.table(known)?;
    let default = Policy::default();
    Some(Policy {
        mode: table.read_or("mode", default.mode, mode),
        allow: table.read_or("allow", default.allow, allowed),
        deny: table.read_or("deny", default.deny, |item| entries(item, Rule::parse)),
        ports: table.read_or("ports", default.ports, ports),
        addresses: Addresses {
            allow: table.read_or("allow_addresses", Vec::new(), |item| entries(item, Network::parse)),
            deny: table.read_or("deny_addresses", Vec::new(), |item| entries(item, Network::parse)),
        },
        audit: table.read_or("audit", default.audit, |item| item.bool()),
        limits: table.read_or("limits", default.limits, limits),
        ca_bundle: table.read("ca_bundle", |item| sections.existing_path(item, Claimed::Certificates)),
    })
}

/// `egress` of a repository. `profiles` are those that its jobs may have: what none of them allows cannot be given here.
pub(super) fn narrowing(item: &Item<'_>, profiles: &[&Profile]) -> Option<Narrowing> {
    let table = item.table(&["mode", "allow", "deny"])?;
    let allow = table.read("allow", allowed);
    if let (Some(rules), Some(items)) = (&allow, table.get("allow").and_then(|item| item.list())) {
        for (rule, item) in rules.iter().zip(&items) {
            refuse_widening(rule, item, profiles);
        }
    }
    Some(Narrowing {
        is_off: table.read("mode", |item| own_mode(item, profiles)) == Some(Mode::None),
        allow,
        deny: table.read_or("deny", Vec::new(), |item| entries(item, Rule::parse)),
    })
}

fn refuse_widening(rule: &Rule, item: &Item<'_>, profiles: &[&Profile]) {
    let allows = |profile: &&Profile| {
        let Policy { allow, ports, .. } = &profile.egress;
        allow.iter().any(|wider| wider.covers(rule, ports))
    };
    if let [first, ..] = profiles
        && !profiles.iter().any(allows)
    {
        let complaint = Complaint::new(format!("`{rule}` would widen what the profile allows"));
        item.refuse(complaint.hint(format!("add it to `allow` of a profile, such as {}", quoted(&first.name))));
    }
}

/// The mode of a repository: none at all, or what its profiles have anyway.
fn own_mode(item: &Item<'_>, profiles: &[&Profile]) -> Option<Mode> {
    let mode = mode(item)?;
    if mode != Mode::None
        && let Some(other) = profiles.iter().find(|profile| profile.egress.mode != mode)
    {
        let complaint = Complaint::new(format!("the mode is that of the profile, such as {}", quoted(&other.name)));
        item.refuse(complaint.hint("a repository can only say `none`"));
        return None;
    }
    Some(mode)
}

fn mode(item: &Item<'_>) -> Option<Mode> {
    item.one_of(&[("proxy", Mode::Proxy), ("nat", Mode::Nat), ("none", Mode::None)])
}

fn allowed(item: &Item<'_>) -> Option<Vec<Rule>> {
    let rules = entries(item, Rule::parse)?;
    if rules.is_empty() {
        item.refuse(Complaint::new("an empty list allows nothing at all").hint("write `mode = \"none\"`"));
        return None;
    }
    Some(rules)
}

fn entries<T>(item: &Item<'_>, read: impl Fn(&str) -> Result<T, Complaint>) -> Option<Vec<T>> {
    let items = item.list()?;
    if let Some(excess) = items.get(MAX_ENTRIES) {
        excess.refuse(format!("more than {MAX_ENTRIES} entries"));
        return None;
    }
    let entries: Vec<Option<T>> = items.iter().map(|item| item.parse(&read)).collect();
    entries.into_iter().collect()
}

fn ports(item: &Item<'_>) -> Option<Vec<u16>> {
    let items = item.list()?;
    if items.is_empty() {
        item.refuse(Complaint::new("an empty list allows nothing at all").hint("write `mode = \"none\"`"));
        return None;
    }
    let ports: Vec<Option<u16>> = items.iter().take(MAX_ENTRIES).map(|item| item.integer_in(1..=u16::MAX)).collect();
    ports.into_iter().collect()
}

fn limits(item: &Item<'_>) -> Option<Limits> {
    let table = item.table(&["connections", "bandwidth", "bytes"])?;
    let default = Limits::default();
    Some(Limits {
        connections: table.read_or("connections", default.connections, |item| item.integer_in(1..=MAX_CONNECTIONS)),
        bandwidth: table.read_or("bandwidth", default.bandwidth, |item| size_between(item, KIB, TIB)),
        bytes: table.read_or("bytes", default.bytes, |item| size_between(item, KIB, 1024 * TIB)),
    })
}
