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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    /// What is said of a step, one line for each complaint.
    fn said(step: &str) -> String {
        let text = format!("on: push\njobs:\n  a:\n    runs-on: linux\n    steps:\n      - {step}\n");
        match crate::workflow::parse("ci.yml", &text) {
            Ok(_) => String::new(),
            Err(complaints) => complaints.iter().map(|one| format!("{one}\n")).collect(),
        }
    }

    #[test]
    fn inputs_are_those_of_the_actions() {
        for fine in [
            "{uses: actions/cache@v4, with: {path: a, key: k, restore-keys: 'k-', upload-chunk-size: 1}}",
            "{uses: Actions/Upload-Artifact@v4, with: {path: a, Retention-Days: 5}}",
            "{uses: actions/download-artifact@v5}",
            "{uses: actions/download-artifact@v4, with: {run-id: '${{ github.run_id }}', repository: ''}}",
            "{uses: actions/cache/restore@v4, with: {path: '${{ env.A }}', key: \"${{ hashFiles('x') }}\"}}",
        ] {
            assert_eq!(said(fine), "", "{fine}");
        }
        for (wrong, words) in [
            ("{uses: actions/cache@v4, with: {path: a}}", "needs the input `key`"),
            ("{uses: actions/cache@v4}", "needs the input `path`"),
            ("{uses: actions/upload-artifact@v4, with: {name: a}}", "needs the input `path`"),
            ("{uses: actions/download-artifact@v4, with: {run-id: 7}}", "is not supported yet"),
            ("{uses: actions/cache@v4, with: {path: a, key: '${{ nothing.a }}'}}", "nothing"),
        ] {
            assert!(said(wrong).contains(words), "{wrong}: {}", said(wrong));
        }
    }
}
