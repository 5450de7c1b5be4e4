//! A job's steps, decided one by one.
//!
//! [`JobRun`] is a machine without side effects: its driver asks [`JobRun::next_step`] what to do, does it in the VM, and tells
//! [`JobRun::finish_step`] how it went. What the VM says is data of a stranger: it is bounded here and never interpreted as
//! anything but texts.

mod beside;
#[cfg(test)]
mod beside_tests;
mod checkout;
mod contained;
mod end;
#[cfg(test)]
mod lenient_tests;
mod listen;
mod nested;
#[cfg(test)]
mod nested_tests;
mod post;
#[cfg(test)]
mod post_tests;
mod prepare;
mod progress;
mod shell;
mod step_plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use beside::{MAX_BESIDE, Ready, WaitPlan};
pub use end::JobEnd;
pub use nested::ActionPlace;
pub use progress::Progress;
pub use step_plan::{
    CheckoutPlan, CommandFiles, ContainerPlan, Next, NodePlan, PostStep, Sparse, StepAction, StepEnd, StepPlan,
    StepReport, StepResult, UsesPlan, Wanted,
};

use super::action::{self, ActionRef};
use super::call::CallTarget;
use super::commands::{Annotation, Level, SharedHearing};
use super::container::Containers;
use super::contexts::{GithubContext, Outcome, RunnerContext, standard_env};
use super::expression::{Environment, ExpressionError, Object, Status, Value};
use super::file_commands::Pairs;
use super::gate::NeedsResults;
use super::model::Step;
use super::plan::JobSpec;
use super::values::{SecretContext, Values};
use crate::document::Diagnostic;
use beside::Beside;
use prepare::{Hashes, Prepared};

/// Bytes of all environment variables of a step, names and values.
pub const MAX_ENV_BYTES: usize = 1024 * 1024;

/// Environment variables of a step.
pub const MAX_ENV_VARIABLES: usize = 4096;

/// Bytes of the outputs of a job.
pub const MAX_OUTPUT_BYTES: usize = 1024 * 1024;

/// Bytes of the outputs of all steps of a job, and of what they keep for their post steps.
pub const MAX_STEP_OUTPUT_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of the summaries of all steps of a job; each may write as much as a file has.
pub const MAX_SUMMARY_BYTES: usize = 4 * 1024 * 1024;

/// What is said of a step that was ended for its time.
const TOOK_TOO_LONG: &str = "the step took longer than its `timeout-minutes`";

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

/// The steps of one job, and what they have said so far.
#[derive(Debug, Clone)]
pub struct JobRun {
    spec: JobSpec,
    place: JobPlace,
    vars: Value,
    secrets: SecretContext,
    /// Variables that nothing overrides.
    standard: BTreeMap<String, String>,
    needs: Value,
    /// Of the workflow, the job, and `GITHUB_ENV`.
    env: BTreeMap<String, String>,
    /// Of those, what steps wrote into `GITHUB_ENV`.
    exported: BTreeMap<String, String>,
    /// From `GITHUB_PATH`, newest first.
    path: Vec<String>,
    /// What steps wrote into it, oldest first.
    path_added: Vec<String>,
    /// The `steps` context.
    steps: Object,
    at: usize,
    current: Option<Current>,
    /// Steps in the background.
    beside: Beside,
    status: Status,
    hashes: Hashes,
    output_bytes: usize,
    summary: String,
    timeout: Option<Duration>,
    cancel_timeout: Option<Duration>,
    tolerated: bool,
    /// How steps are heard.
    hearing: SharedHearing,
    /// Steps that come after all others, the last one first.
    posts: Vec<PostStep>,
    /// What each step keeps for its post step.
    states: BTreeMap<usize, Pairs>,
    /// What stands before the numbers of its steps, where they are those of an action.
    label: String,
    /// The action whose steps these are.
    action: Option<ActionPlace>,
    /// The status of the job when the action began.
    outer_status: Option<Status>,
    /// Variables that steps around those of an action set for themselves.
    inherited: BTreeSet<String>,
    /// How the first step that failed did.
    failure: Option<String>,
    /// What the steps of an action noted; those of a job are in its reports.
    annotations: Vec<Annotation>,
    /// What its containers shall be.
    containers: Containers,
    /// What the `job` context has of them, once they are there.
    of_containers: Object,
    /// Where steps see the workspace, if that is not where the machine has it.
    seen_workspace: Option<String>,
}

/// The step that the driver runs.
#[derive(Debug, Clone)]
struct Current {
    name: String,
    tolerance: Tolerance,
}

