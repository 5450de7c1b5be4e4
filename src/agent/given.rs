//! What the host says on the kernel's command line about the machine that it made.

use std::fs;
use std::io;

use crate::protocol::{DISKS_OPTION, LINK_OPTION, LINK_VSOCK};

/// What was said. Every monitor but one needs nothing of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// Whether the host calls on a vsock instead of using virtio-serial ports.
    pub(super) has_vsock: bool,
    /// The names of the disks in the order in which they are attached, where their serial numbers do not say them.
    pub(super) disks: Option<Vec<String>>,
}

impl Given {
    pub(super) fn read() -> io::Result<Self> {
        fs::read_to_string("/proc/cmdline").map(|line| Self::of(&line))
    }

    fn of(command_line: &str) -> Self {
        let value = |option: &str| {
            command_line.split_whitespace().find_map(|word| word.strip_prefix(option)?.strip_prefix('='))
        };
        Self {
            has_vsock: value(LINK_OPTION) == Some(LINK_VSOCK),
            disks: value(DISKS_OPTION).map(|names| names.split(',').map(str::to_owned).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_options_count() {
        assert_eq!(Given::of("console=ttyS0 quiet\n"), Given { has_vsock: false, disks: None });
        let given = Given::of("quiet dayfly.link=vsock xdayfly.disks=no dayfly.disks=root,scratch\n");
        assert_eq!(given, Given { has_vsock: true, disks: Some(vec!["root".into(), "scratch".into()]) });
        assert!(!Given::of("dayfly.link=other dayfly.linkvsock").has_vsock);
    }
}
