//! Carries out the steps of a plan, in a process that has just been forked and is about to become a program.
//!
//! Invariant: nothing here allocates, locks or panics. The process is a copy of one thread of a program with many, and what the
//! others held at that moment is held for ever.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc::{self, c_int, c_ulong, sock_filter};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::setrlimit;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, mkdir, pivot_root, sethostname, write};

use super::plan::Step;

/// All but the one of processes, which a process can only be born into.
const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// Of the root's file system. It holds directories and empty files only; what is shown is mounted over them.
const ROOT_OPTIONS: &CStr = c"size=256k,nr_inodes=1024,mode=0755";

/// Everything that the steps need beside themselves.
pub(super) struct Entry {
    pub(super) steps: Vec<Step>,
    pub(super) filter: Vec<sock_filter>,
    /// Readable when the parent has ended.
    pub(super) parent: OwnedFd,
    /// The group's list of processes, open for writing.
    pub(super) group: Option<OwnedFd>,
    /// Takes the number of the step that failed, or one byte with the filter's listener.
    pub(super) report: OwnedFd,
}

impl Entry {
    /// Takes the steps; tells the number of the one that fails.
    pub(super) fn enter(&self) -> io::Result<()> {
        for (number, step) in self.steps.iter().enumerate() {
            if let Err(errno) = self.take(step) {
                self.tell(number as u8, None);
                return Err(errno.into());
            }
        }
        Ok(())
    }

    /// By hand, because what would do it for us allocates.
    fn tell(&self, number: u8, descriptor: Option<RawFd>) {
        let mut bytes = [number];
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // Aligned as the header in it has to be.
        let mut room = [0u64; 4];
        // SAFETY: all fields are numbers or pointers, for which zero is a value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        if let Some(descriptor) = descriptor {
            let payload = size_of::<RawFd>() as u32;
            message.msg_control = room.as_mut_ptr().cast();
            // SAFETY: the macros compute with numbers. One header and one descriptor take 24 of the 32 bytes, and `room` lives
            // as long as `message` is used.
            unsafe {
                message.msg_controllen = libc::CMSG_SPACE(payload) as usize;
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = libc::SCM_RIGHTS;
                (*header).cmsg_len = libc::CMSG_LEN(payload) as usize;
                libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(descriptor);
            }
        }
        // SAFETY: the message and all that it points to live until the call returns. Who does not listen needs no answer.
        unsafe { libc::sendmsg(self.report.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    }

    fn take(&self, step: &Step) -> nix::Result<()> {
        match step {
            Step::EndWithParent => self.end_with_parent(),
            Step::EnterGroup => self.group.as_ref().map_or(Ok(()), |group| write(group, b"0").map(drop)),
            Step::LeaveNamespaces => leave_namespaces(),
            Step::KeepMountsPrivate => change_mount(c"/", MsFlags::MS_REC | MsFlags::MS_PRIVATE),
            Step::MountRoot(at) => {
                // The service's own may hide what is made from the user that is to find it.
                umask(Mode::from_bits_truncate(0o022));
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
                mount(Some(c"root"), at.as_c_str(), Some(c"tmpfs"), flags, Some(ROOT_OPTIONS))
            }
            Step::GoTo(directory) => chdir(directory.as_c_str()),
            Step::MakeDirectory(path) => mkdir(path.as_c_str(), Mode::from_bits_truncate(0o755)),
            Step::MakeFile(path) => {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                open(path.as_c_str(), flags, Mode::from_bits_truncate(0o644)).map(drop)
            }
            Step::Show { from, at } => {
                let (none, flags) = (None::<&CStr>, MsFlags::MS_BIND);
                mount(Some(from.as_c_str()), at.as_c_str(), none, flags, none)
            }
            Step::SealRoot => seal(c"."),
            Step::SwitchRoot => {
                // The old root is stacked on the new one, and taken off again.
                pivot_root(c".", c".")?;
                umount2(c".", MntFlags::MNT_DETACH)?;
                chdir(c"/")
            }
            Step::Limit(resource, value) => setrlimit(*resource, *value, *value),
            Step::KeepPagesSmall => prctl(libc::PR_SET_THP_DISABLE, 1),
            Step::DropCapabilities => drop_capabilities(),
            Step::Become(uid) => become_user(*uid),
            Step::RefusePrivileges => prctl(libc::PR_SET_NO_NEW_PRIVS, 1),
            Step::Filter => self.install_filter(),
        }
    }

    fn end_with_parent(&self) -> nix::Result<()> {
        prctl(libc::PR_SET_PDEATHSIG, Signal::SIGKILL as c_ulong)?;
        // A parent that ended before the line above gives no signal any more.
        let mut parent = [PollFd::new(borrowed(&self.parent), PollFlags::POLLIN)];
        if poll(&mut parent, PollTimeout::ZERO)? == 0 { Ok(()) } else { Err(Errno::ESRCH) }
    }

    /// Hands the listener to the parent; the exec closes it here.
    fn install_filter(&self) -> nix::Result<()> {
        let length = self.filter.len() as u16;
        let program = libc::sock_fprog { len: length, filter: self.filter.as_ptr().cast_mut() };
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        // SAFETY: the program and its instructions live until the call returns, and the kernel only reads them.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
        let listener = Errno::result(result)? as RawFd;
        // SAFETY: the kernel has just given this descriptor to us, and to nobody else.
        let listener = unsafe { OwnedFd::from_raw_fd(listener) };
        self.tell(0, Some(listener.as_raw_fd()));
        Ok(())
    }
}

fn borrowed(descriptor: &OwnedFd) -> BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(descriptor)
}

fn leave_namespaces() -> nix::Result<()> {
    unshare(NAMESPACES)?;
    // The host's name protects nothing; where it cannot be changed, such as below systemd's ProtectHostname, it stays.
    sethostname("vm").ok();
    Ok(())
}

fn change_mount(at: &CStr, flags: MsFlags) -> nix::Result<()> {
    let none = None::<&CStr>;
    mount(none, at, none, flags, none)
}

/// Makes a tree of mounts read-only, without effect for setuid programs in it.
fn seal(tree: &CStr) -> nix::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path and the attributes live until the call returns, and the size is theirs.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            tree.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// From every set: the one that programs can never get back, those that they would inherit, and our own with the user.
fn drop_capabilities() -> nix::Result<()> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            // Beyond the last one that this kernel has.
            Err(Errno::EINVAL) => break,
            dropped => dropped?,
        }
    }
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong)
}

/// Real, effective and saved ids, and no other groups. The last capabilities go with user 0. Not by the C library's functions,
/// which tell all threads, and those are on the other side of the fork.
fn become_user(uid: u32) -> nix::Result<()> {
    // SAFETY: the calls take numbers, and a null pointer for a list of no groups.
    let calls = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
            libc::syscall(libc::SYS_setresgid, uid, uid, uid),
            libc::syscall(libc::SYS_setresuid, uid, uid, uid),
        ]
    };
    calls.into_iter().try_for_each(|result| Errno::result(result).map(drop))
}

fn prctl(option: c_int, value: c_ulong) -> nix::Result<()> {
    let zero: c_ulong = 0;
    // SAFETY: all options that are used here take numbers only.
    Errno::result(unsafe { libc::prctl(option, value, zero, zero, zero) }).map(drop)
}
