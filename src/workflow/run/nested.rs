//! A composite action: steps within a step.
//!
//! They are a [`JobRun`] of their own, with their own `inputs` and `steps`, and a status that knows only of them. What they
//! write into `GITHUB_ENV`, `GITHUB_PATH` and the summary is the job's; their outputs are what the action says they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::step_plan::{StepEnd, StepPlan, StepReport};
use super::{Current, Hashes, JobRun, MAX_OUTPUT_BYTES, MAX_SUMMARY_BYTES};
use crate::workflow::action::inputs::{Given, Inputs};
use crate::workflow::action::manifest::{Hook, Input};
use crate::workflow::contexts::{Outcome, is_reserved};
use crate::workflow::expression::{Environment, Object, Status, Template};
use crate::workflow::model::{RunDefaults, Step, Variables};

/// Where an action is, for its own steps and programs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActionPlace {
    /// The directory in the VM.
    pub path: String,
    /// `owner/name`, and the version as it was written; empty for an action of the workspace.
    pub repository: String,
    pub version: String,
    /// The file that describes it, for messages.
    pub file: String,
}

impl ActionPlace {
    /// The variables of the action's programs.
    pub fn variables(&self) -> [(&'static str, &str); 3] {
        [
            ("GITHUB_ACTION_PATH", &self.path),
            ("GITHUB_ACTION_REPOSITORY", &self.repository),
            ("GITHUB_ACTION_REF", &self.version),
        ]
    }

    pub(super) fn extend_context(&self, github: &mut Object, status: Status) {
        github.insert("action_path", self.path.as_str());
        github.insert("action_repository", self.repository.as_str());
        github.insert("action_ref", self.version.as_str());
        github.insert("action_status", super::prepare::word(status));
    }
}

impl JobRun {
    /// The values of an action's inputs in the step at hand.
    ///
    /// # Errors
    /// A default that cannot be computed, in words.
    pub fn action_inputs(&self, plan: &StepPlan, declared: &[Input], given: &Given) -> Result<Inputs, String> {
        let contexts = self.contexts(&own_env(plan));
        Inputs::new(declared, given, &Environment::new(&contexts).with_status(self.status))
            .map_err(|error| format!("a default of the action's inputs: {}", error.with_its_hint()))
    }

    /// Texts of an action in the step at hand, such as the arguments of its container.
    ///
    /// # Errors
    /// The first that cannot be computed, in words.
    pub fn action_texts(
        &self, plan: &StepPlan, inputs: &Inputs, place: &ActionPlace, templates: &Variables,
    ) -> Result<Vec<(String, String)>, String> {
        let mut contexts = self.contexts(&own_env(plan));
        contexts.insert("inputs", inputs.to_object());
        let mut github = self.place.github.object();
        place.extend_context(&mut github, self.status);
        contexts.insert("github", github);
        let environment = Environment::new(&contexts).with_status(self.status);
        let text = |(name, template): &(String, Template)| {
            let value = template.evaluate_text(&environment);
            value.map(|value| (name.clone(), value)).map_err(|error| error.with_its_hint())
        };
        templates.iter().map(text).collect()
    }

    /// Whether what an action wants to do before its main program is wanted now.
    ///
    /// # Errors
    /// The condition cannot be computed, in words.
    pub fn is_wanted(&self, hook: &Hook, plan: &StepPlan) -> Result<bool, String> {
        let contexts = self.contexts(&own_env(plan));
        let environment = Environment::new(&contexts).with_status(self.status);
        hook.condition.holds(&environment).map_err(|error| error.with_its_hint())
    }

    /// The steps of a composite action that is the step at hand.
    pub fn enter(&self, plan: &StepPlan, steps: &[Step], inputs: &Inputs, action: ActionPlace) -> JobRun {
        let mut spec = self.spec.clone();
        let job = Arc::make_mut(&mut spec.job);
        job.steps = steps.to_vec();
        job.defaults = RunDefaults::default();
        job.outputs = Vec::new();
        spec.workflow_defaults = RunDefaults::default();
        spec.inputs = inputs.to_object().into();
        spec.file.clone_from(&action.file);
        JobRun {
            spec,
            place: self.place.clone(),
            standard: self.standard.clone(),
            needs: self.needs.clone(),
            env: own_env(plan),
            exported: BTreeMap::new(),
            path: self.path.clone(),
            steps: Object::default(),
            at: 0,
            current: None,
            status: Status::Success,
            hashes: Hashes::default(),
            output_bytes: self.output_bytes,
            summary: String::new(),
            timeout: None,
            tolerated: false,
            label: format!("{}-", plan.key),
            action: Some(action),
            failure: None,
        }
    }

    /// Takes in how the steps of a composite action ended; `end` says otherwise if the whole was ended. `None` if no step is at
    /// hand.
    pub fn leave(&mut self, nested: JobRun, outputs: &Variables, end: Option<StepEnd>) -> Option<StepReport> {
        let Current { name, tolerated } = self.current.take()?;
        let mut errors = Vec::new();
        let (values, bytes) = nested.action_outputs(outputs, &mut errors);
        let mut outcome = match (end, nested.status) {
            (Some(StepEnd::TimedOut), _) => {
                errors.push("the step took longer than its `timeout-minutes`".to_owned());
                Outcome::Failure
            }
            (Some(StepEnd::Cancelled), _) | (_, Status::Cancelled) => Outcome::Cancelled,
            (Some(StepEnd::Failed(why)), _) => {
                errors.push(why);
                Outcome::Failure
            }
            (_, Status::Failure) => {
                errors.push(nested.failure.unwrap_or_else(|| "a step of the action failed".to_owned()));
                Outcome::Failure
            }
            (_, Status::Success | Status::Skipped) => Outcome::Success,
        };
        self.output_bytes = nested.output_bytes.saturating_add(bytes);
        self.path = nested.path;
        if let Err(error) = self.extend_env(nested.exported.into_iter().collect()) {
            errors.push(error.to_string());
        }
        if self.summary.len() + nested.summary.len() > MAX_SUMMARY_BYTES {
            errors.push(format!("the job's summary has more than {MAX_SUMMARY_BYTES} bytes"));
        } else {
            self.add_summary(&nested.summary);
        }
        if outcome == Outcome::Success && !errors.is_empty() {
            outcome = Outcome::Failure;
        }
        let conclusion = if tolerated && outcome == Outcome::Failure { Outcome::Success } else { outcome };
        Some(self.record(name, outcome, conclusion, values, errors))
    }

    fn action_outputs(&self, outputs: &Variables, errors: &mut Vec<String>) -> (Object, usize) {
        let contexts = self.contexts(&self.env);
        let environment = Environment::new(&contexts).with_status(self.status);
        let (mut values, mut bytes) = (Object::default(), 0);
        for (name, template) in outputs {
            match template.evaluate_text(&environment) {
                Ok(value) => {
                    bytes += name.len() + value.len();
                    if self.output_bytes + bytes > MAX_OUTPUT_BYTES {
                        errors.push(format!("the job's outputs have more than {MAX_OUTPUT_BYTES} bytes"));
                        break;
                    }
                    values.insert(name.clone(), value);
                }
                Err(error) => errors.push(format!("the output `{name}` of the action: {}", error.with_its_hint())),
            }
        }
        (values, bytes)
    }
}

/// The environment that a workflow gives to a step, without what is the runner's.
fn own_env(plan: &StepPlan) -> BTreeMap<String, String> {
    plan.env.iter().filter(|(name, _)| !is_reserved(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
