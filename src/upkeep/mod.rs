//! What the service keeps up for later jobs, besides running those that there are: prepared snapshots.
//!
//! ```text
//!  push to a default branch ─► a look is wanted (stored) ─► what the commit asks for (stored) ─► one VM for each:
//!      restored from the image ─► checkout ─► `run` ─► frozen ─► published by a rename ─► noted as done
//!  a job ─► the same hash at its own commit? ─► its VM starts there, and its checkout moves the repository to its commit
//! ```
//! Invariants:
//! - Only a push to a default branch makes anything, and only what that commit says counts. Others may use what was made, by
//!   having the same files; nothing that they say changes it.
//! - What is wanted is stored before it is begun and stays wanted until its end is stored. What is made appears whole.
//! - One thing is made at a time for a repository. Jobs come first: a VM of ours goes when a job needs its room.
//! - No job fails for lack of what was prepared: what is missing or broken is as if it had never been there.

mod contents;
mod desk;
pub mod evict;
mod fill;
mod follow;
pub mod key;
mod look;
mod origin;
mod produce;
pub mod retention;
mod retry;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod script_tests;
pub mod shelf;
mod snapshot;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::desk::{Activity, Desk, Occupant, Place};
pub(crate) use self::origin::{Origin, origin};
use self::retention::tidy;
use self::shelf::{Shelf, Snapshot};
use crate::clock;
use crate::core::Core;
use crate::engine::Prepared;
use crate::forge::ForgeError;
use crate::image::ImageError;
use crate::metrics::labels::Kept as KeptLabel;
use crate::store::{LONGEST_WAIT_MS, StoreError, Upkeep, UpkeepKey, UpkeepKind, UpkeepState};
use crate::vm::VmError;

/// A look without a wake-up, in case one was lost.
const IDLE_LOOK: Duration = Duration::from_secs(30);

/// The shortest time between two looks: what is due now is under way.
const SHORTEST_LOOK: Duration = Duration::from_millis(200);

/// How long what has ended is held when that could not be stored, as on a full disk.
const STORE_REST: Duration = Duration::from_secs(10);

/// Things that are looked into at a time, and as many that are made. Most of those wait for room; this bounds what waits.
const PARALLEL: usize = 8;

/// What was prepared, and what is known of commits.
#[derive(Debug)]
pub struct Kept {
    pub shelf: Arc<Shelf>,
    contents: contents::Memory,
    bakes: follow::Bakes,
}

impl Kept {
    /// What is below `state_dir`. Blocks; for the start of the service.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let shelf = Arc::new(Shelf::open(state_dir.join("prepared"))?);
        Ok(Self { shelf, contents: contents::Memory::default(), bakes: follow::Bakes::default() })
    }

    /// The snapshot with this hash and what clones of it start from, if it can be used. A broken one is removed.
    async fn usable(&self, core: &Core, hash: &str) -> Option<(Arc<Snapshot>, Arc<Prepared>)> {
        let snapshot = self.shelf.take(hash)?;
        match snapshot.open(&core.engine).await {
            Ok(prepared) => Some((snapshot, prepared)),
            Err(error) => {
                tracing::warn!(hash, %error, "a prepared snapshot cannot be used, and is removed");
                drop(snapshot);
                remove(core, hash).await;
                None
            }
        }
    }
}

/// Removes a snapshot that is of no use, if nobody is at it.
async fn remove(core: &Core, hash: &str) {
    let (shelf, name) = (Arc::clone(&core.kept.shelf), hash.to_owned());
    let removed = tokio::task::spawn_blocking(move || shelf.remove(&name)).await;
    if let Err(error) = removed.map_err(io::Error::other).and_then(|removed| removed) {
        tracing::warn!(hash, %error, "a prepared snapshot could not be removed");
    }
}

/// How something that was wanted ended.
enum End {
    Done(String),
    /// It stored its end itself.
    Stored,
}

/// Why it did not.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Vm(#[from] VmError),
    #[error(transparent)]
    NoKey(#[from] key::NoKey),
    /// Another try may help.
    #[error("{0}")]
    Again(String),
    /// A try that ended by itself: the repository's own doing, mostly.
    #[error("{0}")]
    Failed(String),
    /// Its VM takes more than all VMs may together.
    #[error("{0}")]
    TooLarge(String),
    /// The service stops, a job needs the room, or something newer is wanted: no fault of this one.
    #[error("interrupted")]
    Interrupted,
}

/// What is being done, each once.
#[derive(Debug, Default)]
struct UnderWay {
    tasks: JoinSet<()>,
    wishes: HashMap<Id, (Upkeep, CancellationToken)>,
}

impl UnderWay {
    /// Whether there is a place for it: one thing is made at a time for each repository. Looks go beside that.
    fn takes(&self, key: &UpkeepKey) -> bool {
        let is_look = |key: &UpkeepKey| key.kind == UpkeepKind::Look;
        let alike = self.wishes.values().map(|(other, _)| &other.key).filter(|other| is_look(other) == is_look(key));
        let alike: Vec<&UpkeepKey> = alike.collect();
        alike.len() < PARALLEL && !alike.iter().any(|other| (&other.forge, &other.repo) == (&key.forge, &key.repo))
    }

    fn start(&mut self, wish: Upkeep, cancel: CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(work).id();
        self.wishes.insert(id, (wish, cancel));
    }

    async fn ended(&mut self) -> Option<(Upkeep, JoinError)> {
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => {
                self.wishes.remove(&id);
                None
            }
            Some(Err(error)) => self.wishes.remove(&error.id()).map(|(wish, _)| (wish, error)),
            None => std::future::pending().await,
        }
    }
}

