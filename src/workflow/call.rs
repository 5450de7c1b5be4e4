//! Reusable workflows: jobs that are another workflow.
//!
//! A call is found and checked before anything runs ([`Library::load`]), and entered when its job's needs have ended
//! ([`enter`]): from then on the jobs of the called workflow stand in its place, under keys that begin with the caller's. When
//! they have ended, [`leave`] gives the call its result and its outputs. Who may be called, and at which commit, is for the
//! caller of this module: it only names files.

use std::collections::{BTreeMap, BTreeSet};

pub use self::target::CallTarget;
pub(crate) use self::target::{DIRECTORIES, is_workflow};
use super::contexts::Outcome;
use super::expression::{Effort, Environment, ExpressionError, Object, Value};
use super::gate::{NeedResult, NeedsResults};
use super::inputs;
use super::model::{Call, CallInput, CallSecrets, CalledConcurrency, Job, Workflow};
use super::permission::Permitted;
use super::plan::{Frame, JobSpec, PlannedJob};
use super::run::MAX_OUTPUT_BYTES;
use super::values::SecretAccess;
use crate::document::reader::quoted;
use crate::document::{Complaint, Diagnostic};

mod target;

/// Workflows that may be inside of each other, with the first.
pub const MAX_LEVELS: usize = 10;

/// Different workflows that one workflow may call, however indirectly.
pub const MAX_WORKFLOWS: usize = 50;

/// All workflows that a workflow calls, however indirectly.
#[derive(Debug, Clone, Default)]
pub struct Library {
    /// Whose the first workflow's repository is.
    owner: String,
    shelf: BTreeMap<CallTarget, Shelved>,
}

#[derive(Debug, Clone)]
struct Shelved {
    workflow: Workflow,
    /// Levels of workflows from this one on.
    levels: usize,
}

type Read<'r> = dyn FnMut(&CallTarget) -> Result<Workflow, Vec<Diagnostic>> + 'r;

impl Library {
    /// Reads whatever `root` calls, each file once, and checks every call against what the called workflow takes. `owner` is
    /// that of the repository of `root`.
    ///
    /// # Errors
    /// Calls that do not fit, workflows that call themselves, more than [`MAX_LEVELS`] or [`MAX_WORKFLOWS`], and what `read`
    /// says.
    pub fn load(root: &Workflow, owner: &str, read: &mut Read<'_>) -> Result<Self, Vec<Diagnostic>> {
        let mut library = Self { owner: owner.to_owned(), shelf: BTreeMap::new() };
        let mut errors = Vec::new();
        let first = CallTarget::Local { path: root.file.clone() };
        library.add(root, &mut vec![first.clone()], read, &mut errors);
        if errors.is_empty() {
            library.check_permissions(root, &first, &Permitted::Usual, &mut BTreeSet::new(), &mut errors);
        }
        if errors.is_empty() { Ok(library) } else { Err(errors) }
    }

    /// The workflow at `place` (`None`: the first one), whose calls know what the workflows that they call say of concurrency.
    #[must_use]
    pub fn equip(&self, mut workflow: Workflow, place: Option<&CallTarget>) -> Workflow {
        for call in workflow.jobs.iter_mut().filter_map(|job| job.call.as_mut()) {
            let target = place.map_or_else(|| call.target.clone(), |place| place.resolve(&call.target));
            let Some(called) = self.shelf.get(&target).map(|shelved| &shelved.workflow) else { continue };
            call.concurrency = called.concurrency.clone().map(|concurrency| {
                let inputs = called.call.clone().unwrap_or_default().inputs;
                Box::new(CalledConcurrency { concurrency, inputs })
            });
        }
        workflow
    }

    /// Whether all workflows that `workflow` calls, however indirectly, ask for no more than their callers may. Each of them is
    /// looked at once with the same permissions.
    fn check_permissions(
        &self, workflow: &Workflow, place: &CallTarget, outer: &Permitted,
        seen: &mut BTreeSet<(CallTarget, Permitted)>, errors: &mut Vec<Diagnostic>,
    ) {
        for job in &workflow.jobs {
            let Some(target) = job.call.as_ref().map(|call| place.resolve(&call.target)) else { continue };
            let Some(called) = self.shelf.get(&target).map(|shelved| &shelved.workflow) else { continue };
            let permitted = Permitted::within(job.permissions.as_ref().or(workflow.permissions.as_ref()), outer);
            if !seen.insert((target.clone(), permitted.clone())) {
                continue;
            }
            let asks = |inner: &Job| permitted.excess(inner.permissions.as_ref().or(called.permissions.as_ref())?);
            if let Some(excess) = called.jobs.iter().find_map(asks) {
                errors.push(about(workflow, job, ".permissions", excess.into()));
            }
            self.check_permissions(called, &target, &permitted, seen, errors);
        }
    }

    /// The owner of the repository of a workflow.
    fn owner_of<'p>(&'p self, place: &'p CallTarget) -> &'p str {
        match place {
            CallTarget::Local { .. } => &self.owner,
            CallTarget::Remote(remote) => remote.repo.owner(),
        }
    }

