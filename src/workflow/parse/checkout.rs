//! `actions/checkout` and its inputs.
//!
//! A job gets the pinned commit of its own repository and no credential. Inputs that ask for exactly that are accepted in
//! the ways in which people write them; inputs that ask for another commit or repository are not supported, because to ignore
//! them would run the wrong code.

use super::fields;
use crate::document::reader::quoted;
use crate::document::{Complaint, Field, Item, Value as Yaml};
use crate::workflow::model::{Checkout, Submodules};
use crate::workflow::scopes;
use crate::workflow::setting::Setting;

/// Expressions for `ref` that name the pinned commit.
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
        "ref" => commit(item),
        "repository" => repository(item),
        "lfs" => set(&mut checkout.lfs, fields::setting(item, scope, flag)),
        // No credential is in the VM, so there is none to keep, and files are owned by who runs the job.
        "persist-credentials" | "set-safe-directory" | "show-progress" => drop(fields::setting(item, scope, flag)),
        "token" | "ssh-key" | "ssh-known-hosts" | "ssh-strict" | "ssh-user" | "github-server-url" => {
            let complaint = Complaint::new(format!("`{}` is ignored", field.key));
            field.warn_key(complaint.hint("the checkout needs no credential: the host fetches the commit for the job"));
        }
        "filter" | "sparse-checkout" | "sparse-checkout-cone-mode" => {
            unsupported(field, "use `fetch-depth` to fetch less");
        }
        _ => {}
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn unsupported(field: &Field<'_>, hint: &str) {
    field.unsupported_key(Complaint::new(format!("`{}` of the checkout is not supported yet", field.key)).hint(hint));
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

fn commit(item: &Item<'_>) {
    let Some(text) = item.scalar_text().filter(|text| !text.trim().is_empty()) else { return };
    match expression(&text) {
        Some(source) if PINNED.contains(&source) => {}
        Some(source) if MOVING.contains(&source) => {
            let complaint =
                Complaint::new(format!("instead of the tip of {} the pinned commit is checked out", quoted(&text)));
            item.warn(complaint.hint("leave `ref` out"));
        }
        _ => {
            let complaint = Complaint::new(format!("only the pinned commit can be checked out, not {}", quoted(&text)));
            item.unsupported(complaint.hint("leave `ref` out"));
        }
    }
}

fn repository(item: &Item<'_>) {
    let Some(text) = item.scalar_text() else { return };
    if !expression(&text).is_some_and(|source| OWN.contains(&source)) {
        let complaint =
            Complaint::new(format!("only the job's own repository can be checked out, not {}", quoted(&text)));
        item.unsupported(complaint.hint("leave `repository` out"));
    }
}
