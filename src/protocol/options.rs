//! What the host tells the agent on the kernel's command line, before there is any other way to speak with it.
//!
//! Only what a monitor does differently from QEMU is said: without a word, the agent is reached by two virtio-serial ports, and
//! disks are known by their serial numbers.

use std::fmt;

/// Says how the agent is reached.
const LINK: &str = "dayfly.link";
const VSOCK: &str = "vsock";

/// Has the names of the disks in the order in which they are attached, with commas between them.
const DISKS: &str = "dayfly.disks";

/// Says that there is a network card, which has the addresses of [`super::card`].
const NETWORK: &str = "dayfly.network";
const CARD: &str = "card";

/// What was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineOptions {
    /// Whether the host calls the agent on a vsock.
    pub has_vsock: bool,
    /// The disks by their order, where serial numbers do not say which is which.
    pub disks: Option<Vec<String>>,
    /// Whether there is a network card to be configured.
    pub has_card: bool,
}

impl MachineOptions {
    /// Reads a kernel's command line.
    pub fn of(command_line: &str) -> Self {
        let value = |option: &str| {
            command_line.split_whitespace().find_map(|word| word.strip_prefix(option)?.strip_prefix('='))
        };
        Self {
            has_vsock: value(LINK) == Some(VSOCK),
            disks: value(DISKS).map(|names| names.split(',').map(str::to_owned).collect()),
            has_card: value(NETWORK) == Some(CARD),
        }
    }
}

impl fmt::Display for MachineOptions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.has_vsock {
            write!(out, " {LINK}={VSOCK}")?;
        }
        if let Some(names) = &self.disks {
            write!(out, " {DISKS}={}", names.join(","))?;
        }
        if self.has_card { write!(out, " {NETWORK}={CARD}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_and_nothing_else() {
        let disks = Some(vec!["root".to_owned(), "scratch".to_owned()]);
        for said in [MachineOptions::default(), MachineOptions { has_vsock: true, disks, has_card: true }] {
            assert_eq!(MachineOptions::of(&format!("console=ttyS0 quiet{said}\n")), said);
        }
        let other = MachineOptions::of(
            "xdayfly.link=vsock dayfly.link=other dayfly.disksroot dayfly.linkvsock dayfly.network=cards",
        );
        assert_eq!(other, MachineOptions::default());
    }
}
