//! The wire of a VM with a network card: a tap in a namespace of its own, and from there, while a job may reach others, a link to
//! the host.
//!
//! ```text
//!  guest ── tap0 [ namespace: rules, masquerade ] up0 ── dfyN [ host: rules, masquerade ] ── others
//! ```
//! Every namespace has the same addresses inside; the link's are those of its number, which is the monitor's user id: no two VMs
//! that live have the same one, it is used again when its VM is gone, and the file of the id says whose it is. A link goes with its
//! namespace, so what a crash leaves goes with the monitor; it is cut all the same before the number is given back.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::command::{self, CommandError};
use super::netns::{Namespace, has_interface, has_taps};
use crate::protocol::card;

/// The guest's end in the namespace, and the link's.
pub const TAP: &str = "tap0";
pub const UPLINK: &str = "up0";

/// Before the number in the name of a link's end on the host.
pub const LINK_PREFIX: &str = "dfy";

/// The addresses of links, two for each: a range for tests of networks, which no network uses.
pub const LINK_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);

/// Links that have addresses of their own.
const LINKS: u32 = 1 << 16;

/// How long one of the programs may take. They only speak with the kernel.
const PROGRAM_LIMIT: Duration = Duration::from_secs(20);

/// How long a link may take to vanish that was cut, and how often it is looked.
const CUT_LIMIT: Duration = Duration::from_secs(10);
const CUT_PAUSE: Duration = Duration::from_millis(10);

/// The programs that all of this takes.
const PROGRAMS: [&str; 3] = ["ip", "nft", "nsenter"];

/// What the kernel must be told before it passes packets on.
pub(super) const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Where a namespace is told who may listen on a low port: anybody, since only Dayfly listens there. A service may have been
/// started without the right to.
const FIRST_FREE_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Where a namespace is told to do without IPv6.
const WITHOUT_IPV6: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";

/// Says what this host lacks to give VMs network cards, and what to do; nothing where it lacks nothing.
pub fn lacking() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("this takes root\n  hint: start it as root".to_owned());
    }
    if let Some(missing) = PROGRAMS.iter().find_map(|program| command::require(program).err()) {
        return Some(missing.to_string());
    }
    if !has_taps() {
        return Some(
            "`/dev/net/tun` cannot be opened\n  hint: load the module `tun`; a container needs the device".to_owned(),
        );
    }
    if fs::read_to_string(FORWARDING).map(|text| text.trim() == "0").unwrap_or(true) {
        return Some(
            "this host does not pass packets on\n  hint: `sysctl -w net.ipv4.ip_forward=1`, and a file in \
                     `/etc/sysctl.d` for the next start"
                .to_owned(),
        );
    }
    None
}

/// The wire of one VM, as long as this value or its monitor lives.
#[derive(Debug)]
pub struct Wire {
    namespace: Namespace,
    number: u32,
    owner: String,
}

impl Wire {
    /// Makes a namespace with the tap, whose descriptor is the monitor's. It leads nowhere yet. `number` is nobody else's, `owner`
    /// is for people who look at the host's links.
    pub fn lay(number: u32, owner: &str) -> io::Result<(Self, OwnedFd)> {
        let namespace = Namespace::new()?;
        let tap = namespace.make_tap(TAP)?;
        Ok((Self { namespace, number, owner: owner.to_owned() }, tap))
    }

    /// The namespace, for who listens there.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Links the namespace with the host, with these rules in it and those on the host: they are there before the link is.
    ///
    /// # Errors
    /// When a program fails. What was made until then is cut again, or else with the VM.
    pub async fn connect(&self, rules: &str, rules_of_host: &str) -> io::Result<()> {
        cut(self.number).await?;
        self.namespace.within(|| {
            fs::write(FORWARDING, "1")?;
            fs::write(FIRST_FREE_PORT, "0")?;
            // A kernel without IPv6 has no such file.
            fs::write(WITHOUT_IPV6, "1").or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
        })?;
        said(command::run_prepared(nft(&["-f", "-"]), rules_of_host.into(), PROGRAM_LIMIT, |_| {}).await)?;
        self.run("ip", &["-batch", "-"], &devices(self.number, std::process::id())).await?;
        self.run("nft", &["-f", "-"], rules).await?;
        self.run("ip", &["-batch", "-"], &inside(self.number)).await?;
        let mut ip = Command::new("ip");
        ip.args(["-batch", "-"]);
        let outside = outside(self.number, &self.owner);
        said(command::run_prepared(ip, outside.into(), PROGRAM_LIMIT, |_| {}).await).map(drop)
    }

    /// Cuts the link to the host; the guest's end stays.
    pub async fn disconnect(&self) -> io::Result<()> {
        cut(self.number).await
    }

