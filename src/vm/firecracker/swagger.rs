//! Holds the [table](super::schema) to the API's own description, which is Firecracker's and not shipped here: the file named by
//! `DAYFLY_FIRECRACKER_SWAGGER`, if one is.
#![allow(clippy::unwrap_used)]

use std::fs;

use super::schema::{ENDPOINTS, Field, Kind};
use crate::document::{Node, Value, yaml};

/// Names the file `firecracker.yaml`.
const FILE: &str = "DAYFLY_FIRECRACKER_SWAGGER";

/// What `keys` lead to, through references.
fn at<'d>(document: &'d Node, from: &'d Node, keys: &[&str]) -> Option<&'d Node> {
    keys.iter().try_fold(resolved(document, from), |node, key| Some(resolved(document, entry(node, key)?)))
}

fn entry<'d>(node: &'d Node, key: &str) -> Option<&'d Node> {
    let Value::Mapping(entries) = &node.value else { return None };
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
}

fn resolved<'d>(document: &'d Node, node: &'d Node) -> &'d Node {
    let Some(Value::String(path)) = entry(node, "$ref").map(|node| &node.value) else { return node };
    let keys: Vec<&str> = path.trim_start_matches("#/").split('/').collect();
    at(document, document, &keys).unwrap_or_else(|| panic!("`{path}` leads nowhere"))
}

fn texts(node: Option<&Node>) -> Vec<String> {
    let Some(Value::Sequence(items)) = node.map(|node| &node.value) else { return Vec::new() };
    let text = |item: &Node| if let Value::String(text) = &item.value { text.clone() } else { panic!("{item:?}") };
    let mut texts: Vec<String> = items.iter().map(text).collect();
    texts.sort();
    texts
}

fn assert_described(document: &Node, place: &str, fields: &[Field], schema: &Node) {
    let mut required: Vec<&str> = fields.iter().filter(|field| field.is_required).map(|field| field.name).collect();
    required.sort_unstable();
    assert_eq!(texts(entry(schema, "required")), required, "{place}");
    for field in fields {
        let place = format!("{place}, `{}`", field.name);
        let described = at(document, schema, &["properties", field.name]).unwrap_or_else(|| panic!("{place}"));
        let kind = match &entry(described, "type").unwrap().value {
            Value::String(kind) => kind.as_str(),
            other => panic!("{place}: {other:?}"),
        };
        match field.kind {
            Kind::Text => assert_eq!(kind, "string", "{place}"),
            Kind::Integer => assert_eq!(kind, "integer", "{place}"),
            Kind::Flag => assert_eq!(kind, "boolean", "{place}"),
            Kind::OneOf(known) => {
                let mut known = known.to_vec();
                known.sort_unstable();
                assert_eq!(texts(entry(described, "enum")), known, "{place}");
            }
            Kind::Object(fields) => assert_described(document, &place, fields, described),
        }
    }
}

#[test]
fn the_table_says_what_the_apis_own_description_says() {
    let Some(file) = std::env::var_os(FILE) else {
        eprintln!("SKIPPED: {FILE} names no description of Firecracker's API");
        return;
    };
    let document = yaml::read("firecracker.yaml", &fs::read_to_string(file).unwrap()).unwrap();
    for endpoint in &ENDPOINTS {
        let (method, path) = endpoint.call.split_once(' ').unwrap();
        let operation = at(&document, &document, &["paths", path, &method.to_lowercase()]);
        let operation = operation.unwrap_or_else(|| panic!("`{}` is not described", endpoint.call));
        let Value::Sequence(parameters) = &entry(operation, "parameters").unwrap().value else { panic!("{path}") };
        let is_body = |node: &&Node| entry(node, "in").is_some_and(|place| place.value == Value::String("body".into()));
        let body = parameters.iter().find(is_body).unwrap();
        assert_described(&document, endpoint.call, endpoint.fields, at(&document, body, &["schema"]).unwrap());
    }
}
