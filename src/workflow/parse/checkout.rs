//! `actions/checkout` and its inputs.
//!
//! Without `ref` and `repository` a job gets the pinned commit of its own repository, and never a credential. What names the
//! event's own commit in one of the ways in which people write it means the pinned one; that is decided when the step runs.

use super::fields;
use crate::document::reader::quoted;
use crate::document::{Complaint, Field, Item};
use crate::forge::RepoName;
use crate::workflow::expression::Template;
use crate::workflow::model::Checkout;
use crate::workflow::scopes;

/// Expressions for `ref` that name the pinned commit: as good as none.
const PINNED: &[&str] = &["github.sha", "github.event.pull_request.head.sha", "github.event.after"];

/// Expressions for `ref` that name what the pinned commit was the tip of.
const MOVING: &[&str] = &[
    "github.ref",
    "github.ref_name",
    "github.head_ref",
    "github.event.pull_request.head.ref",
    "github.head_ref || github.ref",
];

/// Expressions for `repository` that name the repository of the commit.
const OWN: &[&str] = &["github.repository", "github.event.pull_request.head.repo.full_name"];

/// Inputs that are heeded.
const HEEDED: &[&str] = &[
    "path",
    "fetch-depth",
    "fetch-tags",
    "clean",
    "submodules",
    "ref",
    "repository",
    "filter",
    "sparse-checkout",
    "sparse-checkout-cone-mode",
    "lfs",
];

/// Inputs that say nothing here: no credential is in the VM, so there is none to keep, and files are owned by who runs the job.
const WITHOUT_EFFECT: &[&str] = &["persist-credentials", "set-safe-directory", "show-progress"];

/// Inputs for a machine that fetches by itself.
const CREDENTIALS: &[&str] = &["token", "ssh-key", "ssh-known-hosts", "ssh-strict", "ssh-user", "github-server-url"];

/// Reads the inputs under `with`, if there are any.
pub(super) fn checkout(uses: &str, with: Option<&Item<'_>>) -> Option<Checkout> {
    let mut checkout = Checkout { uses: uses.to_owned(), ..Checkout::default() };
    for field in with.map_or_else(|| Some(Vec::new()), Item::fields)? {
        input(&mut checkout, &field);
    }
    Some(checkout)
}

fn input(checkout: &mut Checkout, field: &Field<'_>) {
    let item = &field.value;
    match field.key.to_ascii_lowercase().as_str() {
        "path" => checkout.path = text(item),
        "fetch-depth" => checkout.fetch_depth = checked(item, "a whole number", |text| text.parse::<u32>().is_ok()),
        "fetch-tags" => checkout.fetch_tags = flag(item),
        "clean" => checkout.clean = flag(item),
        "submodules" => checkout.submodules = checked(item, "`true`, `false` or `recursive`", is_submodules),
        "ref" => checkout.reference = reference(item),
        "repository" => checkout.repository = repository(item),
        "filter" => checkout.filter = text(item),
        "sparse-checkout" => checkout.sparse = text(item),
        "sparse-checkout-cone-mode" => checkout.sparse_cone = flag(item),
        "lfs" => checkout.lfs = flag(item),
        key if WITHOUT_EFFECT.contains(&key) => drop(text(item)),
        key if CREDENTIALS.contains(&key) => {
            let complaint = Complaint::new(format!("`{}` is ignored", field.key));
            field.warn_key(complaint.hint("the checkout needs no credential: the host fetches the commit for the job"));
        }
        _ => {
            let complaint = Complaint::new(format!("{} is no input of this action", quoted(field.key)));
            field.warn_key(complaint.suggest(field.key, [HEEDED, WITHOUT_EFFECT, CREDENTIALS].concat()));
        }
    }
}

fn is_submodules(text: &str) -> bool {
    ["true", "false", "recursive"].iter().any(|known| known.eq_ignore_ascii_case(text))
}

fn flag(item: &Item<'_>) -> Option<Template> {
    checked(item, "`true` or `false`", |text| ["true", "false"].iter().any(|known| known.eq_ignore_ascii_case(text)))
}

/// A text that is something else than `expected` has its author warned; as on GitHub it is not refused.
fn checked(item: &Item<'_>, expected: &str, is_one: fn(&str) -> bool) -> Option<Template> {
    let template = text(item)?;
    let odd = template.as_literal().map(str::trim).filter(|text| !text.is_empty() && !is_one(text));
    if let Some(odd) = odd {
        item.warn(format!("{} is not {expected}", quoted(odd)));
    }
    Some(template)
}

/// What stands between `${{` and `}}`, if the text is nothing else.
fn expression(text: &str) -> Option<&str> {
    Some(text.trim().strip_prefix("${{")?.strip_suffix("}}")?.trim())
}

fn text(item: &Item<'_>) -> Option<Template> {
    if item.is_null() { None } else { fields::template(item, &scopes::STEP) }
}

fn reference(item: &Item<'_>) -> Option<Template> {
    let written = item.scalar_text().unwrap_or_default();
    if expression(&written).is_some_and(|source| PINNED.contains(&source)) {
        return None;
    }
    if expression(&written).is_some_and(|source| MOVING.contains(&source)) {
        let complaint =
            Complaint::new(format!("instead of the tip of {} the pinned commit is checked out", quoted(&written)));
        item.warn(complaint.hint("leave `ref` out"));
        return None;
    }
    text(item)
}

fn repository(item: &Item<'_>) -> Option<Template> {
    let written = item.scalar_text().unwrap_or_default();
    if expression(&written).is_some_and(|source| OWN.contains(&source)) {
        return None;
    }
    if !written.trim().is_empty() && !written.contains("${{") {
        item.parse(|name| RepoName::parse_path(name.trim()))?;
    }
    text(item)
}
