//! Watches a runner from its first word to its end: what it says goes to the log, and each stage has its time.

use std::time::Duration;

use nix::libc::{SIGKILL, SIGTERM};
use tokio::time::{Instant, sleep_until, timeout};

use super::super::attend::KILL_LIMIT;
use super::super::driver::cancelled;
use super::super::verdict::Ending;
use super::super::witness::Witness as _;
use super::{Attempt, foreign, words};
use crate::clock;
use crate::config::format_duration;
use crate::core::heavy;
use crate::forge::{Conclusion, ForgeError};
use crate::log::Stream;
use crate::protocol::message::{Exit, ExitStatus, Output};
use crate::runners::plan::Stage;
use crate::store::Reason;
use crate::vm::VmError;
use crate::vm::guest::Running;
use crate::workflow::commands::{Hearing, Listener, Source};

/// The step of the log that the runner's output is.
const STEP: u16 = 1;

/// How soon it is tried again to remove a runner that nobody needs.
const REMOVE_AGAIN: Duration = Duration::from_secs(30);

/// A runner that runs.
pub(super) struct Watch {
    pub(super) running: Running,
    pub(super) listener: Listener,
    pub(super) hearing: Hearing,
    /// When the stage is over that it is at.
    pub(super) deadline: Instant,
    /// GitHub's number of it.
    pub(super) id: u64,
    /// It was said that no job comes although some wait.
    pub(super) has_wondered: bool,
}

impl Watch {
    /// Watches it to its end.
    pub(super) async fn attend(&mut self, attempt: &mut Attempt<'_>) -> Result<Ending, VmError> {
        loop {
            tokio::select! {
                output = self.running.next() => {
                    if let Some(exit) = self.take(output?, attempt).await {
                        return Ok(end_of(attempt, &exit.status).await);
                    }
                }
                () = attempt.scene.cancel.cancelled() => {
                    self.stop(attempt).await?;
                    return Ok(cancelled(attempt.scene.core, attempt.scene.lease).await);
                }
                () = sleep_until(self.deadline) => {
                    if let Some(ending) = self.overdue(attempt).await? {
                        return Ok(ending);
                    }
                }
            }
        }
    }

    /// The stage has lasted as long as it may; gives the end, if it is that.
    async fn overdue(&mut self, attempt: &mut Attempt<'_>) -> Result<Option<Ending>, VmError> {
        let ending = match attempt.said.stage {
            Stage::Queued | Stage::Starting => {
                let limit = format_duration(attempt.settings.registration_timeout);
                let detail = format!(
                    "GitHub's runner did not wait for a job within {limit}\n  hint: its output is in the log; \
                     `egress` of the profile must allow GitHub's addresses"
                );
                attempt.journal.say(0, &format!("error: {detail}")).await;
                foreign(Conclusion::Error, Some(Reason::Runner), detail)
            }
            Stage::Idle => match self.dismissed(attempt).await {
                Some(ending) => ending,
                None => return Ok(None),
            },
            Stage::Busy => {
                let limit = attempt.scene.profile.timeout;
                let text = format!("error: the job took longer than its limit of {}", format_duration(limit));
                attempt.journal.say(0, &text).await;
                Ending::TimedOut(limit)
            }
        };
        self.stop(attempt).await?;
        Ok(Some(ending))
    }

    /// Removes a runner that has waited long enough, unless a job may still come.
    async fn dismissed(&mut self, attempt: &mut Attempt<'_>) -> Option<Ending> {
        let (core, idle) = (attempt.scene.core, attempt.settings.idle_timeout);
        self.deadline = Instant::now() + idle;
        if !core.runners.is_spare(&attempt.scene.lease.job.id) {
            if std::mem::replace(&mut self.has_wondered, true) {
                return None;
            }
            let text = "note: jobs wait for a runner with these labels, and GitHub gives this one none; does its group admit \
                        the repository?";
            attempt.journal.say(0, text).await;
            return None;
        }
        let api = core.forges.github()?.runner_api()?;
        match api.remove_runner(&attempt.request.at, self.id).await {
            Ok(()) | Err(ForgeError::NotFound { .. }) => {
                let detail = format!("No job came within {}", format_duration(idle));
                attempt.journal.say(0, &detail).await;
                Some(foreign(Conclusion::Skipped, Some(Reason::Skipped), detail))
            }
            Err(error) => {
                // At a job, say: its output will tell.
                tracing::debug!(runner = self.id, %error, "a runner that waits cannot be removed");
                self.deadline = Instant::now() + REMOVE_AGAIN.min(idle);
                None
            }
        }
    }

    /// Asks the runner to end, waits for the grace period, then kills it.
    async fn stop(&mut self, attempt: &mut Attempt<'_>) -> Result<(), VmError> {
        for (signal, limit) in [(SIGTERM, attempt.scene.core.config.limits.grace), (SIGKILL, KILL_LIMIT)] {
            self.running.signal(signal).await?;
            let drained = async {
                loop {
                    let output = self.running.next().await?;
                    if self.take(output, attempt).await.is_some() {
                        return Ok(());
                    }
                }
            };
            if let Ok(ended) = timeout(limit, drained).await {
                return ended;
            }
        }
        Ok(())
    }

    /// Hears output, whose text goes to the log; gives the exit.
    async fn take(&mut self, output: Output, attempt: &mut Attempt<'_>) -> Option<Exit> {
        match output {
            Output::Stdout(bytes) => self.listener.push(Source::Stdout, &bytes),
            Output::Stderr(bytes) => self.listener.push(Source::Stderr, &bytes),
            Output::Exited(exit) => {
                self.hear(true, attempt).await;
                return Some(exit);
            }
        }
        self.hear(false, attempt).await;
        None
    }

    async fn hear(&mut self, is_over: bool, attempt: &mut Attempt<'_>) {
        for (source, stream) in [(Source::Stdout, Stream::Stdout), (Source::Stderr, Stream::Stderr)] {
            while let Some(heard) = heavy(|| self.listener.next(source, is_over, &mut self.hearing)) {
                for line in String::from_utf8_lossy(&heard.text).lines() {
                    if attempt.said.hear(line) {
                        self.advance(attempt).await;
                    }
                }
                if !heard.text.is_empty() {
                    attempt.journal.write(STEP, stream, &heard.text).await;
                }
            }
        }
    }

    async fn advance(&mut self, attempt: &mut Attempt<'_>) {
        let (core, job) = (attempt.scene.core, &attempt.scene.lease.job);
        self.deadline = Instant::now()
            + match attempt.said.stage {
                Stage::Busy => attempt.scene.profile.timeout,
                Stage::Queued | Stage::Starting | Stage::Idle => attempt.settings.idle_timeout,
            };
        core.runners.advance(&job.id, attempt.said.stage, clock::now_ms());
        if let Some(name) = attempt.said.job.clone() {
            attempt.journal.step_started(0, &name);
        } else if let (Some(version), Some(newest)) = (&attempt.said.version, core.runners.newest())
            && let Some(note) = words::outdated(version, newest)
        {
            tracing::warn!(profile = attempt.scene.profile.name, image = attempt.scene.profile.image, "{note}");
            attempt.journal.say(0, &format!("note: {note}")).await;
        }
        core.wake.runners.notify_one();
    }
}

async fn end_of(attempt: &Attempt<'_>, status: &ExitStatus) -> Ending {
    let told = attempt.conclusion_told().await.flatten();
    let words::Verdict { conclusion, reason, detail } = attempt.said.verdict(told.as_deref(), status);
    foreign(conclusion, reason, detail)
}
