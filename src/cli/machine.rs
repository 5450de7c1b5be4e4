//! The machine that a standalone command asks for.

use std::path::PathBuf;

use clap::Args;

use super::{parse_disk, parse_memory};
use crate::net::egress::addresses::{Addresses, Network};
use crate::net::egress::policy::{Mode, Policy};
use crate::net::egress::rules::Rule;
use crate::vm::spec::Shape;

/// An image and a shape.
#[derive(Debug, Args)]
pub(super) struct MachineArgs {
    /// The image
    #[arg(long, default_value = "base")]
    pub(super) image: String,
    /// Virtual processors
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) vcpus: u32,
    /// Memory (such as 512MiB, 2GiB)
    #[arg(long, default_value = "512MiB", value_parser = parse_memory)]
    pub(super) memory: u64,
    /// Size of the private disk
    #[arg(long, default_value = "4GiB", value_parser = parse_disk)]
    pub(super) disk: u64,
}

impl MachineArgs {
    /// The shape; the card is for what is reached through one.
    pub(super) fn shape(&self, card: bool) -> Shape {
        Shape { vcpus: self.vcpus, memory_mib: self.memory, disk_mib: self.disk, card }
    }
}

/// What the machine may reach.
#[derive(Debug, Args)]
pub(super) struct EgressArgs {
    /// What the machine reaches: `proxy` (other hosts, through this one), `nat` (by a network card) or `none`
    #[arg(long, value_name = "MODE", default_value = "proxy", value_parser = parse_mode)]
    egress: Mode,
    /// Allow only this host, `*.` in front for all below it; repeatable (default: every public host, ports 80 and 443)
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parse_rule)]
    egress_allow: Vec<Rule>,
    /// Allow names to lead to these addresses of a private network; repeatable
    #[arg(long, value_name = "RANGE", value_parser = parse_network)]
    egress_address: Vec<Network>,
    /// Have the machine trust the certificates in this file (PEM), too
    #[arg(long, value_name = "FILE")]
    ca_bundle: Option<PathBuf>,
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    match text {
        "proxy" => Ok(Mode::Proxy),
        "none" => Ok(Mode::None),
        "nat" => Ok(Mode::Nat),
        _ => Err("it is `proxy`, `nat` or `none`".to_owned()),
    }
}

fn parse_rule(text: &str) -> Result<Rule, String> {
    Rule::parse(text).map_err(|complaint| complaint.to_string())
}

fn parse_network(text: &str) -> Result<Network, String> {
    Network::parse(text).map_err(|complaint| complaint.to_string())
}

impl EgressArgs {
    /// Whether the machine needs a network card.
    pub(super) fn has_card(&self) -> bool {
        self.egress == Mode::Nat
    }

    pub(super) fn policy(&self) -> Policy {
        let default = Policy::default();
        let allow = if self.egress_allow.is_empty() { default.allow } else { self.egress_allow.clone() };
        let addresses = Addresses { allow: self.egress_address.clone(), deny: Vec::new() };
        Policy { mode: self.egress, allow, addresses, ca_bundle: self.ca_bundle.clone(), ..Policy::default() }
    }
}
