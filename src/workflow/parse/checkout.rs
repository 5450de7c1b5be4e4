//! `actions/checkout` and its inputs.
//!
//! Without `ref` and `repository` a job gets the pinned commit of its own repository, and never a credential. What names the
//! event's own commit in one of the ways in which people write it means the pinned one; that is decided when the step runs.

use super::fields;
use crate::document::reader::quoted;
use crate::document::{Complaint, Field, Item, Value as Yaml};
use crate::forge::RepoName;
use crate::workflow::expression::Template;
use crate::workflow::model::{Checkout, Submodules};
use crate::workflow::scopes;
use crate::workflow::setting::Setting;

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

const KNOWN: &[&str] = &[
    "repository",
    "ref",
    "fetch-depth",
    "path",
    "submodules",
    "clean",
    "persist-credentials",
    "lfs",
    "token",
    "ssh-key",
    "ssh-known-hosts",
    "ssh-strict",
    "ssh-user",
    "filter",
    "sparse-checkout",
    "sparse-checkout-cone-mode",
    "fetch-tags",
    "show-progress",
    "set-safe-directory",
    "github-server-url",
];

/// Reads the inputs under `with`, if there are any.
pub(super) fn checkout(uses: &str, with: Option<&Item<'_>>) -> Option<Checkout> {
    let mut checkout = Checkout {
        uses: uses.to_owned(),
        path: None,
        fetch_depth: Setting::Fixed(1),
        fetch_tags: Setting::Fixed(false),
        clean: Setting::Fixed(true),
        submodules: Submodules::None,
        lfs: Setting::Fixed(false),
        repository: None,
        reference: None,
        filter: None,
        sparse: None,
        sparse_cone: Setting::Fixed(true),
    };
    let Some(with) = with else { return Some(checkout) };
    // The table refuses what is no input at all.
    with.table(KNOWN)?;
    for field in with.fields()? {
        input(&mut checkout, &field);
    }
    Some(checkout)
}

fn input(checkout: &mut Checkout, field: &Field<'_>) {
    let (item, scope) = (&field.value, &scopes::STEP);
    match field.key {
        "path" => checkout.path = fields::non_empty_template(item, scope),
        "fetch-depth" => set(&mut checkout.fetch_depth, fields::setting(item, scope, depth)),
        "fetch-tags" => set(&mut checkout.fetch_tags, fields::setting(item, scope, flag)),
        "clean" => set(&mut checkout.clean, fields::setting(item, scope, flag)),
        "submodules" => set(&mut checkout.submodules, submodules(item)),
        "ref" => checkout.reference = reference(item),
        "repository" => checkout.repository = repository(item),
        "filter" => checkout.filter = text(item),
        "sparse-checkout" => checkout.sparse = text(item),
        "sparse-checkout-cone-mode" => set(&mut checkout.sparse_cone, fields::setting(item, scope, flag)),
        "lfs" => set(&mut checkout.lfs, fields::setting(item, scope, flag)),
        // No credential is in the VM, so there is none to keep, and files are owned by who runs the job.
        "persist-credentials" | "set-safe-directory" | "show-progress" => drop(fields::setting(item, scope, flag)),
        "token" | "ssh-key" | "ssh-known-hosts" | "ssh-strict" | "ssh-user" | "github-server-url" => {
            let complaint = Complaint::new(format!("`{}` is ignored", field.key));
            field.warn_key(complaint.hint("the checkout needs no credential: the host fetches the commit for the job"));
        }
        _ => {}
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// Inputs of actions are text: `'true'` is as good as `true`.
fn flag(item: &Item<'_>) -> Option<bool> {
    match &item.node().value {
        Yaml::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Yaml::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => item.bool(),
    }
}

fn depth(item: &Item<'_>) -> Option<u32> {
    match &item.node().value {
        Yaml::String(text) => {
            item.parse(|_| text.trim().parse().map_err(|_| format!("{} is no whole number", quoted(text))))
        }
        _ => item.integer_in(0..=u32::MAX),
    }
}

fn submodules(item: &Item<'_>) -> Option<Submodules> {
    match &item.node().value {
        Yaml::Bool(false) => Some(Submodules::None),
        Yaml::Bool(true) => Some(Submodules::Direct),
        Yaml::String(_) => item.one_of(&[
            ("true", Submodules::Direct),
            ("false", Submodules::None),
            ("recursive", Submodules::Recursive),
        ]),
        _ => {
            item.refuse_type("`true`, `false` or `recursive`");
            None
        }
    }
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