    /// Changes the namespace's rules.
    pub async fn change_rules(&self, script: &str) -> io::Result<()> {
        self.run("nft", &["-f", "-"], script).await.map(drop)
    }

    /// A table of the namespace, as JSON.
    pub async fn list_table(&self, family: &str, table: &str) -> io::Result<Vec<u8>> {
        self.run("nft", &["-n", "-j", "list", "table", family, table], "").await
    }

    async fn run(&self, program: &str, arguments: &[&str], input: &str) -> io::Result<Vec<u8>> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.path().display())).arg("--").arg(program).args(arguments);
        said(command::run_prepared(command, input.into(), PROGRAM_LIMIT, |_| {}).await)
    }
}

fn nft(arguments: &[&str]) -> Command {
    let mut command = Command::new("nft");
    command.args(arguments);
    command
}

fn said<T>(done: Result<T, CommandError>) -> io::Result<T> {
    done.map_err(io::Error::other)
}

/// Removes the link of that number from this host, if there is one; it is gone when this returns without an error.
pub async fn cut(number: u32) -> io::Result<()> {
    let name = link_name(number);
    if !has_interface(&name) {
        return Ok(());
    }
    let deleted = command::run("ip", &["link", "delete", "dev", &name], PROGRAM_LIMIT, |_| {}).await;
    let began = Instant::now();
    while has_interface(&name) {
        if began.elapsed() > CUT_LIMIT {
            said(deleted)?;
            return Err(io::Error::other(format!("the link `{name}` does not vanish")));
        }
        tokio::time::sleep(CUT_PAUSE).await;
    }
    Ok(())
}

fn link_name(number: u32) -> String {
    format!("{LINK_PREFIX}{number}")
}

/// The link's addresses: the host's, and the namespace's.
fn link_addresses(number: u32) -> [Ipv4Addr; 2] {
    let first = LINK_RANGE.0.to_bits() + 2 * (number % LINKS);
    [Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(first + 1)]
}

/// What `ip` does in the namespace before there are rules: the link's other end goes to the host, where `host` runs.
fn devices(number: u32, host: u32) -> String {
    format!("link add dev {UPLINK} type veth peer name {} netns {host}\n", link_name(number))
}

/// What `ip` does in the namespace when there are rules.
fn inside(number: u32) -> String {
    let [host, own] = link_addresses(number);
    let mut batch = String::from("link set dev lo up\n");
    for line in [
        format!("link set dev {TAP} address {} up", card::GATEWAY_MAC),
        format!("address add {}/{} dev {TAP}", card::GATEWAY, card::PREFIX),
        // Nobody else answers for the guest.
        format!("neigh add {} lladdr {} dev {TAP} nud permanent", card::GUEST, card::MAC),
        format!("address add {own}/31 dev {UPLINK}"),
        format!("link set dev {UPLINK} up"),
        format!("route add default via {host} dev {UPLINK}"),
    ] {
        writeln!(batch, "{line}").expect("a text takes whatever is written to it");
    }
    batch
}

/// What `ip` does on the host.
fn outside(number: u32, owner: &str) -> String {
    let ([host, _], name) = (link_addresses(number), link_name(number));
    format!("link set dev {name} alias {owner}\naddress add {host}/31 dev {name}\nlink set dev {name} up\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_the_name_and_the_addresses_of_its_number() {
        let batches = [devices(900_000, 77), inside(900_000), outside(900_000, "vm-x")].join("--\n");
        insta::assert_snapshot!(batches, @r"
        link add dev up0 type veth peer name dfy900000 netns 77
        --
        link set dev lo up
        link set dev tap0 address 02:00:00:00:00:01 up
        address add 192.0.0.1/30 dev tap0
        neigh add 192.0.0.2 lladdr 02:00:00:00:00:02 dev tap0 nud permanent
        address add 198.19.119.65/31 dev up0
        link set dev up0 up
        route add default via 198.19.119.64 dev up0
        --
        link set dev dfy900000 alias vm-x
        address add 198.19.119.64/31 dev dfy900000
        link set dev dfy900000 up
        ");
        assert!(link_name(u32::MAX).len() <= 15, "the kernel takes no longer names");
    }

    /// Ten thousand VMs one after the other, a hundred at a time, of the numbers that user ids have.
    #[test]
    fn numbers_that_live_together_share_no_address() {
        let range = LINK_RANGE.0.to_bits()..=LINK_RANGE.0.to_bits() + ((1 << (32 - LINK_RANGE.1)) - 1);
        for first in [900_000, 4_294_900_000] {
            let mut seen = std::collections::HashSet::new();
            for number in (first..first + 10_000).flat_map(link_addresses) {
                assert!(range.contains(&number.to_bits()) && seen.insert(number), "{number}");
            }
        }
    }
}
