//! Readers of values that stand in several places of a workflow.

use crate::document::reader::quoted;
use crate::document::{Complaint, Field, Item, Value as Yaml};
use crate::workflow::contexts::is_reserved;
use crate::workflow::expression::{Expression, ExpressionError, Scope, Template, Value};
use crate::workflow::model::{Access, Concurrency, Permissions, Queue, RunDefaults, Shell, Variables};
use crate::workflow::permission;
use crate::workflow::setting::{Condition, Data, Setting};
use crate::workflow::shell::NoShell;
use crate::workflow::values::GITHUB_TOKEN;

/// Characters of an id.
const MAX_ID: usize = 99;

const EXPRESSION: &str = "${{";

fn complaint(error: ExpressionError) -> Complaint {
    let complaint = Complaint::new(error.to_string());
    match error.hint {
        Some(hint) => complaint.hint(hint),
        None => complaint,
    }
}

/// Says that GitHub's own token, which many workflows pass on, is not there by itself.
fn note_token(item: &Item<'_>, template: &Template) {
    for (context, member) in [("github", "token"), ("secrets", GITHUB_TOKEN)] {
        if template.uses_member(context, member) {
            let complaint = Complaint::new(format!("`{context}.{member}` is empty: no token is made for jobs"));
            item.warn(complaint.hint(format!("the operator may give a secret of the name `{GITHUB_TOKEN}`")));
        }
    }
}

/// Whether a text with expressions stands here.
pub(super) fn is_expression(item: &Item<'_>) -> bool {
    matches!(&item.node().value, Yaml::String(text) if text.contains(EXPRESSION))
}

/// Text that may have expressions in it.
pub(super) fn template(item: &Item<'_>, scope: &Scope<'_>) -> Option<Template> {
    let template = Template::parse(&item.scalar_text()?, scope);
    let template = template.map_err(|error| item.refuse(complaint(error))).ok()?;
    note_token(item, &template);
    Some(template)
}

/// As [`template`], but something must stand there.
pub(super) fn non_empty_template(item: &Item<'_>, scope: &Scope<'_>) -> Option<Template> {
    let template = template(item, scope)?;
    if template.as_literal().is_some_and(|text| text.trim().is_empty()) {
        item.refuse("must not be empty");
        return None;
    }
    Some(template)
}

/// One expression in a text that has nothing else; `None` if there is none in it at all.
fn lone_expression(item: &Item<'_>, scope: &Scope<'_>) -> Option<Result<Expression, ()>> {
    if !is_expression(item) {
        return None;
    }
    let Some(template) = template(item, scope) else { return Some(Err(())) };
    match template.as_expression() {
        Some(expression) => Some(Ok(expression.clone())),
        None => {
            item.refuse(
                Complaint::new("there is text beside the expression").hint("the whole value must be one expression"),
            );
            Some(Err(()))
        }
    }
}

/// A value that is fixed, as `fixed` reads it, or computed.
pub(super) fn setting<'a, T>(
    item: &Item<'a>, scope: &Scope<'_>, fixed: impl FnOnce(&Item<'a>) -> Option<T>,
) -> Option<Setting<T>> {
    match lone_expression(item, scope) {
        Some(expression) => expression.ok().map(Setting::Computed),
        None => fixed(item).map(Setting::Fixed),
    }
}

/// `timeout-minutes` of a job.
pub(super) fn timeout(item: &Item<'_>, scope: &Scope<'_>) -> Option<Setting<f64>> {
    setting(item, scope, |item| {
        let minutes = minutes(item)?;
        if minutes > 0.0 {
            return Some(minutes);
        }
        item.refuse(format!("`{minutes}` is not more than 0"));
        None
    })
}

fn minutes(item: &Item<'_>) -> Option<f64> {
    let minutes = item.number()?;
    if !minutes.is_finite() {
        item.refuse(format!("`{minutes}` is no number of minutes"));
    }
    Some(minutes).filter(|minutes| minutes.is_finite())
}

