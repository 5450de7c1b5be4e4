//! A running VM becomes a template: others start from where it stood, with its memory, its disk and its processes.
//!
//! ```text
//!  restored on memory of its own ─► disks written ─► held still for ever ─► state saved ─► monitor ended ─► files kept ─► absent
//! ```
//! Clones map the memory file privately, and see in pages that they have not touched whatever the file says. So the file
//! must never change again, and a VM that was frozen never runs on: who needs it to go on starts one more clone.
//!
//! Whatever fails, the VM is gone afterwards; what is in the directory then is of no use, and its owner removes it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use super::VmError;
use super::machine::{Machine, Memory, Template};
use super::volume::CacheMount;
use crate::host::disk;
use crate::lifecycle::Step;

/// The files of a VM, in its home and where it was frozen to.
pub const MEMORY: &str = "memory";
pub const SCRATCH: &str = "scratch";
pub const STATE: &str = "state";

/// How long a guest may take to write its disks and its monitor to save its state. Some 20 ms where there is little to write.
const FREEZE_LIMIT: Duration = Duration::from_secs(120);

/// The files of a VM that stands still for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// Where [`MEMORY`], [`SCRATCH`] and [`STATE`] are.
    pub directory: PathBuf,
    /// The cache volume that the guest has mounted.
    pub mounted: Option<CacheMount>,
}

impl Frozen {
    /// How clones of it are restored. `origin` is what the frozen VM was itself restored from.
    pub fn template(&self, origin: &Template) -> Template {
        Template {
            memory: self.directory.join(MEMORY),
            state: self.directory.join(STATE),
            scratch: self.directory.join(SCRATCH),
            mounted: self.mounted.clone(),
            ..origin.clone()
        }
    }
}

impl Machine {
    /// Freezes the VM into a directory that is there, and empty, on the same file system if that is to be quick. The VM is
    /// absent afterwards, also after an error, and nothing but destroying it again is of use. Programs that the host still
    /// talks to are killed when a clone wakes up; what they left in the background, and all else, goes on in each clone.
    ///
    /// # Errors
    /// When the VM runs on borrowed memory, or anything of the above fails. `into` is then to be removed.
    pub async fn freeze(&mut self, into: &Path) -> Result<Frozen, VmError> {
        let frozen = match timeout(FREEZE_LIMIT, self.save(into)).await {
            Ok(Ok(())) => self.keep(into).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(VmError::TimedOut { what: "freezing the VM", limit: FREEZE_LIMIT }),
        };
        // Also ends the monitor where one of the above failed before it did.
        self.destroy().await?;
        frozen
    }

    async fn save(&mut self, into: &Path) -> Result<(), VmError> {
        if !self.is_freezable {
            return Err(VmError::BorrowedMemory);
        }
        // Then the agent is at rest, and the clones have little to write that all of them would write.
        self.guest.sync(false).await?;
        self.monitor.pause().await?;
        self.home.passes(Step::FreezeHeld).await?;
        self.monitor.save(&into.join(STATE), &into.join(MEMORY)).await?;
        self.home.passes(Step::FreezeSaved).await
    }

    /// Once the monitor has ended, so that nothing changes the files any more.
    async fn keep(&mut self, into: &Path) -> Result<Frozen, VmError> {
        self.end_monitor().await;
        let (home, kept) = (self.home.path().to_owned(), into.to_owned());
        // Where the monitor wrote the memory, it is there already.
        let left: &'static [&str] = if self.memory == Memory::Owned { &[MEMORY, SCRATCH] } else { &[SCRATCH] };
        let move_all = move || left.iter().try_for_each(|file| disk::move_image(&home.join(file), &kept.join(file)));
        // To another file system it is a copy of hundreds of MiB.
        let moved =
            tokio::task::spawn_blocking(move_all).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        moved.map_err(VmError::host(format!("the frozen VM `{}`", into.display())))?;
        self.home.passes(Step::FreezeKept).await?;
        Ok(Frozen { directory: into.to_owned(), mounted: self.mounted.clone() })
    }
}

/// Gives a VM a memory file of its own, in `home`.
///
/// # Errors
/// Also when the disk could not hold all of the guest's memory: a monitor that finds no room for a page dies of it.
pub(super) async fn copy_memory(template: &Template, home: &Path) -> Result<PathBuf, VmError> {
    let own = home.join(MEMORY);
    let context = || VmError::host(format!("the VM's memory file `{}`", own.display()));
    disk::require_room(home, template.shape.memory_mib << 20).map_err(context())?;
    disk::copy_sparse_aside(template.memory.clone(), own.clone()).await.map_err(context())?;
    Ok(own)
}
