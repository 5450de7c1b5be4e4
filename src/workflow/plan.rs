//! A workflow and an event to the jobs that will run: one for each cell of a job's matrix.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::expression::{Effort, Environment, ExpressionError, Object, Template, Value};
use super::matrix;
use super::model::{
    Action, Checkout, DispatchInput, InputKind, Job, MAX_NAME, RunDefaults, Strategy, Variables, Workflow,
};
use crate::document::Diagnostic;
use crate::document::text::one_line;

/// Jobs of one run.
pub const MAX_PLANNED: usize = 1024;

/// Labels of one job.
const MAX_LABELS: usize = 100;

/// What planning knows.
#[derive(Debug, Clone, Default)]
pub struct PlanInput {
    /// The `github` context: [`super::contexts::GithubContext::to_value`].
    pub github: Value,
    /// What a person gave to `workflow_dispatch`: an object, or null.
    pub inputs: Value,
}

/// One job that will run, or be skipped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedJob {
    /// The job's id in the workflow. Cells of a matrix share it, and `needs` names it.
    pub key: String,
    /// The name for people; no two jobs of a plan have the same.
    pub name: String,
    /// What the machine must have. Empty only if there is a `group`.
    pub labels: Vec<String>,
    pub group: Option<String>,
    /// Ids of the jobs that must have ended.
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
    /// Without its `strategy`, which was applied.
    pub job: Job,
    pub name: String,
    /// What the machine must have, kept so that a re-run can look for it again.
    #[serde(default)]
    pub labels: Vec<String>,
    #[serde(default)]
    pub group: Option<String>,
    /// The cell, or null.
    pub matrix: Value,
    pub strategy: StrategyCell,
    pub inputs: Value,
    /// All jobs that come before this one, however indirectly: `success()` and `failure()` of a job's `if` look at them.
    pub ancestors: Vec<String>,
}

impl JobSpec {
    /// Whether the first thing that it does, whatever happens, is to check its commit out into the workspace itself.
    pub fn begins_with_checkout(&self) -> bool {
        let Some(first) = self.job.steps.first() else { return false };
        matches!(&first.action, Action::Checkout(Checkout { path: None, .. })) && first.condition.source().is_none()
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
    let inputs = inputs(workflow, input).map_err(|error| vec![error])?;
    let planner = Planner { workflow, github: &input.github, inputs, effort: Effort::default() };
    let (mut planned, mut errors) = (Vec::new(), Vec::new());
    for job in &workflow.jobs {
        match planner.cells(job) {
            Ok(cells) => planned.extend(cells),
            Err(error) => errors.push(error),
        }
        if planned.len() > MAX_PLANNED {
            let message = format!("the workflow becomes more than {MAX_PLANNED} jobs");
            errors.push(planner.complaint(job, "", ExpressionError::evaluation(message)));
            break;
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    make_names_unique(&mut planned);
    Ok(planned)
}

struct Planner<'a> {
    workflow: &'a Workflow,
    github: &'a Value,
    inputs: Value,
    effort: Effort,
}

impl Planner<'_> {
    fn complaint(&self, job: &Job, key: &str, error: ExpressionError) -> Diagnostic {
        error.at(&self.workflow.file, job.position, format!("jobs.{}{key}", job.id))
    }

    fn cells(&self, job: &Job) -> Result<Vec<PlannedJob>, Diagnostic> {
        let at = |key: &'static str| move |error| self.complaint(job, key, error);
        let mut contexts = Object::default();
        contexts.insert("github", self.github.clone());
        contexts.insert("inputs", self.inputs.clone());
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
        let ancestors = self.ancestors(job);
        let job_total = u32::try_from(cells.len()).unwrap_or(u32::MAX);
        let cell = |(index, matrix)| {
            let strategy = StrategyCell { fail_fast, max_parallel, job_index: index, job_total };
            let mut contexts = contexts.clone();
            contexts.insert("matrix", Value::clone(&matrix));
            contexts.insert("strategy", strategy.to_value());
            self.cell(job, matrix, strategy, &ancestors, &Environment::new(&contexts).with_effort(&self.effort))
        };
        (0..job_total).zip(cells).map(cell).collect()
    }

    fn cell(
        &self, job: &Job, matrix: Value, strategy: StrategyCell, ancestors: &[String], environment: &Environment<'_>,
    ) -> Result<PlannedJob, Diagnostic> {
        let name = name(job, &matrix, environment).map_err(|error| self.complaint(job, ".name", error))?;
        let labels = labels(job, environment).map_err(|error| self.complaint(job, ".runs-on", error))?;
        let group = job.runs_on.group.as_ref().map(|group| group.evaluate_text(environment)).transpose();
        let group = group.map_err(|error| self.complaint(job, ".runs-on.group", error))?;
        let workflow = self.workflow;
        let spec = JobSpec {
            file: workflow.file.clone(),
            workflow: workflow.display_name().to_owned(),
            workflow_env: workflow.env.clone(),
            workflow_defaults: workflow.defaults.clone(),
            job: Job { strategy: Strategy::default(), ..job.clone() },
            name: name.clone(),
            labels: labels.clone(),
            group: group.clone(),
            matrix,
            strategy,
            inputs: self.inputs.clone(),
            ancestors: ancestors.to_vec(),
        };
        Ok(PlannedJob { key: job.id.clone(), name, labels, group, needs: job.needs.clone(), spec })
    }

    fn ancestors(&self, job: &Job) -> Vec<String> {
        let mut found: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> = job.needs.iter().map(String::as_str).collect();
        while let Some(id) = open.pop() {
            if found.insert(id) {
                let needed = self.workflow.jobs.iter().filter(|job| job.id == id);
                open.extend(needed.flat_map(|job| &job.needs).map(String::as_str));
            }
        }
        found.into_iter().map(str::to_owned).collect()
    }
}

/// The job's name; where it does not choose its own words for a cell, the cell's values follow in parentheses.
fn name(job: &Job, matrix: &Value, environment: &Environment<'_>) -> Result<String, ExpressionError> {
    let written = job.name.as_ref().map(|name| name.evaluate_text(environment)).transpose()?;
    let written = written.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    let is_computed = job.name.as_ref().is_some_and(|name| name.as_literal().is_none());
    let mut values = Vec::new();
    leaves(matrix, &mut values);
    let name = match written {
        Some(name) if is_computed || values.is_empty() => name,
        written => {
            let name = written.as_deref().unwrap_or(&job.id);
            if values.is_empty() { name.to_owned() } else { format!("{name} ({})", values.join(", ")) }
        }
    };
    Ok(one_line(&name, MAX_NAME))
}

/// The values in a cell that are not empty, however deep.
fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| leaves(item, found)),
        Value::Object(object) => object.iter().for_each(|(_, value)| leaves(value, found)),
        primitive => found.extend(Some(primitive.to_text().to_string()).filter(|text| !text.is_empty())),
    }
}

