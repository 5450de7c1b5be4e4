//! Reusable workflows: jobs that are another workflow.
//!
//! A call is found and checked before anything runs ([`Library::load`]), and entered when its job's needs have ended
//! ([`enter`]): from then on the jobs of the called workflow stand in its place, under keys that begin with the caller's. When
//! they have ended, [`leave`] gives the call its result and its outputs. Who may be called, and at which commit, is for the
//! caller of this module: it only names files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::contexts::Outcome;
use super::expression::{Effort, Environment, ExpressionError, Object, Value};
use super::gate::{NeedResult, NeedsResults};
use super::inputs;
use super::model::{Call, CallInterface, CallSecrets, Job, Workflow};
use super::plan::{Frame, JobSpec, PlannedJob};
use super::run::MAX_OUTPUT_BYTES;
use super::values::SecretAccess;
use crate::document::reader::quoted;
use crate::document::{Complaint, Diagnostic};

/// Workflows that may be inside of each other, with the first.
pub const MAX_LEVELS: usize = 10;

/// Different workflows that one workflow may call, however indirectly.
pub const MAX_WORKFLOWS: usize = 50;

/// Bytes of a `uses`.
const MAX_TARGET: usize = 500;

/// Where workflows may be.
const DIRECTORIES: [&str; 2] = [".github/workflows/", ".dayfly/workflows/"];

const TARGET_HINT: &str =
    "write `./.github/workflows/NAME.yml`, or `OWNER/NAME/.github/workflows/NAME.yml@REF` for another repository";

/// The file that a job's `uses` names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CallTarget {
    /// In the calling workflow's repository, at its commit.
    Local { path: String },
    /// In another one.
    Remote { repository: String, path: String, reference: String },
}

impl CallTarget {
    /// Reads a `uses`.
    ///
    /// # Errors
    /// What names no workflow, with the forms that do.
    pub fn parse(text: &str) -> Result<Self, Complaint> {
        let complaint = |what: String| Complaint::new(what).hint(TARGET_HINT);
        if text.len() > MAX_TARGET || text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
            return Err(complaint(format!("{} names no workflow", quoted(text))));
        }
        let refuse = || complaint(format!("{} names no workflow", quoted(text)));
        if let Some(path) = text.strip_prefix("./") {
            if path.contains('@') {
                return Err(complaint("a workflow of the same repository is taken at the same commit".to_owned()));
            }
            return is_workflow(path).then(|| Self::Local { path: path.to_owned() }).ok_or_else(refuse);
        }
        let (file, reference) = text.split_once('@').ok_or_else(refuse)?;
        let mut parts = file.splitn(3, '/');
        let (owner, name, path) = (parts.next(), parts.next(), parts.next());
        match (owner, name, path) {
            (Some(owner), Some(name), Some(path))
                if is_name(owner) && is_name(name) && is_workflow(path) && !reference.is_empty() =>
            {
                let (repository, path) = (format!("{owner}/{name}"), path.to_owned());
                Ok(Self::Remote { repository, path, reference: reference.to_owned() })
            }
            _ => Err(refuse()),
        }
    }

    /// What `target` names where this workflow calls it: local files of a remote workflow are remote too.
    pub(super) fn resolve(&self, target: &Self) -> Self {
        match (self, target) {
            (Self::Remote { repository, reference, .. }, Self::Local { path }) => {
                Self::Remote { repository: repository.clone(), path: path.clone(), reference: reference.clone() }
            }
            _ => target.clone(),
        }
    }
}

/// A file directly in one of the directories, as YAML.
fn is_workflow(path: &str) -> bool {
    let name = DIRECTORIES.iter().find_map(|directory| path.strip_prefix(directory));
    name.and_then(|name| name.rsplit_once('.'))
        .is_some_and(|(stem, ending)| !stem.is_empty() && !stem.contains('/') && matches!(ending, "yml" | "yaml"))
}

