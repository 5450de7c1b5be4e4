//! A job's steps, decided one by one.
//!
//! [`JobRun`] is a machine without side effects: its driver asks [`JobRun::next_step`] what to do, does it in the VM, and tells
//! [`JobRun::finish_step`] how it went. What the VM says is data of a stranger: it is bounded here and never interpreted as
//! anything but texts.

mod prepare;
mod progress;
mod step_plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use progress::Progress;
pub use step_plan::{CheckoutPlan, CommandFiles, Next, StepAction, StepEnd, StepPlan, StepReport, StepResult};

use super::contexts::{GithubContext, Outcome, RunnerContext, standard_env};
use super::expression::{Environment, ExpressionError, Object, Status, Value};
use super::file_commands::{self, FileCommandError, Pairs};
use super::gate::{NeedResult, NeedsResults};
use super::plan::JobSpec;
use super::setting::Setting;
use super::values::{Hidden, SecretContext, Values};
use crate::document::Diagnostic;
use prepare::Hashes;

/// Bytes of all environment variables of a step, names and values.
pub const MAX_ENV_BYTES: usize = 1024 * 1024;

/// Environment variables of a step.
pub const MAX_ENV_VARIABLES: usize = 4096;

/// Bytes of the outputs of all steps of a job, and of the outputs of the job.
pub const MAX_OUTPUT_BYTES: usize = 1024 * 1024;

/// Bytes of the summaries of all steps of a job.
pub const MAX_SUMMARY_BYTES: usize = 1024 * 1024;

/// Where and after what a job runs.
#[derive(Debug, Clone)]
pub struct JobPlace {
    pub github: GithubContext,
    pub runner: RunnerContext,
    pub needs: NeedsResults,
    /// All variables and secrets that there are for a job of its repository and environment.
    pub values: Values,
    /// The directory in the VM for the files by which steps speak, without a slash at the end.
    pub command_directory: String,
}

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
}

impl JobEnd {
    /// What the jobs that need this one see of it.
    pub fn need_result(&self) -> NeedResult {
        let is_tolerated = self.tolerated && self.outcome == Outcome::Failure;
        let result = if is_tolerated { Outcome::Success } else { self.outcome };
        NeedResult { result, outputs: self.outputs.clone() }
    }
}

/// The steps of one job, and what they have said so far.
#[derive(Debug)]
pub struct JobRun {
    spec: JobSpec,
    place: JobPlace,
    vars: Value,
    secrets: SecretContext,
    hidden: Hidden,
    /// Variables that nothing overrides.
    standard: BTreeMap<String, String>,
    needs: Value,
    /// Of the workflow, the job, and `GITHUB_ENV`.
    env: BTreeMap<String, String>,
    /// From `GITHUB_PATH`, newest first.
    path: Vec<String>,
    /// The `steps` context.
    steps: Object,
    at: usize,
    current: Option<Current>,
    status: Status,
    hashes: Hashes,
    output_bytes: usize,
    summary: String,
    timeout: Option<Duration>,
    tolerated: bool,
}

/// The step that the driver runs.
#[derive(Debug)]
struct Current {
    name: String,
    tolerated: bool,
}

impl JobRun {
    /// A job before its first step.
    ///
    /// # Errors
    /// The job's own `env`, `timeout-minutes` or `continue-on-error` cannot be computed.
    pub fn new(spec: JobSpec, place: JobPlace) -> Result<Self, Diagnostic> {
        let at = |spec: &JobSpec, path: String, error: ExpressionError| error.at(&spec.file, spec.job.position, path);
        let values = spec.secrets.resolve(&place.values, &place.github.to_value());
        let values = values.map_err(|error| at(&spec, "secrets".to_owned(), error))?;
        let mut run = Self {
            vars: values.vars(),
            secrets: values.secrets(),
            hidden: values.hidden(),
            standard: standard_env(&place.github, &place.runner),
            needs: place.needs.to_value(&spec),
            spec,
            place,
            env: BTreeMap::new(),
            path: Vec::new(),
            steps: Object::default(),
            at: 0,
            current: None,
            status: Status::Success,
            hashes: Hashes::default(),
            output_bytes: 0,
            summary: String::new(),
            timeout: None,
            tolerated: false,
        };
        run.env = run.job_env().map_err(|(path, error)| at(&run.spec, path, error))?;
        let contexts = run.contexts(&run.env);
        let environment = Environment::new(&contexts);
        let job = &run.spec.job;
        run.timeout = prepare::timeout(job.timeout_minutes.as_ref(), &environment)
            .map_err(|error| at(&run.spec, format!("jobs.{}.timeout-minutes", job.id), error))?;
        run.tolerated = Setting::resolve(&job.continue_on_error, &environment)
            .map_err(|error| at(&run.spec, format!("jobs.{}.continue-on-error", job.id), error))?;
        Ok(run)
    }

