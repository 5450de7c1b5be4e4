//! What the VMs really take of the host's memory.
//!
//! VMs of one snapshot share its pages as long as they do not write them, so that the sum of what each one has mapped would
//! count them many times. The kernel's *proportional* set size (PSS) divides each shared page among those who map it: the sum
//! over all monitors counts it once.

use std::collections::HashMap;
use std::io;
use std::ops::AddAssign;

use nix::unistd::Pid;

use super::home::Homes;
use crate::ids::VmId;

/// Memory of one monitor or of several, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Pages that nobody else has: what the guest wrote, the monitor's own, translated code.
    pub private: u64,
    /// Its share of the pages that others map too, or that are a file's: the snapshot's memory, programs.
    pub shared: u64,
}

impl Usage {
    /// All that it takes.
    pub fn total(self) -> u64 {
        self.private + self.shared
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.private += other.private;
        self.shared += other.shared;
    }
}

/// The memory of all monitors of this state directory, by VM. The kernel walks each one's pages for it, which takes some
/// milliseconds each; blocks meanwhile.
///
/// # Errors
/// When the processes of this host cannot be listed. One that ends meanwhile is left out.
pub fn by_vm(homes: &Homes) -> io::Result<HashMap<VmId, Usage>> {
    let mut found: HashMap<VmId, Usage> = HashMap::new();
    for (id, pid) in homes.processes()? {
        if let Ok(usage) = of_process(pid) {
            *found.entry(id).or_default() += usage;
        }
    }
    Ok(found)
}

fn of_process(pid: Pid) -> io::Result<Usage> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    read_rollup(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/smaps_rollup has no `Pss`")))
}

/// Kernels before 5.9 do not tell anonymous pages apart; what is private and dirty is nearly the same there.
fn read_rollup(text: &str) -> Option<Usage> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    let total = bytes("Pss")?;
    let private = bytes("Pss_Anon").or_else(|| bytes("Private_Dirty"))?.min(total);
    Some(Usage { private, shared: total - private })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shared_pages_count_once_over_all() {
        let rollup = "55d0-7ffd ---p 00000000 00:00 0  [rollup]\nRss:  204800 kB\nPss:  61440 kB\nPss_Dirty: 20480 kB\n\
                      Pss_Anon:  20480 kB\nPss_File:  40960 kB\nPrivate_Dirty:  24576 kB\n";
        assert_eq!(read_rollup(rollup), Some(Usage { private: 20 << 20, shared: 40 << 20 }));
        let old = rollup.replace("Pss_Anon:  20480 kB\n", "");
        assert_eq!(read_rollup(&old), Some(Usage { private: 24 << 20, shared: 36 << 20 }));
        assert_eq!(read_rollup(""), None);
    }

    #[test]
    fn a_process_tells_what_it_takes() {
        let own = of_process(Pid::this()).unwrap();
        assert!(own.private > 0 && own.total() > own.private, "{own:?}");
    }
}
