//! A place for one program in which it finds only what it needs, whatever becomes of it.
//!
//! The program runs as a user of its own, without capabilities and without a way to get any; in namespaces of its own, so that
//! there are no other processes, no network and no host's name; in a root of its own, read-only, with the program, its libraries
//! and what it is shown; in a cgroup, if the host has them; and behind a filter of system calls. All of that is in place
//! before its first instruction, and ends with its first process.
//!
//! `plan` says what is done, `enter` does it in the child, `filter` has the calls, `opener` gives files, and `parts` finds out
//! what a program consists of.
#![allow(unsafe_code)]

mod enter;
mod filter;
mod opener;
mod parts;
mod plan;

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair};
use tokio::process::Child;

use self::enter::Entry;
pub use self::opener::{Offer, Opener};
pub use self::parts::{Parts, parts_of};
use self::plan::Step;
use super::process::{self, Spawn};

/// What a program finds in its place.
#[derive(Debug)]
pub struct Jail<'a> {
    /// Its user, and its group, which nobody else is.
    pub uid: u32,
    /// An empty directory, to mount the new root on. Nothing is seen of that outside.
    pub root: &'a Path,
    pub shown: &'a [Shown],
    /// The list of processes of its cgroup, open for writing.
    pub group: Option<BorrowedFd<'a>>,
    /// Bytes up to which it can make a file grow.
    pub file_size: u64,
    /// Processes and threads that it may have.
    pub tasks: u64,
    /// Whether it is killed when this process ends.
    pub ends_with_us: bool,
}

/// A file or directory of the host that the program sees, and cannot change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub from: PathBuf,
    /// An absolute path in the new root.
    pub at: PathBuf,
    pub is_directory: bool,
}

/// Starts a program in a jail. `spawn.program` is its path there, and `spawn.directory` one of the host.
///
/// # Errors
/// When a step into the jail fails, with which one; or when the program cannot be started there.
pub fn spawn(spawn: &Spawn<'_>, jail: &Jail<'_>) -> io::Result<(Child, Opener)> {
    let (report, entry) = prepare(jail)?;
    let described: Vec<String> = entry.steps.iter().map(Step::to_string).collect();
    let mut command = process::command(spawn)?;
    // SAFETY: between fork and exec `enter` only makes system calls; see there.
    unsafe { command.pre_exec(move || entry.enter()) };
    let mut command = tokio::process::Command::from(command);
    let runtime = tokio::runtime::Handle::current();
    let started = process::on_spawner(move || {
        let _context = runtime.enter();
        in_new_pid_namespace(|| command.spawn())
    })?;
    let child = started.map_err(|error| explained(error, &report, &described))?;
    let (_, listener) = receive(&report)?;
    let listener = listener.ok_or_else(|| io::Error::other("the confined program did not hand over its listener"))?;
    Ok((child, Opener::new(listener)?))
}

/// Takes all steps into the jail, in a process that ends then.
///
/// # Errors
/// When one of them fails, with which one. Then nothing can be started in jails on this host.
pub fn try_out(jail: &Jail<'_>) -> io::Result<()> {
    /// What the child ends with when it has arrived.
    const ARRIVED: Errno = Errno::ECANCELED;
    let (report, entry) = prepare(jail)?;
    let described: Vec<String> = entry.steps.iter().map(Step::to_string).collect();
    let mut command = std::process::Command::new("/");
    let enter = move || entry.enter().and_then(|()| Err(ARRIVED.into()));
    // SAFETY: as above.
    unsafe { command.pre_exec(enter) };
    match process::on_spawner(move || in_new_pid_namespace(|| command.spawn().map(drop)))? {
        Err(error) if error.raw_os_error() == Some(ARRIVED as i32) => Ok(()),
        Err(error) => Err(explained(error, &report, &described)),
        Ok(()) => Err(io::Error::other("a process went on that should have ended")),
    }
}

/// Everything that the child needs, and where it reports to.
fn prepare(jail: &Jail<'_>) -> io::Result<(OwnedFd, Entry)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let entry = Entry {
        steps: plan::steps(jail)?,
        filter: filter::program(),
        parent: process::pidfd_open(nix::unistd::getpid())?,
        group: jail.group.map(|group| group.try_clone_to_owned()).transpose()?,
        report: theirs,
    };
    Ok((ours, entry))
}

/// Has the processes that `work` starts born into a namespace of processes of their own, of which the first is 1. To be run on
/// the thread that starts processes.
fn in_new_pid_namespace<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = File::open("/proc/self/ns/pid")?;
    unshare(CloneFlags::CLONE_NEWPID)
        .map_err(|errno| io::Error::other(format!("a namespace of processes: {errno}")))?;
    let done = work();
    setns(&own, CloneFlags::CLONE_NEWPID).expect("who could leave this namespace may come back");
    done
}

/// An error of a step says which one.
fn explained(error: io::Error, report: &OwnedFd, steps: &[String]) -> io::Error {
    match receive(report) {
        Ok((Some(number), None)) => match steps.get(usize::from(number)) {
            Some(step) => io::Error::new(error.kind(), format!("confining it failed at {step}: {error}")),
            None => error,
        },
        _ => error,
    }
}

/// What a child has told, if it has.
fn receive(report: &OwnedFd) -> io::Result<(Option<u16>, Option<OwnedFd>)> {
    let mut number = [0; 2];
    let mut room = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut number)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = match recvmsg::<()>(report.as_raw_fd(), &mut parts, Some(&mut room), flags) {
        Ok(message) => message,
        Err(Errno::EAGAIN) => return Ok((None, None)),
        Err(errno) => return Err(errno.into()),
    };
    let mut listener = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            // SAFETY: the kernel has just put these descriptors into this process, and nobody else knows of them.
            listener = descriptors.first().map(|descriptor| unsafe { OwnedFd::from_raw_fd(*descriptor) });
        }
    }
    let is_told = message.bytes == number.len();
    Ok((is_told.then(|| u16::from_ne_bytes(number)), listener))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
