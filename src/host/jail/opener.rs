//! Opens files for a confined program that may open none for writing itself.
//!
//! QEMU opens the file of a guest's memory by its name and for writing, also where it then maps it privately; versions before 8.2
//! know no other way. That file is shared by all VMs of a snapshot, so a right to write to it would be a right to
//! change all of them. Instead the kernel tells the service of each attempt to open something for writing, and the service
//! answers with a descriptor of its own: of the memory, for reading only, which is all that a private mapping needs.
//!
//! What is asked for is read from the program's memory and proves nothing. It need not: whatever is asked, only what was
//! offered is given, to a program that may have all of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Longer names are nothing that was offered.
const MAX_NAME: usize = 64;

/// A file that the program finds under a name.
#[derive(Debug)]
pub struct Offer {
    pub name: &'static str,
    pub file: File,
}

/// The service's end. When it is dropped, nothing can be opened for writing any more.
#[derive(Debug)]
pub struct Opener {
    listener: AsyncFd<OwnedFd>,
}

impl Opener {
    pub(super) fn new(listener: OwnedFd) -> io::Result<Self> {
        // SAFETY: the descriptor is owned, and stays open and the same until the value is dropped.
        let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }?;
        Ok(Self { listener })
    }

    /// Answers with what is offered, and that there is no such file to anything else, until the program ends. To be dropped
    /// when the program has opened what it needs.
    pub async fn serve(&self, offers: &[Offer]) -> io::Result<()> {
        loop {
            let mut ready = self.listener.readable().await?;
            match waiting(self.listener.get_ref())? {
                Some(request) => self.answer(&request, offers)?,
                None if ready.ready().is_read_closed() => return Ok(()),
                None => ready.clear_ready(),
            }
        }
    }

    fn answer(&self, request: &libc::seccomp_notif, offers: &[Offer]) -> io::Result<()> {
        let name = name_of(request).unwrap_or_default();
        let offer = offers.iter().find(|offer| offer.name.as_bytes() == name);
        let answered = match offer {
            Some(offer) => give(self.listener.get_ref().as_fd(), request.id, &offer.file),
            None => decline(self.listener.get_ref().as_fd(), request.id, Errno::ENOENT),
        };
        match answered {
            // It has ended meanwhile.
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The next request, if one waits.
fn waiting(listener: &OwnedFd) -> nix::Result<Option<libc::seccomp_notif>> {
    let mut state = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    poll(&mut state, PollTimeout::ZERO)?;
    if !state[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)) {
        return Ok(None);
    }
    // SAFETY: all fields are numbers, for which zero is a value; the kernel insists on it.
    let mut request: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills a structure of this very type, which outlives the call.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut request) };
    match Errno::result(result) {
        Ok(_) => Ok(Some(request)),
        // Who asked has ended, or was interrupted and asks again.
        Err(Errno::ENOENT | Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The path that the call names, without the NUL byte after it.
fn name_of(request: &libc::seccomp_notif) -> Option<Vec<u8>> {
    let argument = if i64::from(request.data.nr) == libc::SYS_open { 0 } else { 1 };
    let memory = File::open(format!("/proc/{}/mem", request.pid)).ok()?;
    let mut bytes = [0; MAX_NAME];
    let read = memory.read_at(&mut bytes, request.data.args[argument]).ok()?;
    let length = bytes[..read].iter().position(|byte| *byte == 0)?;
    Some(bytes[..length].to_vec())
}

/// Puts a copy of the descriptor into the program, as what its call returns.
fn give(listener: BorrowedFd<'_>, id: u64, file: &File) -> nix::Result<()> {
    let addition = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: file.as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: libc::O_CLOEXEC as u32,
    };
    // SAFETY: the kernel reads a structure of this very type, which outlives the call; the descriptor in it is open.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const addition) };
    Errno::result(result).map(drop)
}

fn decline(listener: BorrowedFd<'_>, id: u64, errno: Errno) -> nix::Result<()> {
    let response = libc::seccomp_notif_resp { id, val: 0, error: -(errno as i32), flags: 0 };
    // SAFETY: the kernel reads a structure of this very type, which outlives the call.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) };
    Errno::result(result).map(drop)
}