/// `timeout-minutes` of a step: 0 and less is no limit.
pub(super) fn step_timeout(item: &Item<'_>, scope: &Scope<'_>) -> Option<Setting<f64>> {
    setting(item, scope, minutes)
}

/// An `if:`, with or without `${{ }}` around it.
pub(super) fn condition(item: &Item<'_>, scope: &Scope<'_>) -> Option<Condition> {
    let text = item.scalar_text()?;
    let text = text.trim();
    if text.is_empty() {
        return Some(Condition::default());
    }
    if !text.contains(EXPRESSION) {
        let expression = Expression::parse(text, scope);
        let expression = expression.map_err(|error| item.refuse(complaint(error.within(text)))).ok()?;
        return Some(Condition::new(expression));
    }
    let template = template(item, scope)?;
    let Some(expression) = template.as_expression() else {
        let complaint = Complaint::new("a condition with text beside `${{ }}` would always be true");
        item.refuse(complaint.hint("write the whole condition as one expression; `if:` needs no `${{ }}`"));
        return None;
    };
    Some(Condition::new(expression.clone()))
}

/// An id that other places of the workflow use.
pub(super) fn id_complaint(kind: &str, id: &str) -> Option<Complaint> {
    let is_valid = id.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && id.len() <= MAX_ID
        && id.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'));
    let complaint = Complaint::new(format!("{} is no {kind}", quoted(id)));
    let rule = format!("letters, digits, `-` and `_`; a letter or `_` first; at most {MAX_ID} characters");
    (!is_valid).then(|| complaint.hint(rule))
}

/// The id of a job or a step, of which GitHub keeps some for itself.
pub(super) fn own_id_complaint(kind: &str, id: &str) -> Option<Complaint> {
    let reserved = || Complaint::new(format!("{} is no {kind}: GitHub has those with `__` for itself", quoted(id)));
    id_complaint(kind, id).or_else(|| id.starts_with("__").then(reserved))
}

/// `env` of the workflow, of a job or of a step.
pub(super) fn env(item: &Item<'_>, scope: &Scope<'_>) -> Variables {
    let mut variables = Vec::new();
    for field in item.fields().unwrap_or_default() {
        if field.key.is_empty() || field.key.contains(['=', '\0']) {
            field.refuse_key(format!("{} is no name of a variable", quoted(field.key)));
            continue;
        }
        if is_reserved(field.key) {
            let complaint = Complaint::new(format!("{} keeps its standard value", quoted(field.key)));
            field.warn_key(complaint.hint("every step has it from the runner; another name is free"));
        }
        if let Some(value) = template(&field.value, scope) {
            variables.push((field.key.to_owned(), value));
        }
    }
    variables
}

/// `defaults` of the workflow or of a job.
pub(super) fn run_defaults(item: &Item<'_>, scope: &Scope<'_>) -> Option<RunDefaults> {
    let run = item.table(&["run"])?.get("run")?.table(&["shell", "working-directory"])?;
    let is_computed = run.get("shell").is_some_and(|item| is_expression(&item));
    Some(RunDefaults {
        shell: if is_computed { None } else { run.read("shell", shell) },
        computed_shell: if is_computed { run.read("shell", |item| template(item, scope)) } else { None },
        working_directory: run.read("working-directory", |item| non_empty_template(item, scope)),
    })
}

/// `shell` of a step or of the defaults.
pub(super) fn shell(item: &Item<'_>) -> Option<Shell> {
    let read = Shell::parse(item.non_empty_string()?);
    read.map_err(|none| match none {
        NoShell::OfWindows(complaint) => item.unsupported(complaint),
        NoShell::Wrong(complaint) => item.refuse(complaint),
    })
    .ok()
}

