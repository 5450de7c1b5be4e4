//! The task that owns one VM of a pool, from before it exists until a job has it or it is verified to be gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::CLAIM_LIMIT;
use super::stock::Kit;
use crate::clock;
use crate::core::Core;
use crate::engine::Prepared;
use crate::ids::VmId;
use crate::metrics::labels::{PoolEnd, PoolTake};
use crate::vm::VmError;
use crate::vm::idle::Idle;
use crate::vm::machine::Machine;

/// Between two tries to remove a VM.
const RETRY: Duration = Duration::from_secs(10);

/// How long a job waits for a VM that was found dead to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(60);

/// To a VM's keeper: what comes over it takes the VM; that it closes without that means that nobody wants the VM.
pub(super) type Line = oneshot::Sender<oneshot::Sender<Handed>>;
type Orders = oneshot::Receiver<oneshot::Sender<Handed>>;

/// A VM on its way to its job.
#[derive(Debug)]
pub(super) struct Handed {
    idle: Idle,
    kit: Arc<Kit>,
}

/// A VM that is promised to one job. Dropped, it is destroyed.
#[derive(Debug)]
pub struct Reserved {
    id: VmId,
    line: Line,
}

impl Reserved {
    pub(super) fn new(id: VmId, line: Line) -> Self {
        Self { id, line }
    }

    /// The VM's id, and that of the job's VM.
    pub fn id(&self) -> &VmId {
        &self.id
    }

    /// Wakes the VM for its job: new entropy, clock and identity. After an error the VM is gone, and another one may have its
    /// id.
    pub(crate) async fn claim(self, core: &Core) -> Result<(Machine, Arc<Prepared>), VmError> {
        let began = Instant::now();
        let claimed = self.try_claim().await;
        match &claimed {
            Ok(_) => core.metrics.pools.claimed(began.elapsed()),
            Err(_) => core.metrics.pools.taken(PoolTake::Dead),
        }
        claimed
    }

    /// Destroys the VM: its job starts elsewhere, in a VM of the same id.
    pub(crate) async fn decline(self) -> Result<(), VmError> {
        match self.handed().await {
            Ok(mut handed) => handed.idle.destroy().await,
            // It was gone already.
            Err(VmError::Lost(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn try_claim(self) -> Result<(Machine, Arc<Prepared>), VmError> {
        let Handed { idle, kit } = self.handed().await?;
        let machine = idle.claim(CLAIM_LIMIT).await?;
        Ok((machine, Arc::clone(&kit.prepared)))
    }

    async fn handed(self) -> Result<Handed, VmError> {
        let died = || VmError::Lost("it ended before its job came".to_owned());
        let (hand, handed) = oneshot::channel();
        // A keeper that is destroying it answers once that is done.
        drop(self.line.send(hand));
        let handed = timeout(GONE_LIMIT, handed)
            .await
            .map_err(|_| VmError::TimedOut { what: "removing a VM of the pool that died", limit: GONE_LIMIT })?;
        handed.map_err(|_| died())
    }
}

/// Gives the VM's place back, however its keeper ends.
struct Place<'a> {
    core: &'a Core,
    id: &'a VmId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.core.pools.forget(self.id);
        self.core.wake.scheduler.notify_one();
    }
}

/// Makes the VM, keeps it, and hands it over or destroys it.
pub(super) async fn keep(core: Arc<Core>, id: VmId, profile: String, kit: Arc<Kit>, mut orders: Orders) {
    let _place = Place { core: &core, id: &id };
    let made = tokio::select! {
        made = make(&core, &id, &kit) => made,
        // Dropping the restore leaves its home to the reaper, which is asked at once.
        _ = &mut orders => return see_off_unfinished(&core, &id).await,
    };
    let idle = match made {
        Ok(idle) => idle,
        Err(error) => {
            let wait = core.pools.failed(&profile);
            core.metrics.pools.ended(PoolEnd::Failed);
            tracing::warn!(profile, %error, wait_s = wait.as_secs(), "a VM of the pool could not be made");
            return see_off_unfinished(&core, &id).await;
        }
    };
    core.pools.became_ready(&id, clock::steady_ms());
    core.wake.scheduler.notify_one();
    let order = tokio::select! {
        order = &mut orders => order,
        loss = idle.lost() => {
            let wait = core.pools.failed(&profile);
            core.metrics.pools.ended(PoolEnd::Died);
            tracing::warn!(vm = %id, profile, %loss, wait_s = wait.as_secs(), "a VM of the pool has died");
            core.pools.remove(&id);
            // Whoever was promised it waits until it is gone: the orders are dropped after that.
            return see_off(idle).await;
        }
    };
    let unwanted = match order {
        Ok(hand) => match hand.send(Handed { idle, kit }) {
            Ok(()) => return core.pools.succeeded(&profile),
            Err(Handed { idle, .. }) => idle,
        },
        Err(_) => idle,
    };
    see_off(unwanted).await;
}

async fn make(core: &Core, id: &VmId, kit: &Kit) -> Result<Idle, VmError> {
    let home = core.engine.home(id.clone())?;
    core.engine.restore_idle(home, &kit.prepared, kit.cache.as_ref()).await
}

/// Destroys the VM, however long that takes: until then it counts against the limits.
async fn see_off(mut idle: Idle) {
    while let Err(error) = idle.destroy().await {
        tracing::error!(vm = %idle.id(), %error, "a VM of the pool could not be removed");
        tokio::time::sleep(RETRY).await;
    }
}

/// The same for one that was not made to its end.
async fn see_off_unfinished(core: &Core, id: &VmId) {
    loop {
        core.engine.reap().await;
        match core.engine.homes().is_absent(id) {
            Ok(true) => return,
            Ok(false) => tracing::error!(vm = %id, "a VM that was not finished could not be removed"),
            Err(error) => tracing::error!(vm = %id, %error, "it is not known whether a VM is gone"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
