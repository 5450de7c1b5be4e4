#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::super::matcher::Matchers;
use super::*;

fn matchers(files: &[Value]) -> Matchers {
    let mut matchers = Matchers::default();
    for file in files {
        matchers.add(read(file.to_string().as_bytes()).unwrap().matchers).unwrap();
    }
    matchers
}

fn seen(matchers: &mut Matchers, lines: &[&str]) -> String {
    let told = lines.iter().filter_map(|line| matchers.take(line, "/w"));
    let shown = told.map(|told| {
        let place = [told.line, told.column].map(|number| number.map_or("-".to_owned(), |number| number.to_string()));
        let (file, title) = (told.file.unwrap_or_default(), told.title.unwrap_or_default());
        format!("{} {file}:{} [{title}] {}", told.level.as_str(), place.join(":"), told.message)
    });
    shown.collect::<Vec<_>>().join("\n")
}

fn compiler() -> Value {
    json!({"problemMatcher": [{"owner": "gcc", "severity": "warning", "pattern": [{
        "regexp": r"^(.+):(\d+):(\d+):\s+(?:(error|warning|note):\s+)?(.*?)(?:\s+\[([^[\]]+)\])?$",
        "file": 1, "line": 2, "column": 3, "severity": 4, "message": 5, "code": "6"}]}]})
}

fn linter() -> Value {
    json!({"problemMatcher": [{"owner": "stylish", "pattern": [
        {"regexp": r"^([^\s].*)$", "file": 1},
        {"regexp": r"^\s+(\d+):(\d+)\s+(error|warning|info)\s+(.*)\s\s+(.*)$",
         "line": 1, "column": 2, "severity": 3, "message": 4, "code": 5, "loop": true}]}]})
}

