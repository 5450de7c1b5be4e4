//! The system calls that have no safe wrapper. All of the agent's `unsafe` is here.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::SigSet;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, accept4, bind, getpeername, listen, socket,
};

use crate::protocol::card;

mod ioctls {
    nix::ioctl_write_ptr_bad!(add_entropy, nix::request_code_write!(b'R', 0x03, 8), super::EntropyPool);
    nix::ioctl_none!(reseed, b'R', 0x07);
    nix::ioctl_none_bad!(flush_buffers, nix::request_code_none!(0x12, 97));
    nix::ioctl_readwrite!(trim, b'X', 121, super::TrimRange);
    nix::ioctl_write_ptr_bad!(set_interface_flags, nix::libc::SIOCSIFFLAGS, nix::libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_interface_address, nix::libc::SIOCSIFADDR, nix::libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_interface_mask, nix::libc::SIOCSIFNETMASK, nix::libc::ifreq);
    nix::ioctl_write_ptr_bad!(add_route, nix::libc::SIOCADDRT, nix::libc::rtentry);
}

/// `struct rand_pool_info` with its flexible array filled.
#[repr(C)]
struct EntropyPool {
    entropy_bits: libc::c_int,
    size: libc::c_int,
    bytes: [u8; 32],
}

/// Credits `bytes` to the kernel's pool and makes the generator use them at once. A generator that is ready does not
/// reseed by itself for minutes, so both steps are needed for two clones to differ.
pub(super) fn renew_entropy(bytes: [u8; 32]) -> io::Result<()> {
    let device = File::options().write(true).open("/dev/urandom")?;
    let pool = EntropyPool { entropy_bits: 256, size: 32, bytes };
    // SAFETY: the kernel reads `size` bytes behind the two integers, all inside `pool`, which outlives the call.
    unsafe { ioctls::add_entropy(device.as_raw_fd(), &pool) }?;
    // SAFETY: takes no argument; only acts on the generator behind the open descriptor.
    unsafe { ioctls::reseed(device.as_raw_fd()) }?;
    Ok(())
}

/// Drops what the kernel has cached of a block device: after a restore the file behind it may be another one.
pub(super) fn drop_block_buffers(device: &File) -> io::Result<()> {
    // SAFETY: takes no argument; the descriptor is open for the duration of the call.
    unsafe { ioctls::flush_buffers(device.as_raw_fd()) }?;
    Ok(())
}

/// `struct fstrim_range`.
#[repr(C)]
pub(super) struct TrimRange {
    start: u64,
    length: u64,
    smallest: u64,
}

/// Tells the disk under a file system which of its blocks hold nothing any more.
pub(super) fn trim(mounted: &File) -> io::Result<()> {
    let mut range = TrimRange { start: 0, length: u64::MAX, smallest: 0 };
    // SAFETY: the kernel reads and writes one `fstrim_range`, which outlives the call; the descriptor is open.
    unsafe { ioctls::trim(mounted.as_raw_fd(), &raw mut range) }?;
    Ok(())
}

/// Loads a kernel module from an open file. One that is loaded already is fine.
pub(super) fn load_module(module: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open, the parameters are an empty NUL-terminated string, and the kernel copies both.
    let result = unsafe { libc::syscall(libc::SYS_finit_module, module.as_raw_fd(), c"".as_ptr(), 0) };
    match Errno::result(result) {
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes the program start with no signal blocked. It would inherit the agent's mask, in which `SIGCHLD` is blocked, and a
/// shell that waits for its children then waits for ever.
pub(super) fn start_with_all_signals(command: &mut Command) {
    let unblock = || SigSet::empty().thread_set_mask().map_err(io::Error::from);
    // SAFETY: between fork and exec the closure makes one system call that is async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(unblock) };
}

/// Lets this thread wait for its turn when it wakes up, instead of interrupting who runs. Where that is refused nothing but
/// speed is lost.
pub(super) fn wait_for_turn() {
    // SAFETY: `sched_param` is plain data for which all zeros is a valid value, and the one that this policy wants.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: 0 is this thread; the kernel reads one `sched_param` from the pointer, which outlives the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
}

/// Brings the loopback interface up.
pub(super) fn raise_loopback() -> io::Result<()> {
    raise(&std::net::UdpSocket::bind("0.0.0.0:0")?, "lo")
}

/// Gives a card the addresses that every guest's has, and everything beyond loopback its way through it.
pub(super) fn configure_card(name: &str) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let mask = Ipv4Addr::from_bits(u32::MAX << (32 - u32::from(card::PREFIX)));
    let mut request = interface(name);
    request.ifr_ifru.ifru_addr = address_of(card::GUEST);
    // SAFETY: the kernel reads one `ifreq` from the pointer, which outlives the call; name and address are set.
    unsafe { ioctls::set_interface_address(socket.as_raw_fd(), &request) }?;
    request.ifr_ifru.ifru_netmask = address_of(mask);
    // SAFETY: as above, with the mask.
    unsafe { ioctls::set_interface_mask(socket.as_raw_fd(), &request) }?;
    raise(&socket, name)?;
    // SAFETY: `rtentry` is plain data for which all zeros is a valid value.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = address_of(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = address_of(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = address_of(card::GATEWAY);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: the kernel reads one `rtentry` from the pointer, which outlives the call; it names no device by pointer.
    unsafe { ioctls::add_route(socket.as_raw_fd(), &route) }?;
    Ok(())
}

fn raise(socket: &std::net::UdpSocket, name: &str) -> io::Result<()> {
    let mut request = interface(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the kernel reads one `ifreq` from the pointer, which outlives the call; name and flags are set.
    unsafe { ioctls::set_interface_flags(socket.as_raw_fd(), &request) }?;
    Ok(())
}

/// A request about an interface, with its name.
fn interface(name: &str) -> libc::ifreq {
    // SAFETY: `ifreq` is plain data for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes().take(room)) {
        *slot = byte as libc::c_char;
    }
    request
}

/// As the kernel's older interfaces take addresses: a `sockaddr_in`, whose address stands behind the port.
fn address_of(address: Ipv4Addr) -> libc::sockaddr {
    const AT: usize = 2;
    let mut data = [0; 14];
    for (slot, byte) in data[AT..].iter_mut().zip(address.octets()) {
        *slot = byte as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

/// Calls that wait to be taken. The host makes one at a time, and gives up those that are not answered.
const WAITING_CALLS: i32 = 8;

/// Listens on a port of the vsock, whatever number the guest has or will have.
pub(super) fn listen_on_vsock(port: u32) -> io::Result<OwnedFd> {
    let listener = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_ANY, port))?;
    listen(&listener, Backlog::new(WAITING_CALLS)?)?;
    Ok(listener)
}

/// Waits for a call; none if it is not the host's.
pub(super) fn accept_host(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let call = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel has just given this descriptor to us, and to nobody else.
    let call = unsafe { OwnedFd::from_raw_fd(call) };
    let caller = getpeername::<VsockAddr>(call.as_raw_fd())?;
    Ok(Some(call).filter(|_| caller.cid() == libc::VMADDR_CID_HOST))
}
