//! From a step as written to a step that can run: conditions, environment, scripts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::shell::{self, Invocation};
use super::step_plan::{CommandFiles, StepAction, StepPlan, UsesPlan};
use super::{JobRun, MAX_ENV_BYTES, MAX_ENV_VARIABLES, Tolerance, WaitPlan};
use crate::document::text::one_line;
use crate::workflow::contexts::CI;
use crate::workflow::expression::{Effort, Environment, ExpressionError, FileHashes, Object, Status, Template};
use crate::workflow::model::{Action, MAX_TIMEOUT_MINUTES, Shell, Step, Variables};
use crate::workflow::native::{Native, NativePlan};
use crate::workflow::setting::{Condition, Setting};
use crate::workflow::shell::NoShell;

/// Different calls of `hashFiles` in one step.
const MAX_HASHES: usize = 64;

/// Characters of a step's name.
const MAX_NAME: usize = 200;

/// What is said of files that the driver has to hash first.
const NOT_HASHED: &str = "the files are not hashed yet";

type Env = BTreeMap<String, String>;

/// What the step at hand does, and whether its failure is tolerated.
#[derive(Debug)]
pub(super) enum Prepared {
    Run(Box<StepPlan>, Tolerance),
    Wait(Box<WaitPlan>, Tolerance),
}

/// Digests that the driver found for the step at hand, and the one that an evaluation missed.
#[derive(Debug, Clone, Default)]
pub(super) struct Hashes {
    answers: BTreeMap<Vec<String>, Result<String, String>>,
    wanted: Option<Vec<String>>,
}

impl Hashes {
    pub(super) fn answer(&mut self, patterns: Vec<String>, digest: Result<String, String>) {
        self.answers.insert(patterns, digest);
    }

    pub(super) fn take_wanted(&mut self) -> Option<Vec<String>> {
        self.wanted.take()
    }
}

/// Looks digests up during one evaluation.
#[derive(Debug)]
struct Lookup<'a> {
    answers: &'a BTreeMap<Vec<String>, Result<String, String>>,
    wanted: RefCell<Option<Vec<String>>>,
}

impl FileHashes for Lookup<'_> {
    fn hash_files(&self, patterns: &[String]) -> Result<String, String> {
        if let Some(answer) = self.answers.get(patterns) {
            return answer.clone();
        }
        if self.answers.len() >= MAX_HASHES {
            return Err(format!("a step has at most {MAX_HASHES} different calls of `hashFiles`"));
        }
        *self.wanted.borrow_mut() = Some(patterns.to_vec());
        Err(NOT_HASHED.to_owned())
    }
}

impl JobRun {
    /// The contexts of a step with this environment.
    pub(super) fn contexts(&self, env: &Env) -> Object {
        let mut contexts = Object::default();
        let mut github = self.place.github.object();
        if let Some(action) = &self.action {
            action.extend_context(&mut github, self.status);
        }
        contexts.insert("github", github);
        contexts.insert("needs", self.needs.clone());
        contexts.insert("strategy", self.spec.strategy.to_value());
        contexts.insert("matrix", self.spec.matrix.clone());
        contexts.insert("inputs", self.spec.inputs.clone());
        contexts.insert("vars", self.vars.clone());
        contexts.insert("secrets", self.secrets.expose().clone());
        contexts.insert("runner", self.place.runner.to_value());
        contexts.insert("steps", self.steps.clone());
        contexts.insert("job", self.job_context());
        let env = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Object>();
        contexts.insert("env", env.exact());
        contexts
    }

    /// Variables of the workflow and of the job; an error comes with its place.
    pub(super) fn job_env(&self) -> Result<Env, (String, ExpressionError)> {
        let contexts = self.contexts(&Env::new());
        let environment = Environment::new(&contexts);
        let workflow = ("env".to_owned(), &self.spec.workflow_env);
        let job = (format!("jobs.{}.env", self.spec.job.id), &self.spec.job.env);
        let mut env = Env::new();
        for (path, variables) in [workflow, job] {
            extend(&mut env, variables, &environment).map_err(|error| (path, error))?;
        }
        Ok(env)
    }

