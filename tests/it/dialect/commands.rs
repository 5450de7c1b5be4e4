//! `dayfly eval` and `dayfly workflow check`, as people and programs run them.

use std::fs;

use serde_json::{Value as Json, json};

use crate::support::command::{dayfly, run, run_with_input};
use crate::support::host;

fn eval_json(arguments: &[&str]) -> (Option<i32>, Json) {
    let outcome = run(&[&["eval", "--json"], arguments].concat());
    assert_eq!(outcome.stderr, "", "{arguments:?}");
    (outcome.code, serde_json::from_str(&outcome.stdout).unwrap())
}

#[test]
fn eval_tells_kinds_and_values_and_errors() {
    for (expression, expected) in [
        ("1 == '1'", json!({"kind": "Boolean", "value": true})),
        ("null", json!({"kind": "Null", "value": null})),
        ("-1.5", json!({"kind": "Number", "value": -1.5})),
        ("-Infinity", json!({"kind": "Number", "value": "-Infinity"})),
        ("fromJSON('[1, {\"a\": null}]')", json!({"kind": "Array", "value": [1, {"a": null}]})),
        ("format('{0}', 1e3)", json!({"kind": "String", "value": "1000"})),
        ("", json!({"kind": "Null", "value": null})),
    ] {
        assert_eq!(eval_json(&["--", expression]), (Some(0), expected), "{expression}");
    }
    for (expression, kind) in
        [("1 = 2", "lexing"), ("github.ref", "parsing"), ("always()", "parsing"), ("fromJSON('{')", "evaluation")]
    {
        let (code, answer) = eval_json(&["--", expression]);
        assert_eq!((code, answer["err"]["kind"].as_str()), (Some(1), Some(kind)), "{answer}");
        assert!(!answer["err"]["message"].as_str().unwrap().is_empty());
    }
    let told = run(&["eval", "--", "true && 1 = 2"]);
    assert_eq!((told.code, told.stdout.as_str()), (Some(1), ""));
    insta::assert_snapshot!(told.stderr, @"
    error: lexing: `=` is not understood (character 11 of the expression)
      true && 1 = 2
                ^
    ");
    assert_eq!(run(&["eval", "--status", "failure", "--", "failure() && !success()"]).stdout, "true\n");
}

#[test]
fn eval_reads_contexts_and_files() {
    let directory = host::short_directory();
    let contexts = directory.path().join("contexts.json");
    fs::write(&contexts, r#"{"github": {"labels": [{"name": "a"}, {"name": "b"}]}, "env": {"X": "1"}}"#).unwrap();
    let file = contexts.to_str().unwrap();
    assert_eq!(run(&["eval", "--contexts", file, "--", "join(github.labels.*.name, '+')"]).stdout, "a+b\n");
    let mut command = dayfly();
    command.args(["eval", "--contexts", "-", "--", "env.x"]);
    assert_eq!(run_with_input(command, br#"{"env": {"X": "from the pipe"}}"#).stdout, "from the pipe\n");
    let missing = run(&["eval", "--contexts", "/nonexistent.json", "--", "1"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(64), ""));
    assert!(missing.stderr.contains("/nonexistent.json"), "{}", missing.stderr);

    let files = directory.path().join("files");
    fs::create_dir_all(files.join("b/c")).unwrap();
    fs::write(files.join("a.lock"), "one").unwrap();
    fs::write(files.join("b/c/x.lock"), "two").unwrap();
    fs::write(files.join("b.txt"), "three").unwrap();
    let hash = |pattern: &str| {
        let expression = format!("hashFiles({pattern})");
        run(&["eval", "--directory", files.to_str().unwrap(), "--", &expression]).stdout
    };
    // The SHA-256 of the SHA-256 of "one" and of "two".
    assert_eq!(hash("'**/*.lock'"), "11914c19a28a98c57d12f3cce6c32b7944784f4b4781a706c24eb1dc284e2856\n");
    assert_eq!(hash("'a.lock', 'b'"), hash("'**/*.lock'"));
    assert_eq!(hash("'nothing'"), "\n");
}

#[test]
fn workflows_are_checked_for_people_and_for_programs() {
    let directory = host::short_directory();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write("good.yml", "on: push\njobs: {a: {runs-on: x, steps: [run: x]}}\n");
    let mixed = write(
        "mixed.yml",
        "on: [push, release]\njobs:\n  a:\n    run-on: x\n    snapshot: debian\n    steps: [run: x]\n",
    );
    let later = write("later.yml", "on: push\njobs: {a: {runs-on: x, snapshot: x, steps: [run: x]}}\n");
    let fine = run(&["workflow", "check", &good]);
    assert_eq!((fine.code, fine.stdout.as_str()), (Some(0), "1 file: 0 errors, 0 unsupported, 0 warnings\n"));
    let told = run(&["workflow", "check", &good, &mixed]);
    assert_eq!(told.code, Some(1));
    let root = format!("{}/", directory.path().display());
    insta::assert_snapshot!(told.stdout.replace(&root, ""), @"
    mixed.yml:1:12: warning: on[1]: the event `release` starts nothing yet
      hint: events that start workflows: push, pull_request, merge_group, workflow_dispatch, repository_dispatch, schedule
    mixed.yml:4:5: error: jobs.a.run-on: unknown key `run-on`
      hint: did you mean `runs-on`?
    mixed.yml:5:5: unsupported: jobs.a.snapshot: `snapshot` is not supported yet
      hint: images are described by the operator
    2 files: 1 error, 1 unsupported, 1 warning
    ");

    let told = run(&["workflow", "check", "--json", &mixed, &later]);
    let found: Vec<Json> = serde_json::from_str(&told.stdout).unwrap();
    let told: Vec<String> = found
        .iter()
        .map(|found| format!("{} {}:{} {}", found["severity"], found["line"], found["column"], found["message"]))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    "warning" 1:12 "the event `release` starts nothing yet"
    "error" 4:5 "unknown key `run-on`"
    "unsupported" 5:5 "`snapshot` is not supported yet"
    "unsupported" 2:24 "`snapshot` is not supported yet"
    "#);
    assert!(found.iter().all(|found| found["file"].is_string() && found.get("hint").is_some()));
    assert_eq!(run(&["workflow", "check", "--json", &later]).code, Some(1), "it would not run");
    assert_eq!(run(&["workflow", "check", "--json", &good]).stdout, "[]\n");
    assert_eq!(run(&["workflow", "check", "/nonexistent.yml"]).code, Some(64));
    assert_eq!(run(&["workflow", "check"]).code, Some(64));
}