fn is_name(text: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    !matches!(text, "" | "." | "..") && text.chars().all(is_plain)
}

impl fmt::Display for CallTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { path } => write!(out, "./{path}"),
            Self::Remote { repository, path, reference } => write!(out, "{repository}/{path}@{reference}"),
        }
    }
}

impl TryFrom<String> for CallTarget {
    type Error = Complaint;
    fn try_from(text: String) -> Result<Self, Complaint> {
        Self::parse(&text)
    }
}

impl From<CallTarget> for String {
    fn from(target: CallTarget) -> String {
        target.to_string()
    }
}

/// All workflows that a workflow calls, however indirectly.
#[derive(Debug, Clone, Default)]
pub struct Library(BTreeMap<CallTarget, Shelved>);

#[derive(Debug, Clone)]
struct Shelved {
    workflow: Workflow,
    /// Levels of workflows from this one on.
    levels: usize,
}

type Read<'r> = dyn FnMut(&CallTarget) -> Result<Workflow, Vec<Diagnostic>> + 'r;

impl Library {
    /// Reads whatever `root` calls, each file once, and checks every call against what the called workflow takes.
    ///
    /// # Errors
    /// Calls that do not fit, workflows that call themselves, more than [`MAX_LEVELS`] or [`MAX_WORKFLOWS`], and what `read`
    /// says.
    pub fn load(root: &Workflow, read: &mut Read<'_>) -> Result<Self, Vec<Diagnostic>> {
        let mut library = Self::default();
        let mut errors = Vec::new();
        library.add(root, &mut vec![CallTarget::Local { path: root.file.clone() }], read, &mut errors);
        if errors.is_empty() { Ok(library) } else { Err(errors) }
    }

    /// The workflow that the calls of `way`, one inside of the other, lead to.
    pub fn get(&self, way: &[CallTarget]) -> Option<&Workflow> {
        let place = way.iter().skip(1).fold(way.first()?.clone(), |place, target| place.resolve(target));
        self.0.get(&place).map(|shelved| &shelved.workflow)
    }

    /// Follows the calls of the last of `way`; gives its levels. Recursion ends with [`MAX_LEVELS`].
    fn add(
        &mut self, workflow: &Workflow, way: &mut Vec<CallTarget>, read: &mut Read<'_>, errors: &mut Vec<Diagnostic>,
    ) -> usize {
        let mut below = 0;
        for job in &workflow.jobs {
            let Some(call) = &job.call else { continue };
            let place = way.last().map_or_else(|| call.target.clone(), |caller| caller.resolve(&call.target));
            if let Err(complaint) = self.admit(&place, way) {
                errors.push(about(workflow, job, ".uses", complaint));
                continue;
            }
            if !self.0.contains_key(&place) {
                match read(&place) {
                    Err(found) => {
                        errors.extend(found);
                        continue;
                    }
                    Ok(called) => self.shelve(place.clone(), called, way, read, errors),
                }
            }
            let Some(called) = self.0.get(&place) else { continue };
            below = below.max(called.levels);
            let complaints = check(call, &called.workflow);
            errors.extend(complaints.into_iter().map(|(key, complaint)| about(workflow, job, &key, complaint)));
        }
        below + 1
    }

    /// What it calls itself is read first; meanwhile it has its place, so that the limits count it.
    fn shelve(
        &mut self, place: CallTarget, workflow: Workflow, way: &mut Vec<CallTarget>, read: &mut Read<'_>,
        errors: &mut Vec<Diagnostic>,
    ) {
        self.0.insert(place.clone(), Shelved { workflow: workflow.clone(), levels: 1 });
        way.push(place.clone());
        let levels = self.add(&workflow, way, read, errors);
        way.pop();
        self.0.insert(place, Shelved { workflow, levels });
    }

