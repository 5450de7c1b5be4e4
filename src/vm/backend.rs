//! What a virtual machine monitor must do for a VM, whichever it is.
//!
//! A [`Vmm`] says which monitor is used and where its programs are; [`Vmm::launch`] starts one for a VM, and from then on
//! only the trait [`Monitor`] is spoken. What one backend does differently from another is a value in its
//! [`Capabilities`] and not a question about its name: whoever needs to know asks for the capability.
//!
//! Invariants: a guest that was loaded stands still until [`Monitor::resume`]; [`Monitor::kill`] ends the process whatever
//! state the guest is in, and needs nothing of it.

use std::fmt;
use std::io;
use std::path::Path;

use futures::future::BoxFuture;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::VmError;
use super::firecracker::{self, Firecracker, Programs};
use super::home::Home;
use super::qemu::{self, Qemu};
use super::spec::{Accelerator, Boot, Disks, Shape};
use crate::host::process::Lifetime;

/// Which monitor, and where its programs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vmm {
    /// QEMU's `microvm`: a program's name, looked up in `PATH`, or its path.
    Qemu(String),
    /// Firecracker, started through its jailer.
    Firecracker(Programs),
}

/// What the machine does first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Boots the kernel. Memory is not kept.
    Boot,
    /// Boots the kernel, to become a snapshot.
    BootForSnapshot,
    /// Waits for a state to be loaded. Memory is mapped privately: clones share the file's pages and cannot change them.
    Restore,
    /// Waits for a state to be loaded, on a memory file of its own, which becomes a snapshot's.
    RestoreOwned,
}

impl Start {
    /// Whether a state is loaded, so that nothing is booted.
    pub fn is_restore(self) -> bool {
        matches!(self, Self::Restore | Self::RestoreOwned)
    }
}

/// How to start a monitor.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    pub accelerator: Accelerator,
    pub shape: Shape,
    pub start: Start,
    pub boot: &'a Boot,
    pub disks: &'a Disks,
    /// The memory file that is restored, or that becomes the snapshot's where the backend runs guests on it.
    pub memory: &'a Path,
    pub lifetime: Lifetime,
}

/// How a guest ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEnd {
    PoweredOff,
    /// A reboot; with `panic=-1` on its command line, also what a panic of its kernel looks like.
    Reset,
    Panicked,
    /// The host could not store what the guest wrote; the monitor holds the guest still, for ever if nobody looks.
    HostDiskFull,
    /// The monitor is gone.
    MonitorGone,
}

/// What a VM must run on to be frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freezing {
    /// On a memory file of its own, which is the frozen VM's memory from then on.
    OwnMemory,
    /// On whatever it was restored from: the monitor writes all of the memory to a new file, which takes longer.
    AnyMemory,
}

/// How the agent in the guest is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentLink {
    /// Two virtio-serial ports: they survive a snapshot.
    VirtioSerial,
    /// Two vsock ports on which the agent listens: connections end with a snapshot, listeners do not.
    Vsock,
}

/// How a guest tells its disks apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskNames {
    /// By serial numbers that the host gives.
    Serial,
    /// By the order in which they were attached.
    Order,
}

/// In what form a kernel is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelForm {
    /// As distributions ship it; it unpacks itself.
    Packed,
    /// Unpacked.
    Elf,
}

/// What one backend does differently from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    pub freezing: Freezing,
    pub link: AgentLink,
    pub disks: DiskNames,
    pub kernel: KernelForm,
}

/// Connections to the agent's two ports.
#[derive(Debug)]
pub struct Ports {
    pub control: UnixStream,
    pub bulk: UnixStream,
}

/// The way to the agent.
#[derive(Debug)]
pub enum Reach {
    /// Connected already: what is written now waits for the guest to run.
    Connected(Ports),
    /// To be dialled once the guest runs, and again as long as its agent does not listen.
    Vsock(firecracker::vsock::Vsock),
}

/// A monitor that runs, with one VM.
pub trait Monitor: fmt::Debug + Send + Sync {
    /// Loads a saved state; the guest stands still afterwards.
    fn load_state<'a>(&'a mut self, state: &'a Path) -> BoxFuture<'a, Result<(), VmError>>;

    /// Saves the state of a guest that stands still, and its memory, unless it runs on the file that is kept as such.
    fn save<'a>(&'a mut self, state: &'a Path, memory: &'a Path) -> BoxFuture<'a, Result<(), VmError>>;

    /// Lets the guest run.
    fn resume(&mut self) -> BoxFuture<'_, Result<(), VmError>>;

    /// Holds the guest still; what it wrote is in its disks' files.
    fn pause(&mut self) -> BoxFuture<'_, Result<(), VmError>>;

    /// What the guest wrote to its serial console, as far as it was kept. Untrusted.
    fn console(&mut self) -> BoxFuture<'_, Result<String, VmError>>;

    /// Tells when and how the guest ended by itself.
    fn ended(&self) -> watch::Receiver<Option<GuestEnd>>;

    /// Kills the monitor and waits for its end.
    fn kill(&mut self) -> BoxFuture<'_, io::Result<()>>;
}

impl Vmm {
    /// The program of the monitor itself.
    pub fn program(&self) -> &str {
        match self {
            Self::Qemu(program) => program,
            Self::Firecracker(programs) => &programs.firecracker,
        }
    }

    /// What it does differently from others.
    pub fn capabilities(&self) -> Capabilities {
        match self {
            Self::Qemu(_) => qemu::CAPABILITIES,
            Self::Firecracker(_) => firecracker::CAPABILITIES,
        }
    }

    /// Fails unless its programs are there: before minutes of work that would need them.
    pub fn require(&self) -> Result<(), VmError> {
        match self {
            Self::Qemu(program) => qemu::require(program),
            Self::Firecracker(programs) => programs.require(),
        }
    }

    /// Starts a monitor in `home`. The guest runs already if it boots.
    pub async fn launch(&self, home: &Home, launch: Launch<'_>) -> Result<(Box<dyn Monitor>, Reach), VmError> {
        match self {
            Self::Qemu(program) => {
                let (monitor, ports) = Qemu::launch(home, program, launch).await?;
                Ok((Box::new(monitor), Reach::Connected(ports)))
            }
            Self::Firecracker(programs) => {
                let (monitor, vsock) = Firecracker::launch(home, programs, launch).await?;
                Ok((Box::new(monitor), Reach::Vsock(vsock)))
            }
        }
    }

    /// Whether a VM that is to be frozen later needs a memory file of its own.
    pub fn needs_own_memory(&self) -> bool {
        self.capabilities().freezing == Freezing::OwnMemory
    }
}

impl From<&str> for Vmm {
    /// QEMU under that name.
    fn from(program: &str) -> Self {
        Self::Qemu(program.to_owned())
    }
}