    /// `timeout-minutes` of the job, if it has one. The driver keeps the time and calls [`JobRun::cancel`].
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The job's name for people.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What nothing may show that people read of the job: its log and its reports.
    pub fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// The number of steps.
    pub fn step_count(&self) -> usize {
        self.spec.job.steps.len()
    }

    /// Cancels the job: from now on only steps run whose `if` says so. The driver ends the step that runs.
    pub fn cancel(&mut self) {
        self.status = Status::Cancelled;
    }

    /// What to do next. Asking again before answering gives the same again.
    pub fn next_step(&mut self) -> Next {
        if self.at >= self.spec.job.steps.len() {
            return Next::Done;
        }
        match self.prepare() {
            Ok(Some((plan, tolerated))) => {
                self.current = Some(Current { name: plan.name.clone(), tolerated });
                Next::Run(Box::new(plan))
            }
            Ok(None) => {
                let name = self.best_name();
                Next::Skipped(self.record(name, Outcome::Skipped, Outcome::Skipped, Object::default(), Vec::new()))
            }
            Err(error) => match self.hashes.take_wanted() {
                Some(patterns) => Next::HashFiles(patterns),
                None => {
                    let name = self.best_name();
                    let errors = vec![error.with_its_hint()];
                    let failure = Outcome::Failure;
                    Next::Failed(self.record(name, failure, failure, Object::default(), errors))
                }
            },
        }
    }

    /// Answers [`Next::HashFiles`]: the digest of the files that match (empty if none does), or why there is none.
    pub fn answer_hash(&mut self, patterns: Vec<String>, digest: Result<String, String>) {
        self.hashes.answer(patterns, digest);
    }

    /// Takes in how the step of the last [`Next::Run`] ended; `None` if there is none.
    pub fn finish_step(&mut self, result: StepResult) -> Option<StepReport> {
        let Current { name, tolerated } = self.current.take()?;
        let mut errors = Vec::new();
        let mut outcome = match &result.end {
            StepEnd::Exited(0) => Outcome::Success,
            StepEnd::Exited(code) => {
                errors.push(format!("the step ended with exit code {code}"));
                Outcome::Failure
            }
            StepEnd::TimedOut => {
                errors.push("the step took longer than its `timeout-minutes`".to_owned());
                Outcome::Failure
            }
            StepEnd::Failed(message) => {
                errors.push(message.clone());
                Outcome::Failure
            }
            StepEnd::Cancelled => Outcome::Cancelled,
        };
        let outputs = self.take_in(&result, &mut errors);
        if outcome == Outcome::Success && !errors.is_empty() {
            outcome = Outcome::Failure;
        }
        let is_tolerated = tolerated && outcome == Outcome::Failure;
        let conclusion = if is_tolerated { Outcome::Success } else { outcome };
        Some(self.record(name, outcome, conclusion, outputs, errors))
    }

    /// Reads the step's files; what is wrong with one does not keep the others from counting.
    fn take_in(&mut self, result: &StepResult, errors: &mut Vec<String>) -> Object {
        let mut note = |error: FileCommandError| errors.push(error.to_string());
        if let Some(pairs) = file_commands::parse_env(&result.env).map_err(&mut note).ok()
            && let Err(error) = self.extend_env(pairs)
        {
            note(error);
        }
        match file_commands::parse_path(&result.path) {
            // Of all directories the last one written comes first.
            Ok(directories) => {
                let directories = &directories[directories.len().saturating_sub(MAX_PATH_ENTRIES)..];
                self.path.retain(|known| !directories.contains(known));
                self.path.splice(0..0, directories.iter().rev().cloned());
                self.path.truncate(MAX_PATH_ENTRIES);
            }
            Err(error) => note(error),
        }
        match file_commands::parse_summary(&result.summary) {
            Ok(text) if self.summary.len() + text.len() > MAX_SUMMARY_BYTES => {
                note(limit(
                    "GITHUB_STEP_SUMMARY",
                    format!("the job's summary has more than {MAX_SUMMARY_BYTES} bytes"),
                ));
            }
            Ok(text) => self.add_summary(&text),
            Err(error) => note(error),
        }
        let outputs = file_commands::parse_output(&result.output).and_then(|pairs| self.outputs(pairs));
        outputs.map_err(note).unwrap_or_default()
    }

