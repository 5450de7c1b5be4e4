//! An `action.yml` to a [`Manifest`], with every mistake named at its place.
//!
//! Keys beside `runs` are free, as GitHub has it, since actions carry what other tools read; what stands in `runs` is not.

use super::{MAX_STEPS, fields, steering, step};
use crate::document::reader::quoted;
use crate::document::{Complaint, Diagnostic, Field, Item, Reader, Table, yaml};
use crate::workflow::action::manifest::{Docker, DockerImage, Hook, Input, Manifest, Node, Runs};
use crate::workflow::expression::{Expression, Template};
use crate::workflow::model::{Action, Step, Variables};
use crate::workflow::scopes;
use crate::workflow::setting::Condition;

/// Inputs of one action.
const MAX_INPUTS: usize = 1000;

/// Values for `runs.using` with a program, and the version of Node.js that each asks for.
const NODES: [(&str, u32); 4] = [("node24", 24), ("node20", 20), ("node16", 16), ("node12", 12)];

/// Contexts of workflows that actions do not have: what they need of them is given to them.
const NOT_IN_ACTIONS: [&str; 3] = ["secrets", "needs", "vars"];

/// Parses the `text` of `file`, an action's description. Warnings are part of the result.
///
/// # Errors
/// All mistakes and all that is not supported, in the order of the text.
pub fn action(file: &str, text: &str) -> Result<Manifest, Vec<Diagnostic>> {
    let document = yaml::read(file, text)?;
    let reader = Reader::new(file);
    let manifest = manifest(&reader.root(&document));
    let mut findings = reader.finish();
    findings.errors.append(&mut findings.unsupported);
    match manifest {
        Some(manifest) if findings.errors.is_empty() => Ok(Manifest { warnings: findings.warnings, ..manifest }),
        _ => {
            findings.errors.sort_by_key(|error| error.position);
            Err(findings.errors)
        }
    }
}

fn manifest(root: &Item<'_>) -> Option<Manifest> {
    let fields = root.fields()?;
    let get = |key: &str| fields.iter().find(|field| field.key == key).map(|field| &field.value);
    let present = |key: &str| get(key).filter(|item| !item.is_null());
    let inputs = present("inputs").map(inputs).unwrap_or_default();
    let Some(item) = get("runs") else {
        root.refuse(
            Complaint::new("missing key `runs`").hint("it says how the action runs: `runs: { using: composite, … }`"),
        );
        return None;
    };
    let runs = runs(item);
    let is_composite = matches!(runs, Some(Runs::Composite(_)));
    let outputs = present("outputs").map(|item| outputs(item, is_composite)).unwrap_or_default();
    Some(Manifest { name: get("name").and_then(Item::scalar_text), inputs, outputs, runs: runs?, warnings: Vec::new() })
}

fn inputs(item: &Item<'_>) -> Vec<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    let fields = item.fields().unwrap_or_default();
    if fields.len() > MAX_INPUTS {
        item.refuse(format!("an action has at most {MAX_INPUTS} inputs, this one has {}", fields.len()));
    }
    for field in fields.iter().take(MAX_INPUTS) {
        if inputs.iter().any(|other| other.name.eq_ignore_ascii_case(field.key)) {
            let complaint = Complaint::new(format!("there is an input {} already", quoted(field.key)));
            field.refuse_key(complaint.hint("names of inputs ignore letter case"));
            continue;
        }
        inputs.extend(input(field));
    }
    inputs
}

fn input(field: &Field<'_>) -> Option<Input> {
    let mut input = Input { name: field.key.to_owned(), required: false, default: None, deprecation: None };
    if field.key.is_empty() || field.key.contains(['=', '\0']) {
        field.refuse_key(format!("{} is no name of an input", quoted(field.key)));
        return None;
    }
    if field.value.is_null() {
        return Some(input);
    }
    for property in field.value.fields()? {
        let value = &property.value;
        match property.key {
            // Written as text by many: only `true` says anything.
            "required" => input.required = value.scalar_text().is_some_and(|text| text.eq_ignore_ascii_case("true")),
            "default" => input.default = fields::template(value, &scopes::ACTION_INPUT),
            "deprecationMessage" => input.deprecation = value.scalar_text().filter(|text| !text.trim().is_empty()),
            _ => {}
        }
    }
    Some(input)
}

fn outputs(item: &Item<'_>, is_composite: bool) -> Variables {
    let mut outputs = Vec::new();
    for field in item.fields().unwrap_or_default() {
        if field.value.is_null() {
            continue;
        }
        let properties = field.value.fields().unwrap_or_default();
        match properties.iter().find(|property| property.key == "value") {
            Some(value) if is_composite => {
                outputs.extend(
                    fields::template(&value.value, &scopes::ACTION_OUTPUT).map(|value| (field.key.to_owned(), value)),
                );
            }
            Some(value) => value.warn_key(
                Complaint::new("`value` has no meaning here").hint("only outputs of composite actions are computed"),
            ),
            None if is_composite => {
                field.refuse_key(Complaint::new(format!("the output {} has no `value`", quoted(field.key))).hint(
                    "an output of a composite action is computed from its steps: `value: ${{ steps.ID.outputs.NAME }}`",
                ))
            }
            None => {}
        }
    }
    outputs
}