/// `continue-on-error` of a step, which counts once the step has failed: so does that it cannot be computed.
type Tolerance = Result<bool, String>;

/// How a step ended, before it counts.
#[derive(Debug)]
struct Ended {
    outcome: Outcome,
    tolerance: Tolerance,
    outputs: Object,
    errors: Vec<String>,
    left_out: Vec<String>,
    annotations: Vec<Annotation>,
}

impl Ended {
    fn new(outcome: Outcome) -> Self {
        let outputs = Object::default();
        let (errors, left_out, annotations) = Default::default();
        Self { outcome, tolerance: Ok(false), outputs, errors, left_out, annotations }
    }
}

impl JobRun {
    /// The workflow of another repository that the job is of, if it is of one, and that workflow's commit.
    pub fn called_workflow(&self) -> Option<(&CallTarget, &str)> {
        self.spec.place.as_ref().zip(self.spec.commit.as_deref())
    }

    /// Whether it may read the repository of its run.
    pub fn may_read_contents(&self) -> bool {
        self.spec.may_read_contents(&self.place.github.to_value())
    }

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
            standard: standard_env(&place.github, &place.runner),
            needs: place.needs.to_value(&spec),
            spec,
            place,
            env: BTreeMap::new(),
            exported: BTreeMap::new(),
            path: Vec::new(),
            path_added: Vec::new(),
            steps: Object::default(),
            at: 0,
            current: None,
            beside: Beside::default(),
            status: Status::Success,
            hashes: Hashes::default(),
            output_bytes: 0,
            summary: String::new(),
            timeout: None,
            cancel_timeout: None,
            tolerated: false,
            hearing: SharedHearing::default(),
            posts: Vec::new(),
            states: BTreeMap::new(),
            label: String::new(),
            action: None,
            outer_status: None,
            inherited: BTreeSet::new(),
            failure: None,
            annotations: Vec::new(),
            containers: Containers::default(),
            of_containers: Object::default(),
            seen_workspace: None,
        };
        for secret in values.secret_texts() {
            let added = run.hearing.lock().masks.add(secret);
            let added = added.map_err(|error| ExpressionError::evaluation(error.to_string()));
            added.map_err(|error| at(&run.spec, "secrets".to_owned(), error))?;
        }
        run.env = run.job_env().map_err(|(path, error)| at(&run.spec, path, error))?;
        run.compute_settings()
            .map_err(|(path, error)| at(&run.spec, format!("jobs.{}.{path}", run.spec.job.id), error))?;
        Ok(run)
    }

    /// What is computed of the job before its first step; an error comes with its place in the job.
    fn compute_settings(&mut self) -> Result<(), (String, ExpressionError)> {
        let contexts = self.contexts(&self.env);
        let environment = Environment::new(&contexts);
        let job = &self.spec.job;
        let at = |path: &str| {
            let path = path.to_owned();
            |error: ExpressionError| (path, error)
        };
        let timeout = |minutes: &Option<_>| match prepare::timeout(minutes.as_ref(), &environment)? {
            Some(limit) if limit.is_zero() => Err(ExpressionError::evaluation("it must be more than 0")),
            limit => Ok(limit),
        };
        self.timeout = timeout(&job.timeout_minutes).map_err(at("timeout-minutes"))?;
        self.cancel_timeout = timeout(&job.cancel_timeout_minutes).map_err(at("cancel-timeout-minutes"))?;
        self.tolerated = job.continue_on_error.resolve(&environment).map_err(at("continue-on-error"))?;
        self.containers = Containers::resolve(job, &environment)?;
        self.mask_credentials().map_err(at("container"))
    }

    /// `timeout-minutes` of the job, if it has one. The driver keeps the time and calls [`JobRun::cancel`].
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// `cancel-timeout-minutes` of the job, if it has one: how long the steps that run after a cancellation may take.
    pub fn cancel_timeout(&self) -> Option<Duration> {
        self.cancel_timeout
    }

    /// The job's name for people.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The number of steps.
    pub fn step_count(&self) -> usize {
        self.spec.job.steps.len()
    }

    /// The actions that its steps use, in their order.
    pub fn actions(&self) -> impl Iterator<Item = &ActionRef> {
        action::used(&self.spec.job.steps)
    }

    /// Cancels the job: from now on only steps run whose `if` says so. The driver ends the step that runs.
    pub fn cancel(&mut self) {
        self.status = Status::Cancelled;
        self.beside.cancel();
    }

    /// What to do next. Asking again before answering gives the same again.
    pub fn next_step(&mut self) -> Next {
        if self.at >= self.spec.job.steps.len() {
            if let Some(plan) = self.meet_the_rest() {
                return Next::Wait(plan);
            }
            // What the steps of an action leave for later comes after the job's.
            if self.posts.is_empty() || self.action.is_some() {
                return Next::Done;
            }
        }
        match self.prepare() {
            Ok(Some(Prepared::Wait(mut plan, tolerance))) => {
                plan.name = self.masked(&plan.name);
                self.current = Some(Current { name: plan.name.clone(), tolerance });
                Next::Wait(plan)
            }
            Ok(Some(Prepared::Run(mut plan, tolerance))) => {
                plan.name = self.masked(&plan.name);
                if self.spec.job.steps.get(self.at).is_some_and(|step| step.background) {
                    return self.put_aside(plan, tolerance);
                }
                self.current = Some(Current { name: plan.name.clone(), tolerance });
                Next::Run(plan)
            }
            Ok(None) => {
                let name = self.best_name();
                Next::Skipped(self.record(name, Ended::new(Outcome::Skipped)))
            }
            Err(error) => match self.hashes.take_wanted() {
                Some(patterns) => Next::HashFiles(patterns),
                None => {
                    let name = self.best_name();
                    let errors = vec![error.with_its_hint()];
                    Next::Failed(self.record(name, Ended { errors, ..Ended::new(Outcome::Failure) }))
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
        let Current { name, tolerance } = self.current.take()?;
        let mut ended = Ended::new(Outcome::Success);
        (ended.outcome, ended.errors) = match &result.end {
            StepEnd::Exited(0) => (Outcome::Success, Vec::new()),
            StepEnd::Exited(code) => (Outcome::Failure, vec![format!("the step ended with exit code {code}")]),
            StepEnd::TimedOut => (Outcome::Failure, vec![TOOK_TOO_LONG.to_owned()]),
            StepEnd::Failed(message) => (Outcome::Failure, vec![message.clone()]),
            StepEnd::Cancelled => (Outcome::Cancelled, Vec::new()),
        };
        self.take_in(result, &mut ended);
        if ended.outcome == Outcome::Success && !ended.errors.is_empty() {
            ended.outcome = Outcome::Failure;
        }
        ended.tolerance = tolerance;
        Some(self.record(name, ended))
    }

    /// Writes down how the step at hand ended, and goes on to the next.
    fn record(&mut self, name: String, ended: Ended) -> StepReport {
        let Ended { outcome, tolerance, outputs, mut errors, left_out, mut annotations } = ended;
        let conclusion = match tolerance {
            Ok(true) if outcome == Outcome::Failure => Outcome::Success,
            Err(why) if outcome == Outcome::Failure => {
                errors.push(why);
                outcome
            }
            Ok(_) | Err(_) => outcome,
        };
        self.count(conclusion);
        match self.spec.job.steps.get(self.at) {
            Some(Step { id: Some(id), .. }) => {
                self.steps.insert(id.clone(), step_context(outputs, outcome, conclusion));
            }
            Some(_) => {}
            None => drop(self.posts.pop()),
        }
        if conclusion == Outcome::Failure && self.failure.is_none() {
            let why = errors.first().map_or("it failed", String::as_str);
            self.failure = Some(format!("`{name}`: {why}"));
        }
        let index = self.at;
        self.at += 1;
        self.current = None;
        self.hashes = Hashes::default();
        let [errors, left_out] =
            [errors, left_out].map(|texts| texts.iter().map(|text| self.masked(text)).collect::<Vec<String>>());
        annotations.extend(errors.iter().chain(&left_out).map(|text| Annotation::general(Level::Error, text)));
        if self.action.is_some() {
            self.annotations.extend(annotations.iter().cloned());
        }
        StepReport { index, name: self.masked(&name), outcome, conclusion, errors, left_out, annotations }
    }

    /// Lets a step's end count for the steps after it.
    fn count(&mut self, conclusion: Outcome) {
        match conclusion {
            Outcome::Failure if self.status == Status::Success => self.status = Status::Failure,
            Outcome::Cancelled => self.status = Status::Cancelled,
            _ => {}
        }
    }
}

/// A step as the `steps` context has it.
fn step_context(outputs: Object, outcome: Outcome, conclusion: Outcome) -> Object {
    let mut step = Object::default();
    step.insert("outputs", outputs);
    step.insert("outcome", outcome.as_str());
    step.insert("conclusion", conclusion.as_str());
    step
}
