//! Firecracker's process: waited for from its start to its end, so that its end is known at once and leaves no zombie.

use std::process::ExitStatus;
use std::sync::Arc;

use tokio::process::Child;
use tokio::sync::{Notify, watch};

use crate::vm::backend::GuestEnd;

/// The process.
#[derive(Debug)]
pub(super) struct Process {
    kill: Arc<Notify>,
    ended: watch::Receiver<Option<GuestEnd>>,
    status: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    pub(super) fn new(child: Child) -> Self {
        let kill = Arc::new(Notify::new());
        let (end, ended) = watch::channel(None);
        let (exit, status) = watch::channel(None);
        tokio::spawn(look_after(child, Arc::clone(&kill), exit, end));
        Self { kill, ended, status }
    }

    pub(super) fn ended(&self) -> watch::Receiver<Option<GuestEnd>> {
        self.ended.clone()
    }

    /// How it ended, once it has.
    pub(super) async fn status(&self) -> Option<ExitStatus> {
        let mut status = self.status.clone();
        // Without a sender the waiting itself failed, and nothing is known.
        status.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }

    /// Kills it, unless it has ended, and waits for its end.
    pub(super) async fn kill(&self) {
        self.kill.notify_one();
        self.ended.clone().wait_for(Option::is_some).await.ok();
    }
}

impl Drop for Process {
    /// Whoever gave up a VM that is being made has nothing to wait with; the jailer is root's, and not found by its user.
    fn drop(&mut self) {
        self.kill.notify_one();
    }
}

async fn look_after(
    mut child: Child, kill: Arc<Notify>, exit: watch::Sender<Option<ExitStatus>>, end: watch::Sender<Option<GuestEnd>>,
) {
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            // Fails if it has ended, which is what is wanted.
            () = kill.notified() => drop(child.start_kill()),
        }
    };
    // It ends well only when its guest has reset the machine: by a restart, or by a panic that became one.
    let seen = match &status {
        Ok(status) if status.success() => GuestEnd::Reset,
        _ => GuestEnd::MonitorGone,
    };
    exit.send_replace(status.ok());
    end.send_replace(Some(seen));
}
