//! One VM from its restore to its verified absence.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;

use super::VmError;
use super::attach::{Attached, attach};
use super::backend::{GuestEnd, Launch, Monitor, Reach, Start, Vmm};
use super::basis::Basis;
use super::channel::{Channel, Closed, Connections};
use super::freeze::{self, SCRATCH};
use super::guest::Guest;
use super::home::Home;
use super::loss::Loss;
use super::spec::{Accelerator, Boot, Disks, Shape};
use super::volume::CacheMount;
use crate::host::disk;
use crate::host::process::Lifetime;
use crate::host::wire::Wire;
use crate::ids::VmId;
use crate::lifecycle::Step;
use crate::protocol::message::Identity;

/// How long a restored agent may take to answer. Under emulation on a loaded host it takes seconds, not tens of them.
const RESTORE_ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How long a monitor may take to say what it saw after a channel of its guest closed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Bytes without which a disk is as good as full.
const LEAST_ROOM: u64 = 1 << 20;

/// How long a killed monitor may take to end: it may hang in a call to a disk that does not answer.
const MONITOR_END: Duration = Duration::from_secs(20);

/// A running VM. Must be destroyed: dropping it leaves that to the reaper.
#[derive(Debug)]
pub struct Machine {
    pub(super) home: Home,
    pub(super) monitor: Box<dyn Monitor>,
    pub(super) guest: Guest,
    connections: Option<Connections>,
    /// Keeps the conversation on the bulk port open.
    _bulk: Channel,
    pub(super) memory: Memory,
    /// Whether its memory can become a template's.
    pub(super) is_freezable: bool,
    basis: Basis,
    /// The cache volume that the guest has mounted, and what keeps it there.
    pub(super) mounted: Option<CacheMount>,
    pub timings: Timings,
}

/// On what memory a VM runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The template's file, mapped privately: what the guest writes is gone with the VM.
    Borrowed,
    /// A copy of that file in the VM's home. Takes room on the disk for what the guest touches, and some 60 ms for each
    /// 100 MiB that the template uses; the VM can be [frozen](Machine::freeze).
    Owned,
}

/// How long the parts of a creation took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// Files in place.
    pub prepared: Duration,
    /// The monitor answers.
    pub started: Duration,
    /// The state is loaded.
    pub loaded: Duration,
    /// The agent joined the conversation.
    pub answered: Duration,
    /// The guest has its own identity.
    pub identified: Duration,
}

/// A snapshot and how to restore it.
#[derive(Debug, Clone)]
pub struct Template {
    pub vmm: Vmm,
    pub accelerator: Accelerator,
    pub shape: Shape,
    pub boot: Boot,
    pub root: PathBuf,
    pub layer: Option<PathBuf>,
    pub memory: PathBuf,
    pub state: PathBuf,
    /// The scratch disk as it was at the snapshot.
    pub scratch: PathBuf,
    /// What stood in for the cache volume.
    pub cache_placeholder: PathBuf,
    /// The cache volume that the guest had mounted at the snapshot. Every restore attaches it again.
    pub mounted: Option<CacheMount>,
}

/// A monitor whose guest stands still where the snapshot was taken.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) monitor: Box<dyn Monitor>,
    pub(crate) reach: Reach,
    pub(crate) timings: Timings,
}

impl Machine {
    /// Restores `template` into `home`. After an error nothing is left of the VM but what [`Home::remove`] in here could
    /// not remove, which is logged.
    pub async fn restore(
        mut home: Home, template: &Template, memory: Memory, cache: Option<&CacheMount>, lifetime: Lifetime,
    ) -> Result<Self, VmError> {
        let memory = if template.vmm.needs_own_memory() { memory } else { Memory::Borrowed };
        match Self::restore_from_basis(&home, template, memory, cache, lifetime).await {
            Ok((Attached { monitor, guest, bulk, connections }, timings, basis)) => {
                let mounted = template.mounted.as_ref().or(cache.filter(|cache| cache.is_mounted())).cloned();
                let connections = Some(connections);
                let is_freezable = memory == Memory::Owned || !template.vmm.needs_own_memory();
                Ok(Self {
                    home,
                    monitor,
                    guest,
                    connections,
                    _bulk: bulk,
                    memory,
                    is_freezable,
                    basis,
                    mounted,
                    timings,
                })
            }
            Err(error) => {
                if let Err(left) = home.remove().await {
                    tracing::error!(vm = %home.id(), error = %left, "a VM that failed to start could not be removed");
                }
                Err(error)
            }
        }
    }

