//! Random expressions, evaluated by both.
//!
//! What is known to differ is not generated, because GitHub's service differs from its own package there too, and Dayfly follows
//! the service: the package replaces only the first `''` of a string, evaluates arguments that are not needed, writes numbers
//! as JavaScript does beyond 15 digits, knows `0b` and `0X`, takes a comma behind the last argument, and breaks on empty text.

use dayfly::workflow::expression::{Environment, Expression, Object, Scope, Value};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};

/// Expressions that are compared.
const CASES: usize = 4000;

fn contexts() -> Json {
    json!({
        "github": {"ref": "refs/heads/Main", "number": 7, "flag": true, "none": null, "EVENT": {"labels": [
            {"name": "bug", "id": 1}, {"name": "CI", "ids": [2, 3]}, "text", 5, null, [{"name": "deep"}]]}},
        "matrix": {"os": "Linux", "v": [1, "2", 3.5, true, null, "0x10", " 7 "], "empty": {}, "list": [[1, 2], [3]]},
        "plain": "0",
    })
}

/// Sound and unsound pieces; a sound tree is made of them by `expression`.
fn leaf() -> impl Strategy<Value = String> {
    let fixed = [
        "true",
        "false",
        "null",
        "NaN",
        "Infinity",
        "-Infinity",
        "0",
        "-0",
        "1",
        "-1",
        "3.5",
        "0xff",
        "0o17",
        "1e3",
        "+.5",
        "''",
        "'a'",
        "'Main'",
        "'refs/heads/'",
        "'0'",
        "' 12 '",
        "'0x1F'",
        "'1e2'",
        "'Infinity'",
        "'it''s'",
        "'true'",
        "github",
        "github.ref",
        "github.number",
        "GitHub.Flag",
        "github.none",
        "github.missing",
        "github.event.labels",
        "github['event'].labels[0].name",
        "github.event.labels.*.name",
        "github.event.labels[*].ids",
        "matrix.v",
        "matrix.v[2]",
        "matrix.v['1']",
        "matrix.*",
        "matrix.list.*.*",
        "matrix.list[*][0]",
        "matrix.empty",
        "plain",
        "plain.x",
        "fromJSON('[1, \"x\", null, {\"a\": [true]}]')",
        "fromJSON('{\"K\": 1, \"l\": [2]}')",
        "fromJSON('\" s \"')",
    ];
    prop::sample::select(fixed.to_vec()).prop_map(str::to_owned)
}

fn expression() -> impl Strategy<Value = String> {
    let operators = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">=", "&&", "||"]);
    let members =
        prop::sample::select(vec![".name", ".*", "[0]", "[-1]", "['K']", "[*]", ".l", "[1.9]", "[null]", "[true]"]);
    let formats = prop::sample::select(vec!["{0}", "a{0}b{1}", "{{{0}}}", "}}{{", "{1}{0}{1}", "{00}"]);
    leaf().prop_recursive(4, 24, 3, move |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            3 => (inner.clone(), operators.clone(), inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            1 => inner.clone().prop_map(|a| format!("!{a}")),
            2 => inner.clone().prop_map(|a| format!("({a})")),
            2 => (inner.clone(), members.clone()).prop_map(|(a, member)| format!("({a}){member}")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, index)| format!("({a})[{index}]")),
            1 => pair.clone().prop_map(|(a, b)| format!("contains({a}, {b})")),
            1 => pair.clone().prop_map(|(a, b)| format!("STARTSWITH({a},{b})")),
            1 => pair.clone().prop_map(|(a, b)| format!("endsWith({a} , {b})")),
            1 => pair.clone().prop_map(|(a, b)| format!("join({a}, {b})")),
            1 => inner.clone().prop_map(|a| format!("toJSON({a})")),
            1 => inner.clone().prop_map(|a| format!("fromJSON(toJSON({a}))")),
            1 => (formats.clone(), inner.clone(), inner.clone()).prop_map(|(text, a, b)| format!("format('{text}', {a}, {b})")),
            1 => (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("case(!({a}), {b}, {c})")),
        ]
    })
}

