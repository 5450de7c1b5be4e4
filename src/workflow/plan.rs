//! A workflow and an event to the jobs that will run: one for each cell of a job's matrix.
//!
//! Everything that can be known is decided at once. A job whose matrix, name or machine depends on the outputs of others
//! stays one job, [`JobSpec::unexpanded`], until its needs have ended: then [`expand`] makes its cells. A job that is
//! another workflow is one job here; see [`super::call`].

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::call::CallTarget;
use super::expression::{Effort, Environment, ExpressionError, Object, Value};
use super::gate::NeedsResults;
use super::model::{Access, Action, Checkout, Job, MAX_NAME, Permissions, RunDefaults, Strategy, Variables, Workflow};
use super::permission::Permitted;
use super::values::SecretAccess;
use super::{inputs, matrix};
use crate::document::Diagnostic;
use crate::document::text::one_line;

mod naming;

/// Jobs of one run.
pub const MAX_PLANNED: usize = 1024;

/// The context that is not there until a job's needs have ended.
const NEEDS: &[&str] = &["needs"];

/// What planning knows.
#[derive(Debug, Clone, Default)]
pub struct PlanInput {
    /// The `github` context: [`super::contexts::GithubContext::to_value`].
    pub github: Value,
    /// What a person gave to `workflow_dispatch`: an object, or null.
    pub inputs: Value,
    /// The `vars` context: [`super::values::Values::vars`].
    pub vars: Value,
    /// Whether the code is a fork's: then nothing is permitted but to read.
    pub is_of_fork: bool,
}

/// One job that will run, or be skipped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedJob {
    /// The job's id in the workflow, behind the prefix of the call that it belongs to. Cells of a matrix share it, and
    /// `needs` names it.
    pub key: String,
    /// The name for people; no two jobs of a plan have the same.
    pub name: String,
    /// What the machine must have. Empty if there is a `group`, and for jobs that are not expanded or are calls.
    pub labels: Vec<String>,
    pub group: Option<String>,
    /// Keys of the jobs that must have ended.
    pub needs: Vec<String>,
    pub spec: JobSpec,
}

/// Everything that is needed to run one job later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The workflow file's path.
    pub file: String,
    pub workflow: String,
    pub workflow_env: Variables,
    pub workflow_defaults: RunDefaults,
    /// Without its `strategy`, unless that is still to be applied. Shared by the cells of a matrix.
    pub job: Arc<Job>,
    /// Whether [`expand`] has to make the job's cells when its needs have ended.
    #[serde(default)]
    pub unexpanded: bool,
    /// The called workflow that it stands in; absent in the first one.
    #[serde(default)]
    pub place: Option<CallTarget>,
    /// What stands before the ids of the workflow in keys: nothing, or the key of the call that the job belongs to and `/`.
    #[serde(default)]
    pub prefix: String,
    /// What stands before names: nothing, or the name of that call and ` / `.
    #[serde(default)]
    pub name_prefix: String,
    pub name: String,
    /// What the machine must have, kept so that a re-run can look for it again.
    #[serde(default)]
    pub labels: Vec<String>,
    #[serde(default)]
    pub group: Option<String>,
    /// The `strategy` as it was written, of what [`expand`] made, so that a re-run can make it anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed: Option<Box<Strategy>>,
    /// The cell, or null.
    pub matrix: Value,
    pub strategy: StrategyCell,
    pub inputs: Value,
    /// The `vars` context, as it was when the run was planned.
    #[serde(default)]
    pub vars: Value,
    /// Which secrets it gets when it starts.
    #[serde(default)]
    pub secrets: SecretAccess,
    #[serde(default)]
    pub permissions: Permitted,
    /// The commit at which the workflow was read, if that is not the run's own.
    #[serde(default)]
    pub commit: Option<String>,
    /// Keys of all jobs that come before this one, however indirectly: `success()` and `failure()` of a job's `if` look at them.
    pub ancestors: Vec<String>,
}

impl JobSpec {
    /// The key: see [`PlannedJob::key`].
    pub fn key(&self) -> String {
        format!("{}{}", self.prefix, self.job.id)
    }

    /// The workflow that it calls, named from the place of the first one.
    pub fn called(&self) -> Option<CallTarget> {
        let call = self.job.call.as_ref()?;
        Some(self.place.as_ref().map_or_else(|| call.target.clone(), |place| place.resolve(&call.target)))
    }

    /// Whether others take its place once its needs have ended.
    pub fn unfolds(&self) -> bool {
        self.unexpanded || self.job.call.is_some()
    }

