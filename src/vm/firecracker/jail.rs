//! The directory that becomes Firecracker's root, and what is put into it.
//!
//! The jailer makes it the jailed program's own, so that whatever lies in it may be exchanged by a program that was taken over.
//! Therefore the host reaches into it only by [`Root`], which follows no link, and only for sockets and pipes. Files are hard
//! links to ones that lie elsewhere: those the VM may only read belong to the host's user, and those that it writes are
//! handed over for its lifetime and taken back after it, by descriptors that were opened before. All VMs are of one group, which
//! may read what is not for everybody; a VM gets at no more of that than its jail has links to.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Uid, fchownat, mkfifoat};
use tokio::net::UnixStream;

use super::pipe::Pipe;

/// Where in a VM's home the jailer makes jails.
const DIRECTORY: &str = "jail";

/// Bits of a file's mode.
const EVERYBODY_READS: u32 = 0o004;
const GROUP_READS: u32 = 0o040;

/// A jail from outside.
#[derive(Debug)]
pub(super) struct Jail {
    base: PathBuf,
    path: PathBuf,
    root: Root,
    owner: u32,
    group: u32,
    handed_over: Vec<File>,
}

/// The root's directory, held open.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Jail {
    /// Makes the directory in which the jailer will put `executable` for the VM `id`, which runs as `owner` and in `group`.
    pub(super) fn make(home: &Path, id: &str, executable: &Path, owner: u32, group: u32) -> io::Result<Self> {
        let base = home.join(DIRECTORY);
        let name = executable.file_name().unwrap_or_default();
        let path = base.join(name).join(id).join("root");
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&path)?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = Root(open(&path, flags, Mode::empty())?);
        Ok(Self { base, path, root, owner, group, handed_over: Vec::new() })
    }

    /// What the jailer is told to make jails in.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// Another handle on the root.
    pub(super) fn root(&self) -> io::Result<Root> {
        self.root.0.try_clone().map(Root)
    }

    /// Shows the VM a file that it only reads.
    ///
    /// # Errors
    /// Also when the file is on another file system.
    pub(super) fn show(&self, file: &Path, name: &str) -> io::Result<()> {
        self.let_group_read(file)?;
        self.link(file, name)
    }

    fn let_group_read(&self, file: &Path) -> io::Result<()> {
        let known = fs::metadata(file)?;
        if known.mode() & EVERYBODY_READS != 0 {
            return Ok(());
        }
        if known.gid() != self.group {
            chown(file, None, Some(self.group))?;
        }
        match known.mode() & GROUP_READS {
            0 => fs::set_permissions(file, fs::Permissions::from_mode(known.mode() | GROUP_READS)),
            _ => Ok(()),
        }
    }

    fn link(&self, file: &Path, name: &str) -> io::Result<()> {
        fs::hard_link(file, self.path.join(name)).map_err(|error| match error.kind() {
            io::ErrorKind::CrossesDevices => {
                io::Error::new(error.kind(), format!("{error}\n  hint: {ONE_FILE_SYSTEM}"))
            }
            _ => error,
        })
    }

    /// Gives the VM a file to write. It belongs to the VM's user until [`Jail::take_back`].
    pub(super) fn hand_over(&mut self, file: &Path, name: &str) -> io::Result<()> {
        self.link(file, name)?;
        self.handed_over.push(File::open(file)?);
        chown(file, Some(self.owner), None)
    }

    /// A pipe that Firecracker writes lines to, and the reading end of it.
    pub(super) fn pipe(&self, name: &str) -> io::Result<Pipe> {
        let root = &self.root.0;
        mkfifoat(root, name, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let reader = openat(root, name, flags, Mode::empty())?;
        fchownat(root, name, Some(Uid::from_raw(self.owner)), None, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(Pipe::new(reader))
    }

    /// Makes what the VM wrote the host's again. To be called when its processes have ended: files outlive a VM, and users are
    /// used again.
    pub(super) fn take_back(&mut self) -> io::Result<()> {
        let user = nix::unistd::geteuid().as_raw();
        self.handed_over.drain(..).try_for_each(|file| fchown(&file, Some(user), None))
    }
}

/// What to do when a jail cannot have a link to a file.
const ONE_FILE_SYSTEM: &str = "Firecracker needs `state_dir`, `images_dir` and caches on one file system";

impl Root {
    /// Connects to a socket that the jailed program listens on. However long the path is, and nowhere else: a link in its place
    /// is refused.
    pub(super) async fn connect(&self, name: &str) -> io::Result<UnixStream> {
        let socket = openat(&self.0, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        let kind = SFlag::from_bits_truncate(fstat(&socket)?.st_mode) & SFlag::S_IFMT;
        if kind != SFlag::S_IFSOCK {
            return Err(io::Error::other(format!("`{name}` in the jail is no socket")));
        }
        UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn jail(home: &Path) -> Jail {
        let (user, group) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Jail::make(home, "dayfly-vm-1", Path::new("/usr/bin/firecracker"), user, group).unwrap()
    }

    #[test]
    fn what_is_shown_is_the_file_itself_under_another_name() {
        let home = tempfile::tempdir().unwrap();
        let jail = jail(home.path());
        fs::write(home.path().join("volume"), "bytes").unwrap();
        jail.show(&home.path().join("volume"), "cache").unwrap();
        let inside = home.path().join("jail/firecracker/dayfly-vm-1/root/cache");
        assert_eq!(fs::metadata(inside).unwrap().ino(), fs::metadata(home.path().join("volume")).unwrap().ino());
        assert!(jail.show(&home.path().join("volume"), "cache").is_err(), "one name, one file");
        let private = home.path().join("memory");
        fs::write(&private, "").unwrap();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).unwrap();
        jail.show(&private, "memory").unwrap();
        assert_eq!(fs::metadata(&private).unwrap().mode() & 0o777, 0o640);
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_a_socket_leads_nowhere() {
        let home = tempfile::tempdir().unwrap();
        let jail = jail(home.path());
        let _service = UnixListener::bind(home.path().join("control.sock")).unwrap();
        symlink(home.path().join("control.sock"), jail.path.join("vsock.sock")).unwrap();
        fs::write(jail.path.join("api.sock"), "").unwrap();
        for name in ["vsock.sock", "api.sock", "absent"] {
            assert!(jail.root().unwrap().connect(name).await.is_err(), "{name}");
        }
        let _own = UnixListener::bind(jail.path.join("own.sock")).unwrap();
        jail.root().unwrap().connect("own.sock").await.unwrap();
    }

    #[test]
    fn what_a_vm_wrote_is_the_hosts_again_wherever_it_was_moved() {
        let home = tempfile::tempdir().unwrap();
        let is_root = nix::unistd::geteuid().is_root();
        let mut jail =
            Jail { owner: if is_root { 900_000 } else { nix::unistd::geteuid().as_raw() }, ..jail(home.path()) };
        let scratch = home.path().join("scratch");
        fs::write(&scratch, "").unwrap();
        jail.hand_over(&scratch, "scratch").unwrap();
        assert_eq!(fs::metadata(&scratch).unwrap().uid(), jail.owner);
        fs::rename(&scratch, home.path().join("kept")).unwrap();
        jail.take_back().unwrap();
        assert_eq!(fs::metadata(home.path().join("kept")).unwrap().uid(), nix::unistd::geteuid().as_raw());
    }
}
