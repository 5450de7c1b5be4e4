//! A VM that waits for its job: restored, asked once, and held still.
//!
//! Most of a restore is spent on what happens for the first time: the monitor starts, pages are mapped, and under emulation
//! each piece of the guest's code is translated before it runs. An idle VM has that behind it.
//!
//! Invariants: it has served nobody, and [`Idle::claim`] takes it by value, so that it serves one job. Who it is when it waits
//! does not count: entropy, clock and identity are renewed at the claim, before any byte of a job.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::VmError;
use super::home::Home;
use super::loss::Loss;
use super::machine::{Machine, Memory, Template, Timings};
use super::rehearsal::rehearse;
use super::volume::CacheMount;
use crate::host::process::Lifetime;
use crate::ids::VmId;

/// How long getting a restored VM to stand still may take, rehearsal included. Emulated guests on a loaded host are slow.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

/// A VM that stands still, for one job.
#[derive(Debug)]
pub struct Idle(Machine);

impl Idle {
    /// Restores `template` into `home`, has the guest do once what jobs do first, and holds it still. After an error nothing
    /// is left of the VM but what could not be removed, which is logged.
    pub async fn restore(
        home: Home, template: &Template, cache: Option<&CacheMount>, lifetime: Lifetime,
    ) -> Result<Self, VmError> {
        let mut machine = Machine::restore(home, template, Memory::Borrowed, cache, lifetime).await?;
        let settled = async {
            rehearse(machine.guest()).await?;
            // A second identity, because the claim gives one that mounts no cache.
            machine.identify().await?;
            machine.pause().await
        };
        match or_too_slow(SETTLE_LIMIT, "a VM of the pool", settled).await {
            Ok(()) => Ok(Self(machine)),
            Err(error) => Err(given_up(machine, error).await),
        }
    }

    /// Whose VM this is.
    pub fn id(&self) -> &VmId {
        self.0.id()
    }

    /// Waits until the VM is lost, which it should not be; gives how.
    pub fn lost(&self) -> impl Future<Output = Loss> + Send + use<> {
        self.0.lost()
    }

    /// Lets the guest run, with an identity, clock and entropy of its own from now on. One that does not answer within
    /// `limit` is destroyed, and so is one that answers wrongly; what could not be removed of it is logged.
    pub async fn claim(self, limit: Duration) -> Result<Machine, VmError> {
        let Self(mut machine) = self;
        let began = Instant::now();
        let woken = async {
            machine.resume().await?;
            machine.identify().await
        };
        match or_too_slow(limit, "waking a VM of the pool", woken).await {
            Ok(()) => {
                machine.timings = Timings { identified: began.elapsed(), ..Timings::default() };
                Ok(machine)
            }
            Err(error) => Err(given_up(machine, error).await),
        }
    }

    /// Destroys the VM. It is absent when this returns without an error; with one, calling again tries again.
    pub async fn destroy(&mut self) -> Result<(), VmError> {
        self.0.destroy().await
    }
}

async fn or_too_slow(
    limit: Duration, what: &'static str, work: impl Future<Output = Result<(), VmError>>,
) -> Result<(), VmError> {
    timeout(limit, work).await.unwrap_or(Err(VmError::TimedOut { what, limit }))
}

/// Destroys a VM that is of no use; gives the error that says why.
async fn given_up(mut machine: Machine, why: VmError) -> VmError {
    if let Err(left) = machine.destroy().await {
        tracing::error!(vm = %machine.id(), error = %left, "a VM of the pool could not be removed");
    }
    why
}
