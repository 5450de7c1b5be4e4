//! How a VM was lost, in words for the author of the job. What the guest had to do with it is told apart from what the host
//! did, because the one is to be mended in the repository and the other by the operator. Pure.

use std::path::PathBuf;

use super::VmError;
use crate::document::reader::quoted;

/// What the kernel says when it gives up.
const PANIC: &str = "Kernel panic - not syncing: ";

/// Why a VM ended before its job did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The guest switched its machine off.
    PoweredOff,
    /// The guest restarted its machine. Jobs have no second boot, so that is an end too.
    Rebooted,
    /// The guest's kernel gave up; its own words, where they are known, are untrusted.
    Panicked(Option<String>),
    /// The host had no room for what the guest wrote to its disk.
    HostDiskFull,
    /// A file that the machine runs from was changed in its place.
    TemplateChanged(PathBuf),
    /// The virtual machine monitor ended.
    MonitorEnded,
    /// The guest broke the protocol; how.
    Misbehaved(String),
    /// The guest did not answer in time; what was asked for.
    Unresponsive(String),
    /// Anything else.
    Other(String),
}

impl std::fmt::Display for Loss {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PoweredOff => out.write_str("the guest powered itself off"),
            Self::Rebooted => out.write_str("the guest restarted itself, or its kernel panicked without a word"),
            Self::Panicked(None) => out.write_str("the guest's kernel panicked"),
            Self::Panicked(Some(words)) => write!(out, "the guest's kernel panicked: {}", quoted(words)),
            Self::HostDiskFull => out.write_str(
                "the host's disk is full, and what the guest writes cannot be kept\n  \
                 hint: free some space where `state_dir` is",
            ),
            Self::TemplateChanged(file) => write!(
                out,
                "`{}`, which it ran from, was changed\n  \
                 hint: what is below `images_dir` and `state_dir` belongs to Dayfly alone; it is made again",
                file.display()
            ),
            Self::MonitorEnded => out.write_str("the virtual machine monitor ended"),
            Self::Misbehaved(how) => write!(out, "the guest broke the protocol: {how}"),
            Self::Unresponsive(what) => write!(out, "the guest stopped answering: {what}"),
            Self::Other(why) => out.write_str(why),
        }
    }
}

impl Loss {
    /// With what the guest's console says about it. A panic looks like a restart from outside: the kernel is told to restart
    /// after one, so that it does not spin for ever.
    pub fn explained_by(self, console: &str) -> Self {
        match self {
            Self::Rebooted | Self::Panicked(None) => {
                let words = console.lines().rev().find_map(|line| line.split_once(PANIC));
                words.map_or(self, |(_, words)| Self::Panicked(Some(words.trim().to_owned())))
            }
            other => other,
        }
    }
}

impl From<VmError> for Loss {
    fn from(error: VmError) -> Self {
        match error {
            VmError::Protocol(how) => Self::Misbehaved(how),
            error @ VmError::TimedOut { .. } => Self::Unresponsive(error.to_string()),
            error if error.is_disk_full() => Self::HostDiskFull,
            VmError::Lost(why) => Self::Other(why),
            error => Self::Other(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_console_tells_a_panic_from_a_restart() {
        let console = "[ 1.0] fine\n[ 2.0] Kernel panic - not syncing: sysrq triggered crash\n[ 2.1] CPU: 0\n";
        let panicked = Loss::Panicked(Some("sysrq triggered crash".into()));
        assert_eq!(Loss::Rebooted.explained_by(console), panicked);
        assert_eq!(Loss::Panicked(None).explained_by(console), panicked);
        assert_eq!(Loss::Rebooted.explained_by("[ 1.0] reboot: Restarting system\n"), Loss::Rebooted);
        // A console is the guest's to write: it explains a restart, and nothing that the host saw itself.
        assert_eq!(Loss::PoweredOff.explained_by(console), Loss::PoweredOff);
        let long = format!("{PANIC}{}\u{1b}[2J", "x".repeat(10_000));
        let shown = Loss::Rebooted.explained_by(&long).to_string();
        assert!(shown.len() < 200 && !shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn errors_are_sorted_by_whose_fault_they_are() {
        let limit = Duration::from_secs(60);
        let lines = [
            VmError::Protocol("a record was cut off".into()),
            VmError::TimedOut { what: "an answer of the guest", limit },
            VmError::Host { what: "scratch".into(), source: std::io::ErrorKind::StorageFull.into() },
            VmError::Lost("its channel closed".into()),
            VmError::Refused { what: "listen", detail: "the port is taken".into() },
        ]
        .map(|error| Loss::from(error).to_string());
        insta::assert_snapshot!(lines.join("\n"));
    }
}
