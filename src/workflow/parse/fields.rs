//! Readers of values that stand in several places of a workflow.

use crate::document::reader::quoted;
use crate::document::{Complaint, Item, Value as Yaml};
use crate::workflow::contexts::is_reserved;
use crate::workflow::expression::{Expression, ExpressionError, Scope, Template, Value};
use crate::workflow::model::{Access, Concurrency, MAX_TIMEOUT_MINUTES, Permissions, RunDefaults, Shell, Variables};
use crate::workflow::scopes;
use crate::workflow::setting::{Condition, Data, Setting};

/// Characters of an id.
const MAX_ID: usize = 100;

const EXPRESSION: &str = "${{";

fn complaint(error: ExpressionError) -> Complaint {
    let complaint = Complaint::new(error.to_string());
    match error.hint {
        Some(hint) => complaint.hint(hint),
        None => complaint,
    }
}

/// Text that may have expressions in it.
pub(super) fn template(item: &Item<'_>, scope: &Scope<'_>) -> Option<Template> {
    Template::parse(&item.scalar_text()?, scope).map_err(|error| item.refuse(complaint(error))).ok()
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
    let Yaml::String(text) = &item.node().value else { return None };
    if !text.contains(EXPRESSION) {
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

/// `timeout-minutes`.
pub(super) fn timeout(item: &Item<'_>, scope: &Scope<'_>) -> Option<Setting<f64>> {
    setting(item, scope, |item| {
        let minutes = item.number()?;
        if minutes > 0.0 && minutes <= MAX_TIMEOUT_MINUTES {
            return Some(minutes);
        }
        item.refuse(format!("`{minutes}` is not more than 0 and at most {MAX_TIMEOUT_MINUTES} minutes"));
        None
    })
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
        return expression.map(Condition::new).map_err(|error| item.refuse(complaint(error.within(text)))).ok();
    }
    let template = Template::parse(text, scope).map_err(|error| item.refuse(complaint(error))).ok()?;
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

/// `env` of the workflow, of a job or of a step.
pub(super) fn env(item: &Item<'_>, scope: &Scope<'_>) -> Variables {
    if item.is_null() {
        return Vec::new();
    }
    let mut variables = Vec::new();
    for field in item.fields().unwrap_or_default() {
        if field.key.is_empty() || field.key.contains(['=', '\0']) {
            field.refuse_key(format!("{} is no name of a variable", quoted(field.key)));
            continue;
        }
        if is_reserved(field.key) {
            let complaint = Complaint::new(format!("{} keeps its standard value", quoted(field.key)));
            field.warn_key(complaint.hint("variables of the workflow should not begin with `GITHUB_` or `RUNNER_`"));
        }
        if let Some(value) = template(&field.value, scope) {
            variables.push((field.key.to_owned(), value));
        }
    }
    variables
}

/// `defaults` of the workflow or of a job.
pub(super) fn run_defaults(item: &Item<'_>) -> Option<RunDefaults> {
    let run = item.table(&["run"])?.get("run")?.table(&["shell", "working-directory"])?;
    Some(RunDefaults {
        shell: run.read("shell", shell),
        working_directory: run.read("working-directory", |item| non_empty_template(item, &scopes::DEFAULTS)),
    })
}

/// `shell` of a step or of the defaults.
pub(super) fn shell(item: &Item<'_>) -> Option<Shell> {
    const LATER: &[&str] = &["pwsh", "powershell", "cmd", "node"];
    let text = item.string()?.trim();
    let complaint = match text {
        "bash" => return Some(Shell::Bash),
        "sh" => return Some(Shell::Sh),
        "python" => return Some(Shell::Python),
        text if LATER.contains(&text) => Complaint::new(format!("the shell `{text}` is not supported yet")),
        text if text.contains("{0}") => Complaint::new("shells with a command line of their own are not supported yet"),
        text if text.contains(EXPRESSION) => Complaint::new("the shell cannot be computed"),
        text => Complaint::new(format!("the shell {} is not known", quoted(text))),
    };
    item.refuse(complaint.hint("shells: `bash`, `sh`, `python`"));
    None
}

/// `permissions`.
pub(super) fn permissions(item: &Item<'_>) -> Option<Permissions> {
    if let Yaml::String(_) = item.node().value {
        return item
            .one_of(&[("read-all", Permissions::All(Access::Read)), ("write-all", Permissions::All(Access::Write))]);
    }
    let access = [("read", Access::Read), ("write", Access::Write), ("none", Access::None)];
    let fields = item.fields()?;
    let each = fields.iter().filter_map(|field| Some((field.key.to_owned(), field.value.one_of(&access)?)));
    Some(Permissions::Each(each.collect()))
}

/// `concurrency`: a group, alone or with more.
pub(super) fn concurrency(item: &Item<'_>, scope: &Scope<'_>) -> Option<Concurrency> {
    if !matches!(item.node().value, Yaml::Mapping(_)) {
        let group = non_empty_template(item, scope)?;
        return Some(Concurrency { group, cancel_in_progress: Setting::Fixed(false) });
    }
    let table = item.table(&["group", "cancel-in-progress", "queue"])?;
    super::refuse_later(&table, &[("queue", "at most one run of a group waits")]);
    Some(Concurrency {
        cancel_in_progress: table
            .read("cancel-in-progress", |item| setting(item, scope, Item::bool))
            .unwrap_or(Setting::Fixed(false)),
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
            let read = |field: &crate::document::Field<'_>| Some((field.key.to_owned(), data(&field.value, scope)?));
            let members: Vec<Option<(String, Data)>> = item.fields()?.iter().map(read).collect();
            Data::Object(members.into_iter().collect::<Option<_>>()?)
        }
    })
}
