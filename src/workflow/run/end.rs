//! What is left of a job when its steps are over.

use std::collections::BTreeMap;

use super::{JobRun, MAX_OUTPUT_BYTES};
use crate::workflow::commands::Masks;
use crate::workflow::contexts::Outcome;
use crate::workflow::expression::{Environment, Status};
use crate::workflow::gate::NeedResult;

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    pub outcome: Outcome,
    /// Whether `continue-on-error` allows a failure.
    pub tolerated: bool,
    pub outputs: BTreeMap<String, String>,
    /// Markdown of all steps.
    pub summary: String,
    /// What went wrong beside the steps, for people.
    pub errors: Vec<String>,
    /// What must not be shown of whatever else the job leaves.
    pub masks: Box<Masks>,
}

impl JobEnd {
    /// What the jobs that need this one see of it.
    pub fn need_result(&self) -> NeedResult {
        let is_tolerated = self.tolerated && self.outcome == Outcome::Failure;
        let result = if is_tolerated { Outcome::Success } else { self.outcome };
        NeedResult { result, outputs: self.outputs.clone() }
    }
}

impl JobRun {
    /// How the job ended. A job whose steps were not all asked for was cancelled.
    pub fn finish(mut self) -> JobEnd {
        if self.at < self.spec.job.steps.len() || !self.posts.is_empty() || self.beside.has_open() {
            self.cancel();
        }
        let mut errors = Vec::new();
        let mut outputs = self.job_outputs(&mut errors);
        self.leave_out_secrets(&mut outputs);
        let outcome = match self.status {
            Status::Failure => Outcome::Failure,
            Status::Cancelled => Outcome::Cancelled,
            Status::Success | Status::Skipped if errors.is_empty() => Outcome::Success,
            Status::Success | Status::Skipped => Outcome::Failure,
        };
        let errors = errors.iter().map(|error| self.masked(error)).collect();
        let summary = self.masked(&self.summary.clone());
        let masks = Box::new(self.hearing.lock().masks.clone());
        JobEnd { outcome, tolerated: self.tolerated, outputs, summary, errors, masks }
    }

    fn job_outputs(&self, errors: &mut Vec<String>) -> BTreeMap<String, String> {
        let contexts = self.contexts(&self.env);
        let environment = Environment::new(&contexts).with_status(self.status);
        let (mut outputs, mut bytes) = (BTreeMap::new(), 0);
        for (name, template) in &self.spec.job.outputs {
            match template.evaluate_text(&environment) {
                Ok(value) => {
                    bytes += name.len() + value.len();
                    if bytes > MAX_OUTPUT_BYTES {
                        errors.push(format!("the job's outputs have more than {MAX_OUTPUT_BYTES} bytes; `{name}` and those after it are left out"));
                        break;
                    }
                    outputs.insert(name.clone(), value);
                }
                Err(error) => errors.push(format!("the output `{name}` of the job: {}", error.with_its_hint())),
            }
        }
        outputs
    }
}