    /// The step at hand; `None` if its condition does not hold. An error may only be that files are not hashed yet.
    pub(super) fn prepare(&mut self) -> Result<Option<Prepared>, ExpressionError> {
        let lookup = Lookup { answers: &self.hashes.answers, wanted: RefCell::new(None) };
        let prepared = self.prepare_with(&lookup);
        let wanted = lookup.wanted.into_inner();
        // What is wrong in places that do not keep the step from running may be just that.
        let prepared =
            if wanted.is_some() { prepared.and(Err(ExpressionError::evaluation(NOT_HASHED))) } else { prepared };
        self.hashes.wanted = wanted;
        prepared
    }

    fn prepare_with(&self, files: &dyn FileHashes) -> Result<Option<Prepared>, ExpressionError> {
        let Some(step) = self.spec.job.steps.get(self.at) else { return self.prepare_post(files) };
        if step.condition.is_ruled_out(self.status) {
            return Ok(None);
        }
        // The whole step shares it.
        let effort = Effort::default();
        let contexts = self.contexts(&self.env);
        let mut env = self.env.clone();
        extend(&mut env, &step.env, &self.environment(&contexts, files, &effort))?;
        let contexts = self.contexts(&env);
        let environment = self.environment(&contexts, files, &effort);
        if !step.condition.holds(&environment)? {
            return Ok(None);
        }
        let tolerance = tolerance(step, &environment);
        let action = match &step.action {
            Action::Run { script, shell, working_directory } => {
                self.script(script, shell.as_ref(), working_directory.as_ref(), &environment)?
            }
            Action::Checkout(checkout) => StepAction::Checkout(self.checkout(checkout, &environment)?),
            Action::Native(native) => StepAction::Native(plan_of(native, &environment)?),
            Action::Uses { reference, with } => {
                let given = |(name, value): &(String, Template)| Ok((name.clone(), value.evaluate_text(&environment)?));
                let with = with.iter().map(given).collect::<Result<_, ExpressionError>>()?;
                StepAction::Uses(UsesPlan { reference: reference.clone(), with })
            }
            Action::Steer(steer) => {
                let written = written_name(step, &environment).filter(|name| !name.trim().is_empty());
                let name = shown_name(Some(written.as_deref().unwrap_or(steer.title())), String::new);
                return Ok(Some(Prepared::Wait(Box::new(self.meeting(steer, name)), tolerance)));
            }
        };
        let key = self.key();
        let command_files = CommandFiles::new(&self.place.command_directory, &key);
        let (timeout, no_timeout) = limit(step, &environment);
        let plan = StepPlan {
            index: self.at,
            key,
            name: name(step, &action, &environment),
            timeout,
            outlasts_cancel: self.outlasts_cancel(&step.condition, &environment),
            remark: no_timeout,
            env: self.with_standard(env, self.at, &command_files),
            path_additions: self.path.clone(),
            command_files,
            action,
        };
        Ok(Some(Prepared::Run(Box::new(plan), tolerance)))
    }

    /// Whether a step of the job goes on if the job is cancelled while it runs: if its condition would let it begin then.
    pub(super) fn outlasts_cancel(&self, condition: &Condition, environment: &Environment<'_>) -> bool {
        let is_background = self.spec.job.steps.get(self.at).is_some_and(|step| step.background);
        let environment = environment.clone().with_status(Status::Cancelled);
        self.action.is_none() && !is_background && condition.holds(&environment).unwrap_or(false)
    }

    /// Tells the step at hand from all others of the job.
    pub(super) fn key(&self) -> String {
        format!("{}{}", self.label, self.at + 1)
    }

