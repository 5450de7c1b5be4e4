//! The operating system of the host: processes, cgroups, disks, the clock of the processor.
//!
//! Together with `agent::sys` this is the only place with `unsafe`, and the only one that starts processes.

pub mod addresses;
pub mod apart;
pub mod beneath;
pub mod cgroup;
pub mod checksum;
pub mod command;
pub mod cpu;
pub mod disk;
pub mod git;
pub mod holes;
pub mod jail;
pub mod lease;
pub mod memory;
pub mod netns;
pub mod notify;
pub mod output;
pub mod probe;
pub mod process;
mod removal;
pub mod seen;
pub mod tsc;
pub mod uids;
pub mod users;
pub mod wire;
pub mod xattr;

/// What the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub cpus: usize,
    pub memory_mib: u64,
}

/// Looks at the host once per process.
pub fn facts() -> Facts {
    static FACTS: std::sync::OnceLock<Facts> = std::sync::OnceLock::new();
    *FACTS.get_or_init(|| {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib = total.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Facts {
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mib: kib.unwrap_or(0) / 1024,
        }
    })
}
