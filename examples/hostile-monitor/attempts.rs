//! What is tried, and what became of it.

use std::fs::{self, File};
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::{Pid, Uid, chroot, ftruncate, setuid};

use super::Targets;

/// Threads that nothing but a limit keeps from being started.
const MANY_THREADS: usize = 1000;

/// Descriptors that are looked at.
const MAX_DESCRIPTORS: i32 = 1024;

type Attempt<'a> = (&'static str, Box<dyn FnOnce() -> io::Result<()> + 'a>);

/// Tries everything, one after the other; what takes rights away from this process comes last.
pub(super) fn run(targets: &Targets, arguments: &[String]) {
    // A file that may not grow sends a signal, which would end this process.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().ok();
    let all = files(targets, arguments).into_iter().chain(processes(targets)).chain(network(targets));
    for (name, attempt) in all.chain(privileges(targets)) {
        match attempt() {
            Ok(()) => println!("{name}: got it"),
            Err(error) => println!("{name}: refused ({})", short(&error)),
        }
    }
}

fn short(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{:?}", Errno::from_raw(number)),
        None => error.to_string(),
    }
}

/// The values of all `key=…` in the arguments.
fn named<'a>(arguments: &'a [String], key: &'a str) -> impl Iterator<Item = &'a str> {
    let parts = arguments.iter().flat_map(|argument| argument.split(','));
    parts.filter_map(move |part| part.strip_prefix(key)?.strip_prefix('='))
}

fn files<'a>(targets: &'a Targets, arguments: &'a [String]) -> Vec<Attempt<'a>> {
    let read = |key: &'static str| move || File::open(targets.get(key)).map(drop);
    let connect = |key: &'static str| move || UnixStream::connect(targets.get(key)).map(drop);
    let memory = named(arguments, "mem-path").next().unwrap_or("");
    let disks: Vec<i32> = named(arguments, "fd").filter_map(|number| number.parse().ok()).collect();
    vec![
        ("read the store", Box::new(read("store"))),
        ("read another VM's disk", Box::new(read("other-disk"))),
        ("connect to another VM's monitor", Box::new(connect("other-socket"))),
        ("connect to the control socket", Box::new(connect("control-socket"))),
        ("list the state directory", Box::new(|| fs::read_dir(targets.get("state")).map(drop))),
        ("read a secret of the host", Box::new(|| File::open("/etc/shadow").map(drop))),
        ("write to the shared memory file", Box::new(move || write_to(memory))),
        ("write to the shared image", Box::new(move || write_to_disk(disks.get(3)))),
        ("grow a disk without end", Box::new(move || grow_any(arguments))),
        ("make a file", Box::new(|| File::create(writable(targets).join("made")).map(drop))),
        ("make a directory", Box::new(|| fs::create_dir(writable(targets).join("made-too")))),
        ("change a library", Box::new(|| File::options().append(true).open("/etc/ld.so.cache").map(drop))),
        ("open a cgroup", Box::new(|| File::options().write(true).open(targets.get("cgroup")).map(drop))),
        ("find another descriptor", Box::new(|| stray_descriptor(arguments))),
    ]
}

/// Where something can be made, if anywhere.
fn writable(targets: &Targets) -> &Path {
    let place = Path::new(targets.get("scratch"));
    if place.is_dir() { place } else { Path::new("/") }
}

fn write_to(path: &str) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    file.write_all_at(b"changed for all", 0)
}

fn write_to_disk(descriptor: Option<&i32>) -> io::Result<()> {
    let Some(descriptor) = descriptor else { return Err(Errno::EBADF.into()) };
    File::from(borrow(*descriptor).try_clone_to_owned()?).write_all_at(b"changed for all", 0)
}

/// Whatever this process may write, far beyond its size.
fn grow_any(arguments: &[String]) -> io::Result<()> {
    const FAR: i64 = 1 << 50;
    let mut outcome = Errno::EBADF;
    for descriptor in named(arguments, "fd").filter_map(|number| number.parse().ok()) {
        match ftruncate(borrow(descriptor), FAR) {
            Ok(()) => return Ok(()),
            // Not open for writing; a socket.
            Err(Errno::EINVAL | Errno::EBADF) => {}
            Err(errno) => outcome = errno,
        }
    }
    Err(outcome.into())
}

