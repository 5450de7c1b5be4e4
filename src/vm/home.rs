//! The directory of one VM on the host. Everything that a VM leaves on a disk is in it, and its name is the VM's id, so
//! that destroying what is there needs no memory of what was built.
//!
//! ```text
//!  .new-ID ──► ID ──► .gone-ID ──► nothing
//! ```
//! A directory gets its name only with its owner's lock in it, and loses the name before its files: another process that
//! looks for what dead owners left never finds one without its lock that somebody lives in.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::unistd::Pid;
use sha2::{Digest, Sha256};

use super::VmError;
use super::confinement::{Cell, Confinement, Settings};
use super::spec::{Disks, Shape};
use crate::host::cgroup::{Cgroup, Limits, MONITOR_OVERHEAD, Support};
use crate::host::lease::Lease;
use crate::host::process::{self, Kin};
use crate::host::uids::UidLease;
use crate::host::wire::{self, Wire};
use crate::ids::VmId;
use crate::lifecycle::{Lifecycle, Step};

/// How long a killed monitor may take to vanish. It has gigabytes to unmap on a loaded host; then it is a leak to report.
const ABSENCE_LIMIT: Duration = Duration::from_secs(20);

/// Longest path of a Unix socket, from the kernel's `sockaddr_un`.
const MAX_SOCKET_PATH: usize = 107;

/// Where in the state directory the homes are.
const DIRECTORY: &str = "vms";

/// Before the id of a directory that is not locked yet, and of one that is being deleted.
const NEW: &str = ".new-";
const GONE: &str = ".gone-";

/// Before the id in the marker of a VM's processes.
const MARKER: &str = "dayfly-";

/// The directory in a home on which its monitor mounts its root.
const ROOT: &str = "root";

/// How often another process may take a new directory for abandoned before that is an error.
const MAX_ATTEMPTS: usize = 8;

/// The directories of all VMs of a host.
#[derive(Debug, Clone)]
pub struct Homes {
    root: PathBuf,
    /// The same place without symbolic links, as the kernel names it.
    resolved: PathBuf,
    confinement: Confinement,
}

/// One VM's directory, owned by this process.
#[derive(Debug)]
pub struct Home {
    id: VmId,
    path: PathBuf,
    /// The directory's name without symbolic links, as long as it has one.
    resolved: PathBuf,
    confinement: Confinement,
    /// The user of its monitor, from before that starts until no process of it is left.
    uid: OnceLock<UidLease>,
    /// Of its network card, if it has one.
    wire: OnceLock<Arc<Wire>>,
    /// Held until the directory is gone. None where there is no directory, only what outlived it.
    lease: Option<Lease>,
    lifecycle: Lifecycle,
}

/// A listening socket of the monitor and its path.
#[derive(Debug)]
pub struct Socket {
    pub path: PathBuf,
    pub listener: OwnedFd,
}

/// Fails if the paths of VMs' sockets below `state_dir` would be longer than the system takes.
pub fn require_short_paths(state_dir: &Path) -> Result<(), VmError> {
    let longest = state_dir.join(DIRECTORY).join(VmId::random().as_str()).join("monitor.sock");
    if longest.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok(());
    }
    let message = format!(
        "the path of a VM's sockets would be too long for the system (`{}`, more than {MAX_SOCKET_PATH} bytes)\n  \
         hint: use a shorter state_dir",
        longest.display()
    );
    Err(VmError::host("state_dir")(io::Error::other(message)))
}

/// Tells a directory of somebody else from other failures.
fn not_ours(root: &Path, error: io::Error) -> VmError {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "\n  hint: run it with sudo, or name a directory of your own with --state-dir"
        }
        _ => "",
    };
    VmError::host(format!("`{}`", root.display()))(io::Error::new(error.kind(), format!("{error}{hint}")))
}

