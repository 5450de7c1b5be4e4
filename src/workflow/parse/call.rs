//! Reusable workflows: what one takes and gives (`on.workflow_call`), and the job that is one (`uses`).

use super::fields;
use crate::document::reader::quoted;
use crate::document::{Complaint, Field, Item, Table, Value as Yaml};
use crate::workflow::call::CallTarget;
use crate::workflow::expression::Template;
use crate::workflow::model::{Call, CallInput, CallInterface, CallSecret, CallSecrets, InputKind, Variables};
use crate::workflow::scopes;
use crate::workflow::setting::Data;

/// `on.workflow_call`.
pub(super) fn interface(item: &Item<'_>) -> CallInterface {
    if item.is_null() {
        return CallInterface::default();
    }
    let Some(table) = item.table(&["inputs", "secrets", "outputs"]) else { return CallInterface::default() };
    CallInterface {
        inputs: named(&table, "inputs", "name of an input", input),
        secrets: named(&table, "secrets", "name of a secret", secret),
        outputs: named(&table, "outputs", "name of an output", output),
    }
}

/// The members of a mapping whose names the author chooses.
fn named<T>(table: &Table<'_>, key: &str, kind: &str, read: impl Fn(&Field<'_>) -> Option<T>) -> Vec<T> {
    let Some(item) = table.get(key).filter(|item| !item.is_null()) else { return Vec::new() };
    let read = |field: &Field<'_>| {
        if let Some(complaint) = fields::id_complaint(kind, field.key) {
            field.refuse_key(complaint);
        }
        read(field)
    };
    item.fields().unwrap_or_default().iter().filter_map(read).collect()
}

fn input(field: &Field<'_>) -> Option<CallInput> {
    const KINDS: [(&str, InputKind); 3] =
        [("string", InputKind::String), ("boolean", InputKind::Boolean), ("number", InputKind::Number)];
    let table = field.value.table(&["description", "required", "default", "type", "deprecationMessage"])?;
    let kind = table.required("type")?.one_of(&KINDS)?;
    Some(CallInput {
        name: field.key.to_owned(),
        kind,
        required: table.read_or("required", false, Item::bool),
        default: table.read("default", |item| default(item, kind)),
    })
}

fn default(item: &Item<'_>, kind: InputKind) -> Option<Data> {
    let data = fields::data(item, &scopes::WORKFLOW)?;
    let expected = match (&data, kind) {
        (Data::Template(_), _) => return Some(data),
        (Data::Value(value), InputKind::Boolean) => matches!(value.type_name(), "Boolean"),
        (Data::Value(value), InputKind::Number) => matches!(value.type_name(), "Number"),
        (Data::Value(_), _) => true,
        (Data::Array(_) | Data::Object(_), _) => false,
    };
    if !expected {
        item.refuse_type(match kind {
            InputKind::Boolean => "`true` or `false`",
            InputKind::Number => "a number",
            InputKind::String | InputKind::Choice | InputKind::Environment => "a string, number or boolean",
        });
        return None;
    }
    Some(data)
}

fn secret(field: &Field<'_>) -> Option<CallSecret> {
    let name = field.key.to_owned();
    if field.value.is_null() {
        return Some(CallSecret { name, required: false });
    }
    let table = field.value.table(&["description", "required"])?;
    Some(CallSecret { name, required: table.read_or("required", false, Item::bool) })
}

fn output(field: &Field<'_>) -> Option<(String, Template)> {
    let table = field.value.table(&["description", "value"])?;
    let value = table.required("value")?;
    Some((field.key.to_owned(), fields::template(&value, &scopes::CALL_OUTPUT)?))
}

/// The workflow that a job is, if it is one.
pub(super) fn call(table: &Table<'_>) -> Option<Call> {
    let uses = table.field("uses")?;
    for key in NOT_OF_CALLS {
        if let Some(field) = table.field(key) {
            let complaint = Complaint::new(format!("a job with `uses` has no `{key}`"));
            field.refuse_key(complaint.hint("it belongs to the jobs of the called workflow"));
        }
    }
    Some(Call {
        target: uses.value.parse(CallTarget::parse)?,
        with: table.read("with", with).unwrap_or_default(),
        secrets: table.read("secrets", secrets).unwrap_or(CallSecrets::Named(Vec::new())),
        concurrency: None,
    })
}

/// Keys of jobs with steps.
const NOT_OF_CALLS: &[&str] = &[
    "runs-on",
    "steps",
    "env",
    "defaults",
    "outputs",
    "timeout-minutes",
    "cancel-timeout-minutes",
    "continue-on-error",
    "environment",
    "services",
    "container",
    "snapshot",
];

fn with(item: &Item<'_>) -> Option<Vec<(String, Data)>> {
    let value = |field: &Field<'_>| {
        if matches!(field.value.node().value, Yaml::Sequence(_) | Yaml::Mapping(_)) {
            field.value.refuse_type("a string, number or boolean");
            return None;
        }
        Some((field.key.to_owned(), fields::data(&field.value, &scopes::JOB)?))
    };
    Some(item.fields()?.iter().filter_map(value).collect())
}

fn secrets(item: &Item<'_>) -> Option<CallSecrets> {
    match &item.node().value {
        Yaml::String(text) if text == "inherit" => return Some(CallSecrets::Inherit),
        Yaml::String(text) => {
            let complaint = Complaint::new(format!("{} is not understood here", quoted(text)));
            item.refuse(complaint.hint("write `inherit`, or the secrets one by one"));
            return None;
        }
        _ => {}
    }
    let value = |field: &Field<'_>| Some((field.key.to_owned(), fields::template(&field.value, &scopes::JOB_ENV)?));
    let named: Variables = item.fields()?.iter().filter_map(value).collect();
    Some(CallSecrets::Named(named))
}