    /// The workflow that the calls of `way`, one inside of the other, lead to.
    pub fn get(&self, way: &[CallTarget]) -> Option<&Workflow> {
        let place = way.iter().skip(1).fold(way.first()?.clone(), |place, target| place.resolve(target));
        self.shelf.get(&place).map(|shelved| &shelved.workflow)
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
            if !self.shelf.contains_key(&place) {
                match read(&place) {
                    Err(found) => {
                        errors.extend(found);
                        continue;
                    }
                    Ok(called) => self.shelve(place.clone(), called, way, read, errors),
                }
            }
            let Some(called) = self.shelf.get(&place) else { continue };
            below = below.max(called.levels);
            let mut complaints = check(call, &called.workflow);
            let caller = way.last().map_or(self.owner.as_str(), |caller| self.owner_of(caller));
            complaints.extend(check_inherited(call, caller, self.owner_of(&place)));
            complaints.extend(check_groups(job, &called.workflow));
            errors.extend(complaints.into_iter().map(|(key, complaint)| about(workflow, job, &key, complaint)));
        }
        below + 1
    }

    /// What it calls itself is read first; meanwhile it has its place, so that the limits count it.
    fn shelve(
        &mut self, place: CallTarget, workflow: Workflow, way: &mut Vec<CallTarget>, read: &mut Read<'_>,
        errors: &mut Vec<Diagnostic>,
    ) {
        self.shelf.insert(place.clone(), Shelved { workflow: workflow.clone(), levels: 1 });
        way.push(place.clone());
        let levels = self.add(&workflow, way, read, errors);
        way.pop();
        self.shelf.insert(place, Shelved { workflow, levels });
    }

    fn admit(&self, place: &CallTarget, way: &[CallTarget]) -> Result<(), Complaint> {
        if way.contains(place) {
            return Err(Complaint::new(format!("the workflow {} calls itself", quoted(&place.to_string()))));
        }
        if way.len() + self.shelf.get(place).map_or(1, |known| known.levels) > MAX_LEVELS {
            return Err(Complaint::new(format!("workflows are nested deeper than {MAX_LEVELS} levels")));
        }
        if self.shelf.len() >= MAX_WORKFLOWS && !self.shelf.contains_key(place) {
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

/// Secrets are handed on as they are among workflows of one owner only.
fn check_inherited(call: &Call, caller: &str, called: &str) -> Option<(String, Complaint)> {
    let is_given = call.secrets == CallSecrets::Inherit && !caller.eq_ignore_ascii_case(called);
    is_given.then(|| {
        let message = format!("`inherit` is for workflows of the same owner, and this one is of {}", quoted(called));
        (".secrets".to_owned(), Complaint::new(message).hint("write the secrets that it gets one by one"))
    })
}

/// A call is in one group.
fn check_groups(job: &Job, called: &Workflow) -> Option<(String, Complaint)> {
    (job.concurrency.is_some() && called.concurrency.is_some()).then(|| {
        let message = format!("it has `concurrency`, and {} as well, which is not supported yet", quoted(&called.file));
        (".concurrency".to_owned(), Complaint::new(message).hint("keep one of the two"))
    })
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
    let interface = called.call.clone().unwrap_or_default();
    let inputs = bind(caller, &interface.inputs, github, needs).map_err(|error| vec![error])?;
    let given = caller.job.call.as_ref().map(|call| SecretAccess::through(caller, &call.secrets, needs));
    let frame = Frame::of(called, github, inputs, caller.vars.clone());
    frame.called(caller, prefix(caller), given.unwrap_or_default()).plan(&called.jobs, taken)
}

/// What the keys of the jobs begin with that stand in the place of a call. Cells of a matrix of calls have the same key, and
/// jobs of their own.
pub fn prefix(caller: &JobSpec) -> String {
    let (key, cell) = (caller.key(), caller.strategy);
    if cell.job_total > 1 { format!("{key}#{}/", cell.job_index + 1) } else { format!("{key}/") }
}

/// Bytes of all inputs of a call: each of its jobs has them.
const MAX_INPUT_BYTES: usize = 1 << 20;

/// The `inputs` context of the called workflow, which takes these.
pub(super) fn bind(
    caller: &JobSpec, taken: &[CallInput], github: &Value, needs: &NeedsResults,
) -> Result<Value, Diagnostic> {
    let at = |key: &str, complaint: Complaint| {
        complaint.at(&caller.file, Some(caller.job.position), &format!("jobs.{}{key}", caller.job.id))
    };
    let Some(call) = &caller.job.call else { return Ok(Value::Null) };
    let effort = Effort::default();
    let contexts = caller.contexts(github, needs);
    let environment = Environment::new(&contexts).with_effort(&effort);
    // A default may use the event, but nothing of the caller.
    let own: Object = [("github", github.clone()), ("vars", caller.vars.clone())].into_iter().collect();
    let own = Environment::new(&own).with_effort(&effort);
    let (mut inputs, mut bytes) = (Object::default(), 0);
    for input in taken {
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
