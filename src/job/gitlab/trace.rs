//! A job's log as GitLab shows it: sections, colours, and nothing that nobody may see.

use crate::clock;
use crate::core::heavy;
use crate::gitlab::job::masking::Masking;
use crate::gitlab::job::plan::Plan;
use crate::gitlab::job::sections::{self, Stage};
use crate::job::journal::Journal;
use crate::job::steps::Witness;
use crate::log::Stream;

/// Writes one job's log. All of it is one stream: GitLab gets exactly these bytes.
pub(super) struct Trace<'j> {
    journal: &'j mut Journal,
    masking: Masking,
    has_marks: bool,
    /// The section that was begun and not ended.
    open: Option<Stage>,
}

impl<'j> Trace<'j> {
    pub(super) async fn new(journal: &'j mut Journal, plan: &Plan) -> Self {
        let (masking, has_all) = Masking::new(plan.masked(), &plan.job.features.token_mask_prefixes);
        let mut trace = Self { journal, masking, has_marks: plan.has_marks(), open: None };
        if !has_all {
            trace.warn("the job has so many masked values that some are not covered in this log").await;
        }
        trace
    }

    /// Adds output.
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        let shown = heavy(|| self.masking.push(bytes));
        self.pass_on(&shown).await;
    }

    /// Adds a line of Dayfly's own.
    pub(super) async fn say(&mut self, text: &str) {
        self.write(format!("{text}\n").as_bytes()).await;
    }

    /// Adds what its author should know.
    pub(super) async fn warn(&mut self, text: &str) {
        self.write(sections::warning(text).as_bytes()).await;
    }

    /// Adds what went wrong.
    pub(super) async fn error(&mut self, text: &str) {
        self.write(sections::error(text).as_bytes()).await;
    }

    /// Begins a section, and ends the one before.
    pub(super) async fn begin(&mut self, stage: Stage) {
        self.end().await;
        self.journal.step_started(0, &stage.name());
        self.write(stage.begin(now(), self.has_marks).as_bytes()).await;
        self.open = Some(stage);
    }

    /// Ends the section that is open.
    pub(super) async fn end(&mut self) {
        // What was held back belongs to what said it.
        let rest = self.masking.finish();
        self.pass_on(&rest).await;
        if let Some(stage) = self.open.take() {
            self.write(stage.end(now(), self.has_marks).as_bytes()).await;
        }
    }

    /// Ends the log with these words.
    pub(super) async fn finish(&mut self, words: &str) {
        self.end().await;
        self.write(words.as_bytes()).await;
        let rest = self.masking.finish();
        self.pass_on(&rest).await;
    }

    async fn pass_on(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.journal.write(0, Stream::Stdout, bytes).await;
        }
    }
}

/// For what is told of every job alike.
impl Witness for Trace<'_> {
    async fn write(&mut self, _step: u16, _stream: Stream, bytes: &[u8]) {
        self.write(bytes).await;
    }
}

fn now() -> i64 {
    clock::now_ms() / 1000
}
