//! How the monitors of VMs are confined on this host: found out once, by trying it.
//!
//! A guest that takes over its monitor has what the monitor has. That is its own disks and memory, as descriptors, and
//! nothing else: see `host::jail`. Hosts that cannot do all of it run VMs with what they can, say so, and refuse to if the
//! operator wants that.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::Pid;
use tokio::sync::Mutex;

use super::VmError;
use crate::host::cgroup::{self, IoLimits, MAX_TASKS, Support};
use crate::host::jail::{self, Jail, Parts, parts_of};
use crate::host::process;
use crate::host::seen::Seen;
use crate::host::uids::{UidLease, UidRange, Uids};
use crate::ids::VmId;

/// What the operator says about confinement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    pub uids: UidRange,
    pub io: IoLimits,
}

/// What this host has of it.
#[derive(Debug, Clone)]
pub struct Confinement {
    groups: Support,
    jails: Result<Arc<Jails>, String>,
    io: IoLimits,
}

#[derive(Debug)]
struct Jails {
    uids: Uids,
    /// Of the program that was asked for last. There is one, except in tests.
    parts: Mutex<Option<Known>>,
}

/// What a program needs, and the files of that as they were.
#[derive(Debug)]
struct Known {
    program: String,
    parts: Arc<Parts>,
    files: Seen,
}

impl Confinement {
    /// Tries what this host can do. `group` is for the groups of VMs of one state directory.
    pub fn find_out(settings: Settings, group: &str) -> Self {
        let jails = try_jail(settings.uids).map(|uids| Arc::new(Jails { uids, parts: Mutex::default() }));
        Self {
            groups: cgroup::detect().within(group),
            jails: jails.map_err(|error| error.to_string()),
            io: settings.io,
        }
    }

    /// None at all, for tests of what is around it.
    #[cfg(test)]
    pub fn none(groups: Support) -> Self {
        Self { groups, jails: Err("not needed".into()), io: IoLimits::default() }
    }

    /// What is missing and why, a sentence each; nothing where monitors are wholly confined.
    pub fn missing(&self) -> Vec<String> {
        let jails = self.jails.as_ref().err().map(|why| {
            format!("monitors run as this process's user and see the host's files, processes and network ({why})")
        });
        let groups = match &self.groups {
            Support::Missing(why) => {
                Some(format!("monitors have no cgroups: their memory and CPU are not bounded ({why})"))
            }
            Support::V2(_) => None,
        };
        jails.into_iter().chain(groups).collect()
    }

    /// Where the groups of VMs are.
    pub fn groups(&self) -> &Support {
        &self.groups
    }

    /// The limits on every VM's IO.
    pub fn io(&self) -> IoLimits {
        self.io
    }

    /// Whether monitors run in jails.
    pub fn has_jails(&self) -> bool {
        self.jails.is_ok()
    }

    /// A user id for the monitor of the VM that lives in `home`; `None` where there are no jails.
    pub fn lease_uid(&self, home: &Path) -> Result<Option<UidLease>, VmError> {
        let Ok(jails) = &self.jails else { return Ok(None) };
        jails.uids.lease(home).map(Some).map_err(VmError::host("a user id for the VM's monitor"))
    }

    /// A group for all monitors that share what they read; `None` where there are no jails.
    pub fn group(&self) -> Option<u32> {
        self.jails.as_ref().ok().map(|jails| jails.uids.group())
    }

    /// What `program` needs in a jail.
    pub async fn parts(&self, program: &str) -> Result<Option<Arc<Parts>>, VmError> {
        let Ok(jails) = &self.jails else { return Ok(None) };
        let mut known = jails.parts.lock().await;
        // An upgrade of the host exchanges a program and its libraries under a service that runs.
        if let Some(Known { program: of, parts, files }) = &*known
            && of == program
            && files.lost().is_none()
        {
            return Ok(Some(Arc::clone(parts)));
        }
        let parts = parts_of(program).await.map_err(VmError::host(format!("finding what `{program}` needs")))?;
        let files = Seen::of(parts.files()).map_err(|gone| {
            VmError::host(format!("`{}`, which `{program}` needs", gone.display()))(io::ErrorKind::NotFound.into())
        })?;
        let parts = Arc::new(parts);
        *known = Some(Known { program: program.to_owned(), parts: Arc::clone(&parts), files });
        Ok(Some(parts))
    }

    /// The user ids that dead owners of VMs below `root` had.
    pub fn abandoned_uids(&self, root: &Path) -> io::Result<HashMap<VmId, UidLease>> {
        let Ok(jails) = &self.jails else { return Ok(HashMap::new()) };
        let found = jails.uids.abandoned()?.into_iter();
        Ok(found.filter_map(|(lease, holder)| Some((vm_of(&holder, root)?, lease))).collect())
    }

    /// Whether a user id is noted for the VM that lives or lived in `home`.
    pub fn has_uid(&self, home: &Path) -> io::Result<bool> {
        let Ok(jails) = &self.jails else { return Ok(false) };
        Ok(jails.uids.named()?.iter().any(|(_, holder)| holder == home))
    }

    /// How many user ids are noted for VMs below `place`.
    #[cfg(test)]
    pub fn uids_below(&self, place: &Path) -> io::Result<usize> {
        let Ok(jails) = &self.jails else { return Ok(0) };
        let place = place.canonicalize()?;
        Ok(jails.uids.named()?.iter().filter(|(_, holder)| holder.starts_with(&place)).count())
    }

    /// The processes of VMs below `root`, by their users.
    pub fn processes(&self, root: &Path) -> io::Result<Vec<(VmId, Pid)>> {
        let Ok(jails) = &self.jails else { return Ok(Vec::new()) };
        let named = jails.uids.named()?.into_iter();
        let vms: HashMap<u32, VmId> = named.filter_map(|(uid, holder)| Some((uid, vm_of(&holder, root)?))).collect();
        let all = if vms.is_empty() { Vec::new() } else { process::with_users()? };
        Ok(all.into_iter().filter_map(|(pid, uid)| Some((vms.get(&uid)?.clone(), pid))).collect())
    }
}

fn vm_of(home: &Path, root: &Path) -> Option<VmId> {
    if home.parent() != Some(root) {
        return None;
    }
    home.file_name()?.to_str()?.parse().ok()
}

/// Goes into a jail once, to see whether that works here, as a user of that range.
///
/// # Errors
/// Which step does not work.
pub fn try_jail(range: UidRange) -> io::Result<Uids> {
    if !nix::unistd::geteuid().is_root() {
        return Err(io::Error::other("this needs root"));
    }
    let uids = Uids::open(range)?;
    let place = tempfile::Builder::new().prefix("dayfly-jail-").tempdir()?;
    let lease = uids.lease(place.path())?;
    let tried = jail::try_out(&Jail {
        uid: lease.uid(),
        root: place.path(),
        shown: &[],
        group: None,
        file_size: 0,
        tasks: MAX_TASKS,
        ends_with_us: true,
    });
    lease.release()?;
    tried.map(|()| uids)
}

/// A monitor's own place on this host.
#[derive(Debug)]
pub struct Cell {
    pub uid: u32,
    /// An empty directory, on which its root is mounted where only it sees that.
    pub root: PathBuf,
    pub parts: Arc<Parts>,
}
