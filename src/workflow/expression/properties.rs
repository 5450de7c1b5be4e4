//! What holds for every expression, however strange; and the messages that people see.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::{Environment, Expression, ExpressionError, Object, Scope, Status, Template, Value};

const SCOPE: Scope<'_> = Scope { contexts: &["github", "env", "matrix"], status_functions: true, hash_files: true };

fn contexts() -> Object {
    let github = json!({"ref": "refs/heads/main", "event": {"labels": [{"name": "bug"}, {"name": "ci"}], "number": 7}});
    let env: Object = [("FOO", "upper"), ("foo", "lower")].into_iter().collect();
    [("github", Value::from(github)), ("env", Value::from(env))].into_iter().collect()
}

fn evaluate(text: &str) -> Result<Value, ExpressionError> {
    Expression::parse(text, &SCOPE)?.evaluate(&Environment::new(&contexts()))
}

fn complaint(text: &str) -> String {
    let error = evaluate(text).unwrap_err();
    match &error.hint {
        Some(hint) => format!("{error}\n  hint: {hint}"),
        None => error.to_string(),
    }
}

#[test]
fn messages_name_the_place_and_help() {
    insta::assert_snapshot!(complaint("github.ref == 'x"), @"the string that starts here has no closing `'` (character 15 of the expression)");
    insta::assert_snapshot!(complaint("githb.ref"), @r"
    there is no context `githb` here (character 1 of the expression)
      hint: contexts that exist here: github, env, matrix
    ");
    insta::assert_snapshot!(complaint("true && startWith(github.ref, 'x')"), @r"
    there is no function `startWith` (character 9 of the expression)
      hint: the functions are contains, startsWith, endsWith, format, join, toJSON, fromJSON, case, hashFiles, always, success, failure, cancelled
    ");
    insta::assert_snapshot!(complaint("format('{1}', 2)"), @r"
    the pattern of `format` names argument 1, but has 1 (character 1 of the expression)
      hint: arguments count from 0
    ");
    insta::assert_snapshot!(complaint("1 == 2)"), @"`)` does not fit here (character 7 of the expression)");
    insta::assert_snapshot!(complaint("fromJSON(github.nothing)"), @r"
    the text for `fromJSON` is not JSON: EOF while parsing a value at line 1 column 0 (character 1 of the expression)
      hint: an output that was never set is empty, and empty text is not JSON
    ");
}

#[test]
fn a_member_is_found_however_it_is_written() {
    let uses = |text: &str| Template::parse(text, &SCOPE).unwrap().uses_member("env", "TOKEN");
    for text in ["x ${{ Env.token }}", "${{ format('{0}', env['Token'].x) }}", "${{ env.A || env.TOKEN }}"] {
        assert!(uses(text), "{text}");
    }
    for text in ["env.TOKEN", "${{ env.A }}", "${{ env }}", "${{ matrix.env.TOKEN }}", "${{ env[matrix.x] }}"] {
        assert!(!uses(text), "{text}");
    }
}

#[test]
fn points_follow_what_has_members() {
    for text in ["'a'.b", "true.x", "null.x", "1*2", "env*", "env'x'", "[.]"] {
        assert!(evaluate(text).is_err(), "{text}");
    }
    assert_eq!(evaluate("github.true == null && env.null == null").unwrap(), true.into());
    assert_eq!(evaluate("join((github.event.labels.* || env).name)").unwrap(), "bug,ci".into());
    assert_eq!(evaluate("join(case(true, github.event.labels.*, env).name)").unwrap(), "bug,ci".into());
    assert_eq!(evaluate("('a')[0] == null && join((1).*) == ''").unwrap(), true.into());
}

#[test]
fn names_that_differ_in_case_stay_apart() {
    assert_eq!(evaluate("env.FOO").unwrap(), "upper".into());
    assert_eq!(evaluate("env.foo").unwrap(), "lower".into());
    assert_eq!(evaluate("env.Foo").unwrap(), "upper".into());
}

#[test]
fn status_functions_answer_one_status_each() {
    for (status, expected) in [
        (Status::Success, "true false false true"),
        (Status::Failure, "false true false true"),
        (Status::Cancelled, "false false true true"),
        (Status::Skipped, "false false false true"),
    ] {
        let expression =
            Expression::parse("format('{0} {1} {2} {3}', success(), failure(), cancelled(), always())", &SCOPE)
                .unwrap();
        let contexts = Object::default();
        let environment = Environment::new(&contexts).with_status(status);
        assert_eq!(expression.evaluate(&environment).unwrap(), expected.into());
        assert!(expression.asks_for_status());
    }
}

#[test]
fn templates_keep_the_kind_of_a_lone_expression() {
    let evaluate =
        |text: &str| Template::parse(text, &SCOPE).unwrap().evaluate(&Environment::new(&contexts())).unwrap();
    assert_eq!(evaluate("${{ github.event.number }}"), Value::Number(7.0));
    assert_eq!(evaluate("PR ${{ github.event.number }}!"), "PR 7!".into());
    assert_eq!(evaluate("${{ '}}' }}${{ '${{ ''x'' }}' }}"), "}}${{ 'x' }}".into());
    assert_eq!(evaluate("no $ {{ expression }}"), "no $ {{ expression }}".into());
    assert!(Template::parse("${{ '}}' ", &SCOPE).is_err());
}

#[test]
fn evaluation_is_bounded_in_memory_and_work() {
    let doubling =
        |levels: usize| (0..levels).fold("'aaaaaaaa'".to_owned(), |inner, _| format!("format('{{0}}{{0}}', {inner})"));
    assert!(evaluate(&doubling(10)).is_ok());
    assert!(evaluate(&doubling(40)).unwrap_err().to_string().contains("memory"));

    let big: Object = [("big", "x".repeat(1024 * 1024))].into_iter().collect();
    let contexts: Object = [("github", Value::from(big))].into_iter().collect();
    let comparisons = vec!["github.big != github.big"; 700].join(" || ");
    let error = Expression::parse(&comparisons, &SCOPE).unwrap().evaluate(&Environment::new(&contexts)).unwrap_err();
    assert!(error.to_string().contains("more text"), "{error}");

    let many = "${{ github.big }}".repeat(20);
    let error = Template::parse(&many, &SCOPE).unwrap().evaluate(&Environment::new(&contexts)).unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
}

#[test]
fn deep_groups_are_refused_without_deep_recursion() {
    for open in ["(", "github[", "format(", "!"] {
        assert!(evaluate(&open.repeat(10_000 / open.len())).is_err(), "{open}");
    }
    assert!(evaluate(&" ".repeat(super::MAX_LENGTH + 1)).is_err());
}

/// Texts that are often expressions.
fn expression_like() -> impl Strategy<Value = String> {
    let words = [
        "github",
        ".event",
        ".labels",
        ".*",
        "[*]",
        "[0]",
        ".name",
        "env",
        "matrix",
        "'a'",
        "''",
        "0x1f",
        "-1.5e3",
        "NaN",
        "Infinity",
        "true",
        "null",
        "(",
        ")",
        "[",
        "]",
        ",",
        "!",
        "==",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        "contains(",
        "format('{0}',",
        "join(",
        "toJSON(",
        "fromJSON('[1,{}]')",
        "case(",
        "hashFiles(",
        "success()",
        "always()",
        " ",
        "\n",
        "é",
        ".",
        "&",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..24).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_text_has_a_value_or_an_error(text in prop_oneof![expression_like(), any::<String>()]) {
        if let Err(error) = evaluate(&text) {
            let length = text.chars().count();
            prop_assert!(error.position.is_none_or(|position| (1..=length).contains(&position)), "{error}");
        }
    }

    #[test]
    fn stored_expressions_are_the_same(text in expression_like()) {
        if let Ok(expression) = Expression::parse(&text, &SCOPE) {
            let stored = serde_json::to_string(&expression).unwrap();
            let loaded: Expression = serde_json::from_str(&stored).unwrap();
            let contexts = contexts();
            let environment = Environment::new(&contexts);
            prop_assert_eq!(expression.evaluate(&environment).ok(), loaded.evaluate(&environment).ok());
        }
    }

    #[test]
    fn any_template_has_a_value_or_an_error(parts in prop::collection::vec(prop_oneof![
        expression_like(), Just("${{".to_owned()), Just("}}".to_owned()), any::<String>()], 0..6)) {
        let text = parts.concat();
        if let Ok(template) = Template::parse(&text, &SCOPE) {
            drop(template.evaluate(&Environment::new(&contexts())));
        }
    }

    #[test]
    fn text_without_expressions_stays(text in "[^$]*") {
        let template = Template::parse(&text, &SCOPE).unwrap();
        prop_assert_eq!(template.evaluate_text(&Environment::new(&contexts())).unwrap(), text);
    }

    #[test]
    fn json_goes_round(numbers in prop::collection::vec(-1e9f64..1e9, 0..5), text in any::<String>()) {
        let rounded: Vec<f64> = numbers.iter().map(|number| number.round()).collect();
        let value = Value::from(json!({"numbers": rounded, "text": text, "nested": [[], {}, null, true]}));
        let contexts: Object = [("github", value.clone())].into_iter().collect();
        let round = Expression::parse("fromJSON(toJSON(github))", &SCOPE).unwrap();
        prop_assert_eq!(round.evaluate(&Environment::new(&contexts)).unwrap(), value);
    }
}