/// `permissions`.
pub(super) fn permissions(item: &Item<'_>) -> Option<Permissions> {
    if let Yaml::String(_) = item.node().value {
        return item
            .one_of(&[("read-all", Permissions::All(Access::Read)), ("write-all", Permissions::All(Access::Write))]);
    }
    let fields = item.fields()?;
    let each = fields.iter().filter_map(|field| Some((field.key.to_owned(), access(field)?)));
    Some(Permissions::Each(each.collect()))
}

fn access(field: &Field<'_>) -> Option<Access> {
    const READ: (&str, Access) = ("read", Access::Read);
    const WRITE: (&str, Access) = ("write", Access::Write);
    const NONE: (&str, Access) = ("none", Access::None);
    match field.key {
        name if permission::WRITE_OR_NONE.contains(&name) => field.value.one_of(&[WRITE, NONE]),
        name if permission::READ_OR_NONE.contains(&name) => field.value.one_of(&[READ, NONE]),
        name if permission::NAMES.contains(&name) => field.value.one_of(&[READ, WRITE, NONE]),
        name => {
            let complaint = Complaint::new(format!("there is no permission {}", quoted(name)));
            field.refuse_key(complaint.suggest(name, permission::NAMES.iter().copied()));
            None
        }
    }
}

/// `concurrency`: a group, alone or with more.
pub(super) fn concurrency(item: &Item<'_>, scope: &Scope<'_>) -> Option<Concurrency> {
    if !matches!(item.node().value, Yaml::Mapping(_)) {
        let group = non_empty_template(item, scope)?;
        return Some(Concurrency { group, cancel_in_progress: Setting::Fixed(false), queue: Queue::Single });
    }
    let table = item.table(&["group", "cancel-in-progress", "queue"])?;
    let cancel_in_progress = table.read("cancel-in-progress", |item| setting(item, scope, Item::bool));
    let queue = table.read("queue", |item| item.one_of(&[("single", Queue::Single), ("max", Queue::Max)]));
    let cancels = cancel_in_progress == Some(Setting::Fixed(true));
    if let (true, Some(Queue::Max), Some(field)) = (cancels, queue, table.field("queue")) {
        let complaint = Complaint::new("a run that cancels those in progress has nothing to queue behind");
        field.refuse_key(complaint.hint("`queue: max` and `cancel-in-progress: true` exclude each other"));
    }
    Some(Concurrency {
        cancel_in_progress: cancel_in_progress.unwrap_or(Setting::Fixed(false)),
        queue: queue.unwrap_or_default(),
        group: table.required("group").and_then(|item| non_empty_template(&item, scope))?,
    })
}

/// A tree of values, as a matrix is.
pub(super) fn data(item: &Item<'_>, scope: &Scope<'_>) -> Option<Data> {
    Some(match &item.node().value {
        Yaml::Null => Data::Value(Value::Null),
        Yaml::Bool(value) => Data::Value(Value::Bool(*value)),
        Yaml::Integer(_) => Data::Value(Value::Number(item.number()?)),
        Yaml::Float(value) if value.is_finite() => Data::Value(Value::Number(*value)),
        Yaml::Float(value) => {
            item.refuse(format!("`{value}` is not a number that a matrix can have"));
            return None;
        }
        Yaml::String(text) if !text.contains(EXPRESSION) => Data::Value(Value::from(text.as_str())),
        Yaml::String(_) => Data::Template(template(item, scope)?),
        Yaml::Sequence(_) => {
            let items: Vec<Option<Data>> = item.list()?.iter().map(|item| data(item, scope)).collect();
            Data::Array(items.into_iter().collect::<Option<_>>()?)
        }
        Yaml::Mapping(_) => {
            let read = |field: &Field<'_>| Some((field.key.to_owned(), data(&field.value, scope)?));
            let members: Vec<Option<(String, Data)>> = item.fields()?.iter().map(read).collect();
            Data::Object(members.into_iter().collect::<Option<_>>()?)
        }
    })
}