/// Statuses are told apart by name.
fn make_names_unique(planned: &mut [PlannedJob]) {
    let mut taken = BTreeSet::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for job in planned {
        let base = job.name.clone();
        while !taken.insert(job.name.clone()) {
            let count = counts.entry(base.clone()).or_insert(1);
            *count += 1;
            job.name = format!("{base} #{count}");
        }
        job.spec.name.clone_from(&job.name);
    }
}

fn labels(job: &Job, environment: &Environment<'_>) -> Result<Vec<String>, ExpressionError> {
    let mut labels: Vec<String> = Vec::new();
    for template in &job.runs_on.labels {
        for label in label_values(template, environment)? {
            let label = label.trim();
            if label.is_empty() {
                return Err(ExpressionError::evaluation(format!("`{template}` gives an empty label")));
            }
            if !labels.iter().any(|known| known == label) {
                labels.push(label.to_owned());
            }
        }
    }
    if labels.len() > MAX_LABELS {
        return Err(ExpressionError::evaluation(format!("a job has at most {MAX_LABELS} labels")));
    }
    if labels.is_empty() && job.runs_on.group.is_none() {
        return Err(ExpressionError::evaluation("the list of labels is empty"));
    }
    Ok(labels)
}

fn label_values(template: &Template, environment: &Environment<'_>) -> Result<Vec<String>, ExpressionError> {
    let text = |value: &Value| {
        if value.is_primitive() {
            return Ok(value.to_text().to_string());
        }
        Err(ExpressionError::evaluation(format!("`{template}` must give labels, but gives {}", value.kind())))
    };
    match template.evaluate(environment)? {
        Value::Array(items) => items.iter().map(text).collect(),
        value => Ok(vec![text(&value)?]),
    }
}

/// The `inputs` context: what was given, in the types that the workflow asks for, and its defaults.
/// The `inputs` context.
pub(super) fn inputs(workflow: &Workflow, input: &PlanInput) -> Result<Value, Diagnostic> {
    let is_dispatched = &*input.github.member("event_name").to_text() == "workflow_dispatch";
    let wanted = workflow.on.iter().find(|trigger| is_dispatched && trigger.event == "workflow_dispatch");
    let Some(wanted) = wanted else { return Ok(Object::default().into()) };
    let mut inputs = Object::default();
    for wanted in &wanted.inputs {
        let value = input_value(wanted, &input.inputs.member(&wanted.name)).map_err(|message| Diagnostic {
            file: workflow.file.clone(),
            position: None,
            path: format!("on.workflow_dispatch.inputs.{}", wanted.name),
            message,
            hint: wanted.description.clone(),
        })?;
        inputs.insert(wanted.name.clone(), value);
    }
    Ok(inputs.into())
}

fn input_value(wanted: &DispatchInput, given: &Value) -> Result<Value, String> {
    let text = given.to_text();
    if matches!(given, Value::Null) || text.is_empty() {
        return match &wanted.default {
            Value::Null if wanted.required => Err(format!("the input `{}` was not given", wanted.name)),
            Value::Null if wanted.kind == InputKind::Boolean => Ok(Value::Bool(false)),
            Value::Null => Ok("".into()),
            default => Ok(default.clone()),
        };
    }
    match wanted.kind {
        InputKind::Boolean => match &*text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(format!("`{text}` is neither `true` nor `false`")),
        },
        InputKind::Number if given.to_number().is_nan() => Err(format!("`{text}` is no number")),
        InputKind::Number => Ok(Value::Number(given.to_number())),
        InputKind::Choice if !wanted.options.iter().any(|option| **option == *text) => {
            Err(format!("`{text}` is none of the options"))
        }
        InputKind::String | InputKind::Choice | InputKind::Environment => Ok(Value::String(text)),
    }
}

#[cfg(test)]
mod tests;