    pub(super) fn environment<'a>(
        &self, contexts: &'a Object, files: &'a dyn FileHashes, effort: &Effort,
    ) -> Environment<'a> {
        Environment::new(contexts).with_status(self.status).with_files(files).with_effort(effort)
    }

    fn script(
        &self, script: &Template, shell: Option<&Shell>, directory: Option<&Template>, environment: &Environment<'_>,
    ) -> Result<StepAction, ExpressionError> {
        let defaults = [&self.spec.job.defaults, &self.spec.workflow_defaults];
        let directory = directory.or_else(|| defaults.iter().find_map(|defaults| defaults.working_directory.as_ref()));
        let directory = directory.map(|directory| directory.evaluate_text(environment)).transpose()?;
        let shell = match shell {
            Some(own) => Some(own.clone()),
            None => self.default_shell(environment)?,
        };
        let Invocation { argv, extension, before, after } =
            shell::invocation(shell.as_ref(), self.containers.job.is_some());
        let text = format!("{before}{}{after}", script.evaluate_text(environment)?);
        let working_directory = self.absolute(directory.as_deref().unwrap_or_default())?;
        Ok(StepAction::Script { text, extension, argv, working_directory })
    }

    /// The shell of steps that name none. One that is computed and empty is none.
    fn default_shell(&self, environment: &Environment<'_>) -> Result<Option<Shell>, ExpressionError> {
        let (job, workflow) = (&self.spec.job.defaults, &self.spec.workflow_defaults);
        let computed = job.computed_shell.as_ref().map(|shell| shell.evaluate_text(environment)).transpose()?;
        match computed.filter(|text| !text.trim().is_empty()) {
            Some(text) => Shell::parse(&text).map(Some).map_err(|none| {
                let (NoShell::OfWindows(complaint) | NoShell::Wrong(complaint)) = none;
                ExpressionError::evaluation(complaint.to_string())
            }),
            None => Ok(job.shell.as_ref().or(workflow.shell.as_ref()).cloned()),
        }
    }

    /// A path that is relative to the workspace, made absolute.
    pub(super) fn absolute(&self, path: &str) -> Result<String, ExpressionError> {
        let workspace = &self.place.github.workspace;
        if path.contains('\0') {
            return Err(ExpressionError::evaluation("a path cannot contain a NUL character"));
        }
        Ok(match path.trim() {
            "" | "." => workspace.clone(),
            path if path.starts_with('/') => path.to_owned(),
            path => format!("{workspace}/{}", path.strip_prefix("./").unwrap_or(path)),
        })
    }

    /// With the variables that every step has; `index` is the step that it is or belongs to.
    pub(super) fn with_standard(&self, mut env: Env, index: usize, files: &CommandFiles) -> Env {
        let own_ci = env.get(CI).cloned();
        env.extend(self.standard.clone());
        env.extend(own_ci.map(|value| (CI.to_owned(), value)));
        env.extend(files.variables().map(|(name, path)| (name.to_owned(), path.to_owned())));
        let id = self.spec.job.steps.get(index).and_then(|step| step.id.clone());
        let action = id.unwrap_or_else(|| format!("__step_{index}"));
        env.insert("GITHUB_ACTION".to_owned(), action);
        if let Some(action) = &self.action {
            env.extend(action.variables().map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        env
    }

    /// The name of a step that does not run: as written, where it cannot be computed.
    pub(super) fn best_name(&self) -> String {
        let Some(step) = self.spec.job.steps.get(self.at) else { return self.post_name() };
        let contexts = self.contexts(&self.env);
        let environment = Environment::new(&contexts).with_status(self.status);
        shown_name(written_name(step, &environment).as_deref(), || match &step.action {
            Action::Run { script, .. } => {
                script.evaluate_text(&environment).unwrap_or_else(|_| script.source().to_owned())
            }
            Action::Checkout(checkout) => checkout.uses.clone(),
            Action::Native(native) => native.uses.clone(),
            Action::Uses { reference, .. } => reference.to_string(),
            Action::Steer(steer) => steer.title().to_owned(),
        })
    }
}

/// The word for a status in contexts.
pub(super) fn word(status: Status) -> &'static str {
    match status {
        Status::Failure => "failure",
        Status::Cancelled => "cancelled",
        Status::Success | Status::Skipped => "success",
    }
}