    /// The same, with what the VM shares with others. What is missing of that explains any error.
    async fn restore_from_basis(
        home: &Home, template: &Template, memory: Memory, cache: Option<&CacheMount>, lifetime: Lifetime,
    ) -> Result<(Attached, Timings, Basis), VmError> {
        let basis = Basis::of(template)?;
        match Self::try_restore(home, template, &basis, memory, cache, lifetime).await {
            Ok((attached, timings)) => Ok((attached, timings, basis)),
            Err(error) => Err(basis.require().err().unwrap_or(error)),
        }
    }

    async fn try_restore(
        home: &Home, template: &Template, basis: &Basis, memory: Memory, cache: Option<&CacheMount>, lifetime: Lifetime,
    ) -> Result<(Attached, Timings), VmError> {
        let began = Instant::now();
        let (attached, to_mount) = cache_of(template, cache)?;
        let Loaded { monitor, reach, mut timings } = load(home, template, basis, memory, attached, lifetime).await?;
        let attached = attach(monitor, reach, RESTORE_ANSWER_LIMIT, true).await?;
        home.passes(Step::AgentAnswered).await?;
        timings.answered = began.elapsed();
        attached.guest.identify(identity_of(home.id(), to_mount)?).await?;
        home.passes(Step::GuestIdentified).await?;
        timings.identified = began.elapsed();
        Ok((attached, timings))
    }

    /// The guest, to be asked for things.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// The wire of its network card, if it has one.
    pub fn wire(&self) -> Option<&Arc<Wire>> {
        self.home.wire()
    }

    /// Whose VM this is.
    pub fn id(&self) -> &VmId {
        self.home.id()
    }

    /// Connections from the guest to the host's services; can be taken once.
    pub fn take_connections(&mut self) -> Option<Connections> {
        self.connections.take()
    }

    /// Waits until the VM is lost; gives how.
    pub fn lost(&self) -> impl Future<Output = Loss> + Send + use<> {
        let own_memory = (self.memory == Memory::Owned).then(|| self.home.path().to_owned());
        let (basis, loss) = (self.basis.clone(), lost(&*self.monitor, &self.guest));
        async move {
            match (loss.await, &own_memory, basis.changed()) {
                // What it finds no room for is a page of its memory then, and that kills it.
                (Loss::MonitorEnded, Some(home), _) if disk::require_room(home, LEAST_ROOM).is_err() => {
                    Loss::HostDiskFull
                }
                // So does a page that its memory file does not have any more.
                (Loss::MonitorEnded, _, Some(file)) => Loss::TemplateChanged(file.to_owned()),
                (loss, ..) => loss,
            }
        }
    }

    /// The last of the guest's console, for the report on a lost VM. Untrusted text.
    pub async fn console(&mut self) -> Option<String> {
        self.monitor.console().await.ok().filter(|text| !text.trim().is_empty())
    }

    /// Gives the guest another identity, with new entropy and the time of now. The cache volume stays as it is.
    pub(super) async fn identify(&self) -> Result<(), VmError> {
        self.guest.identify(identity_of(self.home.id(), None)?).await?;
        self.home.passes(Step::GuestIdentified).await
    }

    /// Lets the guest run that was held still.
    pub(super) async fn resume(&mut self) -> Result<(), VmError> {
        self.home.hold(false)?;
        self.monitor.resume().await
    }

    /// Holds the guest still: the job is over, whatever it left running. Its monitor does nothing either then, where it has a
    /// cgroup.
    pub async fn pause(&mut self) -> Result<(), VmError> {
        self.monitor.pause().await?;
        self.home.hold(true)
    }

    /// Destroys the VM. It is absent when this returns without an error; with one, calling again tries again.
    pub async fn destroy(&mut self) -> Result<(), VmError> {
        self.end_monitor().await;
        self.home.remove().await
    }

    /// Ends the monitor, as far as it lets itself be ended; what is left of it, the home names.
    pub(super) async fn end_monitor(&mut self) {
        match timeout(MONITOR_END, self.monitor.kill()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(vm = %self.home.id(), %error, "waiting for the monitor's end failed"),
            Err(_) => tracing::warn!(vm = %self.home.id(), "the monitor does not end"),
        }
    }
}

/// The cache to attach, and what of it the guest has to mount.
fn cache_of<'a>(
    template: &'a Template, cache: Option<&'a CacheMount>,
) -> Result<(Option<&'a CacheMount>, Option<&'a CacheMount>), VmError> {
    match (&template.mounted, cache) {
        (None, cache) => Ok((cache, cache)),
        // The guest reads on where it was, so that only the same bytes will do.
        (Some(mounted), None) => Ok((Some(mounted), None)),
        (Some(mounted), Some(cache)) if mounted == cache => Ok((Some(mounted), None)),
        (Some(mounted), Some(_)) => Err(VmError::OtherCache { mounted: mounted.to_string() }),
    }
}