    /// The job in whose place [`expand`] put this one, if there was one.
    pub fn before_expansion(&self) -> Option<PlannedJob> {
        let strategy = Strategy::clone(self.computed.as_ref()?);
        let job = Job { strategy, ..Job::clone(&self.job) };
        Some(Frame::of_spec(self, &Value::Null).unexpanded(&job, self.ancestors.clone()))
    }

    /// The jobs that it needs itself: their ids in the workflow, and their keys.
    pub fn needed(&self) -> impl Iterator<Item = (&str, String)> {
        self.job.needs.iter().map(|id| (id.as_str(), format!("{}{id}", self.prefix)))
    }

    /// The contexts of everything of a job but its steps.
    pub(super) fn contexts(&self, github: &Value, needs: &NeedsResults) -> Object {
        let mut contexts = Object::default();
        contexts.insert("github", github.clone());
        contexts.insert("inputs", self.inputs.clone());
        contexts.insert("vars", self.vars.clone());
        contexts.insert("needs", needs.to_value(self));
        contexts.insert("strategy", self.strategy.to_value());
        contexts.insert("matrix", self.matrix.clone());
        contexts
    }

    /// Whether it may be in a concurrency group of its own: see [`super::concurrency::job_group`].
    pub fn is_grouped(&self) -> bool {
        let of_called = self.job.call.as_ref().is_some_and(|call| call.concurrency.is_some());
        self.job.concurrency.is_some() || of_called
    }

    /// Whether it may read the repository of its run: everybody may read a public one.
    pub fn may_read_contents(&self, github: &Value) -> bool {
        let is_public = github.member("event").member("repository").member("private") == Value::Bool(false);
        is_public || self.permissions.access("contents") >= Access::Read
    }

    /// Whether the first thing that it does, whatever happens, is to check its commit out into the workspace itself.
    pub fn begins_with_checkout(&self) -> bool {
        if self.permissions.access("contents") < Access::Read {
            return false;
        }
        let Some(first) = self.job.steps.first() else { return false };
        let is_plain = |checkout: &Checkout| {
            checkout.path.is_none() && checkout.repository.is_none() && checkout.reference.is_none()
        };
        let is_whole = matches!(&first.action, Action::Checkout(checkout) if is_plain(checkout));
        is_whole && !first.background && first.condition.source().is_none()
    }
}

/// A job's place in its matrix, and how the matrix runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyCell {
    /// Whether the other cells are cancelled when this one fails.
    pub fail_fast: bool,
    /// Cells that may run at the same time.
    pub max_parallel: Option<u32>,
    /// Counted from 0.
    pub job_index: u32,
    pub job_total: u32,
}

impl StrategyCell {
    /// The `strategy` context.
    pub(super) fn to_value(self) -> Value {
        let mut object = Object::default();
        object.insert("fail-fast", self.fail_fast);
        object.insert("job-index", f64::from(self.job_index));
        object.insert("job-total", f64::from(self.job_total));
        object.insert("max-parallel", f64::from(self.max_parallel.unwrap_or(self.job_total)));
        object.into()
    }
}

/// The jobs in the order of the workflow, cells in the order of their matrix.
///
/// # Errors
/// Everything that cannot be computed, at its job.
pub fn plan(workflow: &Workflow, input: &PlanInput) -> Result<Vec<PlannedJob>, Vec<Diagnostic>> {
    let inputs = inputs::of_dispatch(workflow, input).map_err(|error| vec![error])?;
    let permitted = if input.is_of_fork { Permitted::of_forks() } else { Permitted::Usual };
    let frame = Frame::of(workflow, &input.github, inputs, input.vars.clone());
    Frame { permitted, ..frame }.plan(&workflow.jobs, BTreeSet::new())
}

/// The jobs that an [`JobSpec::unexpanded`] one becomes, now that its needs have ended. `taken` are the names of the run's
/// other jobs.
///
/// # Errors
/// What cannot be computed.
pub fn expand(
    spec: &JobSpec, github: &Value, needs: &NeedsResults, mut taken: BTreeSet<String>,
) -> Result<Vec<PlannedJob>, Diagnostic> {
    let frame = Frame { needs: Some(needs.to_value(spec)), ..Frame::of_spec(spec, github) };
    let mut planned = frame.cells(&spec.job, &spec.ancestors)?;
    for job in &mut planned {
        job.spec.computed = Some(Box::new(spec.job.strategy.clone()));
    }
    naming::make_names_unique(&mut planned, &mut taken);
    Ok(planned)
}

