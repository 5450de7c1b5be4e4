//! Extended attributes of files, which Rust's library does not set.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;

/// Gives an open file or directory an attribute, in the place of one with that name.
///
/// # Errors
/// When the file system has none of that kind, or this process may not set it: those of `security.` are root's.
pub fn set(file: &File, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the kernel reads the name to its zero byte and `value.len()` bytes of the value.
    let result = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Ok(Errno::result(result).map(drop)?)
}

/// An attribute of an open file or directory, if it has it and the value has at most `limit` bytes.
pub fn get(file: &File, name: &CStr, limit: usize) -> Option<Vec<u8>> {
    let mut value = vec![0; limit];
    // SAFETY: the descriptor is open, and the kernel writes at most `value.len()` bytes to the value.
    let length = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}
