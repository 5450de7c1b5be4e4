//! QEMU as one of the backends.

use std::io;
use std::path::Path;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::Qemu;
use crate::vm::VmError;
use crate::vm::backend::{AgentLink, Capabilities, DiskNames, Freezing, GuestEnd, KernelForm, Monitor};

/// A guest runs on the file that is its snapshot's memory; ports and disks have names.
pub const CAPABILITIES: Capabilities = Capabilities {
    freezing: Freezing::OwnMemory,
    link: AgentLink::VirtioSerial,
    disks: DiskNames::Serial,
    kernel: KernelForm::Packed,
};

impl Monitor for Qemu {
    fn load_state<'a>(&'a mut self, state: &'a Path) -> BoxFuture<'a, Result<(), VmError>> {
        self.load_state(state).boxed()
    }

    /// The memory is in the guest's own file already.
    fn save<'a>(&'a mut self, state: &'a Path, _memory: &'a Path) -> BoxFuture<'a, Result<(), VmError>> {
        self.save_state(state).boxed()
    }

    fn resume(&mut self) -> BoxFuture<'_, Result<(), VmError>> {
        self.monitor.resume().boxed()
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<(), VmError>> {
        self.monitor.pause().boxed()
    }

    fn console(&mut self) -> BoxFuture<'_, Result<String, VmError>> {
        self.monitor.console().boxed()
    }

    fn ended(&self) -> watch::Receiver<Option<GuestEnd>> {
        self.monitor.ended()
    }

    fn kill(&mut self) -> BoxFuture<'_, io::Result<()>> {
        async { self.kill().await.map(drop) }.boxed()
    }
}