/// Sound expressions of which some letters were changed, without functions that need not evaluate all of their arguments.
fn damaged() -> impl Strategy<Value = String> {
    let junk = prop::sample::select(vec![
        "", ".", ",", "(", ")", "[", "]", "'", "*", "!", "&", "=", " ", "@", "1", "a", "''", ".",
    ]);
    let sound =
        expression().prop_filter("all is evaluated", |text| !text.contains("case(") && !text.contains("format("));
    (sound, prop::collection::vec((any::<prop::sample::Index>(), junk), 1..3)).prop_map(|(text, edits)| {
        let mut letters: Vec<String> = text.chars().map(String::from).collect();
        for (place, junk) in edits {
            let place = place.index(letters.len());
            letters[place] = junk.to_owned();
        }
        letters.concat()
    })
}

fn ours(text: &str, contexts: &Json) -> Json {
    let object: Object =
        contexts.as_object().unwrap().iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
    let names: Vec<&str> = object.iter().map(|(name, _)| name).collect();
    let scope = Scope { contexts: &names, status_functions: false, hash_files: false };
    match Expression::parse(text, &scope).and_then(|expression| expression.evaluate(&Environment::new(&object))) {
        Ok(Value::Number(number)) if !number.is_finite() => {
            json!({"kind": "Number", "value": &*Value::Number(number).to_text()})
        }
        Ok(value) => json!({"kind": value.type_name(), "value": value}),
        Err(error) => json!({"err": error.kind.to_string()}),
    }
}

/// The two agree; numbers in collections that JSON lacks are null on both sides, and texts of such collections differ.
fn agree(ours: &Json, theirs: &Json) -> bool {
    match theirs.get("err") {
        Some(kind) => ours.get("err") == Some(kind),
        None => ours.get("kind") == theirs.get("kind") && is_same(ours.get("value"), theirs.get("value")),
    }
}

fn is_same(ours: Option<&Json>, theirs: Option<&Json>) -> bool {
    match (ours, theirs) {
        (Some(Json::Number(a)), Some(Json::Number(b))) => a.as_f64() == b.as_f64(),
        (Some(Json::Array(a)), Some(Json::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(Some(a), Some(b)))
        }
        (Some(Json::Object(a)), Some(Json::Object(b))) => {
            a.len() == b.len() && a.iter().all(|(name, value)| is_same(Some(value), b.get(name)))
        }
        (ours, theirs) => ours == theirs,
    }
}

/// Whether a text or an index depends on what the module's head says differs.
fn is_known_to_differ(text: &str) -> bool {
    let has_special = ["NaN", "Infinity", "toJSON"].iter().filter(|word| text.contains(**word)).count() > 1;
    let quotes = text.matches("''").count();
    let has_open_end = text.replace(' ', "").contains(",)");
    has_special || quotes > 1 || has_open_end || text.trim().is_empty()
}

#[test]
fn random_expressions_have_the_values_that_githubs_package_gives_them() {
    let contexts = contexts();
    let mut runner = TestRunner::deterministic();
    let strategy = prop_oneof![4 => expression(), 1 => damaged()];
    let texts: Vec<String> = std::iter::repeat_with(|| strategy.new_tree(&mut runner).unwrap().current())
        .filter(|text| !is_known_to_differ(text))
        .take(CASES)
        .collect();
    let questions: Vec<Json> = texts.iter().map(|text| json!({"expression": text, "contexts": contexts})).collect();
    let test = "random_expressions_have_the_values_that_githubs_package_gives_them";
    let Some(theirs) = super::ask(test, "expressions", &questions) else { return };
    let differences: Vec<String> = texts
        .iter()
        .zip(&theirs)
        .map(|(text, theirs)| (text, ours(text, &contexts), theirs))
        .filter(|(_, ours, theirs)| !agree(ours, theirs))
        .map(|(text, ours, theirs)| format!("{text}\n  ours   {ours}\n  theirs {theirs}"))
        .collect();
    assert!(differences.is_empty(), "{} of {CASES} differ:\n{}", differences.len(), differences.join("\n"));
}
