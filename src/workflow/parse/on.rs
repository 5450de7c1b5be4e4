//! `on`: the events that start a workflow.

use super::fields;
use crate::document::reader::quoted;
use crate::document::{Complaint, Field, Item, Table, Value as Yaml};
use crate::workflow::expression::Value;
use crate::workflow::glob::{Pattern, Patterns};
use crate::workflow::model::{DispatchInput, EventTrigger, Filter, InputKind};

/// Events that start workflows, and the keys that narrow each.
const EVENTS: &[(&str, &[&str])] = &[
    ("push", &["branches", "branches-ignore", "tags", "tags-ignore", "paths", "paths-ignore"]),
    ("pull_request", &["types", "branches", "branches-ignore", "paths", "paths-ignore"]),
    ("merge_group", &["types", "branches", "branches-ignore"]),
    ("workflow_dispatch", &["inputs"]),
];

/// Events of the dialect that start nothing yet.
const LATER: &[&str] = &[
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "create",
    "delete",
    "deployment",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "fork",
    "gollum",
    "image_version",
    "issue_comment",
    "issues",
    "label",
    "milestone",
    "page_build",
    "public",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_target",
    "registry_package",
    "release",
    "repository_dispatch",
    "schedule",
    "status",
    "watch",
    "workflow_call",
    "workflow_run",
];

const PULL_REQUEST_TYPES: &[&str] = &[
    "assigned",
    "unassigned",
    "labeled",
    "unlabeled",
    "opened",
    "edited",
    "closed",
    "reopened",
    "synchronize",
    "converted_to_draft",
    "locked",
    "unlocked",
    "enqueued",
    "dequeued",
    "milestoned",
    "demilestoned",
    "ready_for_review",
    "review_requested",
    "review_request_removed",
    "auto_merge_enabled",
    "auto_merge_disabled",
];

/// Inputs of `workflow_dispatch`.
const MAX_INPUTS: usize = 25;

/// One event, a list of them, or a mapping of events to what narrows them.
pub(super) fn triggers(item: &Item<'_>) -> Vec<EventTrigger> {
    let triggers: Vec<EventTrigger> = if let Yaml::Mapping(_) = item.node().value {
        item.fields().unwrap_or_default().iter().filter_map(narrowed).collect()
    } else {
        let plain = |item: &Item<'_>| {
            let event = item.string()?;
            check_event(event, |complaint| item.refuse(complaint), |complaint| item.warn(complaint))?;
            Some(EventTrigger { event: event.to_owned(), ..EventTrigger::default() })
        };
        item.one_or_list().iter().filter_map(plain).collect()
    };
    let is_empty = matches!(&item.node().value, Yaml::Sequence(items) if items.is_empty())
        || matches!(&item.node().value, Yaml::Mapping(entries) if entries.is_empty());
    if is_empty {
        item.refuse("a workflow needs at least one event");
    }
    triggers
}

/// The keys that narrow the event; `None` if the event is not known at all.
fn check_event(
    event: &str, refuse: impl FnOnce(Complaint), warn: impl FnOnce(Complaint),
) -> Option<&'static [&'static str]> {
    if let Some((_, keys)) = EVENTS.iter().find(|(name, _)| *name == event) {
        return Some(keys);
    }
    if LATER.contains(&event) {
        let names: Vec<&str> = EVENTS.iter().map(|(name, _)| *name).collect();
        let complaint = Complaint::new(format!("the event `{event}` starts nothing yet"));
        warn(complaint.hint(format!("events that start workflows: {}", names.join(", "))));
        return Some(&[]);
    }
    let complaint = Complaint::new(format!("there is no event {}", quoted(event)));
    refuse(complaint.suggest(event, EVENTS.iter().map(|(name, _)| *name).chain(LATER.iter().copied())));
    None
}

fn narrowed(field: &Field<'_>) -> Option<EventTrigger> {
    let event = field.key;
    let keys = check_event(event, |complaint| field.refuse_key(complaint), |complaint| field.warn_key(complaint))?;
    let trigger = EventTrigger { event: event.to_owned(), ..EventTrigger::default() };
    if keys.is_empty() || field.value.is_null() {
        return Some(trigger);
    }
    let table = field.value.table(keys)?;
    let filter = |key, ignore| if keys.contains(&key) { filter(&table, key, ignore) } else { None };
    Some(EventTrigger {
        types: if keys.contains(&"types") { table.read("types", |item| types(event, item)) } else { None },
        branches: filter("branches", "branches-ignore"),
        tags: filter("tags", "tags-ignore"),
        paths: filter("paths", "paths-ignore"),
        inputs: if keys.contains(&"inputs") { inputs(&table) } else { Vec::new() },
        ..trigger
    })
}

