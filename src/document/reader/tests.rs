#![allow(clippy::unwrap_used)]

use super::super::complaint::MAX_SUGGESTED;
use super::*;

fn at(line: u32, value: Value) -> Node {
    Node { position: Position { line, column: 5 }, value }
}

fn text(line: u32, text: &str) -> Node {
    at(line, Value::String(text.into()))
}

/// A mapping whose keys stand in column 1 of their values' lines.
fn mapping(line: u32, entries: Vec<(&str, Node)>) -> Node {
    let entry = |(key, value): (&str, Node)| Entry {
        key: key.into(),
        key_position: Position { line: value.position.line, column: 1 },
        value,
    };
    at(line, Value::Mapping(entries.into_iter().map(entry).collect()))
}

/// The complaints of `read` about `node`, one per paragraph.
fn complaints(node: &Node, read: impl FnOnce(Item<'_>)) -> String {
    let reader = Reader::new("ci.yml");
    read(reader.root(node));
    let lines: Vec<String> = reader.finish().errors.iter().map(Diagnostic::to_string).collect();
    lines.join("\n")
}

#[test]
fn wrong_types_name_what_was_found() {
    type Read = fn(&Item<'_>);
    let table: [(Value, Read, &str); 9] = [
        (
            Value::Integer(5),
            |i| assert!(i.string().is_none()),
            "expected a string, found the number `5`\n  hint: put it in quotes",
        ),
        (Value::Null, |i| assert!(i.string().is_none()), "expected a string, found nothing"),
        (
            Value::String("yes".into()),
            |i| assert!(i.bool().is_none()),
            "expected `true` or `false`, found the string `yes`",
        ),
        (Value::Float(1.5), |i| assert!(i.integer().is_none()), "expected a whole number, found the number `1.5`"),
        (Value::Integer(65), |i| assert!(i.integer_in(1u8..=64).is_none()), "`65` is not between 1 and 64"),
        (Value::Integer(-1), |i| assert!(i.integer_in(0u64..=9).is_none()), "`-1` is not between 0 and 9"),
        (
            Value::Bool(true),
            |i| assert!(i.string_or_list().is_none()),
            "expected a string or a list of strings, found `true`\n  hint: put it in quotes",
        ),
        (Value::Sequence(vec![]), |i| assert!(i.fields().is_none()), "expected a mapping, found a list"),
        (Value::String(" ".into()), |i| assert!(i.non_empty_string().is_none()), "must not be empty"),
    ];
    for (value, read, expected) in table {
        let node = at(3, value);
        assert_eq!(complaints(&node, |item| read(&item)), format!("ci.yml:3:5: {expected}"));
    }
}

#[test]
fn right_types_are_read_without_complaint() {
    let list = at(1, Value::Sequence(vec![text(1, "a"), text(2, "b")]));
    let node = mapping(
        1,
        vec![("one", text(1, "a")), ("many", list), ("n", at(3, Value::Integer(7))), ("none", at(4, Value::Null))],
    );
    let found = complaints(&node, |root| {
        let table = root.table(&["one", "many", "n", "none", "absent"]).unwrap();
        assert_eq!(table.read("one", Item::string_or_list), Some(vec!["a".to_owned()]));
        assert_eq!(table.read("many", Item::string_or_list), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(table.read_or("n", 1u8, |n| n.integer_in(1..=9)), 7);
        assert_eq!(table.read("n", Item::scalar_text), Some("7".to_owned()));
        assert_eq!(table.read("n", Item::number), Some(7.0));
        assert!(table.get("none").unwrap().is_null());
        assert!(table.read_or("absent", true, Item::bool));
    });
    assert_eq!(found, "");
}

#[test]
fn every_mistake_is_reported_with_its_path_in_the_order_of_the_text() {
    let step = mapping(4, vec![("run", at(4, Value::Integer(1)))]);
    let steps = at(3, Value::Sequence(vec![mapping(3, vec![("run", text(3, "make"))]), step]));
    let job = mapping(2, vec![("steps", steps), ("needz", text(5, "x"))]);
    let node = mapping(1, vec![("jobs", mapping(1, vec![("te.st", job)]))]);
    let found = complaints(&node, |root| {
        let jobs = root.table(&["jobs"]).unwrap().required("jobs").unwrap();
        for field in jobs.fields().unwrap() {
            let job = field.value.table(&["needs", "runs-on", "steps"]).unwrap();
            assert!(job.required("runs-on").is_none());
            for step in job.required("steps").unwrap().list().unwrap() {
                step.table(&["run"]).unwrap().read("run", Item::string);
            }
        }
    });
    insta::assert_snapshot!(found, @r#"
    ci.yml:2:5: jobs."te.st".runs-on: missing key `runs-on`
    ci.yml:4:5: jobs."te.st".steps[1].run: expected a string, found the number `1`
      hint: put it in quotes
    ci.yml:5:1: jobs."te.st".needz: unknown key `needz`
      hint: did you mean `needs`?
    "#);
}

#[test]
fn a_word_that_resembles_nothing_gets_the_list_of_known_ones() {
    let node = text(1, "zzz");
    let choose = |item: Item<'_>| assert!(item.one_of(&[("text", 1), ("json", 2)]).is_none());
    insta::assert_snapshot!(complaints(&node, choose), @"
    ci.yml:1:5: `zzz` is not a known value
      hint: known here: `text`, `json`
    ");
    assert_eq!(nearest("Memroy", ["memory", "vcpus"]), Some("memory"));
    assert_eq!(nearest(&"m".repeat(MAX_SUGGESTED + 1), ["memory"]), None);
}

#[test]
fn a_hostile_document_gets_a_bounded_number_of_bounded_complaints() {
    let long = "k\u{1b}".repeat(10_000);
    let keys: Vec<String> = (0..1000).map(|index| format!("{long}{index}")).collect();
    let node = mapping(1, keys.iter().map(|key| (key.as_str(), text(1, "v"))).collect());
    let reader = Reader::new("ci.yml");
    assert!(reader.root(&node).table(&["known"]).is_some());
    assert!(reader.has_errors());
    let errors = reader.finish().errors;
    assert_eq!(errors.len(), MAX_FINDINGS);
    let shown = errors[0].to_string();
    assert!(shown.len() < 1500 && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn warnings_do_not_spoil_the_document() {
    let node = mapping(1, vec![("old", text(1, "v"))]);
    let reader = Reader::new("ci.yml");
    let root = reader.root(&node);
    root.fields().unwrap()[0].warn_key(Complaint::new("`old` has no effect").hint("remove it"));
    assert!(!reader.has_errors());
    insta::assert_snapshot!(reader.finish().warnings[0], @"
    ci.yml:1:1: old: `old` has no effect
      hint: remove it
    ");
}