/// What the jobs of one workflow share while they are planned.
pub(super) struct Frame<'a> {
    file: &'a str,
    workflow: &'a str,
    env: &'a Variables,
    defaults: &'a RunDefaults,
    permissions: Option<&'a Permissions>,
    /// What its jobs may do at most.
    permitted: Permitted,
    commit: Option<&'a str>,
    github: &'a Value,
    inputs: Value,
    vars: Value,
    secrets: SecretAccess,
    /// The `needs` context, once there is one.
    needs: Option<Value>,
    place: Option<CallTarget>,
    /// What stands before ids in keys.
    prefix: String,
    /// What stands before names.
    name_prefix: String,
    effort: Effort,
}

impl<'a> Frame<'a> {
    pub(super) fn of(workflow: &'a Workflow, github: &'a Value, inputs: Value, vars: Value) -> Self {
        Self {
            file: &workflow.file,
            workflow: workflow.display_name(),
            env: &workflow.env,
            defaults: &workflow.defaults,
            permissions: workflow.permissions.as_ref(),
            permitted: Permitted::Usual,
            commit: workflow.commit.as_deref(),
            github,
            inputs,
            vars,
            secrets: SecretAccess::default(),
            needs: None,
            place: None,
            prefix: String::new(),
            name_prefix: String::new(),
            effort: Effort::default(),
        }
    }

    /// That of a job which was planned before.
    fn of_spec(spec: &'a JobSpec, github: &'a Value) -> Self {
        Self {
            file: &spec.file,
            workflow: &spec.workflow,
            env: &spec.workflow_env,
            defaults: &spec.workflow_defaults,
            permissions: None,
            permitted: spec.permissions.clone(),
            commit: spec.commit.as_deref(),
            github,
            inputs: spec.inputs.clone(),
            vars: spec.vars.clone(),
            secrets: spec.secrets.clone(),
            needs: None,
            place: spec.place.clone(),
            prefix: spec.prefix.clone(),
            name_prefix: spec.name_prefix.clone(),
            effort: Effort::default(),
        }
    }

    /// The jobs of a workflow that `caller` calls, which gives them these secrets.
    pub(super) fn called(self, caller: &JobSpec, prefix: String, secrets: SecretAccess) -> Self {
        let name_prefix = format!("{} / ", caller.name);
        let permitted = caller.permissions.clone();
        Self { place: caller.called(), prefix, name_prefix, secrets, permitted, ..self }
    }

