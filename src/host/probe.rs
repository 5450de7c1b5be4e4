//! Questions to the kernel that only trying answers: is there a KVM behind the device, can this file system share blocks
//! between files, is the clock kept right.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

nix::ioctl_none!(
    /// Asks an open `/dev/kvm` which version of the interface it has.
    kvm_get_api_version, 0xAE, 0x00
);

nix::ioctl_write_int!(
    /// Makes a file share all blocks of another.
    ficlone, 0x94, 9
);

/// The one version of KVM's interface that is in use since Linux 2.6.22.
pub const KVM_API_VERSION: i32 = 12;

/// Opens `/dev/kvm` as a monitor does and asks for its version.
pub fn kvm_version() -> io::Result<i32> {
    let device = File::options().read(true).write(true).open("/dev/kvm")?;
    // SAFETY: the descriptor is open during the call, which takes no argument.
    Ok(unsafe { kvm_get_api_version(device.as_raw_fd()) }?)
}

/// Whether files in `directory` can share blocks (reflinks), tried with two files that are gone afterwards.
pub fn can_reflink(directory: &Path) -> io::Result<bool> {
    use std::io::Write;
    let (mut from, to) = (tempfile::tempfile_in(directory)?, tempfile::tempfile_in(directory)?);
    from.write_all(&[1; 4096])?;
    let source = libc::c_ulong::try_from(from.as_raw_fd()).expect("an open descriptor is not negative");
    // SAFETY: both descriptors are open during the call; its argument is a descriptor's number.
    match unsafe { ficlone(to.as_raw_fd(), source) } {
        Ok(_) => Ok(true),
        Err(Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EINVAL | Errno::ENOSYS | Errno::EXDEV) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the kernel's clock is kept in step with others, as whoever keeps it has told the kernel.
pub fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: the structure is plain numbers, for all of which zero is a value; zero modes only read.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a structure of this type that lives during the call.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    Errno::result(result)?;
    Ok(result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        can_reflink(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(can_reflink(&directory.path().join("absent")).is_err());
    }
}
