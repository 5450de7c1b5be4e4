//! Who owns a directory of the host: whoever holds the lock on its lease file. The lock goes with the process, however it
//! ends, so a reaper can tell the living from the dead without asking anybody.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Name of the lease file in a directory.
pub const LEASE_FILE: &str = "lease";

/// Ownership of a directory, until dropped.
#[derive(Debug)]
pub struct Lease {
    _lock: Flock<File>,
}

impl Lease {
    /// Takes the directory if nobody has it. `None`: somebody lives in it.
    pub fn try_take(directory: &Path) -> io::Result<Option<Self>> {
        Self::lock(directory, FlockArg::LockExclusiveNonblock)
    }

    /// The same of a directory whose owner made its lease with it, for who only wants to know whether there is one: nothing is
    /// made where the owner may just be removing everything.
    ///
    /// # Errors
    /// Also when there is no lease.
    pub fn try_take_over(directory: &Path) -> io::Result<Option<Self>> {
        Self::lock_file(File::options().write(true).open(directory.join(LEASE_FILE))?, FlockArg::LockExclusiveNonblock)
    }

    /// Removes a directory with its lease at last: as long as there is anything in it, it has an owner.
    pub fn remove_directory(directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let removed = match entry.file_type()? {
                kind if kind.is_dir() => fs::remove_dir_all(entry.path()),
                _ if entry.file_name() == LEASE_FILE => Ok(()),
                _ => fs::remove_file(entry.path()),
            };
            // What is gone already shall not keep the rest.
            removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        }
        fs::remove_dir_all(directory)
    }

    /// Waits until nobody has it. Blocks the thread.
    pub fn wait(directory: &Path) -> io::Result<Self> {
        Self::lock(directory, FlockArg::LockExclusive)?.ok_or_else(|| io::Error::other("the lock was refused"))
    }

    /// Shares the directory with others who use it, so that nobody owns it. `None`: somebody owns it.
    pub fn try_share(directory: &Path) -> io::Result<Option<Self>> {
        Self::lock(directory, FlockArg::LockSharedNonblock)
    }

    fn lock(directory: &Path, how: FlockArg) -> io::Result<Option<Self>> {
        Self::lock_file(File::options().create(true).truncate(false).write(true).open(directory.join(LEASE_FILE))?, how)
    }

    fn lock_file(file: File, how: FlockArg) -> io::Result<Option<Self>> {
        match Flock::lock(file, how) {
            Ok(lock) => Ok(Some(Self { _lock: lock })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }
}
