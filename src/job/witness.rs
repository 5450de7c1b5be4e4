//! Who sees a job's steps run, and how steps that run at the same time share one who does.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::verdict::StepLine;
use crate::log::Stream;

/// Sees a job's steps run: the log and the timeline of the service, or somebody's terminal.
pub(crate) trait Witness: Send + Sync {
    /// Output of the guest, a step's heading, or a word of Dayfly's own. Steps count from 1; 0 is what comes before them.
    fn write(&mut self, step: u16, stream: Stream, bytes: &[u8]) -> impl Future<Output = ()> + Send;

    /// A step begins; `index` counts from 0.
    fn step_started(&mut self, _index: usize, _name: &str) {}

    /// A step speaks again after another one did that runs at the same time; `heading` is its own.
    fn step_goes_on(&mut self, step: u16, heading: &[u8]) -> impl Future<Output = ()> + Send {
        async move { self.write(step, Stream::Heading, heading).await }
    }

    /// A step has ended, or was passed over.
    fn step_ended(&mut self, _line: &StepLine) {}

    /// When [`Witness::update`] is to be called, if it is.
    fn update_due(&self) -> Option<Instant> {
        None
    }

    /// Tells others how far the job is.
    fn update(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// A line of Dayfly's own.
    fn say(&mut self, step: u16, text: &str) -> impl Future<Output = ()> + Send {
        async move { self.write(step, Stream::Service, format!("{}\n", text.trim_end()).as_bytes()).await }
    }
}

/// A witness of steps that run at the same time. Whenever another one goes on than that which spoke last, its heading comes again,
/// so that every line stands below the heading of its step. Clones are the same.
pub(super) struct Voice<'a, W>(Arc<Mutex<Shared<'a, W>>>);

struct Shared<'a, W> {
    witness: &'a mut W,
    /// The step whose heading is the last.
    at: u16,
    headings: BTreeMap<u16, Vec<u8>>,
    /// Of the steps that have ended, in the order of the workflow.
    lines: Vec<StepLine>,
}

impl<W> Clone for Voice<'_, W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// For those who speak to any witness, not of a step.
impl<W: Witness> Witness for Voice<'_, W> {
    async fn write(&mut self, step: u16, stream: Stream, bytes: &[u8]) {
        Voice::write(self, step, stream, bytes).await;
    }
}

impl<'a, W: Witness> Voice<'a, W> {
    pub(super) fn new(witness: &'a mut W) -> Self {
        let headings = BTreeMap::new();
        Self(Arc::new(Mutex::new(Shared { witness, at: 0, headings, lines: Vec::new() })))
    }

    /// See [`Witness::write`].
    pub(super) async fn write(&self, step: u16, stream: Stream, bytes: &[u8]) {
        let mut shared = self.0.lock().await;
        let shared = &mut *shared;
        match shared.headings.get(&step) {
            Some(heading) if shared.at != step => shared.witness.step_goes_on(step, heading).await,
            // Those that come later are of an action's steps, within it.
            None if stream == Stream::Heading => drop(shared.headings.insert(step, bytes.to_vec())),
            _ => {}
        }
        // What is said of the job as a whole interrupts nobody.
        if step != 0 {
            shared.at = step;
        }
        shared.witness.write(step, stream, bytes).await;
    }

    /// See [`Witness::say`].
    pub(super) async fn say(&self, step: u16, text: &str) {
        self.write(step, Stream::Service, format!("{}\n", text.trim_end()).as_bytes()).await;
    }

    pub(super) async fn step_started(&self, index: usize, name: &str) {
        self.0.lock().await.witness.step_started(index, name);
    }

    pub(super) async fn step_ended(&self, line: StepLine) {
        let mut shared = self.0.lock().await;
        shared.witness.step_ended(&line);
        let place = shared.lines.partition_point(|other| other.report.index <= line.report.index);
        shared.lines.insert(place, line);
    }

    pub(super) async fn update_due(&self) -> Option<Instant> {
        self.0.lock().await.witness.update_due()
    }

    pub(super) async fn update(&self) {
        self.0.lock().await.witness.update().await;
    }

    /// How the steps did that have ended.
    pub(super) async fn take_lines(&self) -> Vec<StepLine> {
        std::mem::take(&mut self.0.lock().await.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(String);

    impl Witness for Told {
        async fn write(&mut self, step: u16, stream: Stream, bytes: &[u8]) {
            let text = String::from_utf8_lossy(bytes);
            let mark = if stream == Stream::Heading { "# " } else { "" };
            self.0.push_str(&format!("{step} {mark}{}\n", text.trim_end()));
        }
    }

    #[tokio::test]
    async fn every_line_stands_below_the_heading_of_its_step() {
        let mut told = Told::default();
        let voice = Voice::new(&mut told);
        let other = voice.clone();
        voice.say(0, "before").await;
        for (voice, step, stream, text) in [
            (&voice, 1, Stream::Heading, "Server"),
            (&voice, 1, Stream::Stdout, "ready"),
            (&other, 2, Stream::Heading, "Test"),
            (&other, 2, Stream::Heading, "Part of an action"),
            (&voice, 1, Stream::Stdout, "asked"),
            (&voice, 0, Stream::Service, "of the job"),
            (&voice, 1, Stream::Stderr, "asked again"),
            (&other, 2, Stream::Stdout, "ok"),
        ] {
            voice.write(step, stream, text.as_bytes()).await;
        }
        drop((voice, other));
        insta::assert_snapshot!(told.0, @"
        0 before
        1 # Server
        1 ready
        2 # Test
        2 # Part of an action
        1 # Server
        1 asked
        0 of the job
        1 asked again
        2 # Test
        2 ok
        ");
    }
}
