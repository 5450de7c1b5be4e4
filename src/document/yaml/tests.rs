#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::Float(value) => {
            serde_json::Number::from_f64(*value).map_or_else(|| value.to_string().into(), Into::into)
        }
        Value::String(value) => value.as_str().into(),
        Value::Sequence(items) => items.iter().map(json).collect(),
        Value::Mapping(entries) => {
            serde_json::Value::Object(entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect())
        }
    }
}

fn loaded(text: &str) -> String {
    json(&read("w.yml", text).unwrap_or_else(|errors| panic!("{}", errors[0]))).to_string()
}

fn complaints(text: &str) -> String {
    let errors = read("w.yml", text).expect_err("the document is refused");
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn plain_scalars_follow_the_core_schema() {
    let cases = [
        ("on", r#""on""#),
        ("yes", r#""yes""#),
        ("True", "true"),
        ("~", "null"),
        ("", "null"),
        ("012", "12"),
        ("0o17", "15"),
        ("0x1F", "31"),
        ("0x-1", r#""0x-1""#),
        ("-7", "-7"),
        ("3.10", "3.1"),
        ("1e3", "1000.0"),
        (".5", "0.5"),
        ("1.2.3", r#""1.2.3""#),
        ("1-2", r#""1-2""#),
        ("e3", r#""e3""#),
        ("-.inf", r#""-inf""#),
        ("99999999999999999999", "1e+20"),
        ("'5'", r#""5""#),
        ("\"a\\nb\"", r#""a\nb""#),
        ("2024-01-01", r#""2024-01-01""#),
    ];
    for (text, expected) in cases {
        assert_eq!(loaded(text), expected, "{text}");
    }
}

#[test]
fn a_workflow_keeps_order_and_places() {
    let text = "on:\n  push:\njobs:\n  b: &b\n    run: |\n      one\n      two\n  a: *b\n  1: [x, {y: 2}]\n";
    insta::assert_snapshot!(loaded(text), @r#"{"on":{"push":null},"jobs":{"b":{"run":"one\ntwo\n"},"a":{"run":"one\ntwo\n"},"1":["x",{"y":2}]}}"#);
    let root = read("w.yml", text).unwrap();
    let Value::Mapping(entries) = &root.value else { panic!("a mapping") };
    assert_eq!(entries[1].key_position, Position { line: 3, column: 1 });
    assert_eq!(entries[1].value.position, Position { line: 4, column: 3 });
}

#[test]
fn what_the_dialect_lacks_is_refused_at_its_place() {
    insta::assert_snapshot!(complaints("a: 1\nb: {c: 1, c: 2}\na: 3\n<<: {x: 1}\nt: !!int '3'\n"), @r"
    w.yml:2:11: the key `c` stands here a second time
      hint: merge the two, or rename one
    w.yml:3:1: the key `a` stands here a second time
      hint: merge the two, or rename one
    w.yml:4:1: merge keys (`<<`) are no part of the workflow dialect
      hint: write the keys out, or give the whole value as an alias
    w.yml:5:4: the tag `tag:yaml.org,2002:!int` is not understood
      hint: tags are no part of the workflow dialect; put text in quotes
    ");
    insta::assert_snapshot!(complaints("a: 1\n---\nb: 2\n"), @r"
    w.yml:2:1: a second document starts here
      hint: put it in a file of its own
    ");
    insta::assert_snapshot!(complaints("run: {{ x }}\n"), @r"
    w.yml:1:7: a mapping or a list cannot be a key
      hint: put text that starts with a brace or a bracket in quotes
    ");
    insta::assert_snapshot!(complaints("a: &x [1, *x]\n"), @"w.yml:1:11: the alias stands inside of the value that it names");
    insta::assert_snapshot!(complaints("a: [1,\nb: 'x"), @"w.yml:2:1: this is not YAML: invalid indentation in flow construct");
    insta::assert_snapshot!(complaints("a:\n\tb: 1\n"), @r"
    w.yml:2:2: this is not YAML: tabs disallowed within this context (block indentation)
      hint: indent with spaces
    ");
    insta::assert_snapshot!(complaints("a: *nobody\n"), @"w.yml:1:4: this is not YAML: while parsing node, found unknown anchor");
}

#[test]
fn bombs_are_refused_at_once() {
    let mut lines = vec!["a0: &a0 [x, x, x, x, x, x, x, x, x]".to_owned()];
    for level in 1..9 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        lines.push(format!("a{level}: &a{level} [{items}]"));
    }
    let many = lines.join("\n");
    let large = format!("a: &a '{}'\nb: [{}]", "x".repeat(400_000), vec!["*a"; 30_000].join(","));
    let tall = format!("a: &a {}x{}\nb: {}*a{}", "[".repeat(40), "]".repeat(40), "[".repeat(40), "]".repeat(40));
    for (text, complaint) in [
        (many, "more than 50000 values"),
        (large, "more than 2048000 bytes"),
        (tall, "deeper than 50 levels"),
        ("[".repeat(400_000), "deeper than 50 levels"),
        ("- ".repeat(200_000), "deeper than 50 levels"),
        ("{a: ".repeat(100_000), "deeper than 50 levels"),
        ("&a ".repeat(100_000), "not YAML"),
        ("x".repeat(MAX_BYTES + 1), "at most 512000"),
        ("? ".repeat(200_000), "cannot be a key"),
        ("a: b\n".repeat(80_000), "more than 50000 values"),
    ] {
        let started = Instant::now();
        let found = complaints(&text);
        assert!(found.contains(complaint), "{}: {found}", &text[..20]);
        // Generous, for slow machines: what this guards against takes minutes.
        assert!(started.elapsed() < Duration::from_secs(20), "{}", &text[..20]);
    }
}

/// Texts that are often YAML.
fn yaml_like() -> impl Strategy<Value = String> {
    let words = [
        "a",
        "b: ",
        "- ",
        "\n",
        "  ",
        "&x ",
        "*x",
        "[",
        "]",
        "{",
        "}",
        ",",
        "'",
        "\"",
        "|",
        ">",
        "|-\n",
        ": ",
        "?",
        "!!str ",
        "#",
        "---\n",
        "...\n",
        "<<: ",
        "1",
        "null",
        "\t",
        "%YAML 1.2\n",
        "\u{feff}",
        "\r\n",
        "é",
        "\0",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![yaml_like(), any::<String>()]) {
        if let Err(errors) = read("w.yml", &text) {
            prop_assert!(!errors.is_empty());
        }
    }

    #[test]
    fn any_text_survives_in_double_quotes(text in "[ -~é]{0,40}") {
        let quoted = serde_json::to_string(&text).unwrap();
        prop_assert_eq!(json(&read("w.yml", &quoted).unwrap()), serde_json::Value::String(text));
    }
}
