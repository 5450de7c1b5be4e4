//! What no event told: GitHub is asked, rarely, and within the budget that jobs leave.
//!
//! - A job that has waited for a while may be taken, ended or cancelled by now: it is asked for ([`waiting`]).
//! - A job whose event was lost is in the lists of its repository: those are looked through as often as the sweep does
//!   ([`lost`]).
//! - A runner whose machine is gone is removed: at once where this service knows its number, and otherwise once it was seen
//!   offline for longer than any machine needs to register ([`leftovers`]).
//!
//! All of it happens beside the planning of machines, which never waits for GitHub. What is asked about in vain hides nothing
//! else: it goes to the end of its line.

mod leftovers;
mod lost;
mod pass;
mod waiting;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use self::leftovers::Leftovers;
use super::plan::Stage;
use super::{IDLE_LOOK, Machine, NOT_NEEDED, RunnersError, count_end, machines};
use crate::clock;
use crate::core::Core;
use crate::forge::{ForgeError, RepoName, RunnerApi};
use crate::ids::JobId;
use crate::store::StoreError;

/// How long jobs that ended are remembered: as long as GitHub keeps failed deliveries, with what may come late of them.
const MEMORY: Duration = Duration::from_hours(4 * 24);

/// How often they are forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// How long it is tried to remove a runner that GitHub believes to be at work: it gives up on it itself before.
const REMOVAL: Duration = Duration::from_hours(1);

/// The wait after a failure of the forge.
const PAUSE: Duration = Duration::from_secs(30);

/// What stays from round to round. Only memory: a restart asks anew.
struct Reconciler {
    /// Between two looks for lost events; `None`: none.
    interval: Option<Duration>,
    lost_due: i64,
    /// The repository that was looked through last.
    last: Option<RepoName>,
    leftovers: Leftovers,
    forget_due: i64,
    /// After a failure, nothing is asked before.
    paused_until: i64,
    /// Machines that are gone and whose runner could not be removed, and when that is tried again.
    retried: HashMap<JobId, i64>,
    /// Machines that were told to go because the service drains.
    dismissed: HashSet<JobId>,
}

/// Asks for ever, and wakes the planner when an answer changes anything.
pub(super) async fn run(core: &Arc<Core>, api: &dyn RunnerApi) {
    let mut reconciler = Reconciler::new(core);
    loop {
        match reconciler.round(core, api).await {
            Ok(true) => core.wake.runners.notify_one(),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "what GitHub says of its jobs could not be stored; it will be asked again")
            }
        }
        tokio::select! {
            () = core.runners.asked() => {}
            () = tokio::time::sleep(IDLE_LOOK) => {}
        }
    }
}

impl Reconciler {
    fn new(core: &Core) -> Self {
        let interval = core.config.github.as_ref().and_then(|github| github.sweep);
        Self {
            interval,
            lost_due: 0,
            last: None,
            leftovers: Leftovers::new(interval),
            forget_due: 0,
            paused_until: 0,
            retried: HashMap::new(),
            dismissed: HashSet::new(),
        }
    }

    /// Gives whether anything changed for those who plan.
    async fn round(&mut self, core: &Core, api: &dyn RunnerApi) -> Result<bool, StoreError> {
        let (over, there): (Vec<Machine>, Vec<Machine>) = machines(core).await?.into_iter().partition(Machine::is_over);
        let mut has_changed = false;
        for machine in over {
            has_changed |= self.settle(core, api, machine).await?;
        }
        if core.shutdown.drain.is_cancelled() {
            self.dismiss(core, api, &there).await?;
        }
        Ok(self.ask(core, api, &there).await? || has_changed)
    }

