//! One step of a job.

use super::{checkout, fields, native};
use crate::document::reader::quoted;
use crate::document::{Complaint, Item, Table};
use crate::workflow::action::{ActionRef, RemoteAction};
use crate::workflow::model::{Action, Step, Variables};
use crate::workflow::native::NativeKind;
use crate::workflow::scopes;
use crate::workflow::setting::Setting;

/// Keys of a step that does something.
pub(super) const KEYS: &[&str] = &[
    "id",
    "name",
    "if",
    "run",
    "shell",
    "working-directory",
    "env",
    "continue-on-error",
    "timeout-minutes",
    "uses",
    "with",
];

/// Reads a step. `ids` are those of the steps before it.
pub(super) fn step(item: &Item<'_>, ids: &mut Vec<String>) -> Option<Step> {
    of_table(&item.table(KEYS)?, ids)
}

/// Reads a step from a mapping with at least [`KEYS`].
pub(super) fn of_table(table: &Table<'_>, ids: &mut Vec<String>) -> Option<Step> {
    let scope = &scopes::STEP;
    let action = action(table);
    Some(Step {
        position: table.item().position(),
        id: table.read("id", |item| id(item, ids)),
        name: table.read("name", |item| fields::template(item, scope)),
        condition: table.read("if", |item| fields::condition(item, &scopes::STEP_CONDITION)).unwrap_or_default(),
        env: table.read_or("env", Vec::new(), |item| Some(fields::env(item, scope))),
        continue_on_error: tolerance(table),
        timeout_minutes: table.read("timeout-minutes", |item| fields::step_timeout(item, scope)),
        background: false,
        action: action?,
    })
}

pub(super) fn tolerance(table: &Table<'_>) -> Setting<bool> {
    table
        .read("continue-on-error", |item| fields::setting(item, &scopes::STEP, Item::bool))
        .unwrap_or(Setting::Fixed(false))
}

/// The id of a step, which becomes one of `ids`.
pub(super) fn id(item: &Item<'_>, ids: &mut Vec<String>) -> Option<String> {
    let id = item.string()?;
    if let Some(complaint) = fields::own_id_complaint("step id", id) {
        item.refuse(complaint);
        return None;
    }
    // Expressions look ids up without regard to letter case.
    if ids.iter().any(|other| other.eq_ignore_ascii_case(id)) {
        item.refuse(
            Complaint::new(format!("an earlier step has the id {}", quoted(id))).hint("ids ignore letter case"),
        );
    }
    ids.push(id.to_owned());
    Some(id.to_owned())
}

fn action(table: &Table<'_>) -> Option<Action> {
    match (table.get("run"), table.field("uses")) {
        (Some(_), Some(field)) => {
            field.refuse_key("a step has either `run` or `uses`, not both");
            None
        }
        (None, None) => {
            table
                .item()
                .refuse(Complaint::new("a step needs `run` or `uses`").hint("`run` has the commands of the step"));
            None
        }
        (Some(run), None) => {
            if let Some(field) = table.field("with") {
                field.refuse_key(Complaint::new("`with` belongs to `uses`").hint("give values to a script by `env`"));
            }
            let shell = table.read("shell", fields::shell);
            let working_directory =
                table.read("working-directory", |item| fields::non_empty_template(item, &scopes::STEP));
            let script = fields::template(&run, &scopes::STEP)?;
            Some(Action::Run { script, shell, working_directory })
        }
        (None, Some(field)) => {
            for key in ["shell", "working-directory"] {
                if let Some(field) = table.field(key) {
                    field.refuse_key(format!("`{key}` belongs to `run`"));
                }
            }
            uses(&field.value, table)
        }
    }
}

fn uses(item: &Item<'_>, table: &Table<'_>) -> Option<Action> {
    let uses = item.non_empty_string()?.trim();
    let with = table.get("with");
    let reference = item.parse(ActionRef::parse)?;
    let is_checkout = |remote: &RemoteAction| remote.name().eq_ignore_ascii_case("actions/checkout");
    if reference.remote().is_some_and(is_checkout) {
        return checkout::checkout(uses, with.as_ref()).map(|checkout| Action::Checkout(Box::new(checkout)));
    }
    let kind = reference.remote().and_then(|remote| NativeKind::of(&remote.name()));
    if let Some(kind) = kind {
        return native::native(kind, item, with.as_ref()).map(Action::Native);
    }
    Some(Action::Uses { reference, with: with.map(|with| inputs(&with)).unwrap_or_default() })
}

/// What a step gives to its action.
fn inputs(with: &Item<'_>) -> Variables {
    let mut inputs: Variables = Vec::new();
    for field in with.fields().unwrap_or_default() {
        if field.key.is_empty() || field.key.contains(['=', '\0']) {
            field.refuse_key(format!("{} is no name of an input", quoted(field.key)));
        }
        inputs.extend(fields::template(&field.value, &scopes::STEP).map(|value| (field.key.to_owned(), value)));
    }
    inputs
}
