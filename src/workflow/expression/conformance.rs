//! GitHub's own vectors for the language, from the folder that `DAYFLY_EXPRESSION_VECTORS` names.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value as Json;

use super::{Environment, Expression, Object, Scope, Value};

/// The folder holds at least this many cases: fewer means that they were not read.
const FEWEST_CASES: usize = 500;

#[derive(Deserialize)]
struct Case {
    expr: String,
    #[serde(default)]
    contexts: serde_json::Map<String, Json>,
    result: Option<Expected>,
    err: Option<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    kind: String,
    #[serde(default)]
    value: Json,
}

#[test]
fn every_vector_passes() {
    let Ok(folder) = std::env::var("DAYFLY_EXPRESSION_VECTORS") else {
        eprintln!("SKIPPED every_vector_passes: DAYFLY_EXPRESSION_VECTORS does not name the folder of the vectors");
        return;
    };
    let (mut count, mut failures) = (0, Vec::new());
    for entry in std::fs::read_dir(Path::new(&folder)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let groups: BTreeMap<String, Vec<Case>> =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for case in groups.into_values().flatten() {
            count += 1;
            if let Err(complaint) = check(&case) {
                failures.push(format!("{}: {}: {complaint}", path.display(), case.expr));
            }
        }
    }
    assert!(count >= FEWEST_CASES, "only {count} cases in {folder}");
    assert!(failures.is_empty(), "{} of {count} failed:\n{}", failures.len(), failures.join("\n"));
}

fn check(case: &Case) -> Result<(), String> {
    let names: Vec<&str> = case.contexts.keys().map(String::as_str).collect();
    let scope = Scope { contexts: &names, status_functions: false, hash_files: false };
    let contexts: Object =
        case.contexts.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
    let actual =
        Expression::parse(&case.expr, &scope).and_then(|expression| expression.evaluate(&Environment::new(&contexts)));
    match (actual, &case.result, &case.err) {
        (Ok(value), Some(expected), _) => {
            let is_kind = value.type_name() == expected.kind;
            let is_value = value == Value::from(expected.value.clone());
            if is_kind && is_value {
                Ok(())
            } else {
                Err(format!("{value:?}, not {} {}", expected.kind, expected.value))
            }
        }
        (Err(error), _, Some(expected)) => {
            let actual = error.kind.to_string();
            if actual == expected.kind { Ok(()) } else { Err(format!("{error}: {actual}, not {}", expected.kind)) }
        }
        (Ok(value), None, _) => Err(format!("{value:?}, not an error")),
        (Err(error), ..) => Err(format!("error: {error}")),
    }
}
