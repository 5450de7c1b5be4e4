//! `container` and `services` of a job: read for their mistakes only, since neither is supported yet.

use super::fields;
use crate::document::{Item, Table};
use crate::workflow::scopes;

const CONTAINER_KEYS: &[&str] = &["image", "options", "env", "ports", "volumes", "credentials"];
const SERVICE_KEYS: &[&str] = &["image", "options", "env", "ports", "volumes", "credentials", "entrypoint", "command"];

/// `container` is an image, alone or with more; `services` are such containers by name.
pub(super) fn check(job: &Table<'_>) {
    if let Some(container) = job.get("container") {
        image_or_more(&container, CONTAINER_KEYS);
    }
    let services = job.get("services").filter(|item| !item.is_null() && !fields::is_expression(item));
    for service in services.and_then(|services| services.fields()).unwrap_or_default() {
        image_or_more(&service.value, SERVICE_KEYS);
    }
}

fn image_or_more(item: &Item<'_>, keys: &'static [&'static str]) {
    if !matches!(item.node().value, crate::document::Value::Mapping(_)) {
        drop(fields::template(item, &scopes::JOB));
        return;
    }
    let Some(table) = item.table(keys) else { return };
    drop(table.required("image").and_then(|item| fields::non_empty_template(&item, &scopes::JOB)));
    for key in ["options", "entrypoint", "command"].into_iter().filter(|key| keys.contains(key)) {
        drop(table.read(key, |item| fields::template(item, &scopes::JOB)));
    }
    drop(table.read("env", |item| Some(fields::env(item, &scopes::JOB_ENV))));
    for key in ["ports", "volumes"] {
        texts(&table, key);
    }
    drop(table.read("credentials", |item| item.table(&["username", "password"])));
}

fn texts(table: &Table<'_>, key: &str) {
    let Some(item) = table.get(key).filter(|item| !fields::is_expression(item)) else { return };
    for item in item.list().unwrap_or_default() {
        drop(fields::non_empty_template(&item, &scopes::JOB));
    }
}