impl Homes {
    /// Homes below `state_dir`. Tries how far this host can confine what will live in them.
    pub fn open(state_dir: &Path, settings: Settings) -> Result<Self, VmError> {
        let root = state_dir.join(DIRECTORY);
        require_short_paths(state_dir)?;
        fs::create_dir_all(&root)
            .and_then(|()| fs::set_permissions(&root, fs::Permissions::from_mode(0o700)))
            .map_err(|error| not_ours(&root, error))?;
        let resolved = root.canonicalize().map_err(VmError::host(root.display().to_string()))?;
        // A group for each state directory, so that what is in it is told from the VMs of other services.
        let own_group = hex::encode(&Sha256::digest(resolved.as_os_str().as_encoded_bytes())[..8]);
        Ok(Self { root, resolved, confinement: Confinement::find_out(settings, &own_group) })
    }

    /// How the monitors are confined on this host.
    pub fn confinement(&self) -> &Confinement {
        &self.confinement
    }

    /// Whether another VM has the id of one that was found abandoned: one that is made right after another may have its id.
    pub fn has_successor(&self, abandoned: &Home) -> bool {
        let named = self.root.join(abandoned.id.as_str());
        named.exists() && (abandoned.lease.is_none() || abandoned.path != named)
    }

    /// Makes a directory for a new VM.
    pub fn create(&self, id: VmId) -> Result<Home, VmError> {
        let path = self.root.join(id.as_str());
        let made = (0..MAX_ATTEMPTS).find_map(|_| self.try_create(&id, &path).transpose());
        let lease = made.unwrap_or_else(|| Err(io::Error::other("other processes keep removing it")));
        let lease = lease.map_err(VmError::host(format!("making the VM's directory `{}`", path.display())))?;
        Ok(self.home(id, path, Some(lease)))
    }

    fn home(&self, id: VmId, path: PathBuf, lease: Option<Lease>) -> Home {
        let (resolved, confinement) = (self.resolved.join(id.as_str()), self.confinement.clone());
        Home {
            id,
            path,
            resolved,
            confinement,
            uid: OnceLock::new(),
            wire: OnceLock::new(),
            lease,
            lifecycle: Lifecycle::default(),
        }
    }

    /// `None` if another process took the nameless directory for abandoned before it was locked; it removes it then.
    /// Refuses an id of which something is left: it would be taken for a part of the new VM, or the new VM for it.
    fn try_create(&self, id: &VmId, path: &Path) -> io::Result<Option<Lease>> {
        // A name of its own, because the one of an attempt before this may still be there.
        let fresh = self.root.join(format!("{NEW}{}", VmId::random()));
        fs::create_dir(&fresh)?;
        let locked = (|| {
            let Some(lease) = Lease::try_take(&fresh)? else { return Ok(None) };
            if self.has_directory(id) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(&fresh, path).map(|()| Some(lease))
        })();
        if locked.is_err() {
            // Where this fails too, the next look for abandoned directories finds it.
            drop(fs::remove_dir_all(&fresh));
        }
        match locked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other,
        }
    }

    /// What nobody owns: directories whose owners are gone, and what outlived its directory. Whatever left it behind, at
    /// whatever point of a VM's life.
    pub fn abandoned(&self) -> io::Result<Vec<Home>> {
        let mut uids = self.confinement.abandoned_uids(&self.resolved)?;
        let orphans = self.orphans(uids.keys())?.into_iter().map(|id| (self.root.join(id.as_str()), id));
        let mut found: Vec<Home> = orphans.map(|(path, id)| self.home(id, path, None)).collect();
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            let Some(id) = path.file_name().and_then(|name| id_in(name.to_str()?)) else { continue };
            match take_over(&path) {
                Ok(Some(lease)) => found.push(self.home(id, path, Some(lease))),
                Ok(None) => {}
                // Its owner has just removed or named it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::error!(directory = %path.display(), %error, "a VM's owner cannot be told"),
            }
        }
        for home in &mut found {
            home.uid = uids.remove(&home.id).map_or_else(OnceLock::new, OnceLock::from);
        }
        Ok(found)
    }

    /// VMs of which a user id, a process or a cgroup is left, but no directory that could have an owner.
    fn orphans<'a>(&self, with_uids: impl Iterator<Item = &'a VmId>) -> io::Result<Vec<VmId>> {
        let mut left: Vec<VmId> =
            self.confinement.groups().names()?.iter().filter_map(|name| name.parse().ok()).collect();
        left.extend(self.unconfined_processes()?.into_iter().map(|(id, _)| id));
        left.extend(with_uids.cloned());
        left.sort();
        left.dedup();
        // The directories after the rest: a VM that is being made has its directory first.
        left.retain(|id| !self.has_directory(id));
        Ok(left)
    }

    /// Every process of every VM.
    pub(super) fn processes(&self) -> io::Result<Vec<(VmId, Pid)>> {
        let mut found = self.unconfined_processes()?;
        found.extend(self.confinement.processes(&self.resolved)?);
        Ok(found)
    }

    /// Those that have no user of their own. They run where their VM lives, which one in a jail does not.
    fn unconfined_processes(&self) -> io::Result<Vec<(VmId, Pid)>> {
        let found = process::marked_below(&self.resolved)?.into_iter();
        Ok(found.filter_map(|(marker, pid)| Some((marker.strip_prefix(MARKER)?.parse().ok()?, pid))).collect())
    }

    fn has_directory(&self, id: &VmId) -> bool {
        self.root.join(id.as_str()).exists() || self.root.join(format!("{GONE}{id}")).exists()
    }

    /// Whether nothing of a VM is left: no directory, no process, no user id, no cgroup.
    pub fn is_absent(&self, id: &VmId) -> io::Result<bool> {
        let has_cgroup = match self.confinement.groups() {
            Support::V2(parent) => Cgroup::existing(parent, id.as_str()).is_some(),
            Support::Missing(_) => false,
        };
        let has_uid = self.confinement.has_uid(&self.resolved.join(id.as_str()))?;
        let kin = Kin { marker: marker(id), uid: None };
        Ok(!self.has_directory(id) && !has_cgroup && !has_uid && kin.processes()?.is_empty())
    }
}

