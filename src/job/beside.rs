//! Steps in the background: they go on while the job does whatever comes after them.
//!
//! All of them, and the step that is not in the background, make progress in the task of the job itself. So each wait here goes on with
//! the others meanwhile: one that rests while it writes to the log would keep everybody from it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::steps::Steps;
use super::witness::Witness;
use crate::core::heavy;
use crate::vm::VmError;
use crate::workflow::run::{JobRun, Next, Ready, StepPlan, StepReport, WaitPlan};

/// A step that is over, with the [`JobRun`] that it had if it had begun.
type Over = (Option<Box<JobRun>>, Option<StepReport>);

/// The steps that run in the background.
pub(super) struct Crew<'a, W> {
    /// What each of them gets.
    kit: Steps<'a, W>,
    running: FuturesUnordered<BoxFuture<'a, Result<Over, VmError>>>,
    cancels: BTreeMap<usize, CancellationToken>,
}

impl<'a, W: Witness> Crew<'a, W> {
    pub(super) fn new(steps: &Steps<'a, W>) -> Self {
        let kit = steps.apart(steps.cancel.clone());
        Self { kit, running: FuturesUnordered::new(), cancels: BTreeMap::new() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Begins with the steps whose turn has come.
    pub(super) fn start(&mut self, run: &mut JobRun) {
        if self.kit.cancel.is_cancelled() {
            run.cancel();
        }
        while let Some(ready) = run.ready() {
            match ready {
                Ready::Start(plan, run) => {
                    // One that begins after the job was cancelled is not ended by that.
                    let is_late = self.kit.cancel.is_cancelled();
                    let cancel = if is_late { CancellationToken::new() } else { self.kit.cancel.child_token() };
                    self.cancels.insert(plan.index, cancel.clone());
                    self.running.push(run_beside(self.kit.apart(cancel), plan, run));
                }
                Ready::GivenUp(report) => self.running.push(give_up(self.kit.apart(CancellationToken::new()), report)),
            }
        }
    }

    /// Does what the job wants next while the others go on.
    pub(super) async fn go_on_beside(
        &mut self, steps: &mut Steps<'a, W>, next: Next, run: &mut JobRun,
    ) -> Result<(), VmError> {
        let mut apart = heavy(|| run.apart());
        self.meanwhile(run, steps.turn(next, &mut apart)).await??;
        run.go_on_as(apart);
        Ok(())
    }

    /// Waits for steps, or ends them; then they count.
    pub(super) async fn meet(
        &mut self, steps: &mut Steps<'a, W>, plan: &WaitPlan, run: &mut JobRun,
    ) -> Result<(), VmError> {
        let began = tokio::time::Instant::now();
        if let Some(index) = plan.index {
            self.meanwhile(run, steps.begin(index, &plan.name)).await?;
        }
        run.begin_wait(plan);
        for step in plan.steps.iter().filter(|_| plan.cancels) {
            if let Some(cancel) = self.cancels.get(step) {
                cancel.cancel();
            }
        }
        self.start(run);
        while !run.is_met(plan) {
            let stop = self.kit.cancel.clone();
            let already_cancelled = stop.is_cancelled();
            tokio::select! {
                over = self.running.next() => match over {
                    Some(over) => self.take_back(over?, run),
                    // Nothing that could still end.
                    None => break,
                },
                () = stop.cancelled(), if !already_cancelled => self.start(run),
            }
        }
        if let Some(report) = heavy(|| run.finish_wait(plan)) {
            self.meanwhile(run, steps.note(report, began.elapsed())).await?;
        }
        Ok(())
    }

    /// Lets the steps in the background go on until `work` is done.
    async fn meanwhile<T>(&mut self, run: &mut JobRun, work: impl Future<Output = T>) -> Result<T, VmError> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                // What was begun first speaks first.
                biased;
                Some(over) = self.running.next() => self.take_back(over?, run),
                done = &mut work => return Ok(done),
            }
        }
    }

    fn take_back(&mut self, (own, report): Over, run: &mut JobRun) {
        if let Some(report) = report {
            self.cancels.remove(&report.index);
            if let Some(own) = own {
                heavy(|| run.take_back(*own, &report));
            }
        }
        self.start(run);
    }
}

fn run_beside<'a, W: Witness>(
    mut steps: Steps<'a, W>, plan: Box<StepPlan>, mut run: Box<JobRun>,
) -> BoxFuture<'a, Result<Over, VmError>> {
    async move {
        let report = steps.execute(&plan, &mut run).await?;
        Ok((Some(run), report))
    }
    .boxed()
}

/// Tells of a step that never began.
fn give_up<'a, W: Witness>(mut steps: Steps<'a, W>, report: StepReport) -> BoxFuture<'a, Result<Over, VmError>> {
    async move {
        steps.begin(report.index, &report.name).await;
        steps.note(report, Duration::ZERO).await;
        Ok((None, None))
    }
    .boxed()
}
