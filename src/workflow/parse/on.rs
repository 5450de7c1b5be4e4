//! `on`: the events that start a workflow.

use super::events::{self, Event, WORKFLOW_CALL};
use super::{call, fields};
use crate::document::reader::quoted;
use crate::document::{Complaint, Field, Item, Table, Value as Yaml};
use crate::workflow::expression::Value;
use crate::workflow::glob::{Pattern, Patterns};
use crate::workflow::model::{CallInterface, DispatchInput, EventTrigger, Filter, InputKind};
use crate::workflow::schedule::Schedule;

/// Inputs of `workflow_dispatch`.
const MAX_INPUTS: usize = 25;

/// What `on` says.
#[derive(Debug, Default)]
pub(super) struct On {
    pub(super) triggers: Vec<EventTrigger>,
    pub(super) call: Option<CallInterface>,
    pub(super) schedules: Vec<Schedule>,
}

/// One event, a list of them, or a mapping of events to what narrows them.
pub(super) fn on(item: &Item<'_>) -> On {
    let mut on = On::default();
    if let Yaml::Mapping(_) = item.node().value {
        for field in item.fields().unwrap_or_default() {
            narrowed(&field, &mut on);
        }
    } else {
        for item in item.one_or_list() {
            let Some(name) = item.string() else { continue };
            let known = check_event(name, |complaint| item.refuse(complaint), |complaint| item.warn(complaint));
            if name == WORKFLOW_CALL {
                on.call = Some(CallInterface::default());
            } else if name == "schedule" {
                item.refuse(Complaint::new("a schedule has no times").hint("write `schedule: [{cron: '0 6 * * *'}]`"));
            }
            on.triggers.extend(known.map(|event| plain(event.name)));
        }
    }
    let is_empty = matches!(&item.node().value, Yaml::Sequence(items) if items.is_empty())
        || matches!(&item.node().value, Yaml::Mapping(entries) if entries.is_empty());
    if is_empty {
        item.refuse("a workflow needs at least one event");
    }
    on
}

fn plain(event: &str) -> EventTrigger {
    EventTrigger { event: event.to_owned(), ..EventTrigger::default() }
}

/// The event, if it is one that comes from the forge.
fn check_event(name: &str, refuse: impl FnOnce(Complaint), warn: impl FnOnce(Complaint)) -> Option<&'static Event> {
    if name == WORKFLOW_CALL {
        return None;
    }
    let Some(event) = events::find(name) else {
        let complaint = Complaint::new(format!("there is no event {}", quoted(name)));
        refuse(complaint.suggest(name, events::names()));
        return None;
    };
    if !event.starts {
        let complaint = Complaint::new(format!("the event `{name}` starts nothing yet"));
        warn(complaint.hint(format!("events that start workflows: {}", events::starting_names().join(", "))));
    }
    Some(event)
}

fn narrowed(field: &Field<'_>, on: &mut On) {
    let event = check_event(field.key, |complaint| field.refuse_key(complaint), |complaint| field.warn_key(complaint));
    if field.key == WORKFLOW_CALL {
        on.call = Some(call::interface(&field.value));
    } else if field.key == "schedule" {
        on.schedules = field.value.list().unwrap_or_default().iter().filter_map(schedule).collect();
    }
    let Some(event) = event else { return };
    let trigger = plain(event.name);
    if event.name == "schedule" || field.value.is_null() {
        on.triggers.push(trigger);
        return;
    }
    if event.keys.is_empty() {
        field.value.refuse(format!("nothing narrows the event `{}`", event.name));
        return;
    }
    let Some(table) = field.value.table(event.keys) else { return };
    let has = |key| event.keys.contains(&key);
    let filter = |key, ignore| if has(key) { filter(&table, key, ignore) } else { None };
    on.triggers.push(EventTrigger {
        types: if has("types") { table.read("types", |item| types(event, item)) } else { None },
        branches: filter("branches", "branches-ignore"),
        tags: filter("tags", "tags-ignore"),
        paths: filter("paths", "paths-ignore"),
        inputs: if has("inputs") { inputs(&table) } else { Vec::new() },
        ..trigger
    });
}

fn types(event: &Event, item: &Item<'_>) -> Option<Vec<String>> {
    let mut types = Vec::new();
    for item in item.one_or_list() {
        let Some(word) = item.string() else { continue };
        if event.types.is_empty() || event.types.contains(&word) {
            types.push(word.to_owned());
        } else {
            let complaint = Complaint::new(format!("`{}` has no activity {}", event.name, quoted(word)));
            item.refuse(complaint.suggest(word, event.types.iter().copied()));
        }
    }
    Some(types)
}

/// A time of `schedule`.
fn schedule(item: &Item<'_>) -> Option<Schedule> {
    let table = item.table(&["cron", "timezone"])?;
    let schedule = table.required("cron")?.parse(Schedule::parse)?;
    match table.get("timezone") {
        Some(zone) => zone.parse(|name| schedule.in_zone(name.trim())),
        None => Some(schedule),
    }
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
    Patterns::new(item.one_or_list().iter().filter_map(pattern).collect())
}

/// Branches such as `2.0` are numbers to YAML.
fn pattern(item: &Item<'_>) -> Option<Pattern> {
    Pattern::parse(&item.scalar_text()?).map_err(|complaint| item.refuse(complaint)).ok()
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
    input.options = table.read_or("options", Vec::new(), |item| Some(texts(&item.list()?)));
    input.default = table.read_or("default", Value::Null, |item| default(item, input.kind));
    if input.kind == InputKind::Choice && input.options.is_empty() {
        field.refuse_key("an input of the type `choice` needs `options`");
    } else if let (InputKind::Choice, Value::String(text), Some(item)) =
        (input.kind, &input.default, table.get("default"))
        && !input.options.iter().any(|option| **option == **text)
    {
        let complaint = Complaint::new(format!("{} is none of the options", quoted(text)));
        item.refuse(complaint.suggest(text, input.options.iter().map(String::as_str)));
    }
    Some(input)
}

/// Scalars as they are written: a version such as `3.10` is a number to YAML.
fn texts(items: &[Item<'_>]) -> Vec<String> {
    items.iter().filter_map(Item::scalar_text).collect()
}

fn default(item: &Item<'_>, kind: InputKind) -> Option<Value> {
    match kind {
        InputKind::Boolean => item.bool().map(Value::Bool),
        InputKind::Number => item.number().map(Value::Number),
        InputKind::String | InputKind::Choice | InputKind::Environment => item.scalar_text().map(Value::from),
    }
}