    fn admit(&self, place: &CallTarget, way: &[CallTarget]) -> Result<(), Complaint> {
        if way.contains(place) {
            return Err(Complaint::new(format!("the workflow {} calls itself", quoted(&place.to_string()))));
        }
        if way.len() + self.0.get(place).map_or(1, |known| known.levels) > MAX_LEVELS {
            return Err(Complaint::new(format!("workflows are nested deeper than {MAX_LEVELS} levels")));
        }
        if self.0.len() >= MAX_WORKFLOWS && !self.0.contains_key(place) {
            return Err(Complaint::new(format!("a workflow calls at most {MAX_WORKFLOWS} others")));
        }
        Ok(())
    }
}

fn about(workflow: &Workflow, job: &Job, key: &str, complaint: Complaint) -> Diagnostic {
    complaint.at(&workflow.file, Some(job.position), &format!("jobs.{}{key}", job.id))
}

/// What a call gives against what the called workflow takes.
fn check(call: &Call, called: &Workflow) -> Vec<(String, Complaint)> {
    let Some(interface) = &called.call else {
        let complaint = Complaint::new(format!("{} cannot be called", quoted(&called.file)));
        return vec![(".uses".to_owned(), complaint.hint("its `on` must name `workflow_call`"))];
    };
    let mut found = Vec::new();
    let given: Vec<&str> = call.with.iter().map(|(name, _)| name.as_str()).collect();
    let known = interface.inputs.iter().map(|input| (input.name.as_str(), input.required && input.default.is_none()));
    compare("input", ".with", &given, &known.collect::<Vec<_>>(), &mut found);
    if let CallSecrets::Named(named) = &call.secrets {
        let given: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        let known = interface.secrets.iter().map(|secret| (secret.name.as_str(), secret.required));
        compare("secret", ".secrets", &given, &known.collect::<Vec<_>>(), &mut found);
    }
    found
}

/// `known` says with each name whether it must be given. Letter case does not count.
fn compare(kind: &str, key: &str, given: &[&str], known: &[(&str, bool)], found: &mut Vec<(String, Complaint)>) {
    for name in given {
        if !known.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            let complaint = Complaint::new(format!("the called workflow has no {kind} {}", quoted(name)));
            found.push((format!("{key}.{name}"), complaint.suggest(name, known.iter().map(|(name, _)| *name))));
        }
    }
    for (name, is_required) in known {
        if *is_required && !given.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            found.push((key.to_owned(), Complaint::new(format!("the {kind} {} must be given", quoted(name)))));
        }
    }
}

/// The jobs that stand in the place of the call `caller`, whose needs have ended and whose `if` holds. `taken` are the names of
/// the run's other jobs.
///
/// # Errors
/// Inputs that do not fit, and what planning says about the called workflow.
pub fn enter(
    caller: &JobSpec, called: &Workflow, github: &Value, needs: &NeedsResults, taken: BTreeSet<String>,
) -> Result<Vec<PlannedJob>, Vec<Diagnostic>> {
    let inputs = bind(caller, called, github, needs).map_err(|error| vec![error])?;
    let given = caller.job.call.as_ref().map(|call| SecretAccess::through(caller, &call.secrets, needs));
    let frame = Frame::of(called, github, inputs, caller.vars.clone()).called(
        caller.called(),
        prefix(caller),
        format!("{} / ", caller.name),
        given.unwrap_or_default(),
    );
    frame.plan(&called.jobs, taken)
}

/// What the keys of the jobs begin with that stand in the place of a call. Cells of a matrix of calls have the same key, and
/// jobs of their own.
pub fn prefix(caller: &JobSpec) -> String {
    let (key, cell) = (caller.key(), caller.strategy);
    if cell.job_total > 1 { format!("{key}#{}/", cell.job_index + 1) } else { format!("{key}/") }
}

/// The `inputs` context of the called workflow.
/// Bytes of all inputs of a call: each of its jobs has them.
const MAX_INPUT_BYTES: usize = 1 << 20;

