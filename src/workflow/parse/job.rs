//! One job under `jobs`.

use super::{call, container, fields, steering, unsupported_keys};
use crate::document::{Complaint, Field, Item, Table, Value as Yaml};
use crate::workflow::expression::Environment;
use crate::workflow::expression::Object;
use crate::workflow::matrix;
use crate::workflow::model::{DeploymentEnvironment, Job, RunsOn, Step, Strategy, Variables};
use crate::workflow::scopes;
use crate::workflow::setting::Setting;

const JOB_KEYS: &[&str] = &[
    "name",
    "runs-on",
    "needs",
    "if",
    "env",
    "defaults",
    "outputs",
    "steps",
    "timeout-minutes",
    "cancel-timeout-minutes",
    "continue-on-error",
    "strategy",
    "permissions",
    "concurrency",
    "environment",
    "services",
    "container",
    "uses",
    "with",
    "secrets",
    "snapshot",
];

const LATER: &[(&str, &str)] = &[("snapshot", "images are described by the operator")];

pub(super) fn job(field: &Field<'_>) -> Option<Job> {
    if let Some(complaint) = fields::own_id_complaint("job id", field.key) {
        field.refuse_key(complaint);
    }
    let table = field.value.table(JOB_KEYS)?;
    unsupported_keys(&table, LATER);
    let is_call = table.get("uses").is_some();
    let call = call::call(&table);
    let (runs_on, steps) = if is_call { (Some(RunsOn::default()), Some(Vec::new())) } else { machine(&table) };
    let scope = &scopes::JOB;
    let job = Job {
        id: field.key.to_owned(),
        position: field.key_position(),
        name: table.read("name", |item| fields::template(item, &scopes::JOB)),
        needs: table.read_or("needs", Vec::new(), needs),
        condition: table.read("if", |item| fields::condition(item, &scopes::JOB_CONDITION)).unwrap_or_default(),
        env: table.read_or("env", Vec::new(), |item| Some(fields::env(item, &scopes::JOB_ENV))),
        defaults: table.read("defaults", |item| fields::run_defaults(item, &scopes::DEFAULTS)).unwrap_or_default(),
        outputs: table.read_or("outputs", Vec::new(), outputs),
        timeout_minutes: table.read("timeout-minutes", |item| fields::timeout(item, scope)),
        cancel_timeout_minutes: table.read("cancel-timeout-minutes", |item| fields::timeout(item, scope)),
        continue_on_error: tolerance(&table),
        strategy: table.read("strategy", strategy).unwrap_or_default(),
        permissions: table.read("permissions", fields::permissions),
        concurrency: table.read("concurrency", |item| fields::concurrency(item, scope)),
        environment: table.read("environment", environment).flatten(),
        container: table.read("container", container::container),
        services: table.read("services", container::services),
        runs_on: runs_on?,
        steps: steps?,
        call,
    };
    (job.call.is_some() == is_call).then_some(job)
}

/// `runs-on` and `steps` of a job that is no call. `with` and `secrets` belong to calls.
fn machine(table: &Table<'_>) -> (Option<RunsOn>, Option<Vec<Step>>) {
    for key in ["with", "secrets"] {
        if let Some(field) = table.field(key) {
            field.refuse_key(Complaint::new(format!("`{key}` belongs to jobs with `uses`")));
        }
    }
    let runs_on = table.required("runs-on").and_then(|item| runs_on(&item));
    (runs_on, table.required("steps").and_then(|item| steps(&item)))
}

fn tolerance(table: &Table<'_>) -> Setting<bool> {
    table
        .read("continue-on-error", |item| fields::setting(item, &scopes::JOB, Item::bool))
        .unwrap_or(Setting::Fixed(false))
}

fn runs_on(item: &Item<'_>) -> Option<RunsOn> {
    let labels_of = |item: &Item<'_>| {
        let labels: Vec<_> = item.one_or_list();
        if labels.is_empty() {
            item.refuse(Complaint::new("there is no label").hint("write the label of a profile, such as `linux`"));
        }
        labels.iter().filter_map(|item| fields::non_empty_template(item, &scopes::JOB)).collect()
    };
    if !matches!(item.node().value, Yaml::Mapping(_)) {
        return Some(RunsOn { labels: labels_of(item), group: None });
    }
    let table = item.table(&["group", "labels"])?;
    let group = table.read("group", |item| fields::non_empty_template(item, &scopes::JOB));
    let labels = table.get("labels").map(|item| labels_of(&item)).unwrap_or_default();
    if table.get("group").is_none() && table.get("labels").is_none() {
        item.refuse("either `labels` or `group` must say where the job runs");
    }
    Some(RunsOn { labels, group })
}

fn outputs(item: &Item<'_>) -> Option<Variables> {
    let mut outputs = Vec::new();
    for field in item.fields()? {
        if let Some(complaint) = fields::id_complaint("name of an output", field.key) {
            field.refuse_key(complaint);
        }
        if let Some(value) = fields::template(&field.value, &scopes::OUTPUTS) {
            outputs.push((field.key.to_owned(), value));
        }
    }
    Some(outputs)
}

/// Each once, however often it is named.
fn needs(item: &Item<'_>) -> Option<Vec<String>> {
    let mut needs = Vec::new();
    for id in item.string_or_list()? {
        if !needs.contains(&id) {
            needs.push(id);
        }
    }
    Some(needs)
}

/// An empty name is no environment.
fn environment(item: &Item<'_>) -> Option<Option<DeploymentEnvironment>> {
    if !matches!(item.node().value, Yaml::Mapping(_)) {
        let name = fields::template(item, &scopes::JOB)?;
        let is_empty = name.as_literal().is_some_and(|name| name.trim().is_empty());
        return Some((!is_empty).then_some(DeploymentEnvironment { name, url: None }));
    }
    let table = item.table(&["name", "url", "deployment"])?;
    drop(table.read("deployment", |item| fields::setting(item, &scopes::JOB, Item::bool)));
    Some(Some(DeploymentEnvironment {
        url: table.read("url", |item| fields::template(item, &scopes::ENVIRONMENT_URL)),
        name: table.required("name").and_then(|item| fields::non_empty_template(&item, &scopes::JOB))?,
    }))
}

fn strategy(item: &Item<'_>) -> Option<Strategy> {
    let table = item.table(&["matrix", "fail-fast", "max-parallel"])?;
    let scope = &scopes::STRATEGY;
    let matrix = table.read("matrix", |item| fields::data(item, scope));
    if let (Some(matrix), Some(item)) = (matrix.as_ref().filter(|matrix| matrix.is_static()), table.get("matrix")) {
        let value = matrix.resolve(&Environment::new(&Object::default()));
        if let Some(complaint) = value.ok().and_then(|value| matrix::cells(&value).err()) {
            item.refuse(complaint);
        }
    }
    Some(Strategy {
        matrix,
        fail_fast: table
            .read("fail-fast", |item| fields::setting(item, scope, Item::bool))
            .unwrap_or(Setting::Fixed(true)),
        max_parallel: table
            .read("max-parallel", |item| fields::setting(item, scope, |item| item.integer_in(1..=u32::MAX))),
    })
}

fn steps(item: &Item<'_>) -> Option<Vec<Step>> {
    let items = item.list()?;
    if items.is_empty() {
        item.refuse("a job needs at least one step");
    }
    steering::steps(item, &items)
}
