//! The operating system of the host: processes, cgroups, disks, the clock of the processor.
//!
//! Together with `agent::sys` this is the only place with `unsafe`, and the only one that starts processes.

pub mod cgroup;
pub mod command;
pub mod disk;
pub mod lease;
pub mod process;
pub mod tsc;
