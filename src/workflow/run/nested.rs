//! A composite action: steps within a step.
//!
//! They are a [`JobRun`] of their own, with their own `inputs` and `steps`, and a status that knows only of them. What they
//! write into `GITHUB_ENV`, `GITHUB_PATH` and the summary is the job's; their outputs are what the action says they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::listen::too_many_outputs;
use super::step_plan::{PostStep, StepEnd, StepPlan, StepReport, StepResult};
use super::{Beside, Current, Ended, Hashes, JobRun, MAX_STEP_OUTPUT_BYTES, TOOK_TOO_LONG};
use crate::workflow::action::inputs::{Given, Inputs};
use crate::workflow::action::manifest::{Hook, Input};
use crate::workflow::contexts::{Outcome, is_reserved};
use crate::workflow::expression::{Environment, Object, Status, Template, Value};
use crate::workflow::model::{RunDefaults, Step, Variables};
use crate::workflow::values::SecretContext;

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
            // An action has what it was given, and nothing else of whoever uses it.
            vars: Value::Null,
            secrets: SecretContext::default(),
            env: own_env(plan),
            exported: BTreeMap::new(),
            path: self.path.clone(),
            path_added: Vec::new(),
            steps: Object::default(),
            at: 0,
            current: None,
            beside: Beside::default(),
            status: Status::Success,
            hashes: Hashes::default(),
            output_bytes: self.output_bytes,
            summary: String::new(),
            timeout: None,
            cancel_timeout: None,
            tolerated: false,
            hearing: self.hearing.clone(),
            posts: Vec::new(),
            states: BTreeMap::new(),
            label: format!("{}-", plan.key),
            inherited: self.names_for_actions(),
            action: Some(action),
            outer_status: Some(self.job_status()),
            failure: None,
            annotations: Vec::new(),
            containers: self.containers.clone(),
            of_containers: self.of_containers.clone(),
            seen_workspace: self.seen_workspace.clone(),
        }
    }

    /// Takes in how the steps of a composite action ended; `end` says otherwise if the whole was ended. `None` if no step is at
    /// hand.
    pub fn leave(&mut self, mut nested: JobRun, outputs: &Variables, end: Option<StepEnd>) -> Option<StepReport> {
        let Current { name, tolerance } = self.current.take()?;
        let mut ended = Ended { tolerance, ..Ended::new(Outcome::Success) };
        (ended.outcome, ended.errors) = match (end, nested.status) {
            (Some(StepEnd::TimedOut), _) => (Outcome::Failure, vec![TOOK_TOO_LONG.to_owned()]),
            (_, Status::Cancelled) => (Outcome::Cancelled, Vec::new()),
            (_, Status::Failure) => (Outcome::Failure, nested.failure.take().into_iter().collect()),
            (_, Status::Success | Status::Skipped) => (Outcome::Success, Vec::new()),
        };
        let bytes;
        (ended.outputs, bytes) = nested.action_outputs(outputs, &mut ended.errors);
        ended.annotations = std::mem::take(&mut nested.annotations);
        self.output_bytes = nested.output_bytes.saturating_add(bytes);
        let later = nested.take_posts();
        let at = self.at;
        self.posts.extend(later.into_iter().map(|post| PostStep { of: at, ..post }));
        self.extend_path(&nested.path_added);
        let exported = self.extend_env(nested.exported.into_iter().collect());
        ended.errors.extend(exported.err().map(|error| error.to_string()));
        ended.left_out.extend(self.add_summary(&nested.summary));
        if ended.outcome == Outcome::Success && !ended.errors.is_empty() {
            ended.outcome = Outcome::Failure;
        }
        Some(self.record(name, ended))
    }

    /// The variables of the step at hand that a step of an action sets, or one around it: what the job itself does not know when the
    /// action's last program runs.
    pub fn variables_for_later(&self, plan: &StepPlan) -> BTreeMap<String, String> {
        let names = if self.action.is_some() { self.names_for_actions() } else { BTreeSet::new() };
        let own = own_env(plan).into_iter();
        own.filter(|(name, _)| names.contains(name)).collect()
    }

    /// Variables that the step at hand sets, and those that steps around it set within actions.
    fn names_for_actions(&self) -> BTreeSet<String> {
        let own = if self.action.is_some() { self.own_names() } else { BTreeSet::new() };
        self.inherited.union(&own).cloned().collect()
    }

    /// Variables that the step at hand sets for itself.
    fn own_names(&self) -> BTreeSet<String> {
        let step = self.spec.job.steps.get(self.at);
        step.into_iter().flat_map(|step| &step.env).map(|(name, _)| name.clone()).collect()
    }

    /// What its steps left for later, with what each of them kept for it: the step that they become a part of has neither.
    fn take_posts(&mut self) -> Vec<PostStep> {
        let posts = std::mem::take(&mut self.posts);
        let with_state = |mut post: PostStep| {
            post.env.extend(self.state_of(post.of));
            post
        };
        posts.into_iter().map(with_state).collect()
    }

    /// Takes in what came before an action's main program; gives the step for that one, which sees what was said. The error is how
    /// the whole step ended then.
    pub fn go_on(&mut self, plan: StepPlan, result: StepResult) -> Result<StepPlan, Box<StepResult>> {
        if result.end != StepEnd::Exited(0) {
            return Err(Box::new(result));
        }
        let mut ended = Ended::new(Outcome::Success);
        self.take_in(result, &mut ended);
        if let Some(error) = ended.errors.into_iter().next() {
            return Err(Box::new(StepResult::new(StepEnd::Failed(error))));
        }
        let mut env = plan.env;
        let own = self.own_names();
        env.extend(
            self.exported
                .iter()
                .filter(|(name, _)| !own.contains(*name))
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        env.extend(self.state_of(self.at));
        Ok(StepPlan { env, path_additions: self.path.clone(), ..plan })
    }

    fn action_outputs(&self, outputs: &Variables, errors: &mut Vec<String>) -> (Object, usize) {
        let contexts = self.contexts(&self.env);
        let environment = Environment::new(&contexts).with_status(self.status);
        let (mut values, mut bytes) = (Object::default(), 0);
        for (name, template) in outputs {
            match template.evaluate_text(&environment) {
                Ok(value) => {
                    bytes += name.len() + value.len();
                    if self.output_bytes + bytes > MAX_STEP_OUTPUT_BYTES {
                        errors.push(too_many_outputs());
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