/// Keeps up what is wanted until the service stops. A stop interrupts what is under way; the next start begins it again.
pub async fn run(core: Arc<Core>) {
    if let Err(error) = core.store.want_all_looks(clock::now_ms()).await {
        tracing::error!(%error, "what is kept up for repositories cannot be looked at again");
    }
    let mut under_way = UnderWay::default();
    let mut following = pin!(follow::follow_images(&core));
    while !core.stop.is_cancelled() {
        if !core.shutdown.drain.is_cancelled() {
            attend_all(&core, &mut under_way).await;
        }
        let next_look = next_look(&core).await;
        tokio::select! {
            broken = under_way.ended() => {
                if let Some((wish, error)) = broken {
                    tracing::error!(repo = %wish.key.repo, %error, "upkeep broke off");
                    let trouble = Trouble::Failed("it broke off: a fault of Dayfly".to_owned());
                    if let Err(error) = note_trouble(&core, &wish, &trouble).await {
                        tracing::error!(repo = %wish.key.repo, %error, "the end of upkeep could not be stored");
                    }
                }
            }
            () = core.wake.upkeep.notified() => {}
            () = &mut following => {}
            () = tokio::time::sleep(next_look) => {}
            () = core.stop.cancelled() => {}
        }
    }
    while under_way.tasks.join_next().await.is_some() {}
}

async fn attend_all(core: &Arc<Core>, under_way: &mut UnderWay) {
    let due = core.store.due_upkeep(clock::now_ms()).await.unwrap_or_else(|error| {
        tracing::error!(%error, "it is not known what is to be kept up");
        Vec::new()
    });
    for wish in due {
        // What a newer commit makes pointless makes room for that.
        for (other, cancel) in under_way.wishes.values() {
            if other.key.repo == wish.key.repo && is_superseded(other, &wish) {
                cancel.cancel();
            }
        }
        if under_way.takes(&wish.key) {
            let cancel = core.shutdown.drain.child_token();
            let (core, cancelled) = (Arc::clone(core), cancel.clone());
            under_way.start(wish.clone(), cancel, async move { attend(&core, &wish, &cancelled).await });
        }
    }
}

/// Whether `other`, which is under way, is not wanted any more since `wish` is.
fn is_superseded(other: &Upkeep, wish: &Upkeep) -> bool {
    other.key == wish.key && other.key.kind != UpkeepKind::Look && other.hash != wish.hash
}

async fn next_look(core: &Core) -> Duration {
    let due = core.store.next_upkeep_due().await.ok().flatten();
    let wait = due.map_or(IDLE_LOOK, |due| Duration::from_millis(u64::try_from(due - clock::now_ms()).unwrap_or(0)));
    wait.clamp(SHORTEST_LOOK, IDLE_LOOK)
}

async fn attend(core: &Arc<Core>, wish: &Upkeep, cancel: &CancellationToken) {
    let done = match wish.key.kind {
        UpkeepKind::Look => tokio::select! {
            looked = look::look(core, wish) => looked,
            () = cancel.cancelled() => Err(Trouble::Interrupted),
        },
        UpkeepKind::Prepare | UpkeepKind::Fill => produce::produce(core, wish, cancel).await,
    };
    let stored = match done {
        Ok(End::Stored) => {
            core.wake.upkeep.notify_one();
            return;
        }
        Ok(End::Done(what)) => {
            tracing::info!(repo = %wish.key.repo, profile = wish.key.profile, sha = %wish.sha, hash = wish.hash, what, "kept up");
            core.metrics.upkeep.ended(KeptLabel::Made);
            let stored = core.store.finish_upkeep(wish, UpkeepState::Done, &what, clock::now_ms()).await;
            tidy(core).await;
            stored
        }
        Err(trouble) => note_trouble(core, wish, &trouble).await,
    };
    if let Err(error) = stored {
        tracing::error!(repo = %wish.key.repo, %error, "the end of upkeep could not be stored");
        // It is wanted as before, and due. Held for a while, it is not begun again at once.
        tokio::select! {
            () = tokio::time::sleep(STORE_REST) => {}
            () = cancel.cancelled() => {}
        }
    }
}

/// Stores whether and when it is tried again.
async fn note_trouble(core: &Core, wish: &Upkeep, trouble: &Trouble) -> Result<(), StoreError> {
    let now = clock::now_ms();
    // A look does not count its tries before it begins, as nothing of it can take the service with it.
    let tries = if wish.key.kind == UpkeepKind::Look { wish.tries } else { wish.tries.saturating_add(1) };
    let stored = match retry::after(trouble, tries, clock::jitter()) {
        retry::Next::Later { wait, counts } => {
            let tries = if counts { wish.tries.saturating_add(1) } else { wish.tries };
            let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX).min(LONGEST_WAIT_MS);
            let at = now.saturating_add(wait);
            core.metrics.upkeep.ended(KeptLabel::Postponed);
            core.store.postpone_upkeep(wish, tries, &trouble.to_string(), at).await
        }
        retry::Next::Never => {
            core.metrics.upkeep.ended(KeptLabel::Failed);
            core.store.finish_upkeep(wish, UpkeepState::Failed, &trouble.to_string(), now).await
        }
    };
    match trouble {
        Trouble::Interrupted => tracing::info!(repo = %wish.key.repo, "upkeep was interrupted"),
        error => tracing::warn!(repo = %wish.key.repo, profile = wish.key.profile, %error, "upkeep did not end well"),
    }
    stored
}