fn runs(item: &Item<'_>) -> Option<Runs> {
    let fields = item.fields()?;
    let Some(using) = fields.iter().find(|field| field.key == "using") else {
        item.refuse(Complaint::new("missing key `using`").hint("one of `composite`, `node24`, `node20`, `docker`"));
        return None;
    };
    let name = using.value.non_empty_string()?.trim();
    if name.eq_ignore_ascii_case("composite") {
        return composite(&item.table(&["using", "steps"])?);
    }
    if name.eq_ignore_ascii_case("docker") {
        return docker(item);
    }
    let node = NODES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let Some((_, version)) = node else {
        let complaint = Complaint::new(format!("`using` is {}, which is not known", quoted(name)));
        using.value.refuse(complaint.hint("one of `node24`, `node20`, `node16`, `node12`, `composite` and `docker`"));
        return None;
    };
    let table = item.table(&["using", "main", "pre", "pre-if", "post", "post-if"])?;
    let main = table.required_hint("main", "the file that Node.js runs, such as `dist/index.js`");
    Some(Runs::Node(Node {
        version: *version,
        main: main.and_then(|main| program(&main))?,
        pre: hook(&table, "pre", "pre-if"),
        post: hook(&table, "post", "post-if"),
    }))
}

/// A path below the action's directory.
fn program(item: &Item<'_>) -> Option<String> {
    let path = item.non_empty_string()?.trim();
    if path.starts_with('/') || path.contains('\0') {
        let complaint = Complaint::new(format!("{} is no path in the action's directory", quoted(path)));
        item.refuse(complaint.hint("write it relative to the `action.yml`"));
        return None;
    }
    Some(path.strip_prefix("./").unwrap_or(path).to_owned())
}

/// `pre` or `post`, with its condition.
fn hook(table: &Table<'_>, key: &str, condition: &str) -> Option<Hook> {
    let condition = hook_condition(table, condition);
    let program = table.get(key).filter(|item| !item.is_null()).and_then(|item| program(&item))?;
    Some(Hook { program, condition })
}

/// A hook runs whatever became of the job, unless something else is written.
fn hook_condition(table: &Table<'_>, key: &str) -> Condition {
    let written = table.read(key, |item| fields::condition(item, &scopes::ACTION_HOOK));
    let always = || Condition::new(Expression::parse("always()", &scopes::ACTION_HOOK).expect("it is an expression"));
    written.filter(|condition| condition.source().is_some()).unwrap_or_else(always)
}

fn composite(table: &Table<'_>) -> Option<Runs> {
    let item = table.required("steps")?;
    let items = item.list()?;
    if items.len() > MAX_STEPS {
        item.refuse(format!("an action has at most {MAX_STEPS} steps, this one has {}", items.len()));
        return None;
    }
    let mut ids = Vec::new();
    let steps: Vec<Option<Step>> = items.iter().map(|item| composite_step(item, &mut ids)).collect();
    Some(Runs::Composite(steps.into_iter().collect::<Option<_>>()?))
}

/// A step as in a workflow, but it says its shell, and knows only what actions know.
fn composite_step(item: &Item<'_>, ids: &mut Vec<String>) -> Option<Step> {
    for field in item.fields()?.iter().filter(|field| field.key == "timeout-minutes") {
        field.refuse_key(
            Complaint::new("steps of actions have no `timeout-minutes`").hint("the step that uses the action has one"),
        );
    }
    let steers = |field: &&Field<'_>| field.key == "background" || steering::STEERING.contains(&field.key);
    if let Some(field) = item.fields()?.iter().find(steers) {
        let complaint = Complaint::new(format!("steps of actions have no `{}`", field.key));
        field.refuse_key(complaint.hint("the step that uses the action can run in the background as a whole"));
        return None;
    }
    let step = step::step(item, ids)?;
    if matches!(step.action, Action::Run { shell: None, .. }) {
        item.refuse(
            Complaint::new("missing key `shell`").hint("`run` of an action says its shell, such as `shell: bash`"),
        );
    }
    if let Some(context) = NOT_IN_ACTIONS.into_iter().find(|context| step.uses(&[context])) {
        let complaint = Complaint::new(format!("actions have no context `{context}`"));
        item.refuse(complaint.hint("give the value to the action as an input"));
    }
    Some(step)
}

fn docker(item: &Item<'_>) -> Option<Runs> {
    const KEYS: &[&str] =
        &["using", "image", "env", "args", "entrypoint", "pre-entrypoint", "pre-if", "post-entrypoint", "post-if"];
    let table = item.table(KEYS)?;
    let image = table.required_hint("image", "`Dockerfile`, or `docker://` and the name of an image");
    let scope = &scopes::ACTION_CONTAINER;
    let args = |item: &Item<'_>| -> Option<Vec<Template>> {
        Some(item.list()?.iter().filter_map(|item| fields::template(item, scope)).collect())
    };
    Some(Runs::Docker(Docker {
        image: image.and_then(|item| docker_image(&item))?,
        env: table.read_or("env", Vec::new(), |item| Some(fields::env(item, scope))),
        args: table.get("args").filter(|item| !item.is_null()).and_then(|item| args(&item)).unwrap_or_default(),
        entrypoint: table.read("entrypoint", |item| item.non_empty_string().map(str::to_owned)),
        pre: container_hook(&table, "pre-entrypoint", "pre-if"),
        post: container_hook(&table, "post-entrypoint", "post-if"),
    }))
}

fn docker_image(item: &Item<'_>) -> Option<DockerImage> {
    let text = item.non_empty_string()?.trim();
    match text.strip_prefix("docker://") {
        Some(image) if image.is_empty() || image.starts_with('-') || image.contains(char::is_whitespace) => {
            item.refuse(format!("{} names no image", quoted(text)));
            None
        }
        Some(image) => Some(DockerImage::Registry(image.to_owned())),
        None => program(item).map(DockerImage::File),
    }
}

/// As [`hook`], for a program of the image, which may stand anywhere.
fn container_hook(table: &Table<'_>, key: &str, condition: &str) -> Option<Hook> {
    let condition = hook_condition(table, condition);
    let program = table.read(key, |item| item.non_empty_string().map(str::to_owned))?;
    Some(Hook { program, condition })
}
