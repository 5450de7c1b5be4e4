//! Virtual machines: one per job, restored from a snapshot, destroyed after it.
//!
//! ```text
//!  home made ─► monitor started ─► state loaded ─► running ─► identified ─► the job ─► paused ─► destroyed ─► absence verified
//!      └───────────────┴───────────────┴──────────────┴─────────────┴──────────┴─────────┘ any failure: destroyed
//! ```
//! - [`home`]: the directory that holds everything of one VM on the host, and its owner's lease.
//! - [`channel`]: the host's end of the conversation with the agent; [`guest`]: its requests as calls.
//! - [`backend`]: what a monitor must do, whichever it is; [`qemu`] and [`firecracker`] do it. `attach` joins the agent.
//! - [`basis`]: the files of its template, and whether they are still what they were.
//! - [`volume`]: what stands in a VM's places for cache volumes.
//! - [`machine`]: one running VM, from restore to verified absence; [`loss`]: how it can end before that.
//! - [`idle`]: one that waits for its job, after a [`rehearsal`]; [`usage`]: what the monitors take of the host's memory.
//! - [`freeze`]: one that becomes a template for others instead.
//!
//! Invariants: nothing that a guest sends is parsed before a length check; nothing blocks [`machine::Machine::destroy`];
//! capacity counts as free only after it returned.

pub(crate) mod attach;
pub mod backend;
pub mod basis;
pub mod channel;
pub mod confinement;
pub mod firecracker;
pub mod freeze;
pub mod guest;
pub mod home;
pub mod idle;
pub mod loss;
pub mod machine;
pub mod qemu;
pub mod rehearsal;
pub mod spec;
pub mod usage;
pub mod volume;

#[cfg(test)]
mod fake_guest;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod leak_tests;

use crate::host::disk::hint_if_full;

/// Why a VM could not be had, or was lost.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// Something of the host: a file, a directory, a socket.
    #[error("{what}: {source}{}", hint_if_full(source))]
    Host { what: String, source: std::io::Error },
    /// The monitor program is missing.
    #[error("`{program}` is not installed\n  hint: {hint}")]
    NoMonitor { program: String, hint: String },
    /// The monitor ended or refused; `detail` is what it said.
    #[error("the virtual machine monitor failed: {detail}")]
    Monitor { detail: String },
    /// A file that VMs of one template share is gone, or was changed.
    #[error(
        "`{}`, which machines start from, is gone or was changed\n  hint: it is made again; what is below `images_dir` and \
         `state_dir` belongs to Dayfly alone",
        file.display()
    )]
    TemplateLost { file: std::path::PathBuf },
    /// It took too long.
    #[error("{what} took longer than {} s", limit.as_secs_f32())]
    TimedOut { what: &'static str, limit: std::time::Duration },
    /// The guest ended or stopped talking.
    #[error("the VM was lost: {0}")]
    Lost(String),
    /// The guest broke the protocol.
    #[error("the guest broke the protocol: {0}")]
    Protocol(String),
    /// It would take its template with it.
    #[error("the VM does not run on memory of its own, so that it cannot be frozen")]
    BorrowedMemory,
    /// The guest of a frozen VM has another cache volume mounted than the one that is offered to it.
    #[error("the frozen VM has the cache volume `{mounted}` mounted, and can be given no other")]
    OtherCache { mounted: String },
    /// The agent answered with a refusal.
    #[error("the guest could not {what}: {detail}")]
    Refused { what: &'static str, detail: String },
}

impl VmError {
    /// For `map_err` on input and output of the host.
    pub fn host(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Host { what, source }
    }

    /// Whether the host's disk is full, which an operator must be told in so many words.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Host { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
    }
}