fn types(event: &str, item: &Item<'_>) -> Option<Vec<String>> {
    let known = if event == "merge_group" { &["checks_requested", "destroyed"] } else { PULL_REQUEST_TYPES };
    let mut types = Vec::new();
    for item in item.one_or_list() {
        let Some(word) = item.string() else { continue };
        if known.contains(&word) {
            types.push(word.to_owned());
        } else {
            let complaint = Complaint::new(format!("`{event}` has no activity {}", quoted(word)));
            item.refuse(complaint.suggest(word, known.iter().copied()));
        }
    }
    Some(types)
}

/// `KEY` or `KEY-ignore`, but not both.
fn filter(table: &Table<'_>, key: &'static str, ignore: &'static str) -> Option<Filter> {
    match (table.field(key), table.field(ignore)) {
        (Some(_), Some(field)) => {
            let complaint = Complaint::new(format!("`{key}` and `{ignore}` cannot both narrow an event"));
            field.refuse_key(complaint.hint(format!("put patterns with a leading `!` into `{key}`")));
            None
        }
        (Some(field), None) => {
            let patterns = patterns(&field.value);
            if patterns.are_all_negated() {
                let complaint =
                    Complaint::new(format!("every pattern of `{key}` has a `!`, so that nothing is ever taken"));
                field.refuse_key(complaint.hint(format!("use `{ignore}`, or put `'**'` first")));
            }
            Some(Filter::Only(patterns))
        }
        (None, Some(field)) => Some(Filter::Ignore(patterns(&field.value))),
        (None, None) => None,
    }
}

fn patterns(item: &Item<'_>) -> Patterns {
    if matches!(&item.node().value, Yaml::Sequence(items) if items.is_empty()) {
        item.refuse("the list has no pattern");
    }
    Patterns::new(item.one_or_list().iter().filter_map(|item| item.parse(Pattern::parse)).collect())
}

fn inputs(table: &Table<'_>) -> Vec<DispatchInput> {
    let Some(item) = table.get("inputs").filter(|item| !item.is_null()) else { return Vec::new() };
    let fields = item.fields().unwrap_or_default();
    if fields.len() > MAX_INPUTS {
        item.refuse(format!("a workflow has at most {MAX_INPUTS} inputs, this one has {}", fields.len()));
    }
    fields.iter().filter_map(input).collect()
}

fn input(field: &Field<'_>) -> Option<DispatchInput> {
    const KINDS: [(&str, InputKind); 5] = [
        ("string", InputKind::String),
        ("boolean", InputKind::Boolean),
        ("number", InputKind::Number),
        ("choice", InputKind::Choice),
        ("environment", InputKind::Environment),
    ];
    if let Some(complaint) = fields::id_complaint("name of an input", field.key) {
        field.refuse_key(complaint);
    }
    let name = field.key.to_owned();
    let mut input = DispatchInput {
        name,
        description: None,
        required: false,
        default: Value::Null,
        kind: InputKind::String,
        options: Vec::new(),
    };
    if field.value.is_null() {
        return Some(input);
    }
    let table = field.value.table(&["description", "required", "default", "type", "options", "deprecationMessage"])?;
    input.description = table.read("description", Item::scalar_text);
    input.required = table.read_or("required", false, Item::bool);
    input.kind = table.read_or("type", InputKind::String, |item| item.one_of(&KINDS));
    input.options = table.read_or("options", Vec::new(), Item::string_list);
    input.default = table.read_or("default", Value::Null, |item| default(item, input.kind));
    if input.kind == InputKind::Choice && input.options.is_empty() {
        field.refuse_key("an input of the type `choice` needs `options`");
    }
    Some(input)
}

fn default(item: &Item<'_>, kind: InputKind) -> Option<Value> {
    match kind {
        InputKind::Boolean => item.bool().map(Value::Bool),
        InputKind::Number => item.number().map(Value::Number),
        InputKind::String | InputKind::Choice | InputKind::Environment => item.scalar_text().map(Value::from),
    }
}
