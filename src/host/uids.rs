//! User ids for the programs that run strangers' machines: no two that live at the same time have one in common.
//!
//! An id is a file of its number. Whoever uses it holds a lock on it, which goes with that process however it ends; what the file
//! says, whose it is, stays until the absence of every process of that id was seen. So an id is free when nobody holds it *and*
//! its file says so. What a crash left is found by it, and where there is no file, as somebody removed it, processes are looked for: a process may write what it likes over its own command line, but
//! not change its user. One directory serves all services and commands of a host, whatever their configurations say.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::process;

/// Where the files are, on a file system that is empty after the host's start, as its processes are gone then.
const DIRECTORY: &str = "/run/dayfly/uids";

/// The longest path that a file may name, of the kernel's `PATH_MAX`.
const MAX_HOLDER: u64 = 4096;

/// User ids that nothing else on this host uses; group ids of the same numbers go with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidRange {
    pub first: u32,
    /// How many; that many monitors can run at a time.
    pub count: u32,
}

impl Default for UidRange {
    /// Above those of people and of subordinate ids that distributions hand out from 100000 on, 65536 for each of a few users.
    fn default() -> Self {
        Self { first: 900_000, count: 4096 }
    }
}

/// The ids of one range.
#[derive(Debug, Clone)]
pub struct Uids {
    directory: PathBuf,
    range: UidRange,
}

/// One id, until it is given back. Dropping it does not do that: then whoever comes next has to see that it is not in use.
#[derive(Debug)]
pub struct UidLease {
    uid: u32,
    file: Flock<File>,
}

/// What a file says of its id.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    /// It is new, and so may its directory be.
    Nothing,
    /// Whoever had it has given it back.
    Free,
    Named(PathBuf),
}

/// What the file of a free id says; no path is like that.
const FREE: &[u8] = b"free";

impl Uids {
    /// The ids of this host.
    ///
    /// # Errors
    /// When the directory for them cannot be made, as for anybody but root.
    pub fn open(range: UidRange) -> io::Result<Self> {
        Self::open_in(Path::new(DIRECTORY), range)
    }

    fn open_in(directory: &Path, range: UidRange) -> io::Result<Self> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", directory.display())))?;
        Ok(Self { directory: directory.to_owned(), range })
    }

    /// A group of which all users of the range can be.
    pub fn group(&self) -> u32 {
        self.range.first
    }

    /// Takes the first id that is free for `holder`, the directory of a VM.
    ///
    /// # Errors
    /// When all of them are in use, or the files cannot be written.
    pub fn lease(&self, holder: &Path) -> io::Result<UidLease> {
        for uid in (0..self.range.count).filter_map(|offset| self.range.first.checked_add(offset)) {
            let Some((mut lease, known)) = self.try_lock(uid)? else { continue };
            // A dead owner's, which nobody has looked after yet; or its file was removed.
            if known != Known::Free && process::is_in_use(uid)? {
                continue;
            }
            lease.write(holder.as_os_str().as_bytes())?;
            return Ok(lease);
        }
        let UidRange { first, count } = self.range;
        Err(io::Error::other(format!(
            "all {count} user ids from {first} on are in use\n  hint: `[vm] uids` says which there are"
        )))
    }

    /// The ids of dead owners, each with the directory that it was used for.
    pub fn abandoned(&self) -> io::Result<Vec<(UidLease, PathBuf)>> {
        let locked = self.numbers()?.into_iter().map(|uid| self.try_lock(uid));
        locked
            .filter_map(|found| {
                let abandoned = |(lease, known)| match known {
                    Known::Named(holder) => Some((lease, holder)),
                    Known::Nothing | Known::Free => None,
                };
                found.map(|found| found.and_then(abandoned)).transpose()
            })
            .collect()
    }

    /// All ids that are used for something or were, each with the directory.
    pub fn named(&self) -> io::Result<Vec<(u32, PathBuf)>> {
        let look = |uid| {
            Ok(match read(&mut File::open(self.file(uid))?)? {
                Known::Named(holder) => Some((uid, holder)),
                Known::Nothing | Known::Free => None,
            })
        };
        self.numbers()?.into_iter().map(look).filter_map(io::Result::transpose).collect()
    }

    fn numbers(&self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        Ok(numbers)
    }

    fn file(&self, uid: u32) -> PathBuf {
        self.directory.join(uid.to_string())
    }

    /// `None`: its owner lives.
    fn try_lock(&self, uid: u32) -> io::Result<Option<(UidLease, Known)>> {
        let file = File::options().create(true).truncate(false).read(true).write(true).open(self.file(uid))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let known = read(&mut file)?;
                Ok(Some((UidLease { uid, file }, known)))
            }
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }
}

