//! From nothing to a Firecracker in its jail that answers.
//!
//! Invariant: who gets a [`Begun`] ends its process or keeps it. Until the jailer has done its work nobody else could tell whose
//! process that is.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::client::Api;
use super::jail::{Jail, Root};
use super::process::Process;
use super::{Programs, Voice, argv, files};
use crate::host::cgroup::Cgroup;
use crate::host::output::Output;
use crate::host::process::Spawn;
use crate::host::{apart, disk};
use crate::lifecycle::Step;
use crate::vm::VmError;
use crate::vm::backend::Launch;
use crate::vm::home::Home;
use crate::vm::spec::CACHE_VOLUME_BYTES;

/// How long the jailer and Firecracker may take until its API is there. Some 10 ms; a host under load is slow, not broken.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Between two looks for it.
const START_LOOK: Duration = Duration::from_micros(500);

/// Size of the disk that stands where a volume could be filled and none is: writes beyond it fail, so that nothing is kept and
/// no room is taken.
pub(super) const NO_VOLUME: u64 = 4096;

/// Room in files beyond the largest disk: what is written around a guest's memory.
const FILE_MARGIN: u64 = 64 << 20;

/// One that was started, and may not answer yet.
pub(super) struct Begun {
    bounds: Option<Cgroup>,
    pub(super) jail: Jail,
    pub(super) voice: Voice,
    pub(super) process: Process,
    pid: Option<u32>,
}

/// Starts the jailer with everything in place.
pub(super) async fn begin(home: &Home, programs: &Programs, launch: &Launch<'_>) -> Result<Begun, VmError> {
    let executable = programs.executable()?;
    let (marker, (owner, group)) = (home.marker(), owner_of(home)?);
    let bounds = home.make_group(launch.shape, launch.disks)?;
    let mut jail =
        Jail::make(home.path(), &marker, &executable, owner, group).map_err(VmError::host("the VM's jail"))?;
    furnish(&mut jail, home.path(), launch)?;
    home.passes(Step::ConfinementMade).await?;
    let pipe = |name| jail.pipe(name).map_err(VmError::host(format!("the pipe `{name}`")));
    let output = Output::new().map_err(VmError::host("room for the monitor's words"))?;
    let voice = Voice { output, log: pipe(files::LOG)?, metrics: pipe(files::METRICS)? };
    let arguments = argv::arguments(&argv::Jailer {
        id: &marker,
        executable: &executable,
        owner,
        group,
        base: jail.base(),
        largest_file: largest_file(launch),
    });
    let child = apart::spawn(Spawn {
        program: &programs.jailer,
        arguments: &arguments,
        directory: home.path(),
        inherited: &[],
        output: voice.output.writer().map_err(VmError::host("room for the monitor's words"))?,
        lifetime: launch.lifetime,
    })
    .map_err(VmError::host(format!("starting `{}`", programs.jailer)))?;
    let pid = child.id();
    Ok(Begun { bounds, jail, voice, process: Process::new(child), pid })
}

impl Begun {
    /// Bounds it, and waits for its API.
    pub(super) async fn join(&self, home: &Home) -> Result<(Api, Root), VmError> {
        home.passes(Step::MonitorStarted).await?;
        if let (Some(bounds), Some(pid)) = (&self.bounds, self.pid) {
            bounds.add(pid).map_err(VmError::host("the VM's cgroup"))?;
        }
        let root = self.jail.root().map_err(VmError::host("the VM's jail"))?;
        let socket = tokio::select! {
            socket = answering(&root) => socket?,
            status = self.process.status() => {
                let how = status.map_or_else(String::new, |status| format!(" ({status})"));
                return Err(self.voice.explain(VmError::Monitor { detail: format!("it ended{how} without a word") }));
            }
        };
        Ok((Api::over(socket).await?, root))
    }
}

/// The user and the group that this VM's Firecracker runs as.
fn owner_of(home: &Home) -> Result<(u32, u32), VmError> {
    let ourselves = nix::unistd::geteuid();
    match home.lease_user_and_group()? {
        Some(owner) => Ok(owner),
        None if ourselves.is_root() => {
            let why = "this host has no users for VMs\n  hint: `dayfly doctor` says what is missing";
            Err(VmError::host("Firecracker's jail")(io::Error::other(why)))
        }
        // The jailer will say what it lacks.
        None => Ok((ourselves.as_raw(), nix::unistd::getegid().as_raw())),
    }
}

/// Puts into the jail what the machine is made of. The state comes later.
fn furnish(jail: &mut Jail, home: &Path, launch: &Launch<'_>) -> Result<(), VmError> {
    let context = |what: &Path| VmError::host(format!("`{}` for the VM's jail", what.display()));
    if launch.start.is_restore() {
        jail.show(launch.memory, files::MEMORY).map_err(context(launch.memory))?;
    } else {
        for (file, name) in [(&launch.boot.kernel, files::KERNEL), (&launch.boot.initramfs, files::INITRAMFS)] {
            jail.show(file, name).map_err(context(file))?;
        }
    }
    for disk in files::in_order(launch.disks) {
        let placed = match disk.file {
            Some(file) if disk.is_read_only => jail.show(file, disk.id),
            Some(file) => jail.hand_over(file, disk.id),
            None => {
                // The guest learns the size at its boot, and what it writes beyond the file's end fails.
                let size = if launch.start.is_restore() { NO_VOLUME } else { CACHE_VOLUME_BYTES };
                let nothing = home.join("no-volume");
                disk::create_sparse(&nothing, size).and_then(|()| jail.hand_over(&nothing, disk.id))
            }
        };
        placed.map_err(context(disk.file.unwrap_or(Path::new(disk.id))))?;
    }
    Ok(())
}

/// The largest file that the VM has to write: a disk, or its memory.
fn largest_file(launch: &Launch<'_>) -> u64 {
    let fills = launch.disks.fill.is_some() || !launch.start.is_restore();
    let fill = if fills { CACHE_VOLUME_BYTES } else { 0 };
    (launch.shape.memory_mib << 20).max(launch.shape.disk_mib << 20).max(fill) + FILE_MARGIN
}

/// Connects as soon as somebody listens.
async fn answering(root: &Root) -> Result<UnixStream, VmError> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match root.connect(files::API).await {
            Ok(socket) => return Ok(socket),
            Err(_) if Instant::now() < deadline => sleep(START_LOOK).await,
            Err(error) => {
                tracing::debug!(%error, "Firecracker's API does not appear");
                return Err(VmError::TimedOut { what: "Firecracker's start", limit: START_LIMIT });
            }
        }
    }
}
