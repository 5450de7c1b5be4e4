//! Processes under PID 1: starting them, and collecting every child that ends, adopted orphans included.
//!
//! One thread collects all statuses. It and [`Processes::spawn`] exclude each other, so that a status never arrives before
//! its process is known, and the standard library's own wait for a child that failed to `exec` is not robbed of it.

use std::collections::HashMap;
use std::io;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::protocol::message::ExitStatus;

/// The children that somebody waits for.
#[derive(Default)]
pub(super) struct Processes {
    /// `None` while a process runs.
    known: Mutex<HashMap<i32, Option<ExitStatus>>>,
    changed: Condvar,
}

impl Processes {
    /// Starts the collecting thread. Call it before any other thread exists: all of them must have `SIGCHLD` blocked.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let mut child_signal = SigSet::empty();
        child_signal.add(Signal::SIGCHLD);
        child_signal.thread_block()?;
        let processes = Arc::new(Self::default());
        let collector = Arc::clone(&processes);
        std::thread::Builder::new().name("collect".into()).spawn(move || {
            loop {
                collector.collect();
                // An interrupted wait only means another look.
                drop(child_signal.wait());
            }
        })?;
        Ok(processes)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<i32, Option<ExitStatus>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collect(&self) {
        let mut known = self.known();
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitStatus::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                Ok(_) | Err(_) => continue,
            };
            if let Some(slot) = known.get_mut(&pid.as_raw()) {
                *slot = Some(status);
            }
        }
        self.changed.notify_all();
    }

    /// Starts a program. Follow with [`Self::wait`]: the child's own `wait` would find nothing.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let mut known = self.known();
        let child = command.spawn()?;
        known.insert(child.id() as i32, None);
        Ok(child)
    }

    /// Waits for the end of a process that [`Self::spawn`] started.
    pub(super) fn wait(&self, pid: Pid) -> ExitStatus {
        let mut known = self.known();
        loop {
            match known.get_mut(&pid.as_raw()).map(Option::take) {
                Some(Some(status)) => {
                    known.remove(&pid.as_raw());
                    return status;
                }
                Some(None) => known = self.changed.wait(known).unwrap_or_else(PoisonError::into_inner),
                None => return ExitStatus::NotStarted(format!("process {pid} is not known")),
            }
        }
    }
}
