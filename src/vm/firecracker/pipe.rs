//! What Firecracker writes for people and programs: its log and its metrics, each through a pipe that nobody has to empty.
//!
//! A guest can make its monitor complain without end. The kernel keeps 64 KiB of a pipe; what does not fit Firecracker counts
//! as missed, and goes on.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use serde_json::Value;

/// Bytes that are read at once: all that a pipe holds.
const SIZE: usize = 64 * 1024;

/// The reading end, which never waits.
#[derive(Debug)]
pub(super) struct Pipe(File);

impl Pipe {
    pub(super) fn new(reader: OwnedFd) -> Self {
        Self(reader.into())
    }

    /// Takes what has been written since the last time. Untrusted text, partly the guest's.
    pub(super) fn take(&self) -> String {
        let mut text = vec![0; SIZE];
        let mut length = 0;
        // An error is that nothing more is there.
        while length < SIZE
            && let Ok(read @ 1..) = (&self.0).read(&mut text[length..])
        {
            length += read;
        }
        String::from_utf8_lossy(&text[..length]).into_owned()
    }
}

/// What the metrics say that an operator must hear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Alarms {
    /// Calls that the filter of system calls refused: a fault of Firecracker's, or an attack.
    pub(super) seccomp_faults: u64,
    /// Processors of the guest that failed.
    pub(super) vcpu_failures: u64,
    /// Times that Firecracker gave up.
    pub(super) panics: u64,
}

impl Alarms {
    /// The sums over all whole lines of metrics.
    pub(super) fn of(metrics: &str) -> Self {
        let mut sums = Self::default();
        for line in metrics.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            let count = |group: &str, name: &str| line[group][name].as_u64().unwrap_or_default();
            sums.seccomp_faults = sums.seccomp_faults.saturating_add(count("seccomp", "num_faults"));
            sums.vcpu_failures = sums.vcpu_failures.saturating_add(count("vcpu", "failures"));
            sums.panics = sums.panics.saturating_add(count("vmm", "panic_count"));
        }
        sums
    }

    pub(super) fn is_silent(self) -> bool {
        self == Self::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_pipe_gives_what_there_is_and_never_waits() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let reader = OwnedFd::from(reader);
        nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let pipe = Pipe::new(reader);
        assert_eq!(pipe.take(), "");
        writer.write_all(b"one\ntwo").unwrap();
        assert_eq!(pipe.take(), "one\ntwo");
        assert_eq!(pipe.take(), "");
    }

    #[test]
    fn alarms_are_summed_over_whole_lines() {
        let line = r#"{"seccomp":{"num_faults":1},"vcpu":{"failures":2},"vmm":{"panic_count":0}}"#;
        let text = format!("{line}\n{{\"seccomp\":{{}}}}\nnoise\n{line}\n{}", &line[..20]);
        assert_eq!(Alarms::of(&text), Alarms { seccomp_faults: 2, vcpu_failures: 4, panics: 0 });
        assert!(Alarms::of("").is_silent());
    }
}