    /// A machine is gone: its runner goes as well, and then nothing is left to do about it. Gives whether that is so.
    async fn settle(&mut self, core: &Core, api: &dyn RunnerApi, machine: Machine) -> Result<bool, StoreError> {
        let now = clock::now_ms();
        count_end(core, &machine, now);
        let Machine { foreign, job, request, registered } = machine;
        if let Some(registered) = registered {
            let is_given_up = job.finished_at.is_some_and(|ended| now - ended > millis(REMOVAL));
            let due = self.retried.get(&job.id).copied().unwrap_or(0);
            if now < due.max(self.paused_until) && !is_given_up {
                return Ok(false);
            }
            match api.remove_runner(&request.at, registered.id).await {
                Ok(()) => tracing::info!(runner = registered.name, "a runner whose machine is gone was removed"),
                Err(ForgeError::NotFound { .. }) => {}
                Err(error) if is_given_up => {
                    tracing::warn!(runner = registered.name, %error, "a runner is left at GitHub, which removes it itself");
                }
                Err(error) => {
                    // At a job, as GitHub still believes; or the forge does not answer.
                    tracing::debug!(runner = registered.name, %error, "a runner whose machine is gone cannot be removed yet");
                    self.retried.insert(job.id.clone(), now + millis(PAUSE));
                    if error.is_retryable() {
                        self.pause(&error, now);
                    }
                    return Ok(false);
                }
            }
        }
        core.store.settle_foreign(&foreign.job).await?;
        self.retried.remove(&job.id);
        Ok(true)
    }

    /// The service drains: what has no job must not get one any more. GitHub refuses to remove a runner that has one.
    async fn dismiss(&mut self, core: &Core, api: &dyn RunnerApi, there: &[Machine]) -> Result<(), StoreError> {
        for machine in there {
            if self.dismissed.contains(&machine.job.id) {
                continue;
            }
            let is_free = match (machine.stage(core), &machine.registered) {
                (Stage::Busy, _) => continue,
                (Stage::Idle, Some(registered)) => match api.remove_runner(&machine.request.at, registered.id).await {
                    Ok(()) | Err(ForgeError::NotFound { .. }) => true,
                    Err(error) => {
                        tracing::debug!(runner = registered.name, %error, "a runner that waits cannot be removed");
                        false
                    }
                },
                _ => core.runners.try_drop(&machine.job.id),
            };
            if is_free {
                core.store.request_cancel(&machine.job.id, NOT_NEEDED).await?;
                core.wake.scheduler.notify_one();
                self.dismissed.insert(machine.job.id.clone());
            }
        }
        Ok(())
    }

    /// Asks GitHub what is due to be asked. A failure ends it until later: machines are planned from what is known.
    async fn ask(&mut self, core: &Core, api: &dyn RunnerApi, there: &[Machine]) -> Result<bool, StoreError> {
        let now = clock::now_ms();
        if now >= self.forget_due {
            self.forget_due = now + millis(FORGET);
            core.store.forget_workflow_jobs(now - millis(MEMORY)).await?;
        }
        if now < self.paused_until {
            return Ok(false);
        }
        let mut has_changed = false;
        match self.try_ask(core, api, there, now, &mut has_changed).await {
            Ok(()) => {}
            Err(RunnersError::Store(error)) => return Err(error),
            Err(RunnersError::Forge(error)) => {
                tracing::warn!(%error, "GitHub could not be asked about its jobs and runners; it will be tried again");
                self.pause(&error, now);
            }
        }
        Ok(has_changed)
    }

    /// What is due stays due until it is done: a failure on the way repeats it, from where it was.
    async fn try_ask(
        &mut self, core: &Core, api: &dyn RunnerApi, there: &[Machine], now: i64, has_changed: &mut bool,
    ) -> Result<(), RunnersError> {
        waiting::check(core, api, now, has_changed).await?;
        if let Some(interval) = self.interval.filter(|_| now >= self.lost_due) {
            lost::find(core, api, &mut self.last, has_changed).await?;
            self.lost_due = now + millis(interval);
        }
        self.leftovers.look(core, api, there, now).await
    }

    fn pause(&mut self, error: &ForgeError, now: i64) {
        let wait = match error {
            ForgeError::RateLimited { wait, .. } => *wait,
            _ => PAUSE,
        };
        self.paused_until = now + millis(wait);
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
