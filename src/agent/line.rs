//! Where the host's conversations come from: a virtio-serial port, or calls on a vsock.
//!
//! A port is one file whose other end comes and goes. A vsock's connections end with a snapshot, as with anything else that ends
//! them, and each conversation is a call of its own; the listener stays.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::sys;

/// One of the two ways.
pub(super) enum Line {
    Port(File),
    Listener(OwnedFd),
}

impl Line {
    /// Listens for calls of the host.
    pub(super) fn listen(port: u32) -> io::Result<Self> {
        sys::listen_on_vsock(port).map(Self::Listener)
    }

    /// Waits for the host, if that takes waiting; gives what it is spoken with.
    pub(super) fn connection(&self) -> io::Result<File> {
        match self {
            Self::Port(port) => port.try_clone(),
            Self::Listener(listener) => loop {
                match sys::accept_host(listener) {
                    Ok(Some(call)) => return Ok(call.into()),
                    // A caller that is not the host, or one that is gone again.
                    Ok(None) => {}
                    Err(error) if is_the_callers(&error) => {}
                    Err(error) => return Err(error),
                }
            },
        }
    }

    /// What to do about a connection that has ended, `error` being why it did if there was one.
    ///
    /// # Errors
    /// When there will be no other.
    pub(super) fn ended(&self, error: Option<io::Error>) -> io::Result<()> {
        match (self, error) {
            (Self::Port(port), None) => wait_for_host(port),
            (Self::Port(_), Some(error)) => Err(error),
            (Self::Listener(_), _) => Ok(()),
        }
    }
}

/// Whether an error of accepting is that of one call, so that others may come.
fn is_the_callers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// Sleeps until the host's end is connected. Without edge triggering this would spin: a port without host polls as hung up.
fn wait_for_host(port: &File) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(port, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
    let mut events = [EpollEvent::empty()];
    loop {
        match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) if events[0].events() == EpollFlags::EPOLLHUP => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}
