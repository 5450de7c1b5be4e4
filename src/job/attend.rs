//! One program of a step, from its start to its end, its time limit or its cancellation, and what it says meanwhile.

use std::time::Duration;

use nix::libc::{SIGKILL, SIGTERM};
use tokio::time::{Instant, timeout};

use super::ear::Ear;
use super::steps::{Steps, until};
use super::witness::Witness;
use crate::protocol::message::{Exec, Exit, ExitStatus, Output};
use crate::vm::VmError;
use crate::vm::guest::Running;
use crate::workflow::commands::Source;
use crate::workflow::file_commands::MAX_FILE_BYTES;
use crate::workflow::run::{CommandFiles, StepEnd, StepPlan, StepResult};

/// How long a program has to end that another step cancels.
const CANCEL_GRACE: Duration = Duration::from_millis(7500);

/// How long a killed program may take to end before the step is given up. The VM dies soon after anyway.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(5);

impl<W: Witness> Steps<'_, W> {
    /// Runs a step's program, and reads the files that it wrote.
    pub(super) async fn run_prepared(
        &mut self, plan: &StepPlan, exec: Exec, mut ear: Ear,
    ) -> Result<StepResult, VmError> {
        let number = self.number_of(plan);
        let end = self.attend(exec, plan, &mut ear).await?;
        for source in [Source::Stdout, Source::Stderr] {
            ear.hear(self.guest, source, true, number, &self.witness).await?;
        }
        let CommandFiles { env, output, path, summary, state } = &plan.command_files;
        let mut contents = Vec::new();
        for file in [env, output, path, summary, state] {
            // One byte more than is allowed, so that what is too large is seen as such.
            let content = self.guest.read_file(file, MAX_FILE_BYTES as u32 + 1).await;
            contents.push(match content {
                Ok(content) => content.bytes,
                // The step replaced its file by something that is none: that is nothing said.
                Err(VmError::Refused { .. }) => Vec::new(),
                Err(error) => return Err(error),
            });
        }
        let mut contents = contents.into_iter();
        let mut next = || contents.next().unwrap_or_default();
        let said = ear.finish();
        Ok(StepResult { end, env: next(), output: next(), path: next(), summary: next(), state: next(), said })
    }

    /// Runs a program to its end, its time limit or the job's cancellation.
    async fn attend(&mut self, exec: Exec, plan: &StepPlan, ear: &mut Ear) -> Result<StepEnd, VmError> {
        let number = self.number_of(plan);
        let mut running = match self.guest.exec(exec).await {
            Ok(running) => running,
            Err(VmError::Refused { detail, .. }) => return Ok(StepEnd::Failed(detail)),
            Err(error) => return Err(error),
        };
        let own = plan.timeout.map(|limit| Instant::now() + limit);
        let deadline = [own, self.frame.deadline].into_iter().flatten().min();
        let heeds_cancel = self.heeds_cancel(plan);
        loop {
            let live_update = self.witness.update_due().await;
            let end = tokio::select! {
                output = running.next() => match self.take(number, output?, ear).await? {
                    Some(exit) => return Ok(step_end(exit.status)),
                    None => continue,
                },
                () = until(live_update) => {
                    self.witness.update().await;
                    continue;
                }
                () = until(deadline) => StepEnd::TimedOut,
                () = self.cancel.cancelled(), if heeds_cancel => StepEnd::Cancelled,
            };
            // One step ends another: that is as it is on GitHub's machines, whatever the operator gives to whole jobs.
            let is_by_step = end == StepEnd::Cancelled && !self.stop.is_cancelled();
            let grace = if is_by_step { CANCEL_GRACE } else { self.grace };
            self.end(&mut running, grace, plan, ear).await?;
            return Ok(end);
        }
    }

    /// Asks a program to end, waits for the grace period, then kills it.
    async fn end(
        &mut self, running: &mut Running, grace: Duration, plan: &StepPlan, ear: &mut Ear,
    ) -> Result<(), VmError> {
        let number = self.number_of(plan);
        for (signal, limit) in [(SIGTERM, grace), (SIGKILL, KILL_LIMIT)] {
            self.signal_step(running, plan, signal).await?;
            let drained = async {
                loop {
                    if self.take(number, running.next().await?, ear).await?.is_some() {
                        return Ok(());
                    }
                }
            };
            if let Ok(ended) = timeout(limit, drained).await {
                return ended;
            }
        }
        // Something that cannot be killed. The stream is given up, and the VM goes soon.
        Ok(())
    }

    /// Hears output, whose text goes to the log; gives the exit.
    async fn take(&mut self, number: u16, output: Output, ear: &mut Ear) -> Result<Option<Exit>, VmError> {
        let (source, bytes) = match output {
            Output::Stdout(bytes) => (Source::Stdout, bytes),
            Output::Stderr(bytes) => (Source::Stderr, bytes),
            Output::Exited(exit) => {
                // The guest's own count: it may say what it likes.
                self.oom_kills = self.oom_kills.saturating_add(exit.oom_kills);
                self.is_disk_full = exit.is_disk_full;
                return Ok(Some(exit));
            }
        };
        ear.push(source, &bytes);
        ear.hear(self.guest, source, false, number, &self.witness).await.map(|()| None)
    }
}

fn step_end(status: ExitStatus) -> StepEnd {
    match status {
        ExitStatus::Code(code) => StepEnd::Exited(code),
        ExitStatus::Signal(signal) => StepEnd::Failed(format!("the step was ended by signal {signal}")),
        ExitStatus::NotStarted(why) => StepEnd::Failed(why),
    }
}