    fn extend_env(&mut self, pairs: Pairs) -> Result<(), FileCommandError> {
        let mut env = self.env.clone();
        env.extend(pairs);
        prepare::check_env(&env).map_err(|error| limit("GITHUB_ENV", error.message))?;
        self.env = env;
        Ok(())
    }

    fn add_summary(&mut self, text: &str) {
        if !self.summary.is_empty() && !self.summary.ends_with('\n') && !text.is_empty() {
            self.summary.push('\n');
        }
        self.summary.push_str(text);
    }

    fn outputs(&mut self, pairs: Pairs) -> Result<Object, FileCommandError> {
        let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.output_bytes + bytes > MAX_OUTPUT_BYTES {
            return Err(limit("GITHUB_OUTPUT", format!("the job's outputs have more than {MAX_OUTPUT_BYTES} bytes")));
        }
        self.output_bytes += bytes;
        Ok(pairs.into_iter().collect())
    }

    /// Writes down how the step at hand ended, and goes on to the next.
    fn record(
        &mut self, name: String, outcome: Outcome, conclusion: Outcome, outputs: Object, errors: Vec<String>,
    ) -> StepReport {
        match conclusion {
            Outcome::Failure if self.status == Status::Success => self.status = Status::Failure,
            Outcome::Cancelled => self.status = Status::Cancelled,
            _ => {}
        }
        if let Some(id) = self.spec.job.steps.get(self.at).and_then(|step| step.id.clone()) {
            let mut step = Object::default();
            step.insert("outputs", outputs);
            step.insert("outcome", outcome.as_str());
            step.insert("conclusion", conclusion.as_str());
            self.steps.insert(id, step);
        }
        let index = self.at;
        self.at += 1;
        self.current = None;
        self.hashes = Hashes::default();
        let errors = errors.iter().map(|error| self.hidden.hide(error).into_owned()).collect();
        let name = self.hidden.hide(&name).into_owned();
        StepReport { index, name, outcome, conclusion, errors }
    }

    /// How the job ended. A job whose steps were not all asked for was cancelled.
    pub fn finish(mut self) -> JobEnd {
        if self.at < self.spec.job.steps.len() {
            self.cancel();
        }
        let mut errors = Vec::new();
        let outputs = self.job_outputs(&mut errors);
        let errors: Vec<String> = errors.iter().map(|error| self.hidden.hide(error).into_owned()).collect();
        let summary = self.hidden.hide(&self.summary).into_owned();
        let outcome = match self.status {
            Status::Failure => Outcome::Failure,
            Status::Cancelled => Outcome::Cancelled,
            Status::Success | Status::Skipped if errors.is_empty() => Outcome::Success,
            Status::Success | Status::Skipped => Outcome::Failure,
        };
        JobEnd { outcome, tolerated: self.tolerated, outputs, summary, errors }
    }

    fn job_outputs(&self, errors: &mut Vec<String>) -> BTreeMap<String, String> {
        let contexts = self.contexts(&self.env);
        let environment = Environment::new(&contexts).with_status(self.status);
        let (mut outputs, mut bytes) = (BTreeMap::new(), 0);
        for (name, template) in &self.spec.job.outputs {
            match template.evaluate_text(&environment) {
                // Outputs are stored, and other jobs may show them.
                Ok(value) if self.hidden.is_in(&value) => {}
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

/// Directories that steps may put into `PATH`.
const MAX_PATH_ENTRIES: usize = 256;

fn limit(file: &'static str, message: String) -> FileCommandError {
    FileCommandError { file, line: None, message }
}