fn read(file: &mut File) -> io::Result<Known> {
    let mut bytes = Vec::new();
    file.take(MAX_HOLDER).read_to_end(&mut bytes)?;
    Ok(match bytes.as_slice() {
        b"" => Known::Nothing,
        FREE => Known::Free,
        _ => Known::Named(PathBuf::from(std::ffi::OsString::from_vec(bytes))),
    })
}

impl UidLease {
    /// The user's and the group's number.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Gives the id back. The caller has seen that no process of it is left.
    pub fn release(mut self) -> io::Result<()> {
        self.write(FREE)
    }

    fn write(&mut self, holder: &[u8]) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(holder)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const RANGE: UidRange = UidRange { first: 3_000_000_000, count: 2 };

    #[test]
    fn an_id_is_one_users_until_it_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let uids = Uids::open_in(directory.path(), RANGE).unwrap();
        let first = uids.lease(Path::new("/vms/a")).unwrap();
        let second = uids.lease(Path::new("/vms/b")).unwrap();
        assert_eq!([first.uid(), second.uid()], [RANGE.first, RANGE.first + 1]);
        assert!(uids.lease(Path::new("/vms/c")).unwrap_err().to_string().contains("all 2 user ids"));
        assert!(uids.abandoned().unwrap().is_empty());
        first.release().unwrap();
        assert_eq!(uids.named().unwrap(), [(RANGE.first + 1, PathBuf::from("/vms/b"))]);
        assert_eq!(uids.lease(Path::new("/vms/d")).unwrap().uid(), RANGE.first);
    }

    /// As the ids are the numbers of links to VMs, too, neither is ever used up.
    #[test]
    fn ten_thousand_users_one_after_the_other_need_as_many_ids_as_live_together() {
        let directory = tempfile::tempdir().unwrap();
        let uids = Uids::open_in(directory.path(), UidRange { first: 3_000_000_000, count: 20 }).unwrap();
        let mut alive = std::collections::VecDeque::new();
        for number in 0..10_000 {
            if alive.len() == 20 {
                let oldest: UidLease = alive.pop_front().unwrap();
                oldest.release().unwrap();
            }
            let lease = uids.lease(Path::new(&format!("/vms/{number}"))).unwrap();
            assert!(alive.iter().all(|other| other.uid() != lease.uid()));
            alive.push_back(lease);
        }
        alive.into_iter().for_each(|lease| lease.release().unwrap());
        assert!(uids.named().unwrap().is_empty());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 20);
    }

    #[test]
    fn what_a_dead_owner_had_is_found_and_used_again_only_without_processes() {
        let directory = tempfile::tempdir().unwrap();
        // This test's own user runs something: this test.
        let ours = nix::unistd::geteuid().as_raw();
        let uids = Uids::open_in(directory.path(), UidRange { first: ours, count: 2 }).unwrap();
        let lease = uids.lease(Path::new("/vms/a")).unwrap();
        assert_eq!(lease.uid(), ours + 1, "somebody may have removed the file of a user that is in use");
        lease.release().unwrap();
        fs::write(directory.path().join(ours.to_string()), FREE).unwrap();
        drop(uids.lease(Path::new("/vms/a")).unwrap());
        let found = uids.abandoned().unwrap();
        assert_eq!((found[0].0.uid(), found[0].1.as_path()), (ours, Path::new("/vms/a")));
        drop(found);
        assert_eq!(uids.lease(Path::new("/vms/b")).unwrap().uid(), ours + 1, "its processes may live");
    }
}
