//! The inputs of actions that Dayfly does itself.

use super::fields;
use crate::document::reader::quoted;
use crate::document::{Complaint, Item, Value as Yaml};
use crate::workflow::native::{Native, NativeKind};
use crate::workflow::scopes;

/// Reads the inputs under `with`, if there are any.
pub(super) fn native(kind: NativeKind, uses: &Item<'_>, with: Option<&Item<'_>>) -> Option<Native> {
    let mut native = Native { uses: uses.non_empty_string()?.trim().to_owned(), kind, with: Vec::new() };
    let fields = match with {
        Some(with) => with.fields()?,
        None => Vec::new(),
    };
    for field in fields {
        let is_called = |known: &&&str| field.key.eq_ignore_ascii_case(known);
        let template = fields::template(&field.value, &scopes::STEP);
        if let Some(name) = kind.inputs().iter().find(is_called) {
            native.with.extend(template.map(|template| ((*name).to_owned(), template)));
        } else if kind.unsupported().iter().any(|known| is_called(&known)) && !is_own(field.key, &field.value) {
            let complaint = Complaint::new(format!("the input {} is not supported yet", quoted(field.key)));
            field.unsupported_key(complaint.hint("artifacts are those of the job's own run"));
        } else if kind.ignored().iter().chain(kind.unsupported()).any(|known| is_called(&known)) {
            // What it is about does not matter here.
        } else {
            let complaint = Complaint::new(format!("{} is no input of this action", quoted(field.key)));
            field.warn_key(complaint.hint(format!("it has {}", kind.inputs().join(", "))));
        }
    }
    for required in kind.required() {
        if !native.with.iter().any(|(name, _)| name == required) {
            let complaint = Complaint::new(format!("the action needs the input `{required}`"));
            uses.refuse(complaint.hint(format!("add it under `with`, like `{required}: …`")));
        }
    }
    Some(native)
}

/// Whether the input asks for what there is anyway: the own run of the own repository.
fn is_own(key: &str, value: &Item<'_>) -> bool {
    let text = match &value.node().value {
        Yaml::Null => return true,
        Yaml::Bool(false) => return true,
        _ => value.scalar_text().unwrap_or_default(),
    };
    let inner = text.trim().strip_prefix("${{").and_then(|rest| rest.strip_suffix("}}")).map(str::trim);
    let own: &[&str] = match key.to_ascii_lowercase().as_str() {
        "run-id" => &["github.run_id"],
        "repository" => &["github.repository"],
        // A token alone changes nothing: with the own run it reads what is there.
        "github-token" => return true,
        _ => &[],
    };
    matches!(text.trim(), "" | "false") || inner.is_some_and(|inner| own.contains(&inner))
}
