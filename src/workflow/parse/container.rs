//! `container` and `services` of a job.
//!
//! Either may be one expression as a whole, and so may most of what is in them: they are kept as values that are computed when the
//! job starts, and what is written out is checked here.

use super::fields;
use crate::document::reader::quoted;
use crate::document::{Complaint, Field, Item, Table, Value as Yaml};
use crate::workflow::container::{self, CONTAINER_KEYS, MAX_SERVICES, SERVICE_KEYS};
use crate::workflow::expression::{Scope, Template, Value};
use crate::workflow::scopes;
use crate::workflow::setting::Data;

type Members = Vec<(String, Data)>;

/// `container`: an image, alone or with more.
pub(super) fn container(item: &Item<'_>) -> Option<Data> {
    image_or_more(item, CONTAINER_KEYS, true)
}

/// `services`: such containers by name.
pub(super) fn services(item: &Item<'_>) -> Option<Data> {
    if item.is_null() {
        return Some(Data::Value(Value::Null));
    }
    if fields::is_expression(item) {
        return computed(item, &scopes::JOB);
    }
    let fields = item.fields()?;
    if fields.len() > MAX_SERVICES {
        item.refuse(format!("a job has at most {MAX_SERVICES} services, this one has {}", fields.len()));
    }
    Some(Data::Object(fields.iter().filter_map(service).collect()))
}

fn service(field: &Field<'_>) -> Option<(String, Data)> {
    if let Some(complaint) = fields::id_complaint("name of a service", field.key) {
        field.refuse_key(complaint);
    }
    Some((field.key.to_owned(), image_or_more(&field.value, SERVICE_KEYS, false)?))
}

/// A service whose image turns out to be empty is not started; a job whose container has none is a mistake, unless it is computed.
fn image_or_more(item: &Item<'_>, keys: &'static [&'static str], must_be_named: bool) -> Option<Data> {
    if !matches!(item.node().value, Yaml::Mapping(_)) {
        return template(item, &scopes::JOB);
    }
    let table = item.table(keys)?;
    let mut members = Members::new();
    let mut keep = |name: &str, data: Option<Data>| members.extend(data.map(|data| (name.to_owned(), data)));
    let image = table.required("image");
    keep(
        "image",
        match image {
            Some(item) if must_be_named => fields::non_empty_template(&item, &scopes::JOB).map(Data::Template),
            Some(item) => {
                let image = fields::template(&item, &scopes::JOB);
                if image.as_ref().and_then(Template::as_literal).is_some_and(|image| image.trim().is_empty()) {
                    item.refuse("must not be empty");
                }
                image.map(Data::Template)
            }
            None => None,
        },
    );
    for key in ["entrypoint", "command"].into_iter().filter(|key| keys.contains(key)) {
        keep(key, table.read(key, |item| template(item, &scopes::JOB)));
    }
    keep("options", table.read("options", options));
    keep("env", table.read("env", variables));
    for key in ["ports", "volumes"] {
        keep(key, texts(&table, key));
    }
    keep("credentials", table.read("credentials", credentials));
    Some(Data::Object(members))
}

fn template(item: &Item<'_>, scope: &Scope<'_>) -> Option<Data> {
    fields::template(item, scope).map(Data::Template)
}

/// What is one expression and nothing else.
fn computed(item: &Item<'_>, scope: &Scope<'_>) -> Option<Data> {
    let template = fields::template(item, scope)?;
    if template.as_expression().is_none() {
        item.refuse(
            Complaint::new("there is text beside the expression").hint("the whole value must be one expression"),
        );
    }
    Some(Data::Template(template))
}

fn options(item: &Item<'_>) -> Option<Data> {
    let template = fields::template(item, &scopes::JOB)?;
    if let Some(Err(why)) = template.as_literal().map(container::options) {
        item.refuse(why);
    }
    Some(Data::Template(template))
}

fn variables(item: &Item<'_>) -> Option<Data> {
    if fields::is_expression(item) {
        return computed(item, &scopes::CONTAINER_ENV);
    }
    if item.is_null() {
        return None;
    }
    let variable = |field: &Field<'_>| {
        if field.key.is_empty() || field.key.contains(['=', '\0']) {
            field.refuse_key(format!("{} is no name of a variable", quoted(field.key)));
        }
        let value: Template = fields::template(&field.value, &scopes::CONTAINER_ENV)?;
        Some((field.key.to_owned(), Data::Template(value)))
    };
    Some(Data::Object(item.fields()?.iter().filter_map(variable).collect()))
}

fn credentials(item: &Item<'_>) -> Option<Data> {
    if fields::is_expression(item) {
        return computed(item, &scopes::CONTAINER_CREDENTIALS);
    }
    let table = item.table(&["username", "password"])?;
    let member = |name: &str| {
        let value = table.get(name).and_then(|item| template(&item, &scopes::CONTAINER_CREDENTIALS));
        value.map(|value| (name.to_owned(), value))
    };
    Some(Data::Object(["username", "password"].into_iter().filter_map(member).collect()))
}

fn texts(table: &Table<'_>, key: &str) -> Option<Data> {
    let item = table.get(key).filter(|item| !item.is_null())?;
    if fields::is_expression(&item) {
        return computed(&item, &scopes::JOB);
    }
    let text = |item: &Item<'_>| fields::non_empty_template(item, &scopes::JOB).map(Data::Template);
    Some(Data::Array(item.list()?.iter().filter_map(text).collect()))
}
