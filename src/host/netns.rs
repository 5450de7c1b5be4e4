//! Network namespaces without names: one lives as long as somebody has a descriptor of it or of a device in it.
//!
//! So nothing of one outlives its owner and the monitor of its VM, however they end: the kernel removes it, with its addresses,
//! rules and devices, and a link to the host loses its other end with it. A thread enters a namespace and ends there; no thread of
//! an async runtime ever does.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};

mod ioctls {
    nix::ioctl_write_ptr_bad!(
        set_interface,
        nix::request_code_write!(b'T', 202, size_of::<nix::libc::c_int>()),
        nix::libc::ifreq
    );
}

/// From which taps are made.
const TUN: &str = "/dev/net/tun";

/// A namespace, as long as this value or something in it lives.
#[derive(Debug)]
pub struct Namespace {
    handle: File,
}

impl Namespace {
    /// A new one, in which even loopback is down.
    ///
    /// # Errors
    /// When the kernel refuses it, as to anybody but root.
    pub fn new() -> io::Result<Self> {
        let handle = on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        })?;
        Ok(Self { handle })
    }

    /// Does something inside, on a thread of its own. Files below `/proc/sys/net` are those of the namespace there.
    ///
    /// # Errors
    /// Those of `work`, and when the namespace cannot be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_own_thread(|| {
            setns(&self.handle, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// The path by which a program that this process starts can enter it, as long as this value lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.handle.as_raw_fd()))
    }

    /// Makes a tap inside. Frames that are written to the descriptor arrive there, bare, without offloads: a monitor has little
    /// to say to the kernel.
    ///
    /// # Errors
    /// When `/dev/net/tun` cannot be opened or the device not be made.
    pub fn make_tap(&self, name: &str) -> io::Result<OwnedFd> {
        self.within(|| {
            let device = File::options().read(true).write(true).open(TUN)?;
            // SAFETY: `ifreq` is plain data for which all zeros is a valid value.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            let room = request.ifr_name.len() - 1;
            for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes().take(room)) {
                *slot = byte as libc::c_char;
            }
            request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
            // SAFETY: the kernel reads one `ifreq` from the pointer, which outlives the call; name and flags are set.
            unsafe { ioctls::set_interface(device.as_raw_fd(), &request) }?;
            Ok(device.into())
        })
    }
}

/// Whether this process's own namespace has an interface of that name.
pub fn has_interface(name: &str) -> bool {
    if_nametoindex(name).is_ok()
}

/// Whether this host can make taps, as far as that shows without making one.
pub fn has_taps() -> bool {
    File::options().read(true).write(true).open(TUN).is_ok()
}

/// Runs `work` where a change of the thread's namespaces changes nobody else's.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespace".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in a namespace panicked")))
    })
}

/// Tests that change the rules and links of a host, on a host of their own.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod elsewhere {
    use super::super::wire;
    use super::Namespace;

    /// Set where such a test plays.
    const INSIDE: &str = "DAYFLY_TEST_INSIDE";

    /// Whether the test of this name is on a host of its own. If not, it was played on one, or cannot be; the caller returns.
    pub(crate) fn is_here(name: &str) -> bool {
        let is_inside = std::env::var_os(INSIDE).is_some();
        if is_inside {
            std::fs::write(wire::FORWARDING, "1").unwrap();
        }
        let why = if Namespace::new().is_err() { Some("no network namespaces".to_owned()) } else { None };
        if let Some(why) = why.or_else(|| wire::lacking().filter(|_| is_inside)) {
            eprintln!("SKIPPED: {why}");
            return false;
        }
        if !is_inside {
            play(name);
        }
        is_inside
    }

    fn play(name: &str) {
        let mut command = std::process::Command::new("unshare");
        command.arg("--net").arg(std::env::current_exe().unwrap()).args([name, "--exact", "--nocapture"]);
        let done = command.env(INSIDE, "1").output().unwrap();
        let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
        said.lines()
            .filter(|line| line.contains("leaks:") || line.contains("SKIPPED"))
            .for_each(|line| eprintln!("{line}"));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_its_own_devices_and_goes_with_its_descriptors() {
        if !nix::unistd::geteuid().is_root() || !has_taps() {
            return;
        }
        let namespace = Namespace::new().unwrap();
        let tap = namespace.make_tap("dfy-test").unwrap();
        assert!(namespace.within(|| Ok(has_interface("dfy-test"))).unwrap());
        assert!(!has_interface("dfy-test"), "not on this host");
        assert!(namespace.make_tap("dfy-test").is_err(), "one monitor has it");
        drop(tap);
        assert!(!namespace.within(|| Ok(has_interface("dfy-test"))).unwrap());
    }
}