    /// `taken` are names that these jobs cannot have.
    pub(super) fn plan(&self, jobs: &[Job], mut taken: BTreeSet<String>) -> Result<Vec<PlannedJob>, Vec<Diagnostic>> {
        let (mut planned, mut errors) = (Vec::new(), Vec::new());
        for job in jobs {
            let ancestors = self.ancestors(job, jobs);
            if is_dynamic(job) {
                planned.push(self.unexpanded(job, ancestors));
            } else {
                match self.cells(job, &ancestors) {
                    Ok(cells) => planned.extend(cells),
                    Err(error) => errors.push(error),
                }
            }
            if planned.len() > MAX_PLANNED {
                let message = format!("the workflow becomes more than {MAX_PLANNED} jobs");
                errors.push(self.complaint(job, "", ExpressionError::evaluation(message)));
                break;
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        naming::make_names_unique(&mut planned, &mut taken);
        Ok(planned)
    }

    fn complaint(&self, job: &Job, key: &str, error: ExpressionError) -> Diagnostic {
        error.at(self.file, job.position, format!("jobs.{}{key}", job.id))
    }

    fn cells(&self, job: &Job, ancestors: &[String]) -> Result<Vec<PlannedJob>, Diagnostic> {
        let at = |key: &'static str| move |error| self.complaint(job, key, error);
        let mut contexts = Object::default();
        contexts.insert("github", self.github.clone());
        contexts.insert("inputs", self.inputs.clone());
        contexts.insert("vars", self.vars.clone());
        contexts.insert("needs", self.needs.clone().unwrap_or_default());
        let environment = Environment::new(&contexts).with_effort(&self.effort);
        let cells = match &job.strategy.matrix {
            None => vec![Value::Null],
            Some(matrix) => {
                let matrix = matrix.resolve(&environment).map_err(at(".strategy.matrix"))?;
                matrix::cells(&matrix).map_err(ExpressionError::evaluation).map_err(at(".strategy.matrix"))?
            }
        };
        let fail_fast = job.strategy.fail_fast.resolve(&environment).map_err(at(".strategy.fail-fast"))?;
        let max_parallel = job.strategy.max_parallel.as_ref();
        let max_parallel = max_parallel.map(|setting| setting.resolve(&environment)).transpose();
        let max_parallel = max_parallel.map_err(at(".strategy.max-parallel"))?.map(|most| most.max(1));
        let job_total = u32::try_from(cells.len()).unwrap_or(u32::MAX);
        let shared = Arc::new(Job { strategy: Strategy::default(), ..job.clone() });
        let cell = |(index, matrix)| {
            let strategy = StrategyCell { fail_fast, max_parallel, job_index: index, job_total };
            let mut contexts = contexts.clone();
            contexts.insert("matrix", Value::clone(&matrix));
            contexts.insert("strategy", strategy.to_value());
            let environment = Environment::new(&contexts).with_effort(&self.effort);
            self.cell(&shared, matrix, strategy, ancestors, &environment)
        };
        (0..job_total).zip(cells).map(cell).collect()
    }

    fn cell(
        &self, job: &Arc<Job>, matrix: Value, strategy: StrategyCell, ancestors: &[String],
        environment: &Environment<'_>,
    ) -> Result<PlannedJob, Diagnostic> {
        let name = naming::name(job, &matrix, environment).map_err(|error| self.complaint(job, ".name", error))?;
        let labels = naming::labels(job, environment).map_err(|error| self.complaint(job, ".runs-on", error))?;
        let group = job.runs_on.group.as_ref().map(|group| group.evaluate_text(environment)).transpose();
        let group = group.map_err(|error| self.complaint(job, ".runs-on.group", error))?;
        let spec = self.spec(job.clone(), name, ancestors.to_vec());
        Ok(self.planned(JobSpec { labels, group, matrix, strategy, ..spec }))
    }

    /// One job in the place of cells that are not known yet. Its id is its name, unless it has one that says more.
    fn unexpanded(&self, job: &Job, ancestors: Vec<String>) -> PlannedJob {
        let written = job.name.as_ref().and_then(|name| name.as_literal()).filter(|name| !name.trim().is_empty());
        let name = written.unwrap_or(&job.id).to_owned();
        self.planned(JobSpec { unexpanded: true, ..self.spec(Arc::new(job.clone()), name, ancestors) })
    }

    fn spec(&self, job: Arc<Job>, name: String, ancestors: Vec<String>) -> JobSpec {
        let permissions = Permitted::within(job.permissions.as_ref().or(self.permissions), &self.permitted);
        JobSpec {
            permissions,
            commit: self.commit.map(str::to_owned),
            file: self.file.to_owned(),
            workflow: self.workflow.to_owned(),
            workflow_env: self.env.clone(),
            workflow_defaults: self.defaults.clone(),
            job,
            unexpanded: false,
            place: self.place.clone(),
            prefix: self.prefix.clone(),
            name_prefix: self.name_prefix.clone(),
            name: one_line(&format!("{}{name}", self.name_prefix), MAX_NAME),
            labels: Vec::new(),
            group: None,
            computed: None,
            matrix: Value::Null,
            strategy: StrategyCell { fail_fast: true, max_parallel: None, job_index: 0, job_total: 1 },
            inputs: self.inputs.clone(),
            vars: self.vars.clone(),
            secrets: self.secrets.clone(),
            ancestors,
        }
    }

    fn planned(&self, spec: JobSpec) -> PlannedJob {
        PlannedJob {
            key: spec.key(),
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            group: spec.group.clone(),
            needs: spec.needed().map(|(_, key)| key).collect(),
            spec,
        }
    }

    fn ancestors(&self, job: &Job, jobs: &[Job]) -> Vec<String> {
        let mut found: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> = job.needs.iter().map(String::as_str).collect();
        while let Some(id) = open.pop() {
            if found.insert(id) {
                let needed = jobs.iter().filter(|job| job.id == id);
                open.extend(needed.flat_map(|job| &job.needs).map(String::as_str));
            }
        }
        found.into_iter().map(|id| format!("{}{id}", self.prefix)).collect()
    }
}

/// Whether what becomes of a job depends on how others end. (Whether it runs at all always does: see [`super::gate`].)
fn is_dynamic(job: &Job) -> bool {
    let Strategy { matrix, fail_fast, max_parallel } = &job.strategy;
    let templates = job.name.iter().chain(&job.runs_on.labels).chain(&job.runs_on.group);
    matrix.as_ref().is_some_and(|matrix| matrix.uses(NEEDS))
        || fail_fast.uses(NEEDS)
        || max_parallel.as_ref().is_some_and(|most| most.uses(NEEDS))
        || templates.into_iter().any(|template| template.uses(NEEDS))
}

#[cfg(test)]
mod tests;