fn bind(caller: &JobSpec, called: &Workflow, github: &Value, needs: &NeedsResults) -> Result<Value, Diagnostic> {
    let at = |key: &str, complaint: Complaint| {
        complaint.at(&caller.file, Some(caller.job.position), &format!("jobs.{}{key}", caller.job.id))
    };
    let none = CallInterface::default();
    let interface = called.call.as_ref().unwrap_or(&none);
    let Some(call) = &caller.job.call else { return Ok(Value::Null) };
    let effort = Effort::default();
    let contexts = caller.contexts(github, needs);
    let environment = Environment::new(&contexts).with_effort(&effort);
    // A default may use the event, but nothing of the caller.
    let own: Object = [("github", github.clone()), ("vars", caller.vars.clone())].into_iter().collect();
    let own = Environment::new(&own).with_effort(&effort);
    let (mut inputs, mut bytes) = (Object::default(), 0);
    for input in &interface.inputs {
        let given = call.with.iter().find(|(name, _)| name.eq_ignore_ascii_case(&input.name)).map(|(_, data)| data);
        let value = match (given, &input.default) {
            (Some(data), _) => data.resolve(&environment),
            (None, Some(default)) => default.resolve(&own),
            (None, None) => Ok(inputs::absent(input.kind)),
        };
        let key = format!(".with.{}", input.name);
        let value = value.map_err(|error| at(&key, complaint_of(error)))?;
        bytes += value.to_text().len();
        if bytes > MAX_INPUT_BYTES {
            return Err(at(&key, format!("the inputs of a call have at most {MAX_INPUT_BYTES} bytes").into()));
        }
        inputs
            .insert(input.name.clone(), inputs::exact(input.kind, value).map_err(|message| at(&key, message.into()))?);
    }
    Ok(inputs.into())
}

fn complaint_of(error: ExpressionError) -> Complaint {
    let complaint = Complaint::new(error.to_string());
    match error.hint {
        Some(hint) => complaint.hint(hint),
        None => complaint,
    }
}

/// How the call ended: `results` has the jobs of the called workflow by their ids in it, `inputs` is what [`enter`] gave them.
///
/// # Errors
/// An output that cannot be computed, or outputs of more than [`MAX_OUTPUT_BYTES`].
pub fn leave(
    caller: &JobSpec, called: &Workflow, github: &Value, inputs: &Value, results: &BTreeMap<String, NeedResult>,
) -> Result<NeedResult, Diagnostic> {
    let outcome =
        NeedResult::combine(results.values().map(|job| NeedResult { outputs: BTreeMap::new(), ..job.clone() }));
    let jobs: Object = results.iter().map(|(id, result)| (id.as_str(), result.to_value())).collect();
    let mut contexts = Object::default();
    contexts.insert("github", github.clone());
    contexts.insert("inputs", inputs.clone());
    contexts.insert("vars", caller.vars.clone());
    contexts.insert("jobs", jobs);
    let environment = Environment::new(&contexts);
    let (mut outputs, mut bytes) = (BTreeMap::new(), 0);
    for (name, value) in called.call.iter().flat_map(|interface| &interface.outputs) {
        let at = |error: ExpressionError| {
            error.at(&called.file, caller.job.position, format!("on.workflow_call.outputs.{name}.value"))
        };
        // The position is one of the caller's file, which this is not.
        let text = value.evaluate_text(&environment);
        let text = text.map_err(|error| Diagnostic { position: None, ..at(error) })?;
        bytes += name.len() + text.len();
        if bytes > MAX_OUTPUT_BYTES {
            let why =
                ExpressionError::evaluation(format!("the outputs of a call have at most {MAX_OUTPUT_BYTES} bytes"));
            return Err(Diagnostic { position: None, ..at(why) });
        }
        outputs.insert(name.clone(), text);
    }
    let result = if results.is_empty() { Outcome::Skipped } else { outcome.result };
    Ok(NeedResult { result, outputs })
}

#[cfg(test)]
mod tests;