impl Attached {
    /// Waits until the VM is lost; gives how.
    pub(crate) fn lost(&self) -> impl Future<Output = Loss> + Send + use<> {
        lost(&*self.monitor, &self.guest)
    }
}

/// Waits until a VM is lost; gives how, as far as its monitor tells.
fn lost(monitor: &dyn Monitor, guest: &Guest) -> impl Future<Output = Loss> + Send + use<> {
    let mut ended = monitor.ended();
    let guest = guest.clone();
    async move {
        let closed = tokio::select! {
            // What the monitor saw says more than that a channel closed.
            biased;
            end = ended.wait_for(Option::is_some) => return loss_of(end.ok().and_then(|end| end.clone())),
            closed = guest.lost() => closed,
        };
        match closed {
            // A channel closes with its monitor, which may be about to say why.
            Closed::Gone(_) => match timeout(LAST_WORDS, ended.wait_for(Option::is_some)).await {
                Ok(end) => loss_of(end.ok().and_then(|end| end.clone())),
                Err(_) => Loss::from(VmError::from(closed)),
            },
            Closed::Violated(_) => Loss::from(VmError::from(closed)),
        }
    }
}

/// What the monitor saw; nothing, if it is gone itself.
fn loss_of(end: Option<GuestEnd>) -> Loss {
    match end {
        Some(GuestEnd::PoweredOff) => Loss::PoweredOff,
        Some(GuestEnd::Reset) => Loss::Rebooted,
        Some(GuestEnd::Panicked) => Loss::Panicked(None),
        Some(GuestEnd::HostDiskFull) => Loss::HostDiskFull,
        Some(GuestEnd::MonitorGone) | None => Loss::MonitorEnded,
    }
}

/// Starts a monitor with `template`'s state in it. `cache` is what the guest has, or is to have, mounted.
pub(crate) async fn load(
    home: &Home, template: &Template, basis: &Basis, memory: Memory, cache: Option<&CacheMount>, lifetime: Lifetime,
) -> Result<Loaded, VmError> {
    let began = Instant::now();
    let mut timings = Timings::default();
    home.passes(Step::HomeMade).await?;
    let scratch = home.path().join(SCRATCH);
    disk::copy_sparse_aside(template.scratch.clone(), scratch.clone())
        .await
        .map_err(VmError::host(format!("the VM's scratch disk `{}`", scratch.display())))?;
    let (start, memory) = match memory {
        Memory::Borrowed => (Start::Restore, template.memory.clone()),
        Memory::Owned => (Start::RestoreOwned, freeze::copy_memory(template, home.path()).await?),
    };
    let disks = Disks {
        root: template.root.clone(),
        layer: template.layer.clone(),
        scratch,
        cache: Some(cache.and_then(CacheMount::shared).unwrap_or(&template.cache_placeholder).to_owned()),
        fill: cache.and_then(CacheMount::fresh).map(Path::to_owned),
    };
    home.passes(Step::DiskCopied).await?;
    timings.prepared = began.elapsed();
    let launch = Launch {
        accelerator: template.accelerator,
        shape: template.shape,
        start,
        boot: &template.boot,
        disks: &disks,
        memory: &memory,
        lifetime,
    };
    let (mut monitor, reach) = template.vmm.launch(home, launch).await?;
    // A monitor takes an empty memory for a file that it does not find, and the guest would only seem to hang.
    basis.require()?;
    home.passes(Step::MonitorAnswered).await?;
    timings.started = began.elapsed();
    monitor.load_state(&template.state).await?;
    home.passes(Step::StateLoaded).await?;
    timings.loaded = began.elapsed();
    Ok(Loaded { monitor, reach, timings })
}

fn identity_of(id: &VmId, cache: Option<&CacheMount>) -> Result<Identity, VmError> {
    let mut entropy = [0; 32];
    let mut machine_id = [0; 16];
    for buffer in [&mut entropy[..], &mut machine_id[..]] {
        getrandom::fill(buffer).map_err(|error| VmError::host("random bytes")(error.into()))?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Identity {
        hostname: id.to_string(),
        machine_id: hex::encode(machine_id),
        entropy,
        clock_ns: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
        cache: cache.and_then(|cache| cache.mount().cloned()),
    })
}
