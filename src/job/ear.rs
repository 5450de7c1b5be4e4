//! Hears one step: passes what its programs print through the dialect's listener on the way to the log, and fetches the files
//! that it asks for.

use super::witness::{Voice, Witness};
use crate::core::heavy;
use crate::log::Stream;
use crate::vm::VmError;
use crate::vm::guest::Guest;
use crate::workflow::commands::{Asked, Heard, Listener, MAX_MATCHER_FILE, Said, SharedHearing, Source};
use crate::workflow::run::{JobRun, StepPlan};

/// With `true`, `set-env` and `add-path` work as they did when GitHub still allowed them.
const ALLOWS_UNSECURE: &str = "ACTIONS_ALLOW_UNSECURE_COMMANDS";

/// One step's listener, with what holds for all steps of its job.
pub(super) struct Ear {
    listener: Listener,
    hearing: SharedHearing,
}

impl Ear {
    pub(super) fn new(plan: &StepPlan, run: &JobRun) -> Self {
        let allows_unsecure = plan.env.get(ALLOWS_UNSECURE).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let listener = Listener::new(run.seen_workspace(), run.is_debug(), allows_unsecure);
        Self { listener, hearing: run.hearing().clone() }
    }

    /// Bytes have arrived.
    pub(super) fn push(&mut self, source: Source, bytes: &[u8]) {
        self.listener.push(source, bytes);
    }

    /// Writes to the log what they come to; `is_over` if nothing follows.
    pub(super) async fn hear<W: Witness>(
        &mut self, guest: &Guest, source: Source, is_over: bool, step: u16, log: &Voice<'_, W>,
    ) -> Result<(), VmError> {
        let stream = match source {
            Source::Stdout => Stream::Stdout,
            Source::Stderr => Stream::Stderr,
        };
        while let Some(heard) = self.next(source, is_over) {
            if !heard.text.is_empty() {
                log.write(step, stream, &heard.text).await;
            }
            if let Some(asked) = heard.asked {
                let text = self.fetch(guest, asked).await?;
                if !text.is_empty() {
                    log.write(step, stream, &text).await;
                }
            }
        }
        Ok(())
    }

    fn next(&mut self, source: Source, is_over: bool) -> Option<Heard> {
        // Patterns of the repository may take their time, and so may new masks.
        let mut hearing = self.hearing.lock();
        let is_quick = hearing.matchers.is_empty() && hearing.masks.is_empty();
        let mut next = || self.listener.next(source, is_over, &mut hearing);
        if is_quick { next() } else { heavy(next) }
    }

    async fn fetch(&mut self, guest: &Guest, asked: Asked) -> Result<Vec<u8>, VmError> {
        // One byte more than is allowed, so that what is too large is seen as such.
        let content = match guest.read_file(&asked.path, MAX_MATCHER_FILE as u32 + 1).await {
            Ok(content) if content.bytes.is_empty() => Err("the file is not there, or empty".to_owned()),
            Ok(content) => Ok(content.bytes),
            Err(VmError::Refused { detail, .. }) => Err(detail),
            Err(error) => return Err(error),
        };
        Ok(self.listener.answer(asked, content, &mut self.hearing.lock()))
    }

    /// What the step said, when it has ended.
    pub(super) fn finish(self) -> Said {
        self.listener.finish()
    }
}