/// One that no argument names, and is not one of the three that every process has.
fn stray_descriptor(arguments: &[String]) -> io::Result<()> {
    let given: Vec<i32> = named(arguments, "fd").filter_map(|number| number.parse().ok()).collect();
    let is_open = |number: &i32| fcntl(borrow(*number), FcntlArg::F_GETFD).is_ok();
    match (3..MAX_DESCRIPTORS).filter(|number| !given.contains(number)).find(is_open) {
        Some(_) => Ok(()),
        None => Err(Errno::EBADF.into()),
    }
}

#[allow(unsafe_code)]
fn borrow(descriptor: i32) -> BorrowedFd<'static> {
    // SAFETY: nothing in this process closes a descriptor that it was started with. One that is not open is what some of the
    // calls are to find out.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}

fn processes(targets: &Targets) -> Vec<Attempt<'_>> {
    let service = Pid::from_raw(targets.get("service-pid").parse().unwrap_or(i32::MAX));
    vec![
        ("see another process", Box::new(move || File::open(format!("/proc/{service}/environ")).map(drop))),
        ("signal the service", Box::new(move || Ok(kill(service, None)?))),
        ("signal any process", Box::new(|| Ok(kill(Pid::from_raw(-1), None)?))),
        ("read another's memory", Box::new(move || read_memory_of(service))),
        ("start a shell", Box::new(|| Command::new("/bin/sh").arg("-c").arg("exit").status().map(drop))),
        ("start threads without end", Box::new(start_threads)),
    ]
}

fn read_memory_of(pid: Pid) -> io::Result<()> {
    let mut byte = [0];
    let mut local = [io::IoSliceMut::new(&mut byte)];
    match process_vm_readv(pid, &mut local, &[RemoteIoVec { base: 0, len: 1 }]) {
        // There is nothing at that address, which only who may look learns.
        Ok(_) | Err(Errno::EFAULT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn start_threads() -> io::Result<()> {
    for _ in 0..MANY_THREADS {
        // It ends with the process.
        std::thread::Builder::new().stack_size(64 << 10).spawn(std::thread::park)?;
    }
    Ok(())
}

fn network(targets: &Targets) -> Vec<Attempt<'_>> {
    let of_family = |family| move || Ok(socket(family, SockType::Datagram, SockFlag::empty(), None).map(drop)?);
    vec![
        ("connect over loopback", Box::new(|| TcpStream::connect(targets.get("loopback")).map(drop))),
        ("send datagrams", Box::new(|| UdpSocket::bind("0.0.0.0:0").map(drop))),
        ("open a vsock", Box::new(of_family(AddressFamily::Vsock))),
        ("open a netlink socket", Box::new(of_family(AddressFamily::Netlink))),
        (
            "connect to an abstract socket",
            Box::new(|| UnixStream::connect_addr(&SocketAddr::from_abstract_name(targets.get("abstract"))?).map(drop)),
        ),
    ]
}

fn privileges(targets: &Targets) -> Vec<Attempt<'_>> {
    let node = PathBuf::from(targets.get("scratch")).join("node");
    let place = PathBuf::from(targets.get("scratch"));
    vec![
        (
            "raise a limit",
            Box::new(|| {
                let (_, hard) = getrlimit(Resource::RLIMIT_NPROC)?;
                Ok(setrlimit(Resource::RLIMIT_NPROC, hard.saturating_add(1), hard.saturating_add(1))?)
            }),
        ),
        ("become root", Box::new(|| Ok(setuid(Uid::from_raw(0))?))),
        ("make a device", Box::new(move || Ok(mknod(&node, SFlag::S_IFCHR, Mode::S_IRUSR, 0x103)?))),
        ("mount something", Box::new(move || mount_on(&place))),
        ("change the root", Box::new(|| Ok(chroot("/")?))),
        ("change the host's name", Box::new(|| Ok(nix::unistd::sethostname(targets.get("hostname"))?))),
        ("make a user namespace", Box::new(|| Ok(unshare(CloneFlags::CLONE_NEWUSER)?))),
        ("make a mount namespace", Box::new(|| Ok(unshare(CloneFlags::CLONE_NEWNS)?))),
    ]
}

fn mount_on(place: &Path) -> io::Result<()> {
    mount(None::<&str>, place, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    Ok(umount2(place, MntFlags::MNT_DETACH)?)
}
