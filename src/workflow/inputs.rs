//! Values for the inputs of workflows: what people start by hand (`workflow_dispatch`), and what other workflows call.

use super::expression::{Object, Value};
use super::model::{DispatchInput, InputKind, Workflow};
use super::plan::PlanInput;
use crate::document::reader::quoted;
use crate::document::{Complaint, Diagnostic};

/// The inputs as `github.event` has them: each as text.
pub fn as_event(inputs: &Value) -> serde_json::Value {
    let Value::Object(inputs) = inputs else { return serde_json::Value::Null };
    let text = |(name, value): (&str, &Value)| (name.to_owned(), (*value.to_text()).into());
    serde_json::Value::Object(inputs.iter().map(text).collect())
}

/// The `inputs` context of a workflow that was started: what was given, in the types that it asks for, and its defaults.
/// Without `workflow_dispatch` it is empty.
///
/// # Errors
/// The first value that is missing, of another kind, or given to an input that does not exist.
pub fn of_dispatch(workflow: &Workflow, input: &PlanInput) -> Result<Value, Diagnostic> {
    let is_dispatched = &*input.github.member("event_name").to_text() == "workflow_dispatch";
    let wanted = workflow.on.iter().find(|trigger| is_dispatched && trigger.event == "workflow_dispatch");
    let Some(wanted) = wanted else { return Ok(Object::default().into()) };
    let at = |name: &str, complaint: Complaint| {
        complaint.at(&workflow.file, None, &format!("on.workflow_dispatch.inputs.{name}"))
    };
    if let Value::Object(given) = &input.inputs {
        let is_known = |name: &str| wanted.inputs.iter().any(|input| input.name.eq_ignore_ascii_case(name));
        if let Some((name, _)) = given.iter().find(|(name, _)| !is_known(name)) {
            let complaint = Complaint::new(format!("the workflow has no input {}", quoted(name)));
            return Err(at(name, complaint.suggest(name, wanted.inputs.iter().map(|input| input.name.as_str()))));
        }
    }
    let mut inputs = Object::default();
    for wanted in &wanted.inputs {
        let value = dispatched(wanted, &input.inputs.member(&wanted.name)).map_err(|message| {
            let complaint = Complaint::new(message);
            at(&wanted.name, wanted.description.iter().fold(complaint, |complaint, hint| complaint.hint(hint.clone())))
        })?;
        inputs.insert(wanted.name.clone(), value);
    }
    Ok(inputs.into())
}

/// People give text, whatever the kind.
fn dispatched(wanted: &DispatchInput, given: &Value) -> Result<Value, String> {
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
            _ => Err(format!("{} is neither `true` nor `false`", quoted(&text))),
        },
        InputKind::Number if given.to_number().is_nan() => Err(format!("{} is no number", quoted(&text))),
        InputKind::Number => Ok(Value::Number(given.to_number())),
        InputKind::Choice if !wanted.options.iter().any(|option| **option == *text) => {
            Err(format!("{} is none of the options", quoted(&text)))
        }
        InputKind::String | InputKind::Choice | InputKind::Environment => Ok(Value::String(text)),
    }
}

/// The value of an input of a called workflow that is neither given nor has a default.
pub(super) fn absent(kind: InputKind) -> Value {
    match kind {
        InputKind::Boolean => Value::Bool(false),
        InputKind::Number => Value::Number(0.0),
        InputKind::String | InputKind::Choice | InputKind::Environment => "".into(),
    }
}

/// A value that another workflow gives: it must be of the kind already, except that every scalar is a string too.
pub(super) fn exact(kind: InputKind, value: Value) -> Result<Value, String> {
    match (kind, &value) {
        (InputKind::Boolean, Value::Bool(_)) | (InputKind::Number, Value::Number(_)) => Ok(value),
        (InputKind::Boolean, _) => Err(format!("expected a boolean, but the value is {}", value.kind())),
        (InputKind::Number, _) => Err(format!("expected a number, but the value is {}", value.kind())),
        (_, value) if value.is_primitive() => Ok(Value::String(value.to_text())),
        (_, value) => Err(format!("expected a string, but the value is {}", value.kind())),
    }
}