/// Takes a directory that nobody owns. `None`: somebody lives in it, or it is gone. Where there is no lease, its owner may be about
/// to lock or to remove it. Then it is empty, and to remove it harms no owner: who makes a VM tries again.
fn take_over(directory: &Path) -> io::Result<Option<Lease>> {
    match Lease::try_take_over(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::remove_dir(directory) {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Lease::try_take(directory),
            Err(error) => Err(error),
        },
        taken => taken,
    }
}

/// The VM whose directory has this name, at whatever point of its life.
fn id_in(name: &str) -> Option<VmId> {
    let named = name.strip_prefix(NEW).or_else(|| name.strip_prefix(GONE)).unwrap_or(name);
    named.parse().ok()
}

fn marker(id: &VmId) -> String {
    format!("{MARKER}{id}")
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

    /// Has the steps of this VM's life told to `lifecycle`.
    pub fn told_to(mut self, lifecycle: &Lifecycle) -> Self {
        self.lifecycle = lifecycle.clone();
        self
    }

    /// Who is told of the steps of this VM's life.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// The VM is at a step of its creation. Fails where a test wants that.
    pub async fn passes(&self, step: Step) -> Result<(), VmError> {
        self.lifecycle.passes(step).await.map_err(VmError::host("making the VM"))
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

    /// Makes a cgroup for the monitor, where the host has them.
    pub fn make_group(&self, shape: Shape, disks: &Disks) -> Result<Option<Cgroup>, VmError> {
        let Support::V2(parent) = self.confinement.groups() else { return Ok(None) };
        let limits = Limits {
            memory: (shape.memory_mib << 20) + MONITOR_OVERHEAD,
            vcpus: shape.vcpus,
            io: self.confinement.io(),
            on_disk_of: disks.scratch.clone(),
        };
        Cgroup::create(parent, self.id.as_str(), &limits).map(Some).map_err(VmError::host("the VM's cgroup"))
    }

    /// Makes a place for the monitor, where the host can confine it. A VM has one in its life.
    pub async fn make_cell(&self, program: &str) -> Result<Option<Cell>, VmError> {
        let Some(parts) = self.confinement.parts(program).await? else { return Ok(None) };
        let Some(uid) = self.lease_user()? else { return Ok(None) };
        let root = self.path.join(ROOT);
        fs::create_dir(&root).map_err(VmError::host(format!("`{}`", root.display())))?;
        Ok(Some(Cell { uid, root, parts }))
    }

    /// A user for the monitor that no other has, where this host can confine it. A VM has one in its life.
    fn lease_user(&self) -> Result<Option<u32>, VmError> {
        let Some(lease) = self.confinement.lease_uid(&self.resolved)? else { return Ok(None) };
        let uid = lease.uid();
        self.uid.set(lease).map_err(|_| VmError::host("the VM's user id")(io::Error::other("it has one already")))?;
        Ok(Some(uid))
    }

    /// The same for one that makes its jail itself, and the group that it shares with others of its kind.
    pub fn lease_user_and_group(&self) -> Result<Option<(u32, u32)>, VmError> {
        Ok(self.lease_user()?.zip(self.confinement.group()))
    }

    /// Lays the wire of the VM's network card; gives the monitor's end. Its number is the monitor's user, so that both are given
    /// back together.
    pub fn lay_wire(&self) -> Result<OwnedFd, VmError> {
        let context = || VmError::host("the VM's network card");
        let uid = self.uid.get().ok_or_else(|| context()(io::Error::other("its monitor is not confined")))?.uid();
        let (wire, tap) = Wire::lay(uid, self.id.as_str()).map_err(context())?;
        self.wire.set(Arc::new(wire)).map_err(|_| context()(io::Error::other("it has one already")))?;
        Ok(tap)
    }

    /// The wire of the VM's network card, if it has one.
    pub fn wire(&self) -> Option<&Arc<Wire>> {
        self.wire.get()
    }

    /// Holds the monitor itself still, or lets it go on, where it has a cgroup: a guest that stands still has no say in it,
    /// and neither has a monitor that is not what it was.
    pub fn hold(&self, is_held: bool) -> Result<(), VmError> {
        let Support::V2(parent) = self.confinement.groups() else { return Ok(()) };
        let Some(group) = Cgroup::existing(parent, self.id.as_str()) else { return Ok(()) };
        let done = if is_held { group.freeze() } else { group.thaw() };
        done.map_err(VmError::host("holding the VM's monitor"))
    }

    fn kin(&self) -> Kin {
        Kin { marker: self.marker(), uid: self.uid.get().map(UidLease::uid) }
    }

    /// Destroys whatever there is of this VM, from what exists and not from what was built: processes, cgroup, files. The
    /// VM is absent when this returns without an error. It may be called again after one.
    pub async fn remove(&mut self) -> Result<(), VmError> {
        self.kin().kill(ABSENCE_LIMIT).await.map_err(VmError::host("ending the VM's processes"))?;
        self.lifecycle.reached(Step::MonitorEnded).await;
        if let Support::V2(parent) = self.confinement.groups()
            && let Some(group) = Cgroup::existing(parent, self.id.as_str())
        {
            group.remove(ABSENCE_LIMIT).await.map_err(VmError::host("removing the VM's cgroup"))?;
        }
        self.lifecycle.reached(Step::CgroupRemoved).await;
        self.remove_directory().await.map_err(VmError::host("removing the VM's directory"))?;
        drop(self.wire.take());
        if let Some(uid) = self.uid.take() {
            if let Err(error) = wire::cut(uid.uid()).await {
                let context = VmError::host("removing the VM's link");
                // Whoever comes again finds the id, and by that the link.
                drop(self.uid.set(uid));
                return Err(context(error));
            }
            uid.release().map_err(VmError::host("giving back the VM's user id"))?;
        }
        self.lease = None;
        self.lifecycle.reached(Step::HomeRemoved).await;
        Ok(())
    }

    async fn remove_directory(&mut self) -> io::Result<()> {
        let gone = self.path.with_file_name(format!("{GONE}{}", self.id));
        if self.path != gone {
            if_there(fs::rename(&self.path, &gone))?;
            self.path = gone;
        }
        self.lifecycle.reached(Step::HomeUnnamed).await;
        // A job may have filled its disk, and to free that takes a while.
        let gone = self.path.clone();
        let removed = tokio::task::spawn_blocking(move || Lease::remove_directory(&gone)).await;
        if_there(removed.unwrap_or_else(|error| Err(io::Error::other(error))))
    }
}

/// That something is not there is no failure to remove it.
fn if_there(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
#[path = "home_tests.rs"]
#[allow(clippy::unwrap_used)]
mod tests;
