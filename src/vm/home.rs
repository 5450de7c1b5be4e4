//! The directory of one VM on the host. Everything that a VM leaves on a disk is in it, and its name is the VM's id, so
//! that destroying what is there needs no memory of what was built.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::VmError;
use crate::host::cgroup::{Cgroup, Support};
use crate::host::lease::Lease;
use crate::host::process;
use crate::ids::VmId;

/// How long a killed monitor may take to vanish. It has gigabytes to unmap on a loaded host; then it is a leak to report.
const ABSENCE_LIMIT: Duration = Duration::from_secs(20);

/// Longest path of a Unix socket, from the kernel's `sockaddr_un`.
const MAX_SOCKET_PATH: usize = 107;

/// The directories of all VMs of a host.
#[derive(Debug, Clone)]
pub struct Homes {
    root: PathBuf,
    cgroups: Support,
}

/// One VM's directory, owned by this process.
#[derive(Debug)]
pub struct Home {
    id: VmId,
    path: PathBuf,
    cgroups: Support,
    /// Held until the directory is gone.
    lease: Option<Lease>,
}

/// A listening socket of the monitor and its path.
#[derive(Debug)]
pub struct Socket {
    pub path: PathBuf,
    pub listener: OwnedFd,
}

impl Homes {
    /// Homes below `state_dir`.
    pub fn open(state_dir: &Path) -> Result<Self, VmError> {
        let root = state_dir.join("vms");
        let longest = root.join(VmId::random().as_str()).join("monitor.sock");
        if longest.as_os_str().len() > MAX_SOCKET_PATH {
            let message = format!(
                "the path of a VM's sockets would be too long for the system (`{}`, more than {MAX_SOCKET_PATH} bytes)\n  \
                 hint: use a shorter state_dir",
                longest.display()
            );
            return Err(VmError::host("state_dir")(io::Error::other(message)));
        }
        fs::create_dir_all(&root).map_err(VmError::host(root.display().to_string()))?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700))
            .map_err(VmError::host("protecting VM directories"))?;
        Ok(Self { root, cgroups: crate::host::cgroup::detect() })
    }

    /// How the monitors are bounded on this host.
    pub fn cgroups(&self) -> &Support {
        &self.cgroups
    }

    /// Makes a directory for a new VM.
    pub fn create(&self, id: VmId) -> Result<Home, VmError> {
        let path = self.root.join(id.as_str());
        let describe = || VmError::host(format!("making the VM's directory `{}`", path.display()));
        fs::create_dir(&path).map_err(describe())?;
        let lease = Lease::try_take(&path).map_err(describe())?;
        Ok(Home { id, path: path.clone(), cgroups: self.cgroups.clone(), lease })
    }

    /// Directories whose owners are gone: what a crash left behind.
    pub fn abandoned(&self) -> io::Result<Vec<Home>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse::<VmId>().ok()) else { continue };
            if let Some(lease) = Lease::try_take(&path)? {
                found.push(Home { id, path, cgroups: self.cgroups.clone(), lease: Some(lease) });
            }
        }
        Ok(found)
    }

    /// Whether nothing of a VM is left: no directory, no process, no cgroup.
    pub fn is_absent(&self, id: &VmId) -> io::Result<bool> {
        let has_cgroup = match &self.cgroups {
            Support::V2(parent) => Cgroup::existing(parent, id.as_str()).is_some(),
            Support::Missing(_) => false,
        };
        Ok(!self.root.join(id.as_str()).exists() && !has_cgroup && process::marked(&marker(id))?.is_empty())
    }

    /// How many VMs have a directory, whoever owns them.
    pub fn count(&self) -> io::Result<usize> {
        Ok(fs::read_dir(&self.root)?.count())
    }
}

fn marker(id: &VmId) -> String {
    format!("dayfly-{id}")
}

impl Home {
    /// The VM whose home this is.
    pub fn id(&self) -> &VmId {
        &self.id
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A text that is in the arguments of every process of this VM and of no other.
    pub fn marker(&self) -> String {
        marker(&self.id)
    }

    /// A socket that listens before the monitor runs, so that nobody waits for it to appear.
    pub fn listen(&self, name: &str) -> Result<Socket, VmError> {
        let path = self.path.join(name);
        let listener = UnixListener::bind(&path).map_err(VmError::host(format!("socket `{}`", path.display())))?;
        Ok(Socket { path, listener: listener.into() })
    }

    /// Puts the monitor into a cgroup of its own, where the host has them.
    pub fn confine(&self, pid: u32, memory: u64, vcpus: u32) -> Result<(), VmError> {
        match &self.cgroups {
            Support::Missing(_) => Ok(()),
            Support::V2(parent) => Cgroup::create(parent, self.id.as_str(), memory, vcpus)
                .and_then(|group| group.add(pid))
                .map_err(VmError::host("the VM's cgroup")),
        }
    }

    /// Destroys whatever there is of this VM, from what exists and not from what was built: processes, cgroup, files. The
    /// VM is absent when this returns without an error. It may be called again after one.
    pub async fn remove(&mut self) -> Result<(), VmError> {
        process::kill_marked(&self.marker(), ABSENCE_LIMIT)
            .await
            .map_err(VmError::host("ending the VM's processes"))?;
        if let Support::V2(parent) = &self.cgroups
            && let Some(group) = Cgroup::existing(parent, self.id.as_str())
        {
            group.remove(ABSENCE_LIMIT).await.map_err(VmError::host("removing the VM's cgroup"))?;
        }
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(VmError::host("removing the VM's directory")(error))
            }
            _ => {
                self.lease = None;
                Ok(())
            }
        }
    }
}