pub(super) fn extend(
    env: &mut Env, variables: &Variables, environment: &Environment<'_>,
) -> Result<(), ExpressionError> {
    let mut bytes = 0;
    for (name, template) in variables {
        let value = template.evaluate_text(environment)?;
        if value.contains('\0') {
            return Err(ExpressionError::evaluation(format!("the variable `{name}` contains a NUL character")));
        }
        // Also here, so that a long list does not first fill the memory.
        bytes += name.len() + value.len();
        if bytes > MAX_ENV_BYTES {
            break;
        }
        env.insert(name.clone(), value);
    }
    if bytes > MAX_ENV_BYTES { Err(ExpressionError::evaluation(too_large())) } else { check_env(env) }
}

fn plan_of(native: &Native, environment: &Environment<'_>) -> Result<NativePlan, ExpressionError> {
    let mut inputs = BTreeMap::new();
    for (name, template) in &native.with {
        inputs.insert(name.clone(), template.evaluate_text(environment)?);
    }
    Ok(NativePlan { uses: native.uses.clone(), kind: native.kind, inputs, is_post: false })
}

fn too_large() -> String {
    format!("the variables have more than {MAX_ENV_BYTES} bytes")
}

/// Whether an environment is within the limits.
pub(super) fn check_env(env: &Env) -> Result<(), ExpressionError> {
    if env.len() > MAX_ENV_VARIABLES {
        return Err(ExpressionError::evaluation(format!("there are more than {MAX_ENV_VARIABLES} variables")));
    }
    let bytes: usize = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_ENV_BYTES { Err(ExpressionError::evaluation(too_large())) } else { Ok(()) }
}

/// Whether the step's failure is tolerated.
pub(super) fn tolerance(step: &Step, environment: &Environment<'_>) -> Tolerance {
    let tolerated = step.continue_on_error.resolve(environment);
    tolerated.map_err(|error| format!("`continue-on-error`: {}", error.with_its_hint()))
}

/// How long the step may take, and why that is not as it is written. A step with a limit that cannot be computed has none.
pub(super) fn limit(step: &Step, environment: &Environment<'_>) -> (Option<Duration>, Option<String>) {
    match timeout(step.timeout_minutes.as_ref(), environment) {
        Ok(limit) => (limit.filter(|limit| !limit.is_zero()), None),
        Err(error) => (None, Some(format!("the step has no time limit: {}", error.with_its_hint()))),
    }
}

/// A step's name as it is written; as it stands there, where it cannot be computed.
fn written_name(step: &Step, environment: &Environment<'_>) -> Option<String> {
    let name = step.name.as_ref()?;
    Some(name.evaluate_text(environment).unwrap_or_else(|_| name.source().to_owned()))
}

fn name(step: &Step, action: &StepAction, environment: &Environment<'_>) -> String {
    shown_name(written_name(step, environment).as_deref(), || match (&step.action, action) {
        (Action::Checkout(checkout), _) => checkout.uses.clone(),
        (Action::Native(native), _) => native.uses.clone(),
        (Action::Uses { reference, .. }, _) => reference.to_string(),
        (_, StepAction::Script { text, extension, .. }) => shell::without_wrapping(text, extension).to_owned(),
        (Action::Run { script, .. }, _) => script.source().to_owned(),
        (Action::Steer(steer), _) => steer.title().to_owned(),
    })
}

/// The name as written, else `Run` and the first line of what the step does; on one line, and cut.
pub(super) fn shown_name(written: Option<&str>, action: impl FnOnce() -> String) -> String {
    let name = match written.map(str::trim).filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => {
            let action = action();
            format!("Run {}", action.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default())
        }
    };
    one_line(&name, MAX_NAME)
}

/// `timeout-minutes` as a duration of whole seconds; what is less than nothing is no time.
pub(super) fn timeout(
    minutes: Option<&Setting<f64>>, environment: &Environment<'_>,
) -> Result<Option<Duration>, ExpressionError> {
    let Some(minutes) = minutes else { return Ok(None) };
    let minutes = minutes.resolve(environment)?;
    let minutes = if minutes.is_nan() { 0.0 } else { minutes.clamp(0.0, MAX_TIMEOUT_MINUTES) };
    Ok(Some(Duration::from_secs_f64((minutes * 60.0).ceil())))
}