#[test]
fn a_line_is_a_problem() {
    let lines = [
        "gcc -c a.c",
        "\u{1b}[1m/w/src/a.c:3:9:\u{1b}[0m error: no such thing [-Wbad]",
        "./b.c:4:1: unnamed severity is the matcher's",
        "b.c:4:1: note: of no known severity",
        "/usr/include/x.h:1:2: warning: elsewhere",
    ];
    insta::assert_snapshot!(seen(&mut matchers(&[compiler()]), &lines), @r"
    error src/a.c:3:9 [-Wbad] no such thing
    warning b.c:4:1 [] unnamed severity is the matcher's
    warning :1:2 [] elsewhere
    ");
}

#[test]
fn lines_in_a_row_are_one_problem_and_a_loop_takes_all_that_fit() {
    let lines = [
        "src/one.js",
        "  1:2  error    Unexpected thing  no-thing",
        "  3:4  warning  Other thing       other",
        "",
        "  5:6  error    Not after the gap  gap",
        "src/two.js",
        "  7:8  error    Second file  two",
        "  9:1  info     Not a known severity  x",
    ];
    insta::assert_snapshot!(seen(&mut matchers(&[linter()]), &lines), @r"
    error src/one.js:1:2 [no-thing] Unexpected thing
    warning src/one.js:3:4 [other] Other thing
    error src/two.js:7:8 [two] Second file
    ");
}

#[test]
fn the_newest_matcher_comes_first_and_an_owner_has_one_set() {
    let simple = |owner: &str, words: &str| json!({"problemMatcher": [{"owner": owner, "pattern": [{"regexp": format!("^({words}.*)$"), "message": 1}]}]});
    let mut both = matchers(&[simple("a", "x"), simple("b", "xy")]);
    assert_eq!(seen(&mut both, &["xyz", "xz"]).lines().count(), 2);
    let mut replaced = matchers(&[simple("a", "x"), simple("A", "y")]);
    insta::assert_snapshot!(seen(&mut replaced, &["x", "y"]), @"error :-:- [] y");
    replaced.remove(["a"].into_iter());
    assert!(replaced.is_empty());
}

#[test]
fn files_may_be_relative_to_another() {
    let file = json!({"problemMatcher": [{"owner": "msbuild", "pattern": [{
        "regexp": r"^(.+)\((\d+)\)\s*:\s*(.+)\s+\[(.+)\]$", "file": 1, "line": 2, "message": 3, "fromPath": 4}]}]});
    let lines =
        ["a.cs(3): broken [/w/src/app/app.csproj]", "/w/b.cs(3): broken [app.csproj]", "c.cs(3): broken [app.csproj]"];
    insta::assert_snapshot!(seen(&mut matchers(&[file]), &lines), @r"
    error src/app/a.cs:3:- [] broken
    error b.cs:3:- [] broken
    error c.cs:3:- [] broken
    ");
}

#[test]
fn patterns_of_javascript_are_understood() {
    let pattern = r"^(?:\s+\d+\>)?([^\s].*)\((\d+),(\d+)\)\s*\/\s*(\w{1,2}\d+)[[\]&&~~]*$";
    assert!(compile(pattern, MAX_COMPILED).unwrap().is_match("  1>a.ts(3,4) / TS12[]&~"));
    assert!(compile(r"(?=ahead)", MAX_COMPILED).unwrap_err().contains("look-around"));
    assert_eq!(compile(r"(\w{100}){100}", MAX_COMPILED).unwrap_err(), "it is too large");
}

#[test]
fn mistakes_are_named() {
    let refused = |text: &str| read(text.as_bytes()).unwrap_err();
    let of = |matcher: Value| refused(&json!({"problemMatcher": [matcher]}).to_string());
    insta::assert_snapshot!(refused("{"), @"it is no JSON: EOF while parsing an object at line 1 column 1");
    insta::assert_snapshot!(refused("[]"), @"`problemMatcher` must be a list");
    insta::assert_snapshot!(of(json!({})), @"a matcher has no `owner`");
    insta::assert_snapshot!(of(json!({"owner": "a", "severity": "bad"})), @"the matcher `a`: its severity is `bad`, not `error`, `warning` or `notice`");
    insta::assert_snapshot!(of(json!({"owner": "a"})), @"the matcher `a`: it has 0 patterns, not 1 to 8");
    insta::assert_snapshot!(of(json!({"owner": "a", "pattern": [{"regexp": "(x)"}]})), @"the matcher `a`: no pattern has `message`");
    insta::assert_snapshot!(of(json!({"owner": "a", "pattern": [{"regexp": "(", "message": 1}]})), @"the matcher `a`: `(` is no pattern: error: unclosed group");
    insta::assert_snapshot!(of(json!({"owner": "a", "pattern": [{"regexp": "x", "message": -1}]})), @"the matcher `a`: `message` is no number of a group: `-1`");
    insta::assert_snapshot!(of(json!({"owner": "a", "pattern": [{"regexp": "x", "message": 1, "loop": true}]})), @"the matcher `a`: a pattern with `loop` must have `message`, and a pattern before it");
    let two = json!({"owner": "a", "pattern": [{"regexp": "x", "message": 1}, {"regexp": "y", "message": 1}]});
    insta::assert_snapshot!(of(two), @"the matcher `a`: `message` is found by more than one pattern");
}

proptest! {
    #[test]
    fn any_pattern_and_any_line_are_taken(pattern in r"[\[\]\\()a-c*+?^$.|{}0-9&~<>-]{0,20}", line in "[\u{1b}\\[a-c0-9;m]{0,40}") {
        let file = json!({"problemMatcher": [{"owner": "a", "pattern": [{"regexp": pattern, "message": 1}]}]});
        if let Ok(found) = read(file.to_string().as_bytes()) {
            let mut matchers = Matchers::default();
            matchers.add(found.matchers).unwrap();
            matchers.take(&line, "");
        }
    }
}

#[test]
fn what_javascript_can_and_we_cannot_is_left_out_and_the_rest_is_there() {
    let file = serde_json::json!({"problemMatcher": [
        {"owner": "behind", "pattern": [{"regexp": "(?<!MSB)(.*)", "message": 1}]},
        {"owner": "back", "pattern": [{"regexp": "(.)\\1", "message": 1}]},
        {"owner": "plain", "pattern": [{"regexp": "^error: (.*)$", "message": 1}]},
    ]});
    let read = read(file.to_string().as_bytes()).unwrap();
    assert_eq!(read.matchers.iter().map(|matcher| matcher.owner.as_str()).collect::<Vec<_>>(), ["plain"]);
    assert_eq!(read.left_out.len(), 2, "{:?}", read.left_out);
}
